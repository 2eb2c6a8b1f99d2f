"""Which windows the released code's batches of 128 leave over."""

from __future__ import annotations

import numpy as np
import pytest

from sgela_fast.evaluation.released_batches import counted_windows, whole_batches


@pytest.mark.parametrize(
    ("windows", "counted"),
    [(3187, 3178), (1741, 1728), (2048, 2048)],  # BIWI, IAS-A and IAS-B, out of the sizes of the released files
)
def test_published_test_sets_shrink_as_they_did(windows: int, counted: int) -> None:
    assert counted_windows(windows, 6) == counted


def test_less_than_a_batch_is_kept() -> None:
    assert counted_windows(20, 6) == 20
    assert counted_windows(140, 1) == 128


def test_persons_keep_whole_batches_or_are_filled_up() -> None:
    persons = np.repeat([0, 1, 2], [5, 3, 2])
    assert whole_batches(persons, pad=False, batch=4).tolist() == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    assert whole_batches(persons, pad=True, batch=4).tolist() == [0, 1, 2, 3, 5, 6, 7, 5, 8, 9, 8, 8]
