"""Batches hold P subjects with K clips each, follow from the seed, and can be gone on with."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from sgela_fast.errors import ConfigError, DataError
from sgela_fast.silhouettes.batches import ClipBatches, IdentitySampler
from sgela_fast.silhouettes.clips import as_tensor, augment, cut, start_of_clip
from sgela_fast.silhouettes.config import ClipConfig, RenderConfig
from sgela_fast.silhouettes.dataset import SilhouetteSet


@pytest.fixture(scope="module")
def silhouettes() -> SilhouetteSet:
    config = RenderConfig(persons=5, frames=14, views=("000", "090"), conditions=("nm-01", "bg-01"))
    return SilhouetteSet.rendered(config)


def clips_of(count: int = 4, frames: int = 6) -> torch.Tensor:
    return torch.rand(count, frames, 64, 44, generator=torch.Generator().manual_seed(0))


def test_a_batch_has_views_of_p_times_k_clips(silhouettes: SilhouetteSet) -> None:
    clips, subjects = ClipBatches(silhouettes, P=2, K=3, frames=10, seed=1, views=3).batch(0)
    assert clips.shape == (3, 6, 10, 64, 44)
    assert clips.dtype == torch.float32
    assert 0 == clips.min() < clips.max() == 1
    assert subjects.dtype == torch.int64
    assert [len(set(part)) for part in subjects.view(2, 3).tolist()] == [1, 1]
    assert len(set(subjects.tolist())) == 2


def test_every_subject_comes_once_in_a_pass() -> None:
    subject = np.repeat(np.arange(6), 4)
    sampler = IdentitySampler(subject, 2, 3, seed=5)
    for turn in range(3):
        drawn = [subject[sampler(3 * turn + step)] for step in range(3)]
        assert sorted({int(code) for batch in drawn for code in batch}) == list(range(6))
        assert all(len(set(batch[::3].tolist())) == 2 for batch in drawn)


def test_sequences_repeat_only_where_a_subject_has_too_few() -> None:
    sampler = IdentitySampler(np.array([0, 1, 1, 1, 1]), 2, 3, seed=0)
    for step in range(10):
        drawn = sampler(step).tolist()
        assert drawn.count(0) == 3
        assert len({row for row in drawn if row}) == 3


def test_batches_follow_from_the_seed_and_can_be_gone_on_with(silhouettes: SilhouetteSet) -> None:
    def batches(seed: int) -> ClipBatches:
        return ClipBatches(silhouettes, P=2, K=2, frames=8, seed=seed)

    first = batches(3)
    seen = list(itertools.islice(first, 3))
    resumed = batches(3)
    resumed.load_state_dict(first.state_dict())
    after, expected = next(iter(resumed)), batches(3).batch(3)
    assert torch.equal(after.clips, expected.clips)
    assert torch.equal(seen[2].clips, batches(3).batch(2).clips)
    assert not torch.equal(seen[0].clips, batches(4).batch(0).clips)
    with pytest.raises(ConfigError, match="drawn with seed 3, not 4"):
        batches(4).load_state_dict(first.state_dict())


def test_a_clip_is_drawn_anew_unless_the_released_way_is_wanted(silhouettes: SilhouetteSet) -> None:
    def starts(redraw: bool) -> int:
        batches = ClipBatches(
            silhouettes.select(np.arange(1)), P=1, K=1, views=1, clips=ClipConfig(5, flip="none", redraw=redraw)
        )
        return len({batches.batch(step).clips.numpy().tobytes() for step in range(12)})

    assert starts(False) == 1
    assert starts(True) > 3


def test_views_of_a_pair_are_other_frames_of_the_same_sequence_when_cut_apart(silhouettes: SilhouetteSet) -> None:
    one = silhouettes.select(np.arange(1))
    frames = [as_tensor(frame[None, None], ClipConfig()) for frame in one.load(0)]

    def places(apart: bool) -> list[list[int]]:
        """Where the two views of each batch begin in the sequence."""
        batches = ClipBatches(one, P=1, K=1, clips=ClipConfig(5, flip="none", apart=apart))
        begun = [[view[0, 0] for view in batches.batch(step).clips] for step in range(12)]
        return [
            [next(n for n, own in enumerate(frames) if torch.equal(own[0, 0], first)) for first in pair]
            for pair in begun
        ]

    assert all(first == second for first, second in places(False))
    apart = places(True)
    assert sum(first != second for first, second in apart) > 6
    assert len({second for _, second in apart}) > 3


def test_cut_apart_and_always_in_one_place_contradict_each_other() -> None:
    with pytest.raises(ConfigError, match=r"clips\.redraw is off"):
        ClipConfig(apart=True, redraw=False)


def test_short_sequences_are_left_out_and_counted(silhouettes: SilhouetteSet) -> None:
    assert ClipBatches(silhouettes, P=2, frames=14).left_out == 0
    with pytest.raises(DataError, match="there are 0 with usable sequences"):
        ClipBatches(silhouettes, P=2, frames=15)


def test_only_the_subjects_that_were_named_are_drawn(silhouettes: SilhouetteSet) -> None:
    batches = ClipBatches(silhouettes, ["002", "004"], P=2, K=1, frames=5)
    assert batches.subjects.tolist() == ["002", "004"]
    with pytest.raises(DataError, match="has no subject '009'"):
        ClipBatches(silhouettes, ["009"], P=1)


def test_a_flip_mirrors_all_frames_of_a_clip_alike() -> None:
    clips = clips_of(40)
    flipped = augment(clips, ClipConfig(flip="sequence"), np.random.default_rng(0))
    mirrored = [(view == clip.flip(-1)).flatten(1).all(dim=1) for view, clip in zip(flipped, clips, strict=True)]
    assert {tuple(set(frames.tolist())) for frames in mirrored} == {(True,), (False,)}
    each = augment(clips, ClipConfig(flip="frame"), np.random.default_rng(0))
    mixed = [(view == clip.flip(-1)).flatten(1).all(dim=1) for view, clip in zip(each, clips, strict=True)]
    assert any(len(set(frames.tolist())) == 2 for frames in mixed)
    assert torch.equal(augment(clips, ClipConfig(flip="none"), np.random.default_rng(0)), clips)


def test_moving_keeps_a_picture_whole_and_shifts_by_the_share_that_was_asked() -> None:
    clip = torch.zeros(200, 1, 64, 44)
    clip[:, :, 20:44, 16:28] = 1
    moved = augment(clip, ClipConfig(flip="none", shift=0.1), np.random.default_rng(0))
    assert torch.allclose(moved.sum((1, 2, 3)), clip.sum((1, 2, 3)), rtol=1e-3)
    rows = (moved.sum((1, 3)) * torch.arange(64)).sum(1) / moved.sum((1, 2, 3)) - 31.5
    columns = (moved.sum((1, 2)) * torch.arange(44)).sum(1) / moved.sum((1, 2, 3)) - 21.5
    for offsets in (rows, columns):
        assert 5.5 < offsets.abs().max() <= 6.41
    turned = augment(clip, ClipConfig(flip="none", rotate=20), np.random.default_rng(0))
    assert torch.allclose(turned.sum((1, 2, 3)), clip.sum((1, 2, 3)), rtol=0.02)  # no shear
    grown = augment(clip, ClipConfig(flip="none", scale=0.2), np.random.default_rng(0)).sum((1, 2, 3)) / 288
    assert 0.64 <= grown.min() < 0.72 < 1.35 < grown.max() <= 1.45


def test_erasing_blanks_one_rectangle_in_all_frames() -> None:
    clips = torch.ones(50, 3, 64, 44)
    erased = augment(clips, ClipConfig(flip="none", erase=0.5), np.random.default_rng(0))
    changed = [clip for clip in erased if clip.min() == 0]
    assert 10 < len(changed) < 40
    for clip in changed:
        assert torch.equal(clip[0], clip[2])
        rows, columns = (clip[0] == 0).any(1).sum(), (clip[0] == 0).any(0).sum()
        assert int((clip[0] == 0).sum()) == int(rows * columns)


def test_crop_and_shrink() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, 3, 64, 64), np.uint8)
    whole = as_tensor(frames, ClipConfig())
    np.testing.assert_allclose(whole, frames[..., 10:54] / 255, atol=1e-7)
    small = as_tensor(frames, ClipConfig(shrink=2))
    assert small.shape[2:] == ClipConfig(shrink=2).size == (32, 22)
    np.testing.assert_allclose(small[0, 0, 0, 0], frames[0, 0, :2, 10:12].mean() / 255, rtol=1e-5)
    with pytest.raises(ConfigError, match="shrink must divide 64"):
        ClipConfig(shrink=3)


def test_clips_are_contiguous_and_go_round_at_the_end_of_a_short_sequence() -> None:
    frames = np.arange(7, dtype=np.uint8)[:, None, None] * np.ones((1, 64, 64), np.uint8)
    assert cut(frames, 2, 4)[:, 0, 0].tolist() == [2, 3, 4, 5]
    assert cut(frames, 5, 10)[:, 0, 0].tolist() == [5, 6, 0, 1, 2, 3, 4, 5, 6, 0]
    generator = np.random.default_rng(0)
    assert {start_of_clip(7, 4, generator) for _ in range(100)} == {0, 1, 2, 3}
    assert start_of_clip(3, 9, generator) == 0
