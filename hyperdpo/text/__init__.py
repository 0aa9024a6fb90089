"""The language-model wing: preference data, hyper prompt tuning, generation and export."""
