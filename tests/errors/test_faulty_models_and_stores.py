"""Runs, checkpoints and stores at fault.

Each test is named after its row in ``docs/errors.md``, which holds the exit status and the message.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sgela_fast.cli.main import main

Complains = Callable[..., None]

ENCODE = ("encode", "walks.sga", "--model", "run", "--out", "new.store")
EVALUATE = ("evaluate", "walks.store", "--protocol", "G", "--out", "figures")


def test_not_a_run_folder(inputs: Any, complains: Complains) -> None:
    inputs.take("walks.sga")
    Path("run").mkdir()
    complains(*ENCODE)


def test_damaged_run_json(inputs: Any, complains: Complains) -> None:
    inputs.take("walks.sga", "run")
    inputs.cut("run/run.json")
    complains(*ENCODE)


def test_run_of_a_newer_schema_version(inputs: Any, complains: Complains) -> None:
    inputs.take("walks.sga", "run")
    inputs.edit_json("run/run.json", schema_version=2)
    complains(*ENCODE)


def test_weights_cut_off(inputs: Any, complains: Complains) -> None:
    inputs.take("walks.sga", "run")
    inputs.cut("run/model.safetensors")
    complains(*ENCODE)


def test_pickle_in_place_of_weights(inputs: Any, complains: Complains) -> None:
    import pickle

    inputs.take("walks.sga", "run")
    Path("run/model.safetensors").write_bytes(pickle.dumps({"encoder": [0.0] * 99}))
    complains(*ENCODE)


def test_weights_of_another_model(inputs: Any, complains: Complains) -> None:
    inputs.take("walks.sga", "run")
    inputs.edit_json("run/run.json", model={"hidden": 8})
    complains(*ENCODE)


def test_settings_that_this_release_does_not_know(inputs: Any, complains: Complains) -> None:
    inputs.take("walks.sga", "run")
    inputs.edit_json("run/run.json", model={"hidden": 4, "heads": 2})
    complains(*ENCODE)


def test_weight_that_is_not_finite(inputs: Any, complains: Complains) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    inputs.take("walks.sga", "run")
    weights = load_file("run/model.safetensors")
    weights["output_weight"][0, 0, 0] = torch.nan
    save_file(weights, "run/model.safetensors")
    complains(*ENCODE)


def test_archive_of_another_layout_than_the_model_s(inputs: Any, complains: Complains) -> None:
    inputs.take("run")
    inputs.archive("walks.sga", layout="kinect-v2")
    complains(*ENCODE)


def test_engine_ray_without_ray(inputs: Any, complains: Complains) -> None:
    inputs.take("walks.sga", "run")
    inputs.monkeypatch.setitem(sys.modules, "ray", None)
    complains(*ENCODE, "--engine", "ray")


def test_neither_model_nor_untrained(inputs: Any, complains: Complains) -> None:
    inputs.take("walks.sga")
    complains("encode", "walks.sga", "--out", "new.store")


def test_ages_of_a_model_without_attention(inputs: Any, complains: Complains) -> None:
    inputs.take("walks.sga")
    assert main(["train", "walks.sga", "--out", "run", "--model.attention", "none", *inputs.quiet]) == 0
    complains(*ENCODE)


def test_pipeline_for_ages_without_attention(complains: Complains) -> None:
    complains("run", "--out", "results", "--model.attention", "none")


def test_no_recording_holds_a_window(inputs: Any, complains: Complains) -> None:
    inputs.take("run")
    inputs.archive("walks.sga", frames=20)
    complains(*ENCODE)


def test_store_exists(inputs: Any, complains: Complains) -> None:
    inputs.take("walks.sga", "run", "walks.store")
    complains("encode", "walks.sga", "--model", "run", "--out", "walks.store")


def test_store_in_a_folder_that_holds_something_else(inputs: Any, complains: Complains) -> None:
    inputs.take("walks.sga", "run")
    Path("new.store").mkdir()
    Path("new.store/notes.txt").write_text("mine")
    complains(*ENCODE)


def begin(inputs: Any, *arguments: str) -> None:
    """Leave an unfinished ``new.store`` of several parts behind."""
    inputs.take("walks.sga", "run")
    with inputs.undone():
        inputs.stop("sgela_fast.encoding.encoder.Encoder.cut", after=4)
        assert main([*ENCODE, "--encoding.part_mb", "0.002", *arguments]) == 130


def test_unfinished_store_without_resume(inputs: Any, complains: Complains) -> None:
    begin(inputs)
    complains(*ENCODE, "--encoding.part_mb", "0.002")


def test_store_begun_with_other_settings(inputs: Any, complains: Complains) -> None:
    begin(inputs)
    complains(*ENCODE, "--encoding.part_mb", "0.002", "--encoding.dtype", "float16", "--resume")


def test_store_begun_with_another_model(inputs: Any, complains: Complains) -> None:
    begin(inputs)
    others = [
        "--model.hidden",
        "4",
        "--training.batch",
        "4",
        "--training.max_steps",
        "3",
        "--training.tensorboard",
        "false",
    ]
    assert main(["train", "walks.sga", "--out", "other", *others, "--training.tensorboard", "false"]) == 0
    command = ["encode", "walks.sga", "--model", "other", "--out", "new.store", "--encoding.part_mb", "0.002"]
    complains(*command, "--resume")


def test_store_that_another_process_is_writing(inputs: Any, complains: Complains) -> None:
    import fcntl

    begin(inputs)
    with Path("new.store/.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        complains(*ENCODE, "--encoding.part_mb", "0.002", "--resume")


def test_damaged_recording_under_encode_strict(inputs: Any, complains: Complains) -> None:
    inputs.take("walks.sga", "run")
    file = Path("walks.sga/frames-00000.npy")
    file.write_bytes(file.read_bytes().replace(file.read_bytes()[200:210], b"0123456789", 1))
    complains(*ENCODE, "--strict")


def test_every_recording_damaged(inputs: Any, complains: Complains) -> None:
    inputs.take("walks.sga", "run")
    inputs.cut("walks.sga/frames-00000.npy", keep=0.01)
    complains(*ENCODE)


def test_disk_full_while_encoding(inputs: Any, complains: Complains) -> None:
    inputs.take("walks.sga", "run")
    inputs.fail("fsync", errno.ENOSPC, after=2)  # what the folder is begun with
    complains(*ENCODE)


def test_not_a_store(inputs: Any, complains: Complains) -> None:
    inputs.take("walks.sga")
    complains("evaluate", "walks.sga", "--out", "figures")


def test_unfinished_store(inputs: Any, complains: Complains) -> None:
    inputs.take("walks.store")
    Path("walks.store/store.json").unlink()
    complains(*EVALUATE)


def test_damaged_store_json(inputs: Any, complains: Complains) -> None:
    inputs.take("walks.store")
    inputs.cut("walks.store/store.json")
    complains(*EVALUATE)


def test_store_of_a_newer_schema_version(inputs: Any, complains: Complains) -> None:
    inputs.take("walks.store")
    inputs.edit_json("walks.store/store.json", schema_version=3)
    complains(*EVALUATE)


def test_values_cut_off(inputs: Any, complains: Complains) -> None:
    inputs.take("walks.store")
    inputs.cut("walks.store/part-00000.npy")
    complains(*EVALUATE)


def test_rows_cut_off(inputs: Any, complains: Complains) -> None:
    inputs.take("walks.store")
    inputs.cut("walks.store/part-00000.parquet")
    complains(*EVALUATE)


def test_damaged_part_that_store_verify_finds(inputs: Any, complains: Complains) -> None:
    inputs.take("walks.store")
    file = Path("walks.store/part-00000.npy")
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    complains("store", "verify", "walks.store")


def test_deletion_of_somebody_who_is_not_there(inputs: Any, complains: Complains) -> None:
    inputs.take("walks.store")
    complains("store", "delete", "walks.store", "--person", "erna")


def test_deletion_without_saying_of_whom(inputs: Any, complains: Complains) -> None:
    inputs.take("walks.store")
    complains("store", "delete", "walks.store")


def test_deletion_of_everybody(inputs: Any, complains: Complains) -> None:
    inputs.take("walks.store")
    complains("store", "delete", "walks.store", "--person", "p0", "p1")


def test_resume_of_a_store_that_was_changed(inputs: Any, complains: Complains) -> None:
    inputs.take("walks.sga", "run", "walks.store")
    assert main(["store", "delete", "walks.store", "--person", "p0"]) == 0
    complains("encode", "walks.sga", "--model", "run", "--out", "walks.store", "--resume")


def test_merge_of_stores_of_different_encoders(inputs: Any, complains: Complains) -> None:
    inputs.take("walks.store")
    inputs.store("other.store", persons=["anna", "bert"])
    complains("store", "merge", "walks.store", "other.store", "--out", "both.store")


def test_merge_of_stores_with_the_same_recording(inputs: Any, complains: Complains) -> None:
    inputs.take("walks.store").rename("twin.store")
    inputs.take("walks.store")
    complains("store", "merge", "walks.store", "twin.store", "--out", "both.store")


def test_export_into_a_folder_that_is_not_empty(inputs: Any, complains: Complains) -> None:
    inputs.take("walks.store")
    inputs.kgbd()
    complains("store", "export", "walks.store", "--to", "parquet", "--out", "kgbd")


def test_option_of_another_store_action(inputs: Any, complains: Complains) -> None:
    inputs.take("walks.store")
    complains("store", "compact", "walks.store", "--to", "parquet")


def test_fewer_windows_than_listed(inputs: Any, complains: Complains) -> None:
    inputs.take("walks.store")
    inputs.edit_json("walks.store/store.json", windows=999)
    complains(*EVALUATE)


def test_one_person_only(inputs: Any, complains: Complains) -> None:
    inputs.store("walks.store", persons=["anna"])
    complains(*EVALUATE)


def test_nobody_is_named(inputs: Any, complains: Complains) -> None:
    inputs.store("walks.store", persons=[None])
    complains(*EVALUATE)


def test_split_column_that_the_store_does_not_have(inputs: Any, complains: Complains) -> None:
    inputs.take("walks.store")
    complains(*EVALUATE, "--splits", "fold")


def test_split_value_that_never_occurs(inputs: Any, complains: Complains) -> None:
    inputs.take("walks.store")
    complains(*EVALUATE, "--test_value", "probe")


def test_nobody_is_on_both_sides(inputs: Any, complains: Complains) -> None:
    inputs.store("walks.store", persons=["anna", "bert"], splits=["train", "test"])
    complains(*EVALUATE)


def test_stores_of_different_encoders(inputs: Any, complains: Complains) -> None:
    inputs.take("walks.store")
    inputs.store("other.store", persons=["anna", "bert"])
    complains(*EVALUATE, "--train", "other.store")


def test_a_store_given_twice(inputs: Any, complains: Complains) -> None:
    inputs.take("walks.store")
    complains("evaluate", "walks.store", "walks.store", "--out", "figures")


def test_comparison_of_a_single_store(inputs: Any, complains: Complains) -> None:
    inputs.take("walks.store")
    complains(*EVALUATE, "--compare")


def test_comparison_of_stores_with_other_windows(inputs: Any, complains: Complains) -> None:
    inputs.take("walks.store", "walks.sga", "run")
    assert main(["encode", "walks.sga", "--model", "run", "--out", "other.store", "--encoding.stride", "5"]) == 0
    complains("evaluate", "walks.store", "other.store", *EVALUATE[2:], "--compare")


def test_tensorflow_checkpoint_without_one_axis(complains: Complains) -> None:
    for axis in "xy":
        Path(f"released/BIWI_LA_{axis}").mkdir(parents=True)
    complains("import-tf", "released", "run")


def test_tensorflow_index_cut_off(inputs: Any, complains: Complains) -> None:
    inputs.tf_bundle("released/model.ckpt")
    inputs.cut("released/model.ckpt.index")
    complains("import-tf", "released", "run")


def test_tensorflow_data_cut_off(inputs: Any, complains: Complains) -> None:
    inputs.tf_bundle("released/model.ckpt")
    inputs.cut("released/model.ckpt.data-00000-of-00001")
    complains("import-tf", "released", "run")


def test_tensorflow_checkpoint_of_something_else(inputs: Any, complains: Complains) -> None:
    inputs.tf_bundle("released/model.ckpt", names=("conv1", "conv2"))
    complains("import-tf", "released", "run")


def test_no_tensorflow_checkpoint(complains: Complains) -> None:
    Path("released").mkdir()
    complains("import-tf", "released", "run")


def test_fused_backend_for_encoding_without_the_compiled_extension(inputs: Any, complains: Complains) -> None:
    inputs.take("walks.sga", "run")
    inputs.without_extension()
    complains(*ENCODE, "--encoding.backend", "fused")


def test_cuda_for_encoding_without_a_cuda_device(inputs: Any, complains: Complains) -> None:
    import torch

    inputs.monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    inputs.take("walks.sga", "run")
    complains(*ENCODE, "--encoding.device", "cuda")
