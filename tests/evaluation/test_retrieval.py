"""The exhaustive search against a plain loop."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sgela_fast.evaluation import retrieval
from sgela_fast.evaluation.retrieval import Retrieved, nearest_of_persons, search

PERSONS = 5


def data(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    gallery_persons = np.sort(np.concatenate([np.arange(PERSONS), random.integers(0, PERSONS, 60)]))
    probe_persons = random.integers(0, PERSONS, 23)
    centres = random.standard_normal((PERSONS, 7))
    rows = (centres[who] + random.standard_normal((len(who), 7)) for who in (probe_persons, gallery_persons))
    probes, gallery = (values.astype(np.float32) for values in rows)
    return probes, probe_persons, gallery, gallery_persons


def found(
    probes: np.ndarray, probe_persons: np.ndarray, gallery: np.ndarray, gallery_persons: np.ndarray, **options: object
) -> Retrieved:
    rows = torch.from_numpy(gallery.copy())  # the search changes it
    return search(torch.from_numpy(probes), probe_persons, rows, gallery_persons, **options)  # type: ignore[arg-type]


def brute_force(
    probes: np.ndarray, probe_persons: np.ndarray, gallery: np.ndarray, gallery_persons: np.ndarray, distance: str
) -> Retrieved:
    nearest, first, precision, penalty = [], [], [], []
    for probe, person in zip(probes.astype(np.float64), probe_persons, strict=True):
        if distance == "euclidean":
            distances = np.sqrt(((gallery - probe) ** 2).sum(axis=1))
        else:
            distances = 1 - gallery @ probe / np.linalg.norm(gallery, axis=1) / np.linalg.norm(probe)
        right = gallery_persons == person
        order = sorted(range(len(gallery)), key=lambda i: (distances[i], right[i]))
        ranks = [place for place, i in enumerate(order, 1) if right[i]]
        nearest.append([distances[gallery_persons == c].min() for c in range(PERSONS)])
        first.append(ranks[0])
        precision.append(np.mean([hit / rank for hit, rank in enumerate(ranks, 1)]))
        penalty.append(len(ranks) / ranks[-1])
    return Retrieved(np.array(nearest), np.array(first), np.array(precision), np.array(penalty))


@pytest.mark.parametrize("tile_mb", [0, 256])
def test_the_nearest_windows_of_persons_are_those_of_the_search(tile_mb: int) -> None:
    probes, _, gallery, persons = data()
    nearest = nearest_of_persons(torch.from_numpy(probes), torch.from_numpy(gallery.copy()), persons, tile_mb)
    np.testing.assert_allclose(nearest, found(*data()).nearest, atol=1e-6)


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_search_is_the_plain_loop(distance: str) -> None:
    for mine, plain in zip(found(*data(), distance=distance), brute_force(*data(), distance), strict=True):
        np.testing.assert_allclose(mine, plain, rtol=0, atol=2e-6)


def test_ties_never_help() -> None:
    # Whole numbers, so that equal distances are exactly equal: persons 0 and 1 have the same two gallery windows.
    gallery = np.array([[0, 0], [4, 0], [0, 0], [4, 0]], np.float32)
    result = found(np.array([[0, 0]], np.float32), np.array([0]), gallery, np.array([0, 0, 1, 1]))
    assert result.first_rank[0] == 2
    assert result.average_precision[0] == pytest.approx((1 / 2 + 2 / 4) / 2)
    assert result.inverse_negative_penalty[0] == pytest.approx(2 / 4)


def test_separate_persons_give_one_everywhere() -> None:
    _, probe_persons, _, gallery_persons = data()
    centres = 100 * np.eye(PERSONS, dtype=np.float32)
    result = found(centres[probe_persons], probe_persons, centres[gallery_persons], gallery_persons)
    assert (result.first_rank == 1).all()
    assert (result.average_precision == 1).all()
    assert (result.inverse_negative_penalty == 1).all()


def test_size_of_the_tiles_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = found(*data())
    tiles = []
    monkeypatch.setattr(retrieval, "MIB", 4 * 65 * 3)  # three probes a tile
    small = found(*data(), tile_mb=1, advance=tiles.append)
    assert tiles == [3] * 7 + [2]
    for one, other in zip(whole, small, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)


def test_order_of_probes_does_not_matter() -> None:
    probes, probe_persons, gallery, gallery_persons = data()
    order = np.random.default_rng(1).permutation(len(probes))
    moved = found(probes[order], probe_persons[order], gallery, gallery_persons)
    for one, other in zip(found(*data()), moved, strict=True):
        np.testing.assert_allclose(one[order], other, rtol=0, atol=1e-6)


def test_a_far_origin_does_not_blur_distances() -> None:
    probes, probe_persons, gallery, gallery_persons = data()
    shift = np.float32(1000)
    moved = found(probes + shift, probe_persons, gallery + shift, gallery_persons)
    plain = brute_force(
        probes + shift, probe_persons, (gallery + shift).astype(np.float64), gallery_persons, "euclidean"
    )
    np.testing.assert_allclose(moved.nearest, plain.nearest, atol=2e-3)
