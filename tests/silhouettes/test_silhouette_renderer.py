"""Outlines are those of the capsules, seen from the right side, and fill the frame as preparation leaves them."""

from __future__ import annotations

import numpy as np
import pytest

from sgela_fast.silhouettes.body import BAGS, Capsules, draw_build, dress
from sgela_fast.silhouettes.config import RenderConfig
from sgela_fast.silhouettes.renderer import render
from sgela_fast.silhouettes.walks import WalkerWalks

FAR = {"distance": 1000.0}
CONFIG = RenderConfig(persons=3, frames=6, conditions=("nm-01", "bg-01", "cl-01"))


@pytest.fixture(scope="module")
def walks() -> WalkerWalks:
    return WalkerWalks(CONFIG)


def dressed(walks: WalkerWalks, person: int = 0, variant: str = "nm") -> Capsules:
    walk = next(walk for walk in walks.walks if walk.subject == f"{person + 1:03d}")
    return dress(walks.joints(walk), walks.build(walk), variant)


def some_capsules(seed: int, count: int = 5) -> Capsules:
    generator = np.random.default_rng(seed)
    start, end = generator.uniform(-1, 1, (2, 3, count, 3)) * [0.2, 0.6, 0.3] + [0, 1, 0]
    return Capsules(start, end, *generator.uniform(0.02, 0.2, (2, count)))


def area(capsules: Capsules, frame: int, fine: int = 6) -> np.ndarray:
    """How much of each pixel is covered, from straight ahead and far away, ``(64, 96)``, by many points in each.

    A point is inside if it is inside one of very many spheres of a capsule.
    """
    heights = [
        [
            place[frame, :, 1] + sign * radius
            for place, radius in ((capsules.start, capsules[2]), (capsules.end, capsules[3]))
        ]
        for sign in (1, -1)
    ]
    top, bottom = np.max(heights[0]), np.min(heights[1])
    pixel = (top - bottom) / 64
    x, y = np.meshgrid((np.arange(96 * fine) + 0.5) / fine - 48, (np.arange(64 * fine) + 0.5) / fine)
    x, y = x * pixel, top - y * pixel
    inside = np.zeros(x.shape, bool)
    for start, end, first, last in zip(*(part[frame] for part in capsules[:2]), *capsules[2:], strict=True):
        for share in np.linspace(0, 1, 60):
            centre, radius = start + share * (end - start), first + share * (last - first)
            inside |= (x - centre[0]) ** 2 + (y - centre[1]) ** 2 < radius**2
    return np.asarray(inside.reshape(64, fine, 96, fine).mean(axis=(1, 3)))


@pytest.mark.parametrize("seed", range(3))
def test_an_outline_is_the_union_of_the_capsules(seed: int) -> None:
    capsules = some_capsules(seed)
    drawn, expected = render(capsules, 0, **FAR)[0] / 255, area(capsules, 0)
    width, true_width = drawn.sum(axis=1), expected.sum(axis=1)
    assert np.abs(width - true_width).mean() < 0.4  # of half pixels that are drawn
    assert abs((width - true_width).mean()) < 0.1
    moments = [(picture * np.arange(picture.shape[1])).sum(axis=1) for picture in (drawn, expected)]
    offset = moments[0] / width - moments[1] / true_width
    assert np.ptp(offset) < 1.1  # the same place in every row, wherever the middle is


def test_a_sphere_is_a_disc() -> None:
    ball = Capsules(np.array([[[0.1, 1.0, 0]]]), np.array([[[0.1, 1.0, 0]]]), np.array([0.4]), np.array([0.4]))
    disc = render(ball, 0, **FAR)[0]
    assert disc.sum() / 255 == pytest.approx(np.pi * 32**2, rel=0.005)
    np.testing.assert_array_equal(disc, disc[::-1])
    y, x = np.mgrid[:64, :64] + 0.5
    assert np.all(disc[np.hypot(x - 32, y - 32) < 30] == 255)


def test_the_figure_fills_the_height_and_its_mass_is_in_the_middle(walks: WalkerWalks) -> None:
    for view in (0, 54, 90, 162):
        frames = render(dressed(walks), view)
        assert frames.shape == (6, 64, 64)
        assert np.all(frames[:, [0, -1]].any(axis=2))
        mass = frames.sum(axis=1, dtype=np.int64).cumsum(axis=1)
        half = mass[:, -1] / 2
        assert np.all(mass[:, 31] <= half)
        assert np.all(mass[:, 32] > half)


def test_opposite_sides_are_mirror_images_from_afar(walks: WalkerWalks) -> None:
    for view in (0, 36, 90):
        one, other = (render(dressed(walks), angle, **FAR) > 127 for angle in (view, view + 180))
        # The column in the middle is the right one of two, so that a mirrored frame stands one column aside.
        best = np.minimum((one != other[..., ::-1]).mean(), (one[..., 1:] != other[..., :0:-1]).mean())
        assert best < 0.01


def test_from_the_left_the_walker_goes_to_the_left(walks: WalkerWalks) -> None:
    body = dressed(walks)
    ahead = Capsules(
        *(np.concatenate([part, part[:, :1] * 0 + [0, 1, 0.8]], axis=1) for part in body[:2]),
        *(np.append(radius, 0.03) for radius in body[2:]),
    )
    filled, before = (np.flatnonzero(render(capsules, 90)[0].any(axis=0)) for capsules in (ahead, body))
    assert filled[0] < before[0] - 5
    assert abs(filled[-1] - before[-1]) <= 1


def test_the_left_hand_is_at_the_right_of_a_picture_from_the_front(walks: WalkerWalks) -> None:
    body = dressed(walks)
    beside = Capsules(
        *(np.concatenate([part, part[:, :1] * 0 + [0.6, 1, 0]], axis=1) for part in body[:2]),
        *(np.append(radius, 0.03) for radius in body[2:]),
    )
    assert render(beside, 0)[..., 45:].any()
    assert not render(beside, 0)[..., :15].any()


def test_a_bag_and_a_coat_show(walks: WalkerWalks) -> None:
    for person in range(3):
        plain, bag, coat = (render(dressed(walks, person, variant), 90) for variant in ("nm", "bg", "cl"))
        assert bag.mean() > 1.03 * plain.mean()
        assert coat.mean() > 1.08 * plain.mean()


def test_nothing_floats_beside_the_walker(walks: WalkerWalks) -> None:
    from scipy.ndimage import label

    for person in range(3):
        for variant in ("nm", "bg", "cl"):
            for view in (0, 54, 90, 180):
                for frame in render(dressed(walks, person, variant), view):
                    assert label(frame > 0, np.ones((3, 3)))[1] == 1


def test_a_build_follows_from_name_and_seed() -> None:
    assert draw_build("001", 4) == draw_build("001", 4)
    assert draw_build("001", 4) != draw_build("001", 5)
    assert draw_build("001") != draw_build("002")
    assert draw_build("001", spread=0) == draw_build("002", spread=0)
    assert {draw_build(str(person)).bag for person in range(30)} == set(BAGS)


def test_persons_differ_in_flesh_on_the_same_bones(walks: WalkerWalks) -> None:
    joints = walks.joints(walks.walks[0])
    builds = [draw_build(name) for name in ("a", "b", "c")]
    first, *others = (render(dress(joints, build), 0) > 127 for build in builds)
    assert min((first != other).mean() for other in others) > 0.004
    alike = [render(dress(joints, draw_build(name, spread=0)), 0) for name in ("a", "b")]
    np.testing.assert_array_equal(*alike)
