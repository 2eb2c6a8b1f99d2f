"""The page's data: rows and curves are those of the files, sections without data say so, names stay text."""

from __future__ import annotations

import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from sgela_fast.errors import ConfigError, DataError, MissingDependencyError
from sgela_fast.report.chart import Scale, line_chart, log_ticks, round_ticks, thinned
from sgela_fast.report.config import CURVE_POINTS, ReportConfig
from sgela_fast.report.curves import attention, cmc_curves, training_curves
from sgela_fast.report.figures import cells_of, text
from sgela_fast.report.inputs import open_inputs, read_results
from sgela_fast.report.page import Table, evenly
from sgela_fast.report.render import data_block, prose
from sgela_fast.report.report import write_report
from sgela_fast.report.summary import summary
from sgela_fast.report.sweeps import sweeps
from sgela_fast.report.tables import tables
from sgela_fast.report.verdicts import claims, leakage
from sgela_fast.reproduction import published
from sgela_fast.reproduction.results import CellResult, ResultsFolder
from tests.report.conftest import NASTY, NASTY_PERSON, SMALL


class Page(HTMLParser):
    """The elements, attributes and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text, self.within = "", ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.within = tag

    def handle_data(self, data: str) -> None:
        if self.within not in ("script", "style"):
            self.text += data


@pytest.fixture(scope="module")
def page(made: Path) -> str:
    return write_report(made / "figures", made / "plain.html", SMALL).path.read_text()


def test_the_page_refers_to_nothing_outside_itself(page: str) -> None:
    for tag, attributes in Page(page).tags:
        for name in ("src", "href", "action", "data", "srcset", "poster"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:,")), (tag, value)
        assert not any(name.startswith("on") for name in attributes), tag
    assert "http://" not in page
    assert "https://" not in page
    assert "url(" not in page


def test_the_style_moves_nothing_by_itself(page: str) -> None:
    style = re.search(r"<style>(.*?)</style>", page, re.S)
    assert style is not None
    assert not re.search(r"\b(transition|animation|@keyframes)\b", style[1])
    assert style[1].count("scroll-behavior") == 1
    assert "@media (prefers-reduced-motion: no-preference) { html { scroll-behavior: smooth; } }" in style[1]


def test_names_that_are_markup_stay_text(page: str) -> None:
    found = Page(page)
    assert [tag for tag, _ in found.tags].count("script") == 2  # the page's own, and the block of data
    assert "img" not in {tag for tag, _ in found.tags}
    assert NASTY in found.text
    assert NASTY_PERSON.rpartition("<!--")[0] in found.text
    block = re.search(r'<script type="application/json" id="walks-data">(.*?)</script>', page, re.S)
    assert block is not None
    persons = {walk["person"] for walk in json.loads(block[1])["walks"]}
    assert NASTY_PERSON in persons
    assert "\u2028" not in block[1]


def test_data_blocks_cannot_end_their_element() -> None:
    text = ["</script>", "<!--", "\u2028\u2029", "&amp;", "ü"]
    block = data_block(text)
    assert json.loads(block) == text
    assert not set("<>&") & set(block)
    assert block.isascii()


def test_code_in_prose_is_escaped_too() -> None:
    assert prose("say `a <b>` & more") == "say <code>a &lt;b&gt;</code> &amp; more"
    assert prose("an odd ` <i>") == "an odd ` <i>"  # left to the template's own escaping


def test_every_element_with_a_role_of_its_own_has_a_name(page: str) -> None:
    found = Page(page)
    identifiers = [str(attributes["id"]) for _, attributes in found.tags if "id" in attributes]
    assert len(set(identifiers)) == len(identifiers)
    labelled = {attributes.get("for") for tag, attributes in found.tags if tag == "label"}
    for tag, attributes in found.tags:
        if tag in ("select", "input") and attributes.get("type") != "radio":
            assert attributes["id"] in labelled
        if attributes.get("role") in ("region", "application", "img", "group"):
            assert attributes.get("aria-label"), (tag, attributes)
        for name in ("aria-labelledby", "aria-describedby"):
            assert attributes.get(name) is None or attributes[name] in identifiers


def test_the_table_holds_the_figures_of_the_evaluation(made: Path) -> None:
    content = json.loads((made / "figures" / "results.json").read_text())
    outcome = content["stores"][0]["outcomes"][0]
    section = tables(read_results(made / "figures"))
    table = section.parts[0]
    row = dict(zip(table.head, table.rows[0], strict=True))
    assert row["Method"] == "walks.store"
    low, high = outcome["windows"]["intervals"]["rank1"]
    expected = f"{100 * outcome['windows']['rank']['1']:.1f} ({100 * low:.1f}\u00a0to\u00a0{100 * high:.1f})"
    assert row["Rank-1"] == expected
    assert row["Rank-1, recordings"] == f"{100 * outcome['recordings']['rank']['1']:.1f}"
    assert outcome["selection"] in table.caption
    assert f"{100 * outcome['windows']['rank']['1']:.1f}" in " ".join(summary(read_results(made / "figures")))


def test_seeds_of_a_cell_become_one_row_with_a_deviation_and_an_interval(made: Path) -> None:
    results = read_results(made / "reproduced")
    rows = [row for row in results.rows if row.first.table == "2"]
    assert [row.first.row for row in rows] == ["las-reverse-ages", "bas"]
    ranks = [np.load(made / "reproduced" / str(cell.probes_file))["rank"] for cell in rows[0].cells]
    hits = np.mean([(rank == 1).reshape(20, -1).mean(axis=1) for rank in ranks], axis=0)
    drawn = 100 * hits[np.random.default_rng(1).integers(0, 20, (4000, 20))].mean(axis=1)
    np.testing.assert_allclose(rows[0].interval["rank1"], np.percentile(drawn, [2.5, 97.5]), atol=2)
    low, high = rows[0].interval["rank1"]
    assert text(rows[0], "rank1") == f"62.0\u00a0±\u00a00.7 ({low:.1f}\u00a0to\u00a0{high:.1f})"
    assert rows[0].runs == "1 × 2"
    assert "mean_ap" not in rows[0].mean


def reproduction(folder: Path, cells: list[CellResult], **head: object) -> Path:
    """A folder of cells with the published tables."""
    results = ResultsFolder(folder)
    results.append(cells)
    results.write_index({"published": published.as_json(), **head})
    return folder


def measured(row: str, rank1: float, table: str = "1", **known: object) -> CellResult:
    entries = {"dataset": "kgbd", "protocol": "C", "selection": "validation", "label": row, **known}
    name = "/".join(map(str, (table, row, *entries.values())))
    return CellResult(cell=name, table=table, row=row, figures={"rank1": rank1, "nauc_roc": 90.0}, **entries)  # type: ignore[arg-type]


def table_of(folder: Path, beginning: str) -> list[dict[str, str]]:
    """The rows of a table by the titles of its columns."""
    found = (part for part in tables(read_results(folder)).parts if part.caption.startswith(beginning))
    table: Table = next(found)
    return [dict(zip(table.head, row, strict=True)) for row in table.rows]


def test_published_figures_and_both_selections_stand_side_by_side(tmp_path: Path) -> None:
    cells = [
        measured("ours", 80.0, label="Ours"),
        measured("ours", 84.0, selection="best-on-test", label="Ours"),
        measured("ours", 60.0, protocol="G", selection="none", label="Ours"),
        measured("pose-cnn", 30.0, label="Pose features v1 + CNN"),
    ]
    rows = {row["Method"]: row for row in table_of(reproduction(tmp_path, cells), "Table 1: methods; kgbd")}
    ours = rows["Ours (LAS, AGEs)"]
    assert (ours["Rank-1 published (KGBD)"], ours["nAUC published (KGBD)"]) == ("87.7", "96.3")
    figures = [ours[f"Rank-1, {how}"] for how in ("C, held out", "C, best on test", "G")]
    assert figures == ["80.0", "84.0", "60.0"]
    assert rows["D13 + KNN (not run)"]["Rank-1, C, held out"] == "–"
    assert "PoseGait" not in rows
    own = rows["Pose features v1 + CNN (in the place of PoseGait)"]
    assert (own["Rank-1 published (KGBD)"], own["Rank-1, C, held out"]) == ("90.6", "30.0")


def test_table_1_as_published_lists_what_needs_images(tmp_path: Path) -> None:
    rows = table_of(reproduction(tmp_path, [measured("ours", 80.0)]), "Table 1 as published")
    assert len(rows) == len(published.TABLE1)
    energy = next(row for row in rows if row["Method"] == "Gait Energy Image")
    assert (energy["Needs"], energy["BIWI Rank-1"], energy["KGBD Rank-1"]) == ("depth images", "21.4", "–")


def test_table_2_keeps_the_printed_order_and_the_rows_that_were_not_run(tmp_path: Path) -> None:
    cells = [measured(row, 50.0, "2", protocol="G", selection="none") for row in ("las-reverse-ages", "x", "ge")]
    rows = [row["Method"] for row in table_of(reproduction(tmp_path, cells), "Table 2")]
    assert rows[:2] == ["ge", "GE, GD (not run)"]
    assert rows[-2:] == ["las-reverse-ages", "x"]
    assert len(rows) == len(published.TABLE2) + 1


def test_all_figures_are_there_in_detail_and_columns_that_say_nothing_are_not(made: Path) -> None:
    section = tables(read_results(made / "reproduced"))
    detail = next(part for part in section.parts if part.caption.startswith("In detail: Table 2"))
    row = dict(zip(detail.head, detail.rows[0], strict=True))
    assert detail.folded
    assert (row["LAS"], row["MBAS"], row["Rank-1 published"]) == ("✓", "", "59.1 (BIWI)")
    assert row["Rank-5"].startswith("90.0\u00a0±\u00a00.0 (")
    assert "chosen on held-out training recordings" in detail.caption
    side = next(part for part in section.parts if part.caption.startswith("Table 2"))
    assert "Rank-1 published (BIWI)" in side.head
    assert not any("published" in title for title in tables(read_results(made / "figures")).parts[0].head)


def test_sizes_stand_beside_the_published_ones_with_their_units(tmp_path: Path) -> None:
    values = {"parameters_as_released": 7_096_380, "flops_of_a_window": 74_907_648, "parts": {"parameters": {}}}
    size = CellResult("size/las", "size", "las", "SGE-LA", "", values=values)
    rows = table_of(reproduction(tmp_path, [size]), "Size")
    assert [row["Published"] for row in rows] == ["7.15 million", "37.4 GFLOPs"]
    assert rows[0]["Counted by the model"] == "7,096,380"


def test_sweeps_are_drawn_with_intervals_at_whole_numbers(tmp_path: Path) -> None:
    cells = [
        measured(f"f{frames}", 50.0 + frames, "sweep-frames", interval={"rank1": (40.0, 70.0)}) for frames in (8, 4, 6)
    ]
    (diagram,) = sweeps(read_results(reproduction(tmp_path, cells))).parts
    assert [row[0] for row in diagram.table.rows] == ["4", "6", "8"]
    assert diagram.table.rows[0][1] == "54.0 (40.0\u00a0to\u00a070.0)"
    assert diagram.lines[0].bars
    assert [tick.label for tick in diagram.x_ticks] == ["4", "5", "6", "7", "8"]
    assert "--tables sweeps" in sweeps(read_results(reproduction(tmp_path / "none", [measured("ours", 1.0)]))).missing


def test_leaks_stand_on_the_page_gravest_first(tmp_path: Path) -> None:
    fine = {"severity": "fine", "sentence": "no test frame occurs among the training frames"}
    place = {"severity": "warning", "sentence": "the place names 11 %"}
    checks = [
        {"dataset": "kgbd", "split": "split", "trained_on": None, "findings": [fine, place]},
        {"dataset": "kgbd", "split": "split", "trained_on": "gist", "findings": [fine]},
    ]
    section = leakage(read_results(reproduction(tmp_path, [measured("ours", 1.0)], leakage=checks)))
    assert section.parts[0].rows == (
        ("The place names 11 %", "warning", "kgbd (split)"),
        ("No test frame occurs among the training frames", "fine", "kgbd (split), kgbd (from gist)"),
    )
    assert section.lead[-1].endswith("beside the figures: 1 warning.")


def test_the_summary_speaks_of_each_data_set_and_leaves_the_test_sets_own_choice_out(tmp_path: Path) -> None:
    cells = [
        measured("ours", 80.0, label="Ours", persons=123),
        measured("d13-knn", 90.0, label="D13"),
        measured("lda", 10.0, label="LDA"),
        measured("ours", 99.0, dataset="gist", label="Ours"),
        measured("ours", 99.9, selection="best-on-test", label="Ours"),
    ]
    _, kgbd, gist = summary(read_results(reproduction(tmp_path, cells)))
    assert "90.0 % with D13, the lowest of 3 rows is 10.0 % with LDA; ours 80.0 %" in kgbd
    assert gist.startswith("gist, protocol C")
    assert "99.9" not in kgbd + gist


def test_claims_are_those_of_the_reproduction(made: Path) -> None:
    section = claims(read_results(made / "reproduced"))
    assert section.lead[0] == "Of 2 claims 1 holds and 1 is not decided."
    assert section.lead[0] in summary(read_results(made / "reproduced"))
    (table,) = section.parts
    first, second = (dict(zip(table.head, row, strict=True)) for row in table.rows)
    assert (first["Claim"], first["Verdict"], first["p"]) == ("las is better than bas", "holds", "0.0120")
    assert first["Difference"] == "+6.5 (+1.5\u00a0to\u00a0+11.0)"
    assert (first["Ours"], first["Published"]) == ("62.0 / 55.5", "59.1 / 55.1")
    assert (second["Claim"], second["p"], second["Published"]) == ("las is better than bas (1 run)", "–", "–")


def test_curves_of_a_reproduction_come_from_the_ranks_of_its_probes(made: Path) -> None:
    diagrams = cmc_curves(read_results(made / "reproduced")).parts
    cells = [cell for cell in cells_of(read_results(made / "reproduced")) if cell.row == "bas" and cell.probes_file]
    for diagram, name in zip(diagrams, ("rank", "recording_rank"), strict=True):
        ranks = [np.load(made / "reproduced" / str(cell.probes_file))[name] for cell in cells]
        expected = 100 * np.mean([(rank <= 2).mean() for rank in ranks])
        column = diagram.table.head.index("BAS")
        assert next(row for row in diagram.table.rows if row[0] == "2")[column] == f"{expected:.1f}"
        assert diagram.table.rows[-1][column] == "100.0"


def test_attention_becomes_a_coloured_table_for_each_axis(made: Path) -> None:
    parts = attention(open_inputs(made / "reproduced"), SMALL).parts
    assert [part.caption for part in parts] == [f"LAS, kgbd, axis {axis}" for axis in "xyz"]
    assert parts[0].cells[0][0] == ("0.17", 5)


def test_attention_of_several_runs_is_one_picture_and_all_pictures_share_a_scale(tmp_path: Path) -> None:
    def cell(kind: str, seed: int, weight: float) -> CellResult:
        values = {"attention": np.full((3, 2, 2), weight).tolist(), "locality": [0.5] * 3}
        return CellResult(f"{kind}{seed}", "figure3a", kind, kind.upper(), "kgbd", seed=seed, values=values)

    cells = [cell("las", 0, 0.8), cell("las", 1, 1.0), cell("bas", 0, 0.4)]
    parts = attention(open_inputs(reproduction(tmp_path, cells)), SMALL).parts
    assert [part.caption for part in parts[::3]] == ["BAS, kgbd, axis x", "LAS, kgbd, mean of 2 runs, axis x"]
    assert [part.cells[0][0] for part in parts[::3]] == [("0.40", 2), ("0.90", 5)]


def test_attention_of_a_run_is_averaged_over_the_archive(made: Path, tmp_path: Path) -> None:
    from sgela_fast.checkpoints.run_folder import write_run
    from sgela_fast.models.config import SGELAConfig
    from sgela_fast.models.sgela import build_model
    from sgela_fast.skeletons.config import WindowConfig

    for name in ("las", "none"):
        model = build_model(SGELAConfig(hidden=4, attention=name), "reference")  # type: ignore[arg-type]
        write_run(tmp_path / name, model, window=WindowConfig(), layout="kinect-v1")
    inputs = open_inputs(made / "figures", runs=(tmp_path / "las", tmp_path / "none"))
    parts = attention(inputs, SMALL).parts
    assert len(parts) == 3
    assert parts[0].caption.startswith("las, walks.sga, ")
    for part in parts:
        for row in part.cells:
            assert abs(sum(float(text) for text, _ in row) - 1) < 0.04


def test_an_encoder_that_many_cells_share_is_drawn_once_and_its_seeds_are_averaged(made: Path) -> None:
    losses = training_curves(open_inputs(made / "reproduced")).parts[0]
    assert losses.title.endswith("training windows, kgbd")
    assert [line.label for line in losses.lines] == ["LAS, reverse, AGEs, mean of 2 runs"]
    assert [row[1] for row in losses.table.rows] == ["10.5", "1", "0.5"]


def test_a_section_without_data_says_why_and_how(made: Path) -> None:
    report = write_report(made / "reproduced", made / "bare.html", SMALL)
    assert set(report.missing) == {"Map of encodings", "Walks", "Distances and unknown persons", "Data quality"}
    assert all(re.search(r"--store|--archive", why) for why in report.missing.values())
    assert all(why.endswith(".") and why.count(". ") == 0 for why in report.missing.values())
    for why in report.missing.values():
        assert why in Page(report.path.read_text()).text.replace("\n", "")


def test_everything_is_found_again_by_the_names_in_the_results(made: Path) -> None:
    inputs = open_inputs(made / "figures")
    assert inputs.store is not None
    assert inputs.store.path == made / "walks.store"
    assert inputs.archive is not None
    assert inputs.archive.path == made / "walks.sga"


def test_a_folder_of_the_whole_pipeline_is_enough(made: Path, tmp_path: Path) -> None:
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / "pipeline.json").write_text("{}")
    with pytest.raises(DataError, match="has not come to its figures"):
        open_inputs(folder)
    (folder / "evaluation").symlink_to(made / "figures")
    (folder / "run").mkdir()
    (folder / "run" / "history.json").write_text('[{"step": 1, "reconstruction": 2.5, "attention": 0.5}]')
    inputs = open_inputs(folder)
    assert inputs.runs == (folder / "run",)
    assert training_curves(inputs).parts[0].lines[0].label == "run"


def test_settings_out_of_range_are_refused() -> None:
    for settings in ({"points": 2}, {"projection": "umap"}, {"false_match_rate": 1.0}, {"seconds": 0.0}):
        with pytest.raises(ConfigError, match="report"):
            ReportConfig(**settings)  # type: ignore[arg-type]


def test_jinja_that_is_absent_is_named(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingDependencyError, match=r"sgela_fast\[report\]"):
        write_report(made / "reproduced", made / "never.html", SMALL)
    assert not (made / "never.html").exists()


def test_round_and_logarithmic_ticks() -> None:
    assert round_ticks(0, 100) == [0, 20, 40, 60, 80, 100]
    assert round_ticks(0.13, 0.42) == pytest.approx([0.15, 0.2, 0.25, 0.3, 0.35, 0.4])
    assert log_ticks(1, 123) == [1, 2, 5, 10, 20, 50, 100]
    assert log_ticks(0.01, 1000) == [0.01, 0.1, 1, 10, 100, 1000]
    assert Scale(1, 100, 0, 10, log=True)(10) == pytest.approx(5)


def test_an_axis_of_less_than_a_decade_has_ticks_too() -> None:
    for values in ((14.5, 16.0), (1.157908, 1.157912)):
        chart = line_chart("a", {"b": list(enumerate(values, 1))}, x_title="x", y_title="y", log_y=True)
        assert len(chart.y_ticks) >= 2
        assert all(len(tick.label) <= 5 for tick in chart.y_ticks)


def test_lines_keep_their_ends_when_they_are_thinned() -> None:
    points = [(float(x), 1 / x) for x in range(1, 5001)]
    for log in (False, True):
        kept = thinned(points, log)
        assert len(kept) <= CURVE_POINTS + 1
        assert (kept[0], kept[-1]) == (points[0], points[-1])
    chart = line_chart("a", {"b": points}, x_title="x", y_title="y", log_x=True)
    assert chart.lines[0].path.count("L") <= CURVE_POINTS
    assert len(chart.table.rows) <= 16


def test_evenly_keeps_the_ends_and_never_repeats() -> None:
    assert evenly(3, 10) == [0, 1, 2]
    assert evenly(10, 1) == [5]
    for count, most in ((10, 3), (11, 10), (1000, 7)):
        found = evenly(count, most)
        assert (found[0], found[-1]) == (0, count - 1)
        assert len(set(found)) == len(found) <= most
