"""Batches of clips of P subjects with K clips each; every batch is a function of the seed and its number alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sgela_fast.errors import ConfigError, DataError
from sgela_fast.silhouettes.clips import as_tensor, augment, cut, start_of_clip
from sgela_fast.silhouettes.config import ClipConfig
from sgela_fast.silhouettes.dataset import SilhouetteSet


class Batch(NamedTuple):
    """Clips and whose they are.

    Attributes:
        clips: ``(V, N, T, H, W)`` float32 in [0, 1]: V views of each clip, N = P K.
        subjects: ``(N,)`` int64, codes: positions in the sampler's list of subjects.
    """

    clips: Tensor
    subjects: Tensor


class IdentitySampler:
    """Draws P subjects and K sequences of each, without end.

    In a pass every subject comes once, in random order; those that fill no batch sit the pass out. A subject's
    sequences are drawn without repetition, or where there are fewer than K with.

    Args:
        subject: ``(n,)``, code of each sequence's subject, 0..C-1, each of which occurs.
        subjects: P.
        sequences: K.
        seed: batches follow from it and their number alone.

    Raises:
        DataError: there are fewer than P subjects.
    """

    def __init__(self, subject: NDArray[np.int64], subjects: int, sequences: int, seed: int) -> None:
        self.persons, self.each, self.seed = subjects, sequences, seed
        self._own = [np.flatnonzero(subject == code) for code in np.unique(subject)]
        if subjects < 1 or sequences < 1:
            raise ConfigError(f"batches take {subjects} subjects with {sequences} clips each; both must be at least 1")
        if len(self._own) < subjects:
            raise DataError(
                f"a batch takes {subjects} subjects but there are {len(self._own)} with usable sequences; lower the "
                "number of subjects in a batch"
            )

    def __call__(self, step: int) -> NDArray[np.int64]:
        """Sequences of batch number ``step``: positions ``(P K,)``, subject by subject."""
        in_pass = len(self._own) // self.persons
        turn, place = divmod(step, in_pass)
        order = np.random.default_rng([self.seed, 0, turn]).permutation(len(self._own))
        generator = np.random.default_rng([self.seed, 1, step])
        drawn = []
        for subject in order[place * self.persons : (place + 1) * self.persons]:
            own = self._own[subject]
            drawn.append(generator.choice(own, self.each, replace=len(own) < self.each))
        return np.concatenate(drawn)


class ClipBatches:
    """Endless batches of clips; iterate, or ask for one by its number with :meth:`batch`.

    Args:
        silhouettes: where the sequences are.
        subjects: who may be drawn: names, or ``None`` for all.
        P: subjects in a batch.
        K: clips of each.
        frames: frames of a clip T; shorter sequences are left out, :attr:`left_out` counts them.
        seed: everything random follows from it.
        views: views V of each clip, changed independently; of the same frames, unless ``clips.apart``.
        clips: further settings; ``frames`` above counts.
        step: number of the first batch.
        by_subject: draw subjects, then their sequences; off, P K sequences are drawn without a look at whose they are.

    Attributes:
        subjects: names; a code is a position here.
        left_out: sequences that are too short.
        step: number of the next batch: all that a job needs to store to go on.

    Raises:
        DataError: a subject is unknown, or fewer than P have a sequence that is long enough.
        ConfigError: P, K or the number of views is below 1.
    """

    def __init__(
        self,
        silhouettes: SilhouetteSet,
        subjects: Sequence[str] | None = None,
        P: int = 8,
        K: int = 16,
        frames: int | None = None,
        seed: int = 0,
        views: int = 2,
        *,
        clips: ClipConfig | None = None,
        step: int = 0,
        by_subject: bool = True,
    ) -> None:
        self.config = clips or ClipConfig()
        if frames is not None:
            self.config = replace(self.config, frames=frames)
        if views < 1:
            raise ConfigError(f"batches have {views} views of a clip; there must be at least 1")
        table = silhouettes.sequences
        unknown = sorted(set(subjects or ()) - set(table.subjects))
        if unknown:
            raise DataError(
                f"{silhouettes.name} has no subject {unknown[0]!r}; it has {', '.join(table.subjects[:5])} ..."
            )
        wanted = np.ones(len(table), bool) if subjects is None else np.isin(table.subject, list(subjects))
        usable = wanted & (table.frames >= self.config.frames)
        self.left_out = int((wanted & ~usable).sum())
        self._set = silhouettes.select(usable)
        self.subjects, codes = np.unique(self._set.sequences.subject, return_inverse=True)
        self._codes = codes.astype(np.int64)
        if not by_subject and len(codes) < P * K:
            raise DataError(
                f"a batch takes {P * K} sequences but there are {len(codes)} that can be used; lower the number of "
                "clips in a batch"
            )
        drawn = (self._codes, P, K) if by_subject else (np.arange(len(codes)), P * K, 1)
        self._sampler = IdentitySampler(*drawn, seed)
        self.seed, self.views, self.step = seed, views, step

    def batch(self, step: int) -> Batch:
        """Batch number ``step``.

        Raises:
            DataError: a sequence cannot be read.
        """
        rows = self._sampler(step)
        generator = np.random.default_rng([self.seed, 2, step])
        clips = self._cut(rows, generator)
        views = [augment(clips, self.config, generator)]
        while len(views) < self.views:
            if self.config.apart:
                clips = self._cut(rows, generator)
            views.append(augment(clips, self.config, generator))
        return Batch(torch.stack(views), torch.from_numpy(self._codes[rows]))

    def _cut(self, rows: NDArray[np.int64], generator: np.random.Generator) -> Tensor:
        """A clip of each of the sequences ``rows``: ``(N, T, H, W)``."""
        return as_tensor(np.stack([self._clip(int(row), generator) for row in rows]), self.config)

    def _clip(self, row: int, generator: np.random.Generator) -> NDArray[np.uint8]:
        frames = self._set.load(row)
        if not self.config.redraw:
            generator = np.random.default_rng([self.seed, 3, row])
        return cut(frames, start_of_clip(len(frames), self.config.frames, generator), self.config.frames)

    def __iter__(self) -> Iterator[Batch]:
        """Batches from :attr:`step` on; a thread makes the next one while this one is used."""
        with ThreadPoolExecutor(1) as maker:
            coming = maker.submit(self.batch, self.step)
            while True:
                batch = coming.result()
                self.step += 1
                coming = maker.submit(self.batch, self.step)
                yield batch

    def state_dict(self) -> dict[str, int]:
        """What a checkpoint keeps."""
        return {"step": self.step, "seed": self.seed}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on where :meth:`state_dict` was taken.

        Raises:
            ConfigError: it was taken with another seed.
        """
        if state["seed"] != self.seed:
            raise ConfigError(f"the batches were drawn with seed {state['seed']}, not {self.seed}; keep the seed")
        self.step = state["step"]
