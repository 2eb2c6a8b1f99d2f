"""CMU motion capture: ASF skeletons and AMC trials."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sgela_fast.errors import DataError
from sgela_fast.skeletons.config import ReaderOptions
from sgela_fast.skeletons.readers.cmu import BONES, CMUReader, rotations
from sgela_fast.skeletons.readers.registry import detect, open_source
from sgela_fast.skeletons.recording import Recording

BONE_NAMES = [name for name in BONES.values() if name != "root"]
# A star: every bone hangs on the root, but for a forearm on its upper arm; each points along +x, length 1 unit.
PARENTS = {name: "lhumerus" if name == "lradius" else "root" for name in BONE_NAMES}
METRES = 0.0254 / 0.45


def asf(axis: str = "0 0 0") -> str:
    bones = "".join(
        f"  begin\n id {number}\n name {name}\n direction 1 0 0\n length 1\n axis {axis} XYZ\n"
        + (" dof rx ry rz\n" if name == "lhumerus" else "")
        + "  end\n"
        for number, name in enumerate(BONE_NAMES, 1)
    )
    children = "".join(f"    {parent} {name}\n" for name, parent in PARENTS.items())
    return (
        "# AST/ASF file\n:version 1.10\n:units\n  mass 1.0\n  length 0.45\n  angle deg\n:root\n"
        "   order TX TY TZ RX RY RZ\n   axis XYZ\n"
        f":bonedata\n{bones}:hierarchy\n  begin\n{children}  end\n"
    )


def amc(frames: list[tuple[str, str]]) -> str:
    body = "".join(f"{number}\nroot {root}\nlhumerus {arm}\n" for number, (root, arm) in enumerate(frames, 1))
    return "#!OML:ASF rest.asf\n:FULLY-SPECIFIED\n:DEGREES\n" + body


def write(folder: Path, trial: str, skeleton: str | None = None) -> Path:
    (folder / "07.asf").write_text(asf() if skeleton is None else skeleton)
    path = folder / "07_03.amc"
    path.write_text(trial)
    return path


def read(path: Path, every: int = 1) -> Recording:
    reader = CMUReader(ReaderOptions(every=every))
    return reader.read(reader.scan(path)[0])


def place(recording: Recording, joint: str) -> np.ndarray:
    return np.asarray(recording.joints[0, recording.skeleton.index(joint)] / METRES)


def test_at_rest_bones_point_where_the_skeleton_says(tmp_path: Path) -> None:
    recording = read(write(tmp_path, amc([("1 2 3 0 0 0", "0 0 0")])))
    assert np.allclose(place(recording, "hip_center"), [1, 2, 3], atol=1e-5)
    assert np.allclose(place(recording, "elbow_left"), [2, 2, 3], atol=1e-5)
    assert np.allclose(place(recording, "wrist_left"), [3, 2, 3], atol=1e-5)


def test_a_turn_moves_the_bone_and_all_that_hangs_on_it(tmp_path: Path) -> None:
    recording = read(write(tmp_path, amc([("0 0 0 0 0 0", "0 0 90")])))
    assert np.allclose(place(recording, "elbow_left"), [0, 1, 0], atol=1e-5)
    assert np.allclose(place(recording, "wrist_left"), [0, 2, 0], atol=1e-5)
    assert np.allclose(place(recording, "elbow_right"), [1, 0, 0], atol=1e-5)


def test_a_turn_of_the_root_turns_everything(tmp_path: Path) -> None:
    recording = read(write(tmp_path, amc([("0 0 0 0 90 0", "0 0 90")])))
    assert np.allclose(place(recording, "elbow_right"), [0, 0, -1], atol=1e-5)
    assert np.allclose(place(recording, "elbow_left"), [0, 1, 0], atol=1e-5)


def test_angles_are_about_the_bone_s_own_axes(tmp_path: Path) -> None:
    # The bone's own axes are turned by 90 degrees about x, so its y is the world's z.
    recording = read(write(tmp_path, amc([("0 0 0 0 0 0", "0 90 0")]), asf("90 0 0")))
    assert np.allclose(place(recording, "elbow_left"), [0, 1, 0], atol=1e-5)


def test_rotations_are_proper_and_turn_about_x_first() -> None:
    matrices = rotations(np.random.default_rng(1).uniform(-180, 180, (5, 3)))
    assert np.allclose(matrices @ matrices.swapaxes(1, 2), np.eye(3))
    assert np.allclose(np.linalg.det(matrices), 1)
    assert np.allclose(rotations(np.array([90.0, 0, 90.0])) @ [0, 1, 0], [0, 0, 1])


@pytest.mark.parametrize(("every", "frames", "fps"), [(1, 9, 120.0), (4, 3, 30.0)])
def test_frames_are_thinned_from_the_first_on(tmp_path: Path, every: int, frames: int, fps: float) -> None:
    path = write(tmp_path, amc([(f"{frame} 0 0 0 0 0", "0 0 0") for frame in range(9)]))
    recording = read(path, every)
    assert (recording.frames, recording.fps) == (frames, fps)
    assert np.allclose(recording.joints[:, 0, 0] / METRES, np.arange(0, 9, every), atol=1e-5)


def test_a_trial_that_is_cut_off_in_a_frame_between_those_kept_is_refused(tmp_path: Path) -> None:
    trial = amc([(f"{frame} 0 0 0 0 0", "0 0 0") for frame in range(7)])
    path = write(tmp_path, trial.rstrip().rpartition("\n")[0] + "\n")
    with pytest.raises(DataError, match="the file seems cut off"):
        read(path, every=4)


def test_subject_and_trial_name_the_recording(tmp_path: Path) -> None:
    recording = read(write(tmp_path, amc([("0 0 0 0 0 0", "0 0 0")])))
    assert (recording.name, recording.person) == ("c07_03", "c07")
    assert detect(tmp_path) is CMUReader


ONE = ("0 0 0 0 0 0", "0 0 0")


@pytest.mark.parametrize(
    ("trial", "message"),
    [
        (amc([ONE, ONE])[:-15], r"07_03\.amc, line 7 begins a frame that lacks lhumerus; the file seems cut off"),
        (amc([ONE, ("0 0 0 0 0 0", "0 0")]), r"line 9 has 2 values for 'lhumerus' but needs 3; .* cut off"),
        (amc([ONE]).replace("lhumerus", "tail"), r"line 6 names the bone 'tail', which its skeleton does not move"),
        (amc([("0 0 0 0 0 zero", "0 0 0")]), r"line 5 holds what is not a number"),
        (amc([ONE, ("0 nan 0 0 0 0", "0 0 0")]), r"line 7 begins a frame with a value for 'root' that is not finite"),
        (":FULLY-SPECIFIED\n:DEGREES\nroot 1 2 3 4 5 6\n", r"line 3 is not a frame number"),
        (":FULLY-SPECIFIED\n:DEGREES\n", r"line 1 is not a frame number"),
        ("", r"07_03\.amc is empty"),
    ],
)
def test_a_trial_at_fault_is_named_with_its_line(tmp_path: Path, trial: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(write(tmp_path, trial))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("name head", "name cap"), r"07\.asf is not a whole CMU skeleton: .* bones head"),
        (lambda text: text[: text.index(":hierarchy")], r"lacks the bones of its hierarchy"),
        (lambda text: text.replace("length 1\n", "length one\n", 1), r"07\.asf, line 15 cannot be understood as ASF"),
        (lambda text: text.replace("angle deg", "angle rad"), r"gives its angles in radians; write it in degrees"),
        (lambda text: text.replace("0 0 0 XYZ", "0 0 0 ZYX"), r"cannot be understood as ASF \(order of axes ZYX\)"),
    ],
)
def test_a_skeleton_at_fault_is_named(tmp_path: Path, change: Callable[[str], str], message: str) -> None:
    path = write(tmp_path, amc([ONE]), change(asf()))
    with pytest.raises(DataError, match=message):
        read(path)


def test_a_trial_without_its_skeleton_says_what_is_missing(tmp_path: Path) -> None:
    path = write(tmp_path, amc([ONE]))
    (tmp_path / "07.asf").unlink()
    with pytest.raises(DataError, match=r"07_03\.amc has 0 ASF skeletons beside it and none named 07\.asf"):
        read(path)


@pytest.mark.shared
def test_raw_trials_equal_the_packed_recordings(shared: Path) -> None:
    recordings = list(open_source(shared / "data" / "cmu-sample" / "raw-sample"))
    assert [recording.name for recording in recordings] == ["c02_01", "c35_01"]
    with np.load(shared / "data" / "cmu-sample" / "cmu-sample.npz") as packed:
        for recording in recordings:
            assert recording.joints.shape == packed[recording.name].shape
            assert np.abs(recording.joints - packed[recording.name]).max() <= 1e-6
