"""The page of silhouettes: figures across views, heat maps, published figures, and the study of few labels."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from sgela_fast.errors import ConfigError, DataError
from sgela_fast.report.inputs import Inputs, open_inputs, read_results
from sgela_fast.report.labels import LabelStudy, label_curves, read_study, study_summary
from sgela_fast.report.making import commands
from sgela_fast.report.report import SECTIONS, write_report
from sgela_fast.report.views import silhouette_training, view_heats, view_summary, view_tables
from tests.report.conftest import NASTY_PERSON, NASTY_STORE, SMALL, study_content
from tests.report.test_report import Page


def changed(silhouettes: Path, folder: Path, **changes: Any) -> Path:
    """A copy of the results with other entries of its first store."""
    content = json.loads((silhouettes / "views" / "cross_view.json").read_text())
    content["stores"][0] |= changes
    (folder / "cross_view.json").write_text(json.dumps(content))
    return folder


def test_tables_hold_the_figures_of_the_evaluation(silhouettes: Path) -> None:
    content = json.loads((silhouettes / "views" / "cross_view.json").read_text())
    means, table, _ = view_tables(read_results(silhouettes / "views")).parts
    for place, kind in enumerate(content["stores"][0]["kinds"]):
        row = dict(zip(table.head, table.rows[place], strict=True))
        low, high = (f"{100 * end:.1f}" for end in kind["interval"])
        assert row["Probes"].partition(",")[0] == kind["kind"]
        shown = [row[view] for view in content["stores"][0]["views"]]
        assert shown == [f"{100 * value:.1f}" for value in kind["by_probe_view"]]
        assert (row["Interval of the mean"], row["Identical views"]) == (f"{low}\u00a0to\u00a0{high}", "95.0")
        assert means.rows[0][1 + place] == f"{row['Mean']} ({low}\u00a0to\u00a0{high})"
    assert [row[0] for row in means.rows[:2]] == ["embeddings", NASTY_STORE.rpartition("/")[2]]


def test_published_figures_stand_below_ours_with_their_split(silhouettes: Path, tmp_path: Path) -> None:
    section = view_tables(read_results(silhouettes / "views"))
    rows = {row[0]: row[1:] for row in section.parts[0].rows}
    assert rows["SelfGait, SG-6"][:3] == ("93.5", "90.1", "81.3")
    assert rows["SelfGait, SG-6"][3:] == ("CASIA-B, published", "first 80 % of sequences, without subject 005")
    assert rows["GaitSet, run by OpenGait"][:3] == ("95.8", "90.0", "75.4")
    assert "what 2, 4 and 6 stand for is not defined" in section.lead[1]
    kinds = json.loads((silhouettes / "views" / "cross_view.json").read_text())["stores"][0]["kinds"]
    other = changed(silhouettes, tmp_path, protocol="ou-mvlp", kinds=[{**kinds[0], "kind": "all"}])
    section = view_tables(read_results(other))
    rows = {row[0]: row[1:] for row in section.parts[0].rows}
    assert rows["SelfGait, SG-2"] == ("89.9", "OU-MVLP, published", "not stated")
    assert len(section.lead) == 1
    mean = f"{100 * kinds[0]['mean']:.1f}"
    assert f"identical views left out, is {mean} (" in view_summary(read_results(other))[0]


def test_a_heat_map_for_each_kind_has_views_for_titles_and_one_scale(silhouettes: Path) -> None:
    content = json.loads((silhouettes / "views" / "cross_view.json").read_text())
    heats = view_heats(read_results(silhouettes / "views")).parts
    assert len(heats) == 6
    assert heats[1].caption == "BG, with a bag: embeddings, Rank-1, %"
    assert heats[1].rows == heats[1].columns == ("000", "090", "180")
    rank1 = content["stores"][0]["kinds"][1]["rank1"]
    assert heats[1].cells[0][2] == ("–", 0)
    assert [text for text, _ in heats[1].cells[1]] == [f"{100 * value:.0f}" for value in rank1[1]]
    assert [level for _, level in heats[1].cells[1]] == [int(6 * value) for value in rank1[1]]


def test_the_summary_says_means_chance_and_what_was_done(silhouettes: Path, tmp_path: Path) -> None:
    first, view, pairs, *_, last = view_summary(read_results(silhouettes / "views"))
    assert "NM " in first
    assert "10 subjects, guessing about 10.0 %" in first
    content = json.loads((silhouettes / "views" / "cross_view.json").read_text())
    figures = [kind["by_probe_view"] for kind in content["stores"][0]["kinds"]]
    means = {
        sum(column) / 3: name for column, name in zip(zip(*figures, strict=True), ("000", "090", "180"), strict=True)
    }
    assert f"the easiest probe view is {means[max(means)]} degrees ({100 * max(means):.1f} %" in view
    assert f"the hardest {means[min(means)]} ({100 * min(means):.1f} %)" in view
    assert pairs == "embeddings: 6 pairs of a probe and a gallery view without its subject count as wrong."
    assert "are of CASIA-B itself" in last
    released = view_summary(read_results(changed(silhouettes, tmp_path, released_divisor=True)))
    assert any("divided by 10 as the released code does" in sentence for sentence in released)


def test_training_is_drawn_from_the_runs(silhouettes: Path, tmp_path: Path) -> None:
    assert silhouette_training(open_inputs(silhouettes / "views")).missing
    for folder in ("a/fine", "b/fine"):
        (tmp_path / folder).mkdir(parents=True)
        entries = [{"step": 1, "total": 4.0, "spread": 0.25}, {"step": 2, "total": 3.0, "spread": 0.5}]
        (tmp_path / folder / "history.json").write_text(json.dumps(entries))
    runs = (tmp_path / "a" / "fine", tmp_path / "b" / "fine")
    loss, spread = silhouette_training(open_inputs(silhouettes / "views", runs=runs)).parts
    assert [line.label for line in loss.lines] == ["fine", "fine (2)"]
    assert loss.table.rows == (("1", "4.000", "4.000"), ("2", "3.000", "3.000"))
    assert spread.table.rows[1] == ("2", "0.50", "0.50")


def test_few_labels_are_drawn_over_shares_with_intervals(silhouettes: Path) -> None:
    section = label_curves(read_study(silhouettes / "study.json"))
    *charts, table = section.parts
    assert [chart.title for chart in charts] == ["Probes NM", "Probes BG", "Probes CL", "Mean over the kinds of probes"]
    assert charts[0].table.rows[1] == ("10", "40.0 (10.0\u00a0to\u00a070.0)", "50.0 (45.0\u00a0to\u00a055.0)")
    assert charts[0].table.rows[3][1] == "80.0 (50.0\u00a0to\u00a0100.0)"  # a share of probes is 100 % at most
    assert [line.label for line in charts[0].lines] == ["from scratch", "pre-trained"]
    for line in charts[0].lines:
        assert line.bars.count("V") == 4
    row = dict(zip(table.head, table.rows[2], strict=True))
    assert (row["Labels"], row["Persons"], row["Probes"], row["Seeds"]) == ("50 %", "30", "NM", "3")
    assert (row["Rank-1 pre-trained"], row["Gain"]) == ("70.0\u00a0±\u00a05.0", "+10.0\u00a0±\u00a02.0")
    assert "60 persons (1,200 sequences) to train on and 30 others" in section.lead[0]


def test_the_summary_of_a_study_says_which_gains_are_beyond_chance() -> None:
    sentences = study_summary(LabelStudy(Path("study.json"), study_content()))
    assert sentences[0].endswith("60 persons to train on, 30 others recognised, 3 seeds.")
    assert "+10.0\u00a0±\u00a015.0 points, an interval that does not leave out 0" in sentences[2]
    assert "With 50 % of the labels (30 persons)" in sentences[3]
    assert "+10.0\u00a0±\u00a02.0 points, an interval that leaves out 0" in sentences[3]
    assert "Guessing gives 3.3 %" in sentences[5]
    assert "0.80, 0.80 and 0.80" in sentences[6]


def test_one_seed_has_no_interval() -> None:
    content = study_content()
    content["cells"] = content["cells"][:1]
    for row in content["rows"]:
        for kind in ("NM", "BG", "CL", "mean"):
            for figure in row[kind].values():
                figure["half"] = None
    section = label_curves(LabelStudy(Path("study.json"), content))
    assert not section.parts[0].lines[0].bars
    assert section.parts[0].table.rows[1] == ("10", "40.0", "50.0")
    assert section.lead[2] == "One seed alone: there is no interval."
    assert study_summary(LabelStudy(Path("study.json"), content))[2].endswith("+10.0 points.")


def test_a_page_of_silhouettes_has_its_own_sections_and_harmless_names(silhouettes: Path) -> None:
    done: list[int] = []
    report = write_report(
        silhouettes / "views",
        silhouettes / "page.html",
        SMALL,
        low_label=silhouettes / "study.json",
        progress=lambda units=1, *, note="": done.append(units),
    )
    assert sum(done) == SECTIONS
    assert set(report.missing) == {"Cumulative matching curves", "Training"}
    text = report.path.read_text()
    found = Page(text)
    titles = re.findall(r"<h2 id=\"[a-z]+-title\">(.*?)</h2>", text)
    assert titles[1:4] == ["Rank-1 across views", "Probe view by gallery view", "Few labels"]
    assert "img" not in {tag for tag, _ in found.tags}
    assert f"{NASTY_PERSON.rpartition('<!--')[0]}" in found.text
    assert "9 of 9 sequences of embeddings" in found.text.replace("\n", "")


def test_a_study_alone_is_a_page(silhouettes: Path) -> None:
    report = write_report(silhouettes / "study.json", silhouettes / "study.html", SMALL)
    assert not report.missing
    assert "<h1>SelfGait with few labels: study.json</h1>" in report.path.read_text()


def test_the_commands_are_those_of_silhouettes(silhouettes: Path) -> None:
    inputs = open_inputs(silhouettes / "views", low_label=silhouettes / "study.json")
    train, encode, evaluate, study, report = commands(inputs)
    assert train == "sgela-fast train drawn --system selfgait --out fine"
    assert encode == "sgela-fast encode drawn --model fine --out embeddings"
    assert evaluate.endswith("--protocol casia-b --out views")
    assert "--out study --work work --labels 0.1 0.5 1.0 --seeds 3 --persons 90" in study
    assert "--views 036 090" in study
    assert report == "sgela-fast report views --store embeddings --low_label study.json -o report.html"


@pytest.mark.parametrize("origin", ["run folder fine", "run folder runs/fine", "run folder /tmp/runs/fine"])
def test_the_run_folder_is_named_wherever_it_lies(silhouettes: Path, origin: str) -> None:
    inputs = open_inputs(silhouettes / "views")
    assert inputs.store is not None
    inputs.store.info["origin"] = origin
    assert commands(inputs)[:2] == [
        "sgela-fast train drawn --system selfgait --out fine",
        "sgela-fast encode drawn --model fine --out embeddings",
    ]


@pytest.mark.parametrize(
    ("results", "named"),
    [
        ("views", {"archive": "walks.sga"}),
        ("study.json", {"store": "embeddings"}),
        ("study.json", {"low_label": "study.json"}),
    ],
)
def test_what_does_not_go_with_the_results_is_refused(silhouettes: Path, results: str, named: dict[str, str]) -> None:
    (name,) = named
    with pytest.raises(ConfigError, match=f"--{name} does not go with"):
        open_inputs(silhouettes / results, **named)  # type: ignore[arg-type]


def test_a_study_does_not_go_with_results_of_skeletons(made: Path, silhouettes: Path) -> None:
    with pytest.raises(ConfigError, match=r"--low_label does not go with .*figures, which is results of skeletons"):
        open_inputs(made / "figures", low_label=silhouettes / "study.json")


@pytest.mark.parametrize("kinds", [[], [{"kind": "NM"}]])
def test_figures_that_are_no_matrix_are_damaged(silhouettes: Path, tmp_path: Path, kinds: list[Any]) -> None:
    with pytest.raises(DataError, match="is damaged"):
        read_results(changed(silhouettes, tmp_path, kinds=kinds))
    with pytest.raises(DataError, match="is damaged"):
        read_results(changed(silhouettes, tmp_path, views=["000", "090"]))


def test_stores_that_are_gone_are_asked_for(silhouettes: Path, tmp_path: Path) -> None:
    inputs: Inputs = open_inputs(changed(silhouettes, tmp_path, store="gone/embeddings"))
    assert inputs.store is None
    assert "is not there any more; name it with --store" in inputs.why_no_store
