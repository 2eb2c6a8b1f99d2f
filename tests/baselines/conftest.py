"""A few walkers who differ clearly, as an archive."""

from __future__ import annotations

from pathlib import Path

import pytest

from sgela_fast.skeletons.archive import Archive
from sgela_fast.skeletons.config import WalkerConfig
from sgela_fast.skeletons.walker import write_walkers


@pytest.fixture(scope="session")
def walkers(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    """Five persons with three walks each, one of them for testing; some joints are lost."""
    config = WalkerConfig(
        persons=5, walks=3, min_frames=50, max_frames=60, shape_spread=2.0, noise=0.5, jump_rate=0.0, lost_rate=0.01
    )
    folder: Path = tmp_path_factory.mktemp("walkers")
    return write_walkers(folder / "walkers.sga", config)
