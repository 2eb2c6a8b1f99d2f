"""Leaks that were planted are found, with their numbers, and sound data has none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sgela_fast.checkpoints.run_folder import write_info, write_run
from sgela_fast.encoding.encode import encode
from sgela_fast.encoding.encoder import Encoder
from sgela_fast.encoding.store import Store
from sgela_fast.evaluation.archive_leakage import check_archive, check_run, check_transfer
from sgela_fast.evaluation.config import EvaluationConfig
from sgela_fast.evaluation.evaluate import evaluate
from sgela_fast.evaluation.leakage import Finding, LeakageReport, check_sides
from sgela_fast.evaluation.sides import divide
from sgela_fast.models.config import SGELAConfig
from sgela_fast.models.sgela import build_model
from sgela_fast.skeletons.archive import Archive, ArchiveWriter
from sgela_fast.skeletons.config import WindowConfig
from sgela_fast.skeletons.layouts import get_layout
from sgela_fast.skeletons.recording import Recording

MakeStore = Callable[..., Store]
KINECT = get_layout("kinect-v1")
CONFIG = EvaluationConfig(protocol="G", resamples=0)


def findings(report: LeakageReport) -> dict[str, Finding]:
    return {finding.check: finding for finding in report.findings}


def of_store(store: Store, train: Store | None = None, column: str = "split") -> dict[str, Finding]:
    return findings(check_sides(divide(store, column, CONFIG, train)))


def test_sound_stores_share_nothing(make_store: MakeStore) -> None:
    store = make_store(info={"window": {"center": "root"}, "trained_on": {}})
    found = of_store(store)
    assert {finding.severity for finding in found.values()} == {"fine"}
    assert found["shared-windows"].figures == {"recordings": 0, "overlapping": 0, "identical": 0, "tested": 36}


def shared(columns: dict[str, list[Any]]) -> None:
    """Windows 0 to 2 of the test recording of every person are for training; they begin every 2 frames of 3."""
    for index in range(len(columns["split"])):
        columns["window_start"][index] = 2 * (index % 6)
        if columns["recording"][index].endswith("_0"):
            columns["split"][index] = "train" if index % 6 < 3 else "test"


def test_windows_that_share_frames_are_counted(make_store: MakeStore) -> None:
    found = of_store(make_store(change=shared))["shared-windows"]
    assert found.severity == "serious"
    # Training windows cover frames 0 to 6; of the tested ones at 6, 8 and 10 the first shares frame 6.
    assert found.figures == {"recordings": 6, "overlapping": 6, "identical": 0, "tested": 18}
    assert "6 of 18 test windows share frames with training windows" in found.sentence


def test_windows_of_one_recording_that_lie_apart_are_a_warning(make_store: MakeStore) -> None:
    def apart(columns: dict[str, list[Any]]) -> None:
        shared(columns)
        columns["window_start"] = [4 * (index % 6) for index in range(108)]

    found = of_store(make_store(change=apart))["shared-windows"]
    assert (found.severity, found.figures["overlapping"], found.figures["recordings"]) == ("warning", 0, 6)


def test_recordings_are_known_by_their_hash_whatever_their_name(make_store: MakeStore) -> None:
    def hashed(prefix: str) -> Callable[[dict[str, list[Any]]], None]:
        def change(columns: dict[str, list[Any]]) -> None:
            columns["source_sha256"] = [name.replace("p00_0", prefix) for name in columns["recording"]]

        return change

    gallery = make_store("gallery", change=hashed("p00_2"))
    probes = make_store("probes", change=hashed("p00_2"), info={"archive_fingerprint": "b"})
    found = of_store(probes, gallery)["shared-windows"]
    assert found.figures == {"recordings": 1, "overlapping": 6, "identical": 6, "tested": 36}
    nameless = make_store("nameless", info={"archive_fingerprint": "c"})
    assert of_store(nameless, gallery)["shared-windows"].severity == "unknown"


@pytest.mark.parametrize(
    ("trained_on", "severity", "seen"),
    [
        ({"archive_fingerprint": "a", "split": "split", "train_value": "train"}, "fine", 0),
        ({"archive_fingerprint": "a", "split": "split_2", "train_value": "train"}, "warning", 36),
        ({"archive_fingerprint": "a", "split": "", "train_value": "train"}, "warning", 36),
        ({"archive_fingerprint": "a", "split": "fold", "train_value": "train"}, "unknown", None),
        ({"archive_fingerprint": "b", "split": "", "train_value": "train"}, "fine", None),
        ({}, "fine", None),
        (None, "unknown", None),
        (..., "unknown", None),
    ],
)
def test_test_windows_that_the_encoder_has_seen_are_counted(
    make_store: MakeStore, trained_on: Any, severity: str, seen: int | None
) -> None:
    store = make_store(info={} if trained_on is ... else {"trained_on": trained_on})
    found = of_store(store)["encoder-training"]
    assert found.severity == severity
    assert found.figures.get("seen") == seen


def test_evaluate_notes_what_is_cheap_to_see(make_store: MakeStore) -> None:
    info = {
        "trained_on": {"archive_fingerprint": "a", "split": "split_2", "train_value": "train"},
        "window": {"center": "none"},
    }
    outcome = evaluate([make_store(info=info).path], CONFIG).stores[0].outcomes[0]
    assert outcome.notes == (
        "the encoder was trained (without labels) on 36 of the 36 tested windows",
        "skeletons were not centred: where somebody walked may name him without any gait",
    )
    assert evaluate([make_store("silent").path], CONFIG).stores[0].outcomes[0].notes == ()


def make_archive(path: Path, joints: Mapping[str, np.ndarray]) -> Archive:
    """``p1_0`` is of person p1; recordings that end with 0 are for testing."""
    writer = ArchiveWriter(path, KINECT, {})
    for name, frames in joints.items():
        split = {"split": "test" if name.endswith("0") else "train"}
        writer.add(Recording(name, frames, "kinect-v1", person=name.partition("_")[0], extra=split))
    return writer.finish()


def walks(persons: int = 3, spread: float = 0.0, seed: int = 0) -> dict[str, np.ndarray]:
    """Two walks a person around a place of his own, ``spread`` metres from the others'."""
    random = np.random.default_rng(seed)
    return {
        f"p{person}_{walk}": (random.normal(size=(30, 20, 3)) + spread * person).astype(np.float32)
        for person in range(persons)
        for walk in range(2)
    }


def test_sound_archives_have_no_copies(tmp_path: Path) -> None:
    joints = walks()
    for frames in joints.values():
        frames[3] = 0  # frames without a joint are all alike, and no copies
    report = check_archive(make_archive(tmp_path / "sound.sga", joints))
    assert report.worst == "fine"
    assert report.sentences() == ()
    found = findings(report)
    assert found["copied-frames"].figures == {"frames": 0, "recordings": 0, "tested": 87}
    assert found["place"].figures["chance"] == pytest.approx(1 / 3)


def test_copied_frames_are_found(tmp_path: Path) -> None:
    joints = walks()
    joints["p1_0"][10:14] = joints["p1_1"][2:6]
    joints["p2_0"][0] = joints["p0_1"][29]
    report = check_archive(make_archive(tmp_path / "copies.sga", joints).path)
    found = findings(report)
    assert report.worst == "serious"
    assert found["copied-frames"].figures == {"frames": 5, "recordings": 2, "tested": 90}
    assert "such as in 'p1_0' of 'p1_1'" in found["copied-frames"].sentence
    assert found["frames-of-two-persons"].figures == {"frames": 1}
    assert "'p0_1' and 'p2_0'; mend the labels" in found["frames-of-two-persons"].sentence


def test_places_that_name_persons_are_told(tmp_path: Path) -> None:
    found = findings(check_archive(make_archive(tmp_path / "places.sga", walks(spread=20.0))))["place"]
    assert (found.severity, found.figures["named"]) == ("warning", 1.0)
    assert found.sentence == (
        "the place of hip_center alone names the person of 100.0 % of the test frames (33.3 % by chance); keep "
        "window.center at root"
    )
    centred = {name: joints - joints[:, :1] for name, joints in walks(spread=20.0).items()}
    assert findings(check_archive(make_archive(tmp_path / "centred.sga", centred)))["place"].severity == "fine"


def test_transfers_share_neither_persons_nor_frames(tmp_path: Path) -> None:
    one, other = walks(), {name.replace("p", "q"): joints for name, joints in walks(seed=1).items()}
    trained = make_archive(tmp_path / "one.sga", one)
    assert check_transfer(trained, make_archive(tmp_path / "other.sga", other)).worst == "fine"
    other["p2_0"] = one["p0_1"]
    found = findings(check_transfer(trained, make_archive(tmp_path / "leak.sga", other)))
    assert found["shared-persons"].figures == {"persons": 1, "tested": 4}
    assert found["copied-frames"].figures["frames"] == 30


@pytest.mark.parametrize(
    ("split", "severity", "seen"), [("split", "fine", 0), ("", "warning", 3), ("other archive", "fine", None)]
)
def test_runs_say_which_test_recordings_they_have_seen(
    tmp_path: Path, split: str, severity: str, seen: int | None
) -> None:
    archive = make_archive(tmp_path / "walks.sga", walks())
    fingerprint = "elsewhere" if split == "other archive" else archive.fingerprint
    training = {"split": split, "train_value": "train"}
    settings = {"model": {}, "window": {}, "layout": "kinect-v1"}
    (tmp_path / "run").mkdir()
    write_info(tmp_path / "run", {**settings, "training": training, "archive": {"fingerprint": fingerprint}})
    finding = findings(check_run(tmp_path / "run", archive))["encoder-training"]
    assert (finding.severity, finding.figures.get("seen")) == (severity, seen)
    write_info(tmp_path / "run", settings)
    assert findings(check_run(tmp_path / "run", archive))["encoder-training"].severity == "unknown"


def test_stores_of_a_trained_run_say_what_it_has_seen(tmp_path: Path) -> None:
    archive = make_archive(tmp_path / "walks.sga", walks())
    model = build_model(SGELAConfig(hidden=4), seed=1)
    training = {"split": "split", "train_value": "test"}
    info = {"training": training, "archive": {"fingerprint": archive.fingerprint}}
    for name, entries, severity in (("trained", info, "warning"), ("imported", {}, "unknown")):
        write_run(tmp_path / name, model, window=WindowConfig(trim=2), layout="kinect-v1", info=entries)
        store = encode(archive, Encoder.load(tmp_path / name), tmp_path / f"{name}.store").store
        assert of_store(store)["encoder-training"].severity == severity
    assert store.info["trained_on"] is None
    fresh = encode(archive, Encoder.untrained("official", KINECT), tmp_path / "fresh.store").store
    assert of_store(fresh)["encoder-training"].severity == "fine"


def test_reports_add_up_and_are_plain_data() -> None:
    one = LeakageReport((Finding("a", "unknown", "a", {"n": 1}),))
    other = LeakageReport((Finding("b", "warning", "b", {}),))
    both = one + other
    assert both.worst == "warning"
    assert both.sentences() == ("b",)
    assert both.sentences("fine") == ("a", "b")
    assert both.as_json()["findings"][0] == {"check": "a", "severity": "unknown", "sentence": "a", "figures": {"n": 1}}
    assert LeakageReport(()).worst == "fine"
