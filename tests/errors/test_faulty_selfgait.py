"""SelfGait with something at fault ends as the documentation says.

Each test is named after its row in ``docs/errors.md``, which holds the exit status and the message.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sgela_fast.cli.main import main
from tests.silhouette_bars import bars, pack

Complains = Callable[..., None]
TRAIN = ["train", "bars", "--system", "selfgait", "--out", "run", "--selfgait_training.device", "cpu"]
TINY = [
    "--selfgait.channels",
    "[2, 4, 4]",
    "--selfgait.bins",
    "[1, 2]",
    "--selfgait.embedding",
    "4",
    "--clips.frames",
    "4",
]
TINY += ["--clips.crop", "8", "--clips.shrink", "4", "--selfgait_training.max_steps", "1"]
TINY += ["--selfgait_training.persons", "2", "--selfgait_training.clips", "2"]


def silhouettes(persons: int = 2) -> None:
    """A packed set in ``bars``."""
    pack(bars(persons=persons, views=("090",), frames=4), Path("bars"))


def trained() -> None:
    """A run of SelfGait in ``run``."""
    silhouettes()
    assert main([*TRAIN, *TINY]) == 0


def test_settings_of_skeletons_for_silhouettes(inputs: Any, complains: Complains) -> None:
    complains(*TRAIN, "--training.batch", "4")


def test_settings_of_silhouettes_for_skeletons(inputs: Any, complains: Complains) -> None:
    complains("train", "walks.sga", "--out", "run", "--labels", "0.1")


def test_strips_that_do_not_divide_the_height(inputs: Any, complains: Complains) -> None:
    complains(*TRAIN, "--selfgait.bins", "[1, 3]")


def test_frames_of_silhouettes_in_two_places(inputs: Any, complains: Complains) -> None:
    silhouettes()
    complains(*TRAIN, *TINY, "--selfgait.frames", "9")


def test_steps_after_the_learning_rate_has_fallen_to_nothing(inputs: Any, complains: Complains) -> None:
    complains(*TRAIN, "--selfgait_training.decay_steps", "5", "--selfgait_training.max_steps", "9000")


def test_views_cut_apart_for_the_next_frame(inputs: Any, complains: Complains) -> None:
    silhouettes()
    complains(*TRAIN, *TINY, "--clips.apart", "true")


def test_views_cut_apart_in_one_place(inputs: Any, complains: Complains) -> None:
    complains(*TRAIN, "--clips.apart", "true", "--clips.redraw", "false")


def test_share_of_labels_out_of_range(inputs: Any, complains: Complains) -> None:
    complains(*TRAIN, "--stage", "finetune", "--labels", "10")


def test_batches_that_make_no_triplet(inputs: Any, complains: Complains) -> None:
    complains(*TRAIN, "--stage", "finetune", "--selfgait_training.clips", "1")


def test_fewer_persons_than_a_batch_takes(inputs: Any, complains: Complains) -> None:
    silhouettes()
    complains(*TRAIN, *TINY, "--stage", "finetune", "--selfgait_training.persons", "3")


def test_fewer_sequences_than_a_batch_takes(inputs: Any, complains: Complains) -> None:
    silhouettes()
    complains(*TRAIN, *TINY, "--selfgait_training.clips", "10")


def test_one_person_to_tell_from_nobody(inputs: Any, complains: Complains) -> None:
    silhouettes(persons=1)
    complains(*TRAIN, *TINY, "--stage", "finetune")


def test_probe_of_nothing(inputs: Any, complains: Complains) -> None:
    complains(*TRAIN, "--stage", "probe")


def test_pretraining_from_a_run(inputs: Any, complains: Complains) -> None:
    complains(*TRAIN, "--stage", "pretrain", "--from", "other")


def test_selfgait_in_several_processes(inputs: Any, complains: Complains) -> None:
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "2")):
        inputs.monkeypatch.setenv(name, value)
    complains(*TRAIN, *TINY)


def test_other_sizes_than_those_of_the_run_to_start_from(inputs: Any, complains: Complains) -> None:
    trained()
    complains("train", "bars", "--system", "selfgait", "--out", "fine", "--from", "run", "--clips.frames", "3")


def test_run_of_silhouettes_to_export(inputs: Any, complains: Complains) -> None:
    trained()
    complains("export", "run", "--out", "encoder.onnx")


def test_setting_of_skeletons_for_encoding_silhouettes(inputs: Any, complains: Complains) -> None:
    trained()
    complains("encode", "bars", "--model", "run", "--out", "embeddings", "--encoding.pooling", "mean")


def test_silhouettes_encoded_on_a_cluster(inputs: Any, complains: Complains) -> None:
    trained()
    complains("encode", "bars", "--model", "run", "--out", "embeddings", "--engine", "ray")
