"""Paired comparisons agree with closed forms and simulations, and refuse what is not paired."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sgela_fast.cli.main import main
from sgela_fast.encoding.store import Store
from sgela_fast.errors import ConfigError, DataError
from sgela_fast.evaluation.comparison import compare
from sgela_fast.evaluation.probes import Probes, write_probes

MakeStore = Callable[..., Store]


def probes_of(hits: np.ndarray, windows: int = 1, places: int = 12, step: int = 6) -> Probes:
    """Probes of one recording a person, ``windows`` each; ``hits (persons,)`` says how many are recognised at once."""
    persons = len(hits)
    rank = np.where(np.arange(windows) < hits[:, None], 1, 3).reshape(-1)
    return Probes(
        person=np.repeat(np.arange(persons), windows),
        persons=np.array([f"p{number:03}" for number in range(max(persons, places))]),
        recording=np.repeat(np.arange(persons), windows),
        recordings=np.array([f"p{number:03}_0" for number in range(persons)]),
        start=np.tile(np.arange(windows) * step, persons),
        rank=rank,
        recording_rank=np.where(2 * hits > windows, 1, 2),
    )


def test_the_difference_is_that_of_the_figures() -> None:
    one, other = probes_of(np.array([0, 1, 4]), 4), probes_of(np.array([1, 3, 4]), 4)
    found = compare(one, other)
    assert (found.level, found.persons, found.probes, found.runs) == ("windows", 3, 12, 1)
    rank1 = found.figures["rank1"]
    assert (rank1.first, rank1.other) == (5 / 12, 8 / 12)
    assert rank1.difference == pytest.approx(3 / 12)
    assert found.figures["rank5"].difference == 0
    assert found.figures["nauc_cmc"].difference == pytest.approx(3 / 12 * 2 / 12)
    assert found.figures["nauc_cmc"].first == pytest.approx(np.mean(one.cmc()))
    assert compare(one, other, level="recordings").figures["rank1"].difference == pytest.approx(1 / 3)


def test_the_p_value_counts_all_sign_flips_of_few_persons() -> None:
    before, after = np.array([0, 1, 0, 2, 5]), np.array([3, 2, 4, 1, 5])
    found = compare(probes_of(before, 6), probes_of(after, 6)).figures["rank1"]
    gains = after - before
    flipped = [np.dot(signs, gains) for signs in itertools.product((1, -1), repeat=5)]
    assert found.p_value == pytest.approx(np.mean(np.abs(flipped) >= abs(gains.sum())))


def test_the_interval_is_that_of_resampled_persons() -> None:
    random = np.random.default_rng(0)
    before, after = random.integers(0, 5, 40), random.integers(1, 6, 40)
    found = compare(probes_of(before, 5), probes_of(after, 5), resamples=4000).figures["rank1"]
    gains = (after - before) / 5
    drawn = gains[random.integers(0, 40, (20_000, 40))].mean(axis=1)
    np.testing.assert_allclose(found.interval, np.quantile(drawn, [0.025, 0.975]), atol=0.02)
    assert found.p_value is not None
    assert found.p_value < 0.01


def test_equal_methods_are_seldom_told_apart_and_different_ones_nearly_always() -> None:
    random = np.random.default_rng(1)
    skill = random.uniform(0.2, 0.8, 30)

    def trial(gain: float) -> bool:
        before, after = (random.binomial(8, skill + add) for add in (0, gain))
        p_value = compare(probes_of(before, 8), probes_of(after, 8), resamples=0, permutations=199)
        found = p_value.figures["rank1"].p_value
        assert found is not None
        return found <= 0.05

    assert sum(trial(0.0) for _ in range(40)) <= 7  # of 40 trials at 5 %, seven are passed with probability 0.001
    assert sum(trial(0.15) for _ in range(10)) >= 8


def test_seeds_are_averaged_within_persons() -> None:
    random = np.random.default_rng(2)
    first = [probes_of(random.integers(0, 4, 20), 4) for _ in range(3)]
    other = [probes_of(random.integers(1, 5, 20), 4) for _ in range(3)]
    together, alone = compare(first, other), compare(first[0], other[0])
    assert (together.runs, together.persons, together.probes) == (3, 20, 240)
    each = [compare(one, two).figures["rank1"].difference for one, two in zip(first, other, strict=True)]
    assert together.figures["rank1"].difference == pytest.approx(np.mean(each))
    repeated = compare([first[0]] * 3, [other[0]] * 3)  # the same runs again tell nothing new
    for name, found in repeated.figures.items():
        assert found.p_value == alone.figures[name].p_value
        np.testing.assert_allclose(found.interval, alone.figures[name].interval, atol=1e-12)  # type: ignore[arg-type]


def test_a_single_person_has_neither_interval_nor_p_value() -> None:
    found = compare(probes_of(np.array([1]), 3), probes_of(np.array([2]), 3)).figures["rank1"]
    assert found.difference == pytest.approx(1 / 3)
    assert found.interval is None
    assert found.p_value is None


def test_the_order_of_probes_does_not_matter(tmp_path: Path) -> None:
    one, other = probes_of(np.arange(6), 6), probes_of(np.arange(6)[::-1], 6)
    order = np.random.default_rng(3).permutation(36)
    mixed = Probes(
        other.person[order], other.persons, other.recording[order], other.recordings, other.start[order],
        other.rank[order], other.recording_rank,
    )  # fmt: skip
    write_probes(tmp_path / "mixed.npz", mixed)
    assert compare(one, tmp_path / "mixed.npz") == compare(one, other)


def test_other_windows_are_refused_and_their_recordings_compared() -> None:
    one, other = probes_of(np.arange(6), 6), probes_of(np.arange(6), 6, step=8)
    with pytest.raises(
        DataError, match=r"^of 36 and 36 windows only 12 are the same; compare what was made of the same"
    ):
        compare(one, other)
    assert compare(one, other, level="recordings").figures["rank1"].difference == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"level": "persons"}, "windows or recordings"),
        ({"permutations": -1}, "at least 0"),
        ({"confidence": 1}, "betw"),
    ],
)
def test_arguments_out_of_range_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        compare(probes_of(np.arange(3)), probes_of(np.arange(3)), **options)
    with pytest.raises(DataError, match="there are 1 runs to compare with 2"):
        compare(probes_of(np.arange(3)), [probes_of(np.arange(3))] * 2)


def test_command_compares_each_store_with_the_first(
    make_store: MakeStore, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    stores = [make_store("las", noise=0.5), make_store("bas", noise=3.0), make_store("none", noise=3.0, seed=1)]
    arguments = ["evaluate", *(str(store.path) for store in stores), "--protocol", "G", "--compare"]
    assert main([*arguments, "--resamples", "200", "--out", str(tmp_path / "out"), "--no-plots"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "Protocol G: difference to las" in out
    content = json.loads((tmp_path / "out" / "results.json").read_text())
    found = [(entry["other"], entry["comparison"]["level"]) for entry in content["comparisons"]]
    assert found == [("bas", "windows"), ("bas", "recordings"), ("none", "windows"), ("none", "recordings")]
    rank1 = content["comparisons"][0]["comparison"]["figures"]["rank1"]
    means = {row["store"]: row["figures"]["rank1"]["mean"] for row in content["summary"] if row["level"] == "windows"}
    assert rank1["difference"] == pytest.approx(means["bas"] - means["las"])
    assert rank1["interval"][0] <= rank1["difference"] <= rank1["interval"][1] < 0
    assert rank1["p_value"] <= 2 / 2**6 + 1e-9  # every person loses: two of all 64 sign flips are as extreme
