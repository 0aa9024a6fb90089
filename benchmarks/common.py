"""What every benchmark prints about the machine it ran on."""

from __future__ import annotations

import platform

import torch


def machine(device: str = "cpu") -> str:
    """The kind of machine, in words: processor or GPU, threads, versions."""
    where = torch.cuda.get_device_name() if device.startswith("cuda") else f"{platform.machine()} CPU"
    return f"{where}, {torch.get_num_threads()} threads, Python {platform.python_version()}, torch {torch.__version__}"
