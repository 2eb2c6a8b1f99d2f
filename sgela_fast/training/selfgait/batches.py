"""Batches of clips: which sequences, frames and changes is a function of seed and step alone."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sgela_fast.errors import DataError
from sgela_fast.silhouettes.batches import ClipBatches
from sgela_fast.silhouettes.config import ClipConfig
from sgela_fast.silhouettes.dataset import SilhouetteSet
from sgela_fast.silhouettes.sequences import Sequences
from sgela_fast.silhouettes.splits import labelled, split, split_subjects
from sgela_fast.training.selfgait.config import SECTION, SelfGaitTrainingConfig


class Batch(NamedTuple):
    """One batch on the device.

    Attributes:
        views: of each clip, two in pre-training and one in fine-tuning: ``(N, T, H, W)`` each, in [0, 1].
        persons: ``(N,)`` int64, whose clips they are.
    """

    views: tuple[Tensor, ...]
    persons: Tensor


class Batches:
    """The batches of a training.

    Args:
        silhouettes: all sequences.
        clips: how they become clips.
        config: settings, filled in.
        device: where batches are wanted.

    Attributes:
        description: one line on what is drawn from.
        notes: a sentence each on what was left out.

    Raises:
        DataError: too few persons or sequences are left.
    """

    def __init__(
        self, silhouettes: SilhouetteSet, clips: ClipConfig, config: SelfGaitTrainingConfig, device: torch.device
    ) -> None:
        self.device = device
        chosen = silhouettes.select(training_rows(silhouettes.sequences, config))
        self.drawn = ClipBatches(
            chosen,
            P=config.persons,
            K=config.clips,
            seed=config.seed,
            views=2 if config.stage == "pretrain" else 1,
            clips=clips,
            by_subject=config.sampling != "sequences",
        )
        usable = len(chosen) - self.drawn.left_out
        self.description = f"{len(self.drawn.subjects)} persons, {usable:,} sequences, {config.batch} clips a step"
        self.notes: list[str] = []
        if self.drawn.left_out:
            self.notes.append(
                f"{self.drawn.left_out} sequences have fewer than {clips.frames} frames and were left out"
            )

    def draw(self, step: int) -> Batch:
        """The batch of ``step``, counted from 0.

        Raises:
            DataError: a sequence cannot be read.
        """
        batch = self.drawn.batch(step)
        return Batch(tuple(batch.clips.to(self.device)), batch.subjects.to(self.device))


def training_rows(sequences: Sequences, config: SelfGaitTrainingConfig) -> NDArray[np.int64]:
    """Sequences to train on: one side of the split, and for fine-tuning those of it whose labels are known.

    Raises:
        DataError: the split leaves none.
        ConfigError: there is no such split.
    """
    rows = np.arange(len(sequences))
    if config.subjects and config.subjects < len(sequences.subjects):
        rows = split_subjects(sequences, config.subjects).train
    elif config.split:
        rows = split(sequences, config.split).train
    if config.stage == "finetune":
        rows = rows[labelled(sequences[rows], config.labels, config.label_unit, config.seed)]
        if len(sequences[rows].subjects) < 2:
            raise DataError(
                f"fine-tuning needs two labelled persons and there are {len(sequences[rows].subjects)}; raise "
                f"{SECTION}.labels or give silhouettes of more persons"
            )
    return rows
