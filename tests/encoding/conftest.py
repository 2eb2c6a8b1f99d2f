"""Small archives with a tiny encoder, and what lies in a folder, for tests of stores."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from sgela_fast.encoding.config import EncodingConfig
from sgela_fast.encoding.encode import encode
from sgela_fast.encoding.encoder import Encoder
from sgela_fast.encoding.store import Store
from sgela_fast.models.config import SGELAConfig
from sgela_fast.models.sgela import build_model
from sgela_fast.skeletons.archive import Archive, ArchiveWriter
from sgela_fast.skeletons.config import WindowConfig
from sgela_fast.skeletons.layouts import get_layout
from sgela_fast.skeletons.recording import Recording

KINECT = get_layout("kinect-v1")
MakeArchive = Callable[..., Archive]


@pytest.fixture
def make_archive(tmp_path: Path) -> MakeArchive:
    """A function that writes recordings of noise: names to numbers of frames; ``p1_2`` is of person ``p1``."""

    def make(
        recordings: Mapping[str, int] | None = None,
        name: str = "walks.sga",
        change: Callable[[str, np.ndarray], None] | None = None,
        frames_per_shard: int = 150,
    ) -> Archive:
        recordings = recordings or {f"p{person}_{walk}": 40 + walk for person in range(4) for walk in range(3)}
        writer = ArchiveWriter(tmp_path / name, KINECT, {}, frames_per_shard=frames_per_shard)
        for number, (title, frames) in enumerate(recordings.items()):
            joints = np.random.default_rng(number).normal(size=(frames, 20, 3)).astype(np.float32)
            if change is not None:
                change(title, joints)
            extra = {"split": "test" if title.endswith("0") else "train"}
            person = title.partition("_")[0]
            writer.add(Recording(title, joints, "kinect-v1", person=person, source=f"{title}.txt", extra=extra))
        return writer.finish()

    return make


@pytest.fixture(scope="session")
def tiny_encoder() -> Encoder:
    """An encoder of four hidden units and windows of three frames."""
    model = build_model(SGELAConfig(hidden=4, frames=3), seed=3).eval()
    return Encoder(model, WindowConfig(frames=3, trim=2), KINECT, "0" * 64, "test")


@pytest.fixture
def make_store(make_archive: MakeArchive, tiny_encoder: Encoder, tmp_path: Path) -> Callable[..., Store]:
    """A function that encodes an archive into parts of a few recordings."""

    def make(name: str = "store", recordings: Mapping[str, int] | None = None, **config: object) -> Store:
        archive = make_archive(recordings, name=f"{name}.sga")
        settings = EncodingConfig(**{"part_mb": 0.01, "batch": 16, **config})  # type: ignore[arg-type]
        return encode(archive, tiny_encoder, tmp_path / name, settings).store

    return make


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below ``folder`` with its bytes."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }
