"""The encoder gives the model's encodings of whatever it is handed: arrays, tensors, lists, streams, ready windows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from sgela_fast.checkpoints.run_folder import write_run
from sgela_fast.encoding.encoder import Encoder
from sgela_fast.encoding.normalisation import find_origin, normalise
from sgela_fast.encoding.recordings import Encoding, upload
from sgela_fast.errors import ConfigError, DataError
from sgela_fast.models.config import SGELAConfig, Variant
from sgela_fast.models.sgela import build_model, choose_backend
from sgela_fast.skeletons.config import WindowConfig
from sgela_fast.skeletons.layouts import get_layout
from sgela_fast.skeletons.recording import Recording
from sgela_fast.skeletons.windows import center_frames, missing_joints, origin_joint, valid_windows

KINECT = get_layout("kinect-v1")
WINDOW = WindowConfig(trim=2)
needs_kernels = pytest.mark.skipif(choose_backend("auto").name != "fused", reason="the compiled kernels are not there")
WIDTH = 24  # 3 axes of 8 hidden units


def make_encoder(window: WindowConfig = WINDOW, **model: object) -> Encoder:
    config = SGELAConfig(frames=window.frames, hidden=8, **model)  # type: ignore[arg-type]
    return Encoder(build_model(config, seed=3).eval(), window, KINECT, "hash", "test")


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return make_encoder()


def walk(frames: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (0.3 * rng.normal(size=(1, 20, 3)) + 0.05 * rng.normal(size=(frames, 20, 3)) + [0, 0, 3]).astype(np.float32)


def damaged(frames: int = 40) -> np.ndarray:
    joints = walk(frames)
    joints[5, 3] = 0
    joints[9, 7, 1] = np.nan
    joints[17, 0] = np.inf  # the centre itself
    joints[18, 0, 2] = np.nan
    joints[30] = np.nan
    return joints


def in_numpy(encoder: Encoder, joints: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Windows, starts and validity by the functions that training uses, all windows cut out on the host."""
    window = encoder.window
    starts = np.asarray(window.starts(len(joints)), np.int64)
    missing = missing_joints(joints)
    centred = center_frames(np.nan_to_num(joints, posinf=0.0, neginf=0.0), KINECT, window.center)
    centred = np.where(missing[..., None], np.float32(0), centred)
    valid = valid_windows(~missing.any(axis=-1), starts, window.frames)
    return centred[starts[:, None] + np.arange(window.frames)], starts, valid


def by_hand(encoder: Encoder, joints: np.ndarray, batch: int) -> np.ndarray:
    windows, _, _ = in_numpy(encoder, joints)
    with torch.inference_mode():
        pieces = [encoder.model.ages(torch.from_numpy(windows[i : i + batch])) for i in range(0, len(windows), batch)]
    return torch.cat(pieces).numpy()


@pytest.mark.parametrize("stride", [1, 3, 6, 8])
@pytest.mark.parametrize("center", ["root", "head", "none"])
def test_windows_cut_on_the_device_are_those_cut_on_the_host(center: str, stride: int) -> None:
    encoder = make_encoder(WindowConfig(trim=2, stride=stride, center=center))
    joints = damaged()
    windows, starts, valid = in_numpy(encoder, joints)
    assert not valid.all()
    assert valid.any()
    for found, expected in zip(encoder.cut(joints), (windows, starts, valid), strict=True):
        assert np.array_equal(found, expected)
    found = encoder.encode(joints, batch=4, details=True)
    assert np.array_equal(found.starts, starts)
    assert np.array_equal(found.valid, valid)
    assert np.array_equal(found.ages, by_hand(encoder, joints, 4))


@pytest.mark.parametrize("batch", [1, 2, 5, 100])
def test_one_recording_gets_the_models_own_bits(encoder: Encoder, batch: int) -> None:
    joints = walk(40)
    assert np.array_equal(encoder.encode(joints, batch=batch), by_hand(encoder, joints, batch))


@pytest.mark.parametrize("frames", [0, 1, 9])
def test_a_recording_that_is_too_short_has_no_windows(encoder: Encoder, frames: int) -> None:
    found = encoder.encode(walk(frames), details=True)
    assert found.ages.shape == (0, 6, WIDTH)
    assert found.starts.shape == found.valid.shape == (0,)
    assert encoder.encode(walk(frames), pooling="mean").shape == (0, WIDTH)
    assert encoder.encode(torch.from_numpy(walk(frames))).shape == (0, 6, WIDTH)


@pytest.mark.parametrize("batch", [1, 3, 7, 50])
def test_recordings_encoded_together_get_what_each_gets_alone(encoder: Encoder, batch: int) -> None:
    recordings = [walk(frames, seed) for seed, frames in enumerate((40, 3, 9, 10, 33, 0, 11, 60))]
    together = encoder.encode(recordings, batch=batch)
    assert isinstance(together, list)
    for recording, found in zip(recordings, together, strict=True):
        np.testing.assert_allclose(found, encoder.encode(recording), atol=1e-7)


def test_an_iterator_is_read_one_batch_ahead(encoder: Encoder) -> None:
    read = []

    def source() -> Iterator[np.ndarray]:
        for number in range(100):
            read.append(number)
            yield walk(13, number)  # two windows

    results = encoder.encode(source(), batch=8)
    assert read == []
    first = next(results)
    np.testing.assert_allclose(first, encoder.encode(walk(13, 0)), atol=1e-7)
    assert len(read) == 4
    assert len(list(results)) == 99


def test_frames_are_uploaded_once_in_pieces_of_a_batch(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = []

    def counted(values: np.ndarray, device: torch.device) -> Tensor:
        pieces.append(len(values))
        return upload(values, device)

    monkeypatch.setattr("sgela_fast.encoding.batching.upload", counted)
    recordings = [walk(400), walk(50), walk(13)]
    encoder.encode(recordings, batch=16)
    assert max(pieces) == 15 * 3 + 6
    overlap = 6 - 3
    assert sum(pieces) <= sum(map(len, recordings)) + overlap * len(pieces)


def test_recordings_without_windows_do_not_pile_up(encoder: Encoder) -> None:
    read = []

    def source() -> Iterator[np.ndarray]:
        yield walk(10)
        for number in range(1000):
            read.append(number)
            yield walk(2)

    results = encoder.encode(source(), batch=16)
    assert next(results).shape == (1, 6, WIDTH)
    assert len(read) <= 16


def test_a_tensor_gives_a_tensor_and_an_array_an_array(encoder: Encoder) -> None:
    joints = walk(30)
    array, tensor = encoder.encode(joints), encoder.encode(torch.from_numpy(joints))
    assert isinstance(array, np.ndarray)
    assert isinstance(tensor, Tensor)
    assert np.array_equal(array, tensor.numpy())
    mixed = encoder.encode([joints, torch.from_numpy(joints)])
    assert [type(one) for one in mixed] == [np.ndarray, Tensor]
    # The result is an ordinary tensor: autograd may use it.
    (torch.ones((), requires_grad=True) * tensor).sum().backward()


def test_recordings_and_other_number_types_are_read(encoder: Encoder) -> None:
    joints = walk(30)
    expected = encoder.encode(joints)
    assert np.array_equal(encoder.encode(Recording("walk", joints, "kinect-v1")), expected)
    assert np.array_equal(encoder.encode(joints.astype(np.float64)), expected)
    whole = (joints * 1000).astype(np.int16)
    assert np.array_equal(encoder.encode(whole), encoder.encode(whole.astype(np.float32)))
    joints.setflags(write=False)
    assert np.array_equal(encoder.encode(joints), expected)
    assert np.array_equal(encoder.encode(np.flip(joints, 0)), encoder.encode(np.flip(joints, 0).copy()))


@pytest.mark.parametrize("dtype", ["float32", "float16", torch.float32, torch.float16, np.float16, np.dtype("float32")])
def test_results_are_rounded_to_the_dtype_that_is_asked_for(encoder: Encoder, dtype: object) -> None:
    joints = walk(30)
    found = encoder.encode(joints, dtype=dtype)  # type: ignore[call-overload]
    assert str(found.dtype) == str(dtype).removeprefix("torch.").replace("<class 'numpy.float16'>", "float16")
    assert np.array_equal(found, encoder.encode(joints).astype(found.dtype))


def test_bfloat16_is_for_tensors(encoder: Encoder) -> None:
    joints = torch.from_numpy(walk(30))
    assert torch.equal(encoder.encode(joints, dtype="bfloat16"), encoder.encode(joints).bfloat16())
    with pytest.raises(ConfigError, match="NumPy has no bfloat16; give a torch tensor"):
        encoder.encode(joints.numpy(), dtype=torch.bfloat16)


def test_pooling_is_the_mean_over_the_frames(encoder: Encoder) -> None:
    joints = walk(30)
    np.testing.assert_allclose(encoder.encode(joints, pooling="mean"), encoder.encode(joints).mean(axis=1), atol=1e-7)


def test_ready_windows_get_what_their_recording_gets(encoder: Encoder) -> None:
    joints = damaged()
    expected = encoder.encode(joints)
    raw = np.stack([joints[start : start + 6] for start in encoder.window.starts(len(joints))])
    assert np.array_equal(encoder.encode_windows(raw), expected)
    assert np.array_equal(encoder.encode_windows(encoder.cut(joints)[0]), expected)
    np.testing.assert_allclose(encoder.encode_windows(raw, batch=3), expected, atol=1e-7)
    tensor = encoder.encode_windows(torch.from_numpy(raw), pooling="mean", dtype="float16")
    assert isinstance(tensor, Tensor)
    assert np.array_equal(tensor.numpy(), encoder.encode(joints, pooling="mean", dtype="float16"))
    assert encoder.encode_windows(raw[:0]).shape == (0, 6, WIDTH)


def test_a_recording_centred_before_keeps_its_centre() -> None:
    encoder = make_encoder(WindowConfig(trim=0, center="head"))
    joints = walk(20)
    joints -= joints[:, 1:2]  # on the spine
    found = encoder.encode(joints, details=True)
    assert found.valid.all()
    assert np.array_equal(found.ages, by_hand(encoder, joints, 256))
    raw = np.stack([joints[start : start + 6] for start in found.starts])
    assert np.array_equal(encoder.encode_windows(raw, origin="spine"), found.ages)
    assert not np.array_equal(encoder.encode_windows(raw), found.ages)


def far_and_centred() -> Iterator[np.ndarray]:
    joints = walk(25)
    yield joints
    yield joints - joints[:, :1]
    yield joints - joints[:, 4:5]
    lost = joints.copy()
    lost[:, 6] = 0  # lost throughout: the body stands three metres away
    yield lost
    lost = lost - joints[:, :1]
    lost[:, 6] = 0
    yield lost
    lost[1:, 6] = 1
    yield lost
    yield joints[:0]
    yield np.zeros((4, 20, 3), np.float32)


def test_tensors_and_arrays_agree_on_the_joint_that_was_centred_on() -> None:
    found = [(find_origin(torch.from_numpy(joints)), origin_joint(joints)) for joints in far_and_centred()]
    assert all(tensor == array for tensor, array in found)
    assert [array for _, array in found] == [None, 0, 4, None, None, 0, None, None]


def test_normalising_twice_is_normalising_once() -> None:
    joints = torch.from_numpy(damaged())
    once, lost = normalise(joints, 0, None)
    twice, _ = normalise(once, 0, None)
    assert torch.equal(once, twice)
    assert torch.isfinite(once).all()
    assert lost.sum() == 4 + 20
    assert (once[lost] == 0).all()


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (np.zeros((30, 25, 3)), r"shape \(30, 25, 3\) but the model reads \(frames, 20, 3\), layout 'kinect-v1'; conv"),
        (np.zeros((20, 3)), r"shape \(20, 3\) but the model reads \(frames, 20, 3\).*stack single ones"),
        (np.zeros((5, 6, 20, 3)), "ready windows go through encode_windows"),
        (np.zeros((30, 20, 3), complex), "holds complex128; give coordinates as numbers"),
        (torch.zeros(30, 20, 3, dtype=torch.bool), "holds torch.bool"),
        (Recording("walk", np.zeros((30, 25, 3)), "kinect-v2"), "recording 'walk' has joint layout 'kinect-v2'"),
        ("walk.npy", "the frames are of type str; give a NumPy array or a torch tensor"),
        (3, "the frames are of type int"),
        ([np.zeros((30, 20, 3)), np.zeros((30, 19, 3))], r"recording 1 has the shape \(30, 19, 3\)"),
        ([[[0.0, 0.0, 0.0]]], "recording 0 is of type list"),
    ],
)
def test_what_is_no_recording_is_refused_with_a_mend(encoder: Encoder, given: object, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        encoder.encode(given)  # type: ignore[call-overload]


def test_what_is_no_batch_of_windows_is_refused_with_a_mend(encoder: Encoder) -> None:
    with pytest.raises(DataError, match=r"reads \(windows, 6, 20, 3\), layout 'kinect-v1'"):
        encoder.encode_windows(np.zeros((2, 5, 20, 3)))
    with pytest.raises(DataError, match=r"the windows have the shape \(6, 20, 3\).*np\.stack"):
        encoder.encode_windows(np.zeros((6, 20, 3)))
    with pytest.raises(DataError, match="no joint 'tail'"):
        encoder.encode_windows(np.zeros((1, 6, 20, 3)), origin="tail")


def test_unknown_options_are_refused(encoder: Encoder) -> None:
    with pytest.raises(ConfigError, match="pooling is 'max'; choose none or mean"):
        encoder.encode(walk(30), pooling="max")  # type: ignore[call-overload]
    with pytest.raises(ConfigError, match="dtype is int8; encodings are float32, float16 or bfloat16"):
        encoder.encode(walk(30), dtype="int8")
    with pytest.raises(ConfigError, match="batch is 0; it must be at least 1"):
        encoder.encode(walk(30), batch=0)


def test_details_come_as_a_named_tuple(encoder: Encoder) -> None:
    found = encoder.encode([walk(30), walk(5)], details=True)
    assert [type(one) for one in found] == [Encoding, Encoding]
    assert found[0].valid.dtype == np.bool_
    assert found[0].starts.tolist() == list(range(2, 23, 3))


@needs_kernels
@pytest.mark.parametrize("variant", ["paper", "official"])
def test_the_fused_kernels_give_a_window_the_same_bits_in_any_batch(variant: Variant) -> None:
    encoder = Encoder.untrained(variant, KINECT, WINDOW, backend="fused")
    assert encoder.model.frozen
    recordings = [walk(frames, seed) for seed, frames in enumerate((60, 11, 23))]
    expected = encoder.encode(recordings)
    for batch in (1, 2, 7):
        for found, wanted in zip(encoder.encode(recordings, batch=batch), expected, strict=True):
            assert np.array_equal(found, wanted)


@needs_kernels
def test_a_run_is_loaded_at_the_precision_that_is_asked_for(tmp_path: Path) -> None:
    model = build_model(SGELAConfig(hidden=32), seed=3)
    write_run(tmp_path, model, window=WINDOW, layout="kinect-v1")
    joints = walk(40)
    exact = Encoder.load(tmp_path, "fused", "cpu").encode(joints)
    reference = Encoder.load(tmp_path, "reference", "cpu").encode(joints)
    np.testing.assert_allclose(exact, reference, atol=1e-6)
    for precision in ("bf16", "int8"):
        encoder = Encoder.load(tmp_path, device="cpu", precision=precision)  # type: ignore[arg-type]
        assert encoder.model.precision == precision
        rounded = encoder.encode(joints)
        assert not np.array_equal(rounded, exact)
        cosines = (rounded * exact).sum(-1) / np.linalg.norm(rounded, axis=-1) / np.linalg.norm(exact, axis=-1)
        assert cosines.min() > 0.99
    with pytest.raises(ConfigError, match="fp16"):
        Encoder.load(tmp_path, device="cpu", precision="fp16")
