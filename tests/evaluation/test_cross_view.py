"""Cross-view Rank-1: nearest sequence of another view, identical views excluded, the right divisor for any number."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from sgela_fast.cli.main import main
from sgela_fast.encoding.store_writer import StoreWriter
from sgela_fast.errors import DataError
from sgela_fast.evaluation.config import CrossViewConfig, EvaluationConfig, RetrievalConfig
from sgela_fast.evaluation.cross_view import Embeddings, cross_view
from sgela_fast.evaluation.cross_view_results import LabelCurve, LabelPoint

CONDITIONS = (*(f"nm-{walk:02d}" for walk in range(1, 7)), "bg-01", "bg-02", "cl-01", "cl-02")
VIEWS = ("000", "018", "090")


def casia(seed: int = 0, subjects: int = 5, noise: float = 0.5, strips: int = 3, width: int = 4) -> Embeddings:
    """Embeddings near a place for each subject."""
    generator = np.random.default_rng(seed)
    places = generator.normal(size=(subjects, strips, width))
    keys = list(itertools.product(range(subjects), CONDITIONS, VIEWS))
    values = np.stack([places[subject] for subject, _, _ in keys])
    values = (values + noise * generator.normal(size=values.shape)).astype(np.float32)
    subject, condition, view = (np.array(column) for column in zip(*keys, strict=True))
    return Embeddings(values, np.char.mod("%03d", subject), condition, view)


def config(protocol: str = "casia-b", **settings: object) -> EvaluationConfig:
    return EvaluationConfig(protocol=protocol, cross_view=CrossViewConfig(**settings))  # type: ignore[arg-type]


def rank1_by_hand(found: Embeddings, conditions: tuple[str, ...], probe_view: str, gallery_view: str) -> float:
    probes = np.flatnonzero(np.isin(found.condition, conditions) & (found.view == probe_view))
    gallery = np.flatnonzero(np.isin(found.condition, CONDITIONS[:4]) & (found.view == gallery_view))
    hits = []
    for probe in probes:
        distance = np.linalg.norm(found.values[gallery].astype(float) - found.values[probe], axis=2).mean(axis=1)
        hits.append(found.subject[gallery[np.argmin(distance)]] == found.subject[probe])
    return float(np.mean(hits))


def test_every_cell_is_what_a_plain_search_finds() -> None:
    found = casia(noise=1.2)
    result = cross_view(found, config())
    assert (result.subjects, result.gallery_sequences, result.strips, result.views) == (5, 60, 3, list(VIEWS))
    cells = []
    for kind, conditions in (("NM", CONDITIONS[4:6]), ("BG", CONDITIONS[6:8]), ("CL", CONDITIONS[8:])):
        matrix = result.kind(kind).rank1
        for row, column in itertools.product(range(3), range(3)):
            expected = rank1_by_hand(found, conditions, VIEWS[row], VIEWS[column])
            assert matrix[row][column] == pytest.approx(expected), (kind, row, column)
            cells.append(expected)
    assert 0.2 < np.mean(cells) < 0.95


def test_means_leave_out_identical_views() -> None:
    kind = cross_view(casia(noise=1.2), config()).kind("BG")
    matrix = np.array(kind.rank1)
    expected = [np.delete(row, place).mean() for place, row in enumerate(matrix)]
    np.testing.assert_allclose(kind.by_probe_view, expected)
    assert kind.mean == pytest.approx(np.mean(expected))
    assert kind.identical_view == pytest.approx(matrix.diagonal().mean())


@pytest.mark.parametrize(("views", "share"), [(11, 1.0), (14, 1.3), (4, 0.3)])
def test_the_released_divisor_is_right_for_eleven_views_alone(views: int, share: float) -> None:
    generator = np.random.default_rng(0)
    keys = list(itertools.product(range(4), ("00", "01"), [f"{15 * view:03d}" for view in range(views)]))
    subject, condition, view = (np.array(column) for column in zip(*keys, strict=True))
    places = generator.normal(size=(4, 1, 6))
    found = Embeddings(places[subject].astype(np.float32), subject.astype(np.str_), condition, view)
    assert cross_view(found, config("ou-mvlp")).kind("all").mean == 1
    assert cross_view(found, config("ou-mvlp", released_divisor=True)).kind("all").mean == pytest.approx(share)


def test_tiles_do_not_change_the_figures() -> None:
    found = casia(seed=3, noise=1.5, subjects=40)
    whole = cross_view(found, config())
    seen: list[int] = []
    # A tile of 1 MiB holds 182 of the 720 probes.
    small = EvaluationConfig(protocol="casia-b", retrieval=RetrievalConfig(tile_mb=1))
    assert cross_view(found, small, advance=seen.append).kinds == whole.kinds
    assert len(seen) > 3
    assert sum(seen) == 40 * 6 * 3


def test_a_tie_is_no_hit() -> None:
    found = casia(noise=0.0)
    same = Embeddings(np.ones_like(found.values), *found[1:])
    assert cross_view(same, config()).kind("NM").mean == 0


def test_a_subject_that_lacks_in_a_gallery_view_is_wrong_there_or_left_out() -> None:
    found = casia(noise=0.01)
    lacking = (found.subject == "000") & (found.view == "018") & np.isin(found.condition, CONDITIONS[:4])
    found = Embeddings(*(column[~lacking] for column in found))
    wrong = cross_view(found, config()).kind("NM")
    assert np.array(wrong.rank1)[:, 1] == pytest.approx([0.8] * 3)
    assert wrong.unmatched == 2 * 3
    left_out = cross_view(found, config(unmatched="leave-out")).kind("NM")
    assert np.array(left_out.rank1)[:, 1] == pytest.approx([1.0] * 3)


def test_a_view_without_gallery_has_no_figure() -> None:
    found = casia(noise=0.01)
    lacking = (found.view == "018") & np.isin(found.condition, CONDITIONS[:4])
    kind = cross_view(Embeddings(*(column[~lacking] for column in found)), config()).kind("NM")
    assert [row[1] for row in kind.rank1] == [None] * 3
    assert kind.mean == 1
    assert kind.unmatched == 0


def test_the_interval_holds_the_mean_and_is_that_of_subjects() -> None:
    kind = cross_view(casia(noise=1.2, subjects=12), config()).kind("CL")
    assert kind.interval is not None
    assert kind.mean is not None
    assert kind.interval[0] < kind.mean < kind.interval[1]
    narrow = cross_view(casia(noise=0.0, subjects=12), config()).kind("CL")
    assert narrow.interval == (1.0, 1.0)
    without = EvaluationConfig(protocol="casia-b", resamples=0)
    assert cross_view(casia(), without).kind("CL").interval is None


def test_an_interval_covers_as_often_as_it_says() -> None:
    """Each subject is recognised always or never: the mean of n such is binomial."""
    covered = 0
    for seed in range(40):
        generator = np.random.default_rng(seed)
        found = casia(seed, subjects=30, noise=0.0, strips=1)
        lost = generator.random(30) < 0.4
        probe = ~np.isin(found.condition, CONDITIONS[:4])
        values = found.values.copy()
        values[probe & lost[found.subject.astype(int)]] = found.values[0] + 100  # nobody in particular
        far = cross_view(Embeddings(values, *found[1:]), EvaluationConfig(protocol="casia-b", resamples=300)).kind("NM")
        assert far.interval is not None
        covered += far.interval[0] <= 0.6 <= far.interval[1]
    assert 33 <= covered <= 40


def test_a_data_set_of_another_protocol_is_refused() -> None:
    with pytest.raises(DataError, match="holds no gallery sequence"):
        cross_view(casia(), config("ou-mvlp"))
    found = casia()
    gallery = np.isin(found.condition, CONDITIONS[:4])
    with pytest.raises(DataError, match="holds no probe"):
        cross_view(Embeddings(*(column[gallery] for column in found)), config())


def write_store(path: Path, found: Embeddings, split: bool = True) -> None:
    strips, width = found.values.shape[1:]
    info = {"pooling": "mean", "dtype": "float32", "frames": 1, "dim": strips * width, "strips": strips}
    writer = StoreWriter(path, info)
    count = len(found.values)
    columns = {
        "recording": ["/".join(names) for names in zip(*found[1:], strict=True)],
        "person": found.subject.tolist(),
        "window_start": [0] * count,
        "frames": [30] * count,
        "valid": [True] * count,
        "condition": found.condition.tolist(),
        "view": found.view.tolist(),
    }
    if split:
        columns["split"] = ["train" if subject == "000" else "test" for subject in found.subject]
    writer.add(found.values.reshape(count, -1), columns)
    writer.finish()


def test_a_store_is_evaluated_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = casia(noise=1.0)
    write_store(tmp_path / "sequences", found)
    assert main(["evaluate", str(tmp_path / "sequences"), "--protocol", "casia-b", "--resamples", "50"]) == 0
    printed = capsys.readouterr().out
    content = json.loads((tmp_path / "sequences.evaluation" / "cross_view.json").read_text())
    assert (content["schema"], content["version"]) == ("sgela-fast/cross-view", 1)
    tested = found.subject != "000"
    expected = cross_view(Embeddings(*(column[tested] for column in found)), config())
    (stored,) = content["stores"]
    assert stored["subjects"] == 4
    assert [kind["rank1"] for kind in stored["kinds"]] == [kind.rank1 for kind in expected.kinds]
    for kind in expected.kinds:
        assert kind.mean is not None
        assert f"{100 * kind.mean:.1f}" in next(line for line in printed.splitlines() if f" {kind.kind} " in line)


def test_a_store_without_splits_is_compared_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_store(tmp_path / "sequences", casia(), split=False)
    command = ["evaluate", str(tmp_path / "sequences"), "--protocol", "casia-b", "--json", "--resamples", "0"]
    assert main(command) == 0
    assert json.loads(capsys.readouterr().out)["stores"][0]["subjects"] == 5


def test_a_curve_over_labels_averages_seeds(tmp_path: Path) -> None:
    result = cross_view(casia(noise=1.0), config())
    mean = result.kind("NM").mean
    assert mean is not None
    points = [LabelPoint.of(0.1, 2, seed, result) for seed in (0, 1)]
    points.append(LabelPoint(1.0, 20, 0, {"NM": 0.9, "BG": 0.8}))
    curve = LabelCurve("casia-b", "subjects", "pre-trained", points)
    curve.write(tmp_path / "curve.json")
    assert json.loads((tmp_path / "curve.json").read_text())["points"][0]["means"]["NM"] == mean
    assert curve.kinds == ["NM", "BG", "CL"]
    assert curve.rows()[0][:3] == ["10", "2", f"{100 * mean:.1f} ± 0.0"]
    assert curve.rows()[1] == ["100", "1", "90.0", "80.0", "-"]
