"""Settings and arguments at fault.

Each test is named after its row in ``docs/errors.md``, which holds the exit status and the message.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

Complains = Callable[..., None]


def test_recordings_shorter_than_a_window(inputs: Any, complains: Complains) -> None:
    inputs.archive("short.sga", frames=20)
    complains("train", "short.sga", "--out", "run", *inputs.quiet)


def test_fewer_windows_than_a_batch(inputs: Any, complains: Complains) -> None:
    inputs.take("walks.sga")
    complains("train", "walks.sga", "--out", "run", *inputs.quiet, "--training.batch", "1000")


def test_unknown_split_column(inputs: Any, complains: Complains) -> None:
    inputs.take("walks.sga")
    complains("train", "walks.sga", "--out", "run", *inputs.quiet, "--training.split", "fold")


def test_unknown_value_in_the_split_column(inputs: Any, complains: Complains) -> None:
    inputs.take("walks.sga")
    complains("train", "walks.sga", "--out", "run", *inputs.quiet, "--training.train_value", "training")


def test_unknown_joint_for_centring(inputs: Any, complains: Complains) -> None:
    inputs.take("walks.sga")
    complains("train", "walks.sga", "--out", "run", *inputs.quiet, "--window.center", "tail")


def test_joints_that_the_archive_does_not_have(inputs: Any, complains: Complains) -> None:
    inputs.take("walks.sga")
    complains("train", "walks.sga", "--out", "run", *inputs.quiet, "--model.joints", "25")


def test_fused_backend_without_the_compiled_extension(inputs: Any, complains: Complains) -> None:
    inputs.take("walks.sga")
    inputs.without_extension()
    complains("train", "walks.sga", "--out", "run", *inputs.quiet, "--training.backend", "fused")


def test_precision_of_cuda_devices_on_the_cpu(inputs: Any, complains: Complains) -> None:
    inputs.take("walks.sga")
    complains("train", "walks.sga", "--out", "run", *inputs.quiet, "--training.precision", "tf32")


def test_int8_for_training(inputs: Any, complains: Complains) -> None:
    inputs.take("walks.sga")
    complains("train", "walks.sga", "--out", "run", *inputs.quiet, "--training.precision", "int8")


def test_batch_that_the_processes_cannot_share(inputs: Any, complains: Complains) -> None:
    inputs.take("walks.sga")
    inputs.monkeypatch.setenv("RANK", "0")
    inputs.monkeypatch.setenv("WORLD_SIZE", "3")
    complains("train", "walks.sga", "--out", "run", *inputs.quiet, "--training.batch", "4")


def test_pipeline_in_several_processes(inputs: Any, complains: Complains) -> None:
    inputs.monkeypatch.setenv("RANK", "0")
    inputs.monkeypatch.setenv("WORLD_SIZE", "2")
    complains("run", "--out", "all")


def test_cuda_asked_for_without_a_cuda_device(inputs: Any, complains: Complains) -> None:
    import torch

    inputs.monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    inputs.take("walks.sga")
    complains("train", "walks.sga", "--out", "run", *inputs.quiet, "--training.device", "cuda")


def test_nothing_to_resume(inputs: Any, complains: Complains) -> None:
    inputs.take("walks.sga")
    complains("train", "walks.sga", "--out", "run", "--resume", *inputs.quiet)


def test_resumed_with_other_settings(inputs: Any, complains: Complains) -> None:
    inputs.take("walks.sga", "run")
    complains("train", "walks.sga", "--out", "run", "--resume", *inputs.quiet, "--training.learning_rate", "0.1")


def test_resumed_with_another_archive(inputs: Any, complains: Complains) -> None:
    inputs.take("run")
    inputs.archive("other.sga", persons=3)
    complains("train", "other.sga", "--out", "run", "--resume", *inputs.quiet)


def test_damaged_checkpoint(inputs: Any, complains: Complains) -> None:
    inputs.take("walks.sga", "run")
    inputs.cut("run/checkpoints/step-00000002/optimiser.safetensors")
    complains("train", "walks.sga", "--out", "run", "--resume", *inputs.quiet, "--training.max_steps", "4")


def test_training_diverges(inputs: Any, complains: Complains) -> None:
    inputs.take("walks.sga")
    settings = ["--training.learning_rate", "1e30", "--training.max_steps", "9", "--training.log_every", "1"]
    complains("train", "walks.sga", "--out", "run", *inputs.quiet, "--preset", "paper", *settings, leaves="run")


def test_unknown_command(complains: Complains) -> None:
    complains("encod", "walks.sga")


def test_missing_argument(complains: Complains) -> None:
    complains("train", "walks.sga")


def test_unknown_argument(complains: Complains) -> None:
    complains("train", "walks.sga", "--out", "run", "--model.hiden", "4")


def test_word_where_a_number_should_be(complains: Complains) -> None:
    complains("train", "walks.sga", "--out", "run", "--model.hidden", "many")


def test_negative_stride(complains: Complains) -> None:
    complains("train", "walks.sga", "--out", "run", "--window.stride", "-1")


def test_unknown_variant(complains: Complains) -> None:
    complains("train", "walks.sga", "--out", "run", "--model.variant", "journal")


def test_unknown_format(inputs: Any, complains: Complains) -> None:
    inputs.kgbd()
    complains("convert", "kgbd", "walks.sga", "--format", "kinect")


def test_unknown_layout(inputs: Any, complains: Complains) -> None:
    inputs.kgbd()
    complains("convert", "kgbd", "walks.sga", "--layout", "kinect-v3")


def test_malformed_yaml(complains: Complains) -> None:
    Path("settings.yaml").write_text("model: {hidden: 8\ntraining: [\n")
    complains("train", "walks.sga", "--out", "run", "--config", "settings.yaml")


def test_unknown_key_in_the_yaml_file(complains: Complains) -> None:
    Path("settings.yaml").write_text("model: {hiden: 8}\n")
    complains("train", "walks.sga", "--out", "run", "--config", "settings.yaml")


def test_yaml_file_that_does_not_exist(complains: Complains) -> None:
    complains("train", "walks.sga", "--out", "run", "--config", "settings.yaml")


def test_yaml_file_without_settings(inputs: Any, complains: Complains) -> None:
    Path("settings.yaml").write_text("hidden\n")
    complains("train", "walks.sga", "--out", "run", "--config", "settings.yaml")
