"""The commands of `hyperdpo`, above both wings; `cli` assembles them.

Each command is a frozen dataclass whose fields are its flags and whose `execute` returns an Answer: one JSON document
for `--json`, one text for people. Flags that are not given are None, so that a preset lies between them and the
defaults. torch and the wings are imported when a command runs: `--help` and bad usage answer at once.
"""
