"""Encode silhouettes: every sequence through a SelfGait model, into a store with one row a sequence."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sgela_fast.checkpoints.selfgait_run import load_selfgait
from sgela_fast.encoding.config import EncodingConfig, EngineConfig
from sgela_fast.encoding.source import Entry, Unusable
from sgela_fast.encoding.work import Advance, EncodingResult, Work, carry_out
from sgela_fast.errors import ConfigError, DataError
from sgela_fast.models.device import choose_device
from sgela_fast.models.selfgait import SelfGait
from sgela_fast.silhouettes.clips import as_tensor
from sgela_fast.silhouettes.config import ClipConfig
from sgela_fast.silhouettes.dataset import SilhouetteSet
from sgela_fast.silhouettes.fingerprint import fingerprint
from sgela_fast.silhouettes.splits import sides
from sgela_fast.skeletons.shards import Row, checksum

LAYOUT = "silhouettes"
FRAMES_AT_ONCE = 2048  # through the model, which holds several feature maps of each
# Settings that are those of skeletons.
_FIXED = ("stride", "feature", "pooling", "drop_invalid", "precision")


@dataclass(frozen=True)
class SilhouetteEncoder:
    """Turns sequences of silhouettes into embeddings.

    Attributes:
        model: in evaluation mode.
        window: how frames are cropped and shrunk; sequences are encoded whole, whatever its number of frames.
        model_hash: SHA-256 of the weights.
        origin: where the weights come from, in words.
        split: that the weights were trained on a side of; empty for none.
        subjects: how many subjects they were trained on instead; 0 for what ``split`` says.
        trained_on: fingerprint of the set that they were trained on.
    """

    unit: ClassVar[str] = "sequences"

    model: SelfGait
    window: ClipConfig
    model_hash: str
    origin: str
    split: str = ""
    subjects: int = 0
    trained_on: str = ""

    @classmethod
    def load(cls, run: str | Path, config: EncodingConfig | None = None) -> SilhouetteEncoder:
        """The encoder of a run folder.

        Args:
            run: the folder.
            config: device and backend.

        Raises:
            CheckpointError: a file is missing, damaged or belongs to another model.
            ConfigError: backend or device is not there.
        """
        config = config or EncodingConfig()
        loaded = load_selfgait(run, config.backend, choose_device(config.device, "encoding.device"))
        model = loaded.model.requires_grad_(False)
        training, archive = loaded.info.get("training", {}), loaded.info.get("archive", {})
        return cls(
            model,
            loaded.clips,
            loaded.model_hash,
            f"run folder {loaded.path}",
            str(training.get("split", "")),
            int(training.get("subjects", 0)),
            str(archive.get("fingerprint", "")),
        )

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self.model.device

    @property
    def width(self) -> int:
        """Numbers of an embedding, S * E."""
        return self.model.config.embedding_width

    def describe(self) -> dict[str, Any]:
        """Entries of ``store.json`` that say where embeddings come from, and that a row is strips by channels."""
        return {
            "system": "selfgait",
            "model_hash": self.model_hash,
            "origin": self.origin,
            # Lists for tuples, as the settings read back from JSON will have.
            "model": json.loads(json.dumps(asdict(self.model.config))),
            "window": asdict(self.window),
            "layout": LAYOUT,
            "frames": self.window.frames,
            "dim": self.width,
            "strips": self.model.config.strips,
            "channels": self.model.config.embedding,
        }

    def cut(self, frames: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.bool_]]:
        """A sequence ``(T, 64, 64)`` as the one window ``(1, T, H, W)`` that it is, from frame 0, nothing lost."""
        return as_tensor(frames[None], self.window).numpy(), np.zeros(1, np.int64), np.ones(1, np.bool_)

    def quality(self, frames: NDArray[np.uint8], starts: NDArray[np.int64]) -> NDArray[np.float32]:
        """Fraction of a sequence's frames in which somebody is seen, ``(1,)``."""
        return np.full(len(starts), frames.any(axis=(1, 2)).mean(), np.float32)

    @torch.inference_mode()
    def encodings(self, windows: Tensor, feature: str = "strips") -> Tensor:
        """Embeddings ``(N, S * E)`` of ``(N, T, H, W)``, strips one behind the other; ``feature`` has one value."""
        pieces = windows.split(max(1, FRAMES_AT_ONCE // windows.shape[1]))
        return torch.cat([self.model.embed(piece).transpose(0, 1).flatten(1) for piece in pieces])


class SilhouetteSource:
    """The sequences of a set by their position, each of one window.

    Attributes:
        counts: ones, and zeros for sequences without a frame.
        further: names of further columns: condition and view, and split where there are sides.

    Args:
        silhouettes: the set.
        sides: of each sequence, where the model was trained on one of them.
    """

    def __init__(self, silhouettes: SilhouetteSet, sides: list[str] | None = None) -> None:
        self.silhouettes, self.sides = silhouettes, sides
        table = silhouettes.sequences
        self.counts = (table.frames > 0).astype(np.int64)
        self.further = ["condition", "view", *(["split"] if sides else [])]
        self._position = {key: index for index, key in enumerate(table.key.tolist())}

    @property
    def name(self) -> str:
        """Where the sequences are, for messages."""
        return self.silhouettes.name

    def __len__(self) -> int:
        return len(self.counts)

    def entries(self, first: int, stop: int) -> list[Entry]:
        """What the table says of the sequences at positions ``first`` to ``stop``; checksums follow with the frames."""
        table = self.silhouettes.sequences
        found = []
        for index in range(first, stop):
            key, subject = str(table.key[index]), str(table.subject[index])
            extra = {"condition": str(table.condition[index]), "view": str(table.view[index])}
            if self.sides:
                extra["split"] = self.sides[index]
            row = Row(key, subject, 0, 0, int(table.frames[index]), 0.0, 0, self.name, extra)
            found.append(Entry(row, ""))
        return found

    def frames(self, entry: Entry) -> NDArray[np.uint8]:
        """The sequence's frames ``(T, 64, 64)``.

        Raises:
            Unusable: not one can be read.
        """
        try:
            frames = self.silhouettes.load(self._position[entry.row.recording])
        except DataError as error:
            raise Unusable("unreadable", str(error)) from error
        entry.sha256 = checksum(frames)
        return frames

    def close(self) -> None:
        """Nothing is open."""


def encode_silhouettes(
    silhouettes: str | Path | SilhouetteSet,
    encoder: SilhouetteEncoder,
    out: str | Path,
    config: EncodingConfig | None = None,
    *,
    resume: bool = False,
    strict: bool = False,
    engine: EngineConfig | None = None,
    progress: Advance | None = None,
    planned: Callable[[int, int], None] | None = None,
) -> EncodingResult:
    """Encode every sequence whole, into one row: person, condition, view and ``strips * channels`` numbers.

    Of a set that the model was trained on a side of, a column ``split`` says which sequences that were, so that an
    evaluation leaves them out.

    Parts, resuming and what is left of a killed job are as for :func:`sgela_fast.encoding.encode.encode`.

    Args:
        silhouettes: a set or its folder.
        encoder: the model.
        out: folder of the store to make.
        config: ``dtype``, ``batch``, ``part_mb``, ``device``, ``backend`` and ``threads`` count.
        resume: go on with an unfinished store, or rebuild the damaged parts of a finished one.
        strict: stop at a sequence that cannot be read instead of leaving it out with its reason.
        engine: must be ``local``.
        progress: called as ``progress(sequences, note="...")``.
        planned: called once as ``planned(done, total)``.

    Raises:
        DataError: the set is damaged or empty.
        ConfigError: a setting is one of skeletons alone.
        OutputError: ``out`` is taken, was begun with something else, is in use, or cannot be written.
        Interrupted: stopped by the user behind a whole part; go on with ``resume``.
    """
    config, engine = config or EncodingConfig(), engine or EngineConfig()
    for name in _FIXED:
        if getattr(config, name) != getattr(EncodingConfig, name):
            raise ConfigError(f"encoding.{name} is for skeletons and {encoder.origin} reads silhouettes; leave it out")
    if engine.engine != "local":
        raise ConfigError(f"engine {engine.engine} is for skeletons; silhouettes are encoded with engine local")
    opened = silhouettes if isinstance(silhouettes, SilhouetteSet) else SilhouetteSet.open(silhouettes)
    described = {
        **encoder.describe(),
        "feature": "strips",
        "pooling": "max",
        "precision": "fp32",
        "backend": encoder.model.choice.name,
        "archive": opened.name,
        "archive_fingerprint": fingerprint(opened.sequences),
    }
    same = described["archive_fingerprint"] == encoder.trained_on
    divided = sides(opened.sequences, encoder.split, encoder.subjects, same=same)
    work = Work(SilhouetteSource(opened, divided), encoder, Path(out), config, described, strict=strict)
    return carry_out(work, engine, resume=resume, progress=progress, planned=planned)
