"""A stream of frames gives the windows that the recording as a whole gives."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sgela_fast.encoding.encoder import Encoder
from sgela_fast.encoding.stream import StreamedWindow, StreamEncoder
from sgela_fast.errors import ConfigError, DataError
from sgela_fast.models.config import SGELAConfig
from sgela_fast.models.sgela import build_model, choose_backend
from sgela_fast.skeletons.config import WindowConfig
from sgela_fast.skeletons.layouts import get_layout

KINECT = get_layout("kinect-v1")


def make_encoder(**window: object) -> Encoder:
    settings = WindowConfig(**window)  # type: ignore[arg-type]
    model = build_model(SGELAConfig(frames=settings.frames, hidden=8), seed=3).eval()
    return Encoder(model, settings, KINECT, "hash", "test")


@pytest.fixture
def encoder() -> Encoder:
    return make_encoder(trim=2)


def walk(frames: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    joints = (rng.normal(size=(1, 20, 3)) + 0.1 * rng.normal(size=(frames, 20, 3)) + [0, 0, 3]).astype(np.float32)
    joints[frames // 3, 4] = 0
    joints[frames // 2, 0, 1] = np.nan
    return joints


def pushed(stream: StreamEncoder, joints: np.ndarray) -> list[StreamedWindow]:
    given = [stream.push(frame) for frame in joints]
    return [window for window in given if window is not None]


@pytest.mark.parametrize("frames", [1, 4, 6])
@pytest.mark.parametrize("stride", [1, 3, 6, 9])
@pytest.mark.parametrize("center", ["root", "head", "none"])
def test_a_stream_gives_the_recordings_windows(frames: int, stride: int, center: str) -> None:
    encoder = make_encoder(frames=frames, stride=stride, center=center, trim=0)
    joints = walk(40)
    found = pushed(StreamEncoder(encoder), joints)
    expected = encoder.encode(joints, batch=1, details=True)
    assert np.array_equal(np.stack([window.ages for window in found]), expected.ages)
    assert [window.start for window in found] == expected.starts.tolist()
    assert [window.valid for window in found] == expected.valid.tolist()
    assert stride > frames or not expected.valid.all()


def test_the_beginning_is_skipped_and_the_end_is_not(encoder: Encoder) -> None:
    starts = [window.start for window in pushed(StreamEncoder(encoder), walk(30))]
    assert starts == list(range(2, 25, 3))
    assert starts[:7] == list(encoder.window.starts(30))
    assert [w.start for w in pushed(StreamEncoder(encoder, lead=0, stride=5), walk(30))] == list(range(0, 25, 5))


def test_a_window_comes_with_its_last_frame(encoder: Encoder) -> None:
    stream = StreamEncoder(encoder, lead=0, stride=4)
    given = [number for number, frame in enumerate(walk(20)) if stream.push(frame) is not None]
    assert given == [5, 9, 13, 17]


def test_tracks_do_not_mix(encoder: Encoder) -> None:
    stream = StreamEncoder(encoder, lead=0)
    recordings = {"anna": walk(30, 1), "ben": walk(20, 2), 3: walk(25, 3)}
    found: dict[object, list[StreamedWindow]] = {name: [] for name in recordings}
    for number in range(34):
        # Ben comes four frames late.
        seen = {name: number - 4 if name == "ben" else number for name in recordings}
        frames = {name: recordings[name][at] for name, at in seen.items() if 0 <= at < len(recordings[name])}
        for name, window in stream.push_many(frames).items():
            found[name].append(window)
    for name, recording in recordings.items():
        alone = pushed(StreamEncoder(encoder, lead=0), recording)
        assert [window.start for window in found[name]] == [window.start for window in alone]
        assert [window.valid for window in found[name]] == [window.valid for window in alone]
        for together, single in zip(found[name], alone, strict=True):
            np.testing.assert_allclose(together.ages, single.ages, atol=1e-7)
    assert stream.tracks == ["anna", 3, "ben"]


def test_memory_does_not_grow_with_the_track(encoder: Encoder) -> None:
    stream = StreamEncoder(encoder, stride=1000)
    for frame in np.tile(walk(10), (30, 1, 1)):
        stream.push(frame)
    track = stream._open[0]
    assert track.frames.shape == (12, 20, 3)
    assert track.seen == 300


def test_flushing_gives_the_last_frames_once_without_a_trace(encoder: Encoder) -> None:
    joints = walk(31)
    stream, undisturbed = StreamEncoder(encoder, stride=10, lead=0), StreamEncoder(encoder, stride=10, lead=0)
    for number, frame in enumerate(joints):
        assert (stream.push(frame) is None) == (undisturbed.push(frame) is None)
        flushed = stream.flush()
        assert (flushed is None) == (number < 5 or number in (5, 15, 25))
        if flushed is not None:
            expected = encoder.encode_windows(joints[None, number - 5 : number + 1])[0]
            np.testing.assert_allclose(flushed.ages, expected, atol=1e-7)
            assert flushed.start == number - 5
            assert stream.flush() is None
    assert StreamEncoder(encoder).push(joints[0]) is None


def test_a_closed_track_starts_anew(encoder: Encoder) -> None:
    stream = StreamEncoder(encoder)
    first = pushed(stream, walk(20))
    stream.close()
    assert stream.tracks == []
    again = pushed(stream, walk(20))
    assert [window.start for window in again] == [window.start for window in first]
    for one, other in zip(first, again, strict=True):
        assert np.array_equal(one.ages, other.ages)
    stream.push(walk(2)[0], track="another")
    stream.reset()
    assert stream.tracks == []


def test_pooling_tensors_and_other_numbers(encoder: Encoder) -> None:
    joints = walk(20)
    pooled = pushed(StreamEncoder(encoder, pooling="mean"), joints)
    full = pushed(StreamEncoder(encoder), joints)
    double = pushed(StreamEncoder(encoder), joints.astype(np.float64))
    stream = StreamEncoder(encoder)
    tensors = [window for frame in torch.from_numpy(joints) if (window := stream.push(frame)) is not None]
    for mean, window, other, tensor in zip(pooled, full, double, tensors, strict=True):
        np.testing.assert_allclose(mean.ages, window.ages.mean(axis=0), atol=1e-7)
        assert np.array_equal(window.ages, other.ages)
        assert np.array_equal(window.ages, tensor.ages)


def test_frames_that_were_centred_before_say_on_what() -> None:
    encoder = make_encoder(trim=0, center="head")
    joints = 0.3 * np.random.default_rng(0).normal(size=(20, 20, 3)).astype(np.float32)
    joints -= joints[:, 1:2]  # on the spine
    found = pushed(StreamEncoder(encoder, origin="spine"), joints)
    assert np.array_equal(np.stack([window.ages for window in found]), encoder.encode(joints, batch=1))
    assert all(window.valid for window in found)
    assert not any(window.valid for window in pushed(StreamEncoder(encoder), joints))


def test_what_does_not_fit_is_refused_and_leaves_no_trace(encoder: Encoder) -> None:
    stream = StreamEncoder(encoder, tracks=2)
    good = walk(3)[0]
    with pytest.raises(DataError, match=r"the frame of track 'ben' has the shape \(25, 3\).*reads \(20, 3\)"):
        stream.push_many({"anna": good, "ben": np.zeros((25, 3))})
    assert stream.tracks == []
    stream.push_many({0: good, 1: good})
    with pytest.raises(DataError, match="2 tracks are open and 2 may be; close those that have ended"):
        stream.push(good, 2)
    assert stream.tracks == [0, 1]
    for use in (stream.flush, stream.close):
        with pytest.raises(DataError, match="there is no track 'carl'; its first frame opens it"):
            use("carl")
    assert stream.push_many({}) == {}


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"stride": -1}, "stride is -1; it must be at least 0"),
        ({"lead": -1}, "lead is -1; it must be at least 0"),
        ({"tracks": 0}, "tracks is 0; it must be at least 1"),
        ({"pooling": "max"}, "pooling is 'max'"),
    ],
)
def test_settings_out_of_range_are_refused(encoder: Encoder, settings: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        StreamEncoder(encoder, **settings)  # type: ignore[arg-type]


@pytest.mark.skipif(choose_backend("auto").name != "fused", reason="the compiled kernels are not there")
def test_with_the_fused_kernels_a_stream_gives_the_bits_of_a_batch() -> None:
    encoder = Encoder.untrained("official", KINECT, WindowConfig(trim=0), backend="fused")
    joints = walk(40)
    found = pushed(StreamEncoder(encoder), joints)
    assert np.array_equal(np.stack([window.ages for window in found]), encoder.encode(joints))
