"""What may be chosen for data that a person brings, each with what people read for it. Pure."""

LABELS = {"l1": "counts of events", "softmax": "scores"}
BETTER = {"max": "higher is better", "min": "lower is better"}
METHODS = {
    "hyperdpo": "HyperDPO: one model for every trade-off",
    "dpo-ls": "DPO-LS: one model for each of 11 trade-offs",
    "dpo-soup": "DPO Soup: one model an objective, averaged",
}
BASES = {"transformer": "a network, trained on the main label", "lightgbm": "LightGBM, trained on the main label"}
PRESETS = {"": "no known data set", "mslr": "MSLR-WEB10K or 30K (136 columns)"}
