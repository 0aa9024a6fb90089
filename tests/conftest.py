"""What every test shares."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from hypothesis import settings

ROOT = Path(__file__).resolve().parents[1]

# Reproducible, without a database of past examples; time limits are pytest's business.
settings.register_profile("hyperdpo", deadline=None, derandomize=True, database=None, max_examples=60)
settings.load_profile("hyperdpo")
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real ranking data (rank/*.txt.xz): HYPERDPO_REAL_DATA, or the one beside the repository."""
    folder = Path(os.environ.get("HYPERDPO_REAL_DATA") or ROOT.parent / "shared" / "data")
    if not (folder / "rank").is_dir():
        pytest.skip(f"needs the real data sets, which are not part of the repository (no {folder / 'rank'})")
    return folder
