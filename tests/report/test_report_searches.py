"""Maps, matches, thresholds and walks are what the store and the archive hold."""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np

from sgela_fast.encoding.store import Store
from sgela_fast.report.config import ReportConfig
from sgela_fast.report.embedding import embedding_map, project
from sgela_fast.report.inputs import open_inputs
from sgela_fast.report.matches import Match, Ranking, distances, rankings, spread
from sgela_fast.report.playback import LOST, choose, draw, face_ahead, playback
from sgela_fast.report.quality import quality
from sgela_fast.search.calibration import calibrate
from sgela_fast.search.config import CalibrationConfig
from sgela_fast.search.index import Index
from sgela_fast.skeletons.archive import Archive
from sgela_fast.skeletons.layouts import get_layout
from tests.report.conftest import PERSONS, SMALL, WALKS


def test_the_map_holds_as_many_points_as_asked_and_names_their_recordings(made: Path) -> None:
    inputs = open_inputs(made / "figures")
    data = embedding_map(inputs, SMALL).data
    assert len(data["points"]) == SMALL.points
    assert len(data["persons"]) == PERSONS
    assert all(0 <= point["x"] <= data["width"] and 0 <= point["y"] <= data["height"] for point in data["points"])
    of_person = {}
    for point in data["points"]:
        of_person.setdefault(point["person"], set()).add((point["colour"], point["shape"]))
    assert all(len(looks) == 1 for looks in of_person.values())
    assert len(set.union(*of_person.values())) == PERSONS


def test_groups_that_lie_apart_stay_apart_on_the_map() -> None:
    generator = np.random.default_rng(0)
    centres = np.repeat(50 * generator.normal(size=(3, 8)), 12, axis=0)
    vectors = (centres + generator.normal(size=centres.shape)).astype(np.float32)
    for projection in ("pca", "tsne"):
        places, method = project(vectors, ReportConfig(projection=projection))
        assert method.startswith({"pca": "PCA", "tsne": "t-SNE"}[projection])
        middles = np.array([places[12 * group : 12 * group + 12].mean(axis=0) for group in range(3)])
        nearest = np.linalg.norm(places[:, None] - middles, axis=-1).argmin(axis=1)
        assert (nearest == np.repeat(np.arange(3), 12)).all()


def test_encodings_that_are_all_equal_can_be_drawn() -> None:
    places, method = project(np.ones((5, 3), np.float32), SMALL)
    assert (places == 0).all()
    assert "equal" in method


def test_every_probe_is_compared_with_the_whole_gallery(made: Path) -> None:
    found = rankings(open_inputs(made / "figures"), SMALL)
    assert len(found) == PERSONS  # one walk of each is tested
    for item in found:
        assert item.gallery == PERSONS * (WALKS - 1)
        assert item.best.score >= item.worst.score
        assert item.right is not None
        assert item.right.person == item.person
        assert item.known == (item.place == 1)
        assert item.probe != item.best.recording


def test_matches_are_those_of_the_search(made: Path) -> None:
    item = rankings(open_inputs(made / "figures"), ReportConfig(queries=20_000))[1]
    index = Index.open(made / "walks.store")
    hits = index.search(item.probe, PERSONS * WALKS, where="split=train", level="recording").table.to_pylist()
    assert (hits[0]["recording"], hits[-1]["recording"]) == (item.best.recording, item.worst.recording)
    assert np.isclose(hits[0]["score"], item.best.score)


def test_few_windows_are_spread_over_all_recordings(made: Path) -> None:
    store = Store(made / "walks.store")
    everything = np.ones(len(store), np.bool_)
    rows = spread(store, everything, 4 * PERSONS * WALKS)
    recordings = np.array(store.table["recording"].to_pylist())[rows]
    assert set(np.unique(recordings, return_counts=True)[1]) == {4}
    assert len(np.unique(recordings)) == PERSONS * WALKS


def test_mistaken_probes_come_first_and_are_half_at_most_while_others_are_left() -> None:
    def ranking(name: str, best: str) -> Ranking:
        match = Match("r", best, 1.0)
        return Ranking(name, "a", match, match, match, 1 if best == "a" else 2, 3)

    ranked = [ranking(str(number), "b" if number % 3 else "a") for number in range(12)]
    chosen = choose(ranked, 6)
    assert [item.known for item in chosen] == [False] * 3 + [True] * 3
    assert [item.known for item in choose(ranked[:3], 6)] == [False, False, True]
    assert [item.known for item in choose([ranked[1]] * 9, 4)] == [False] * 4


def test_the_threshold_is_that_of_the_search(made: Path, tmp_path: Path) -> None:
    import shutil

    inputs = open_inputs(made / "figures")
    section = distances(inputs, SMALL)
    assert "no calibrated threshold" in section.lead[1]
    assert "20 %" in section.lead[1]  # five searches allow no smaller rate
    (chart,) = section.parts
    for column in (1, 2):
        assert abs(sum(float(row[column]) for row in chart.table.rows) - 100) < 2.5

    copy = shutil.copytree(made / "walks.store", tmp_path / "walks.store")
    config = CalibrationConfig(false_match_rate=0.3, resamples=0)
    found = calibrate(Index.open(copy), "split=test", config, where="split=train")
    section = distances(open_inputs(made / "figures", copy), SMALL)
    assert section.lead[1].startswith(f"The store's calibrated threshold (split=test) is {1 - found.threshold:.4g}")

    config = CalibrationConfig(false_match_rate=0.3, resamples=0, best=2)
    calibrate(Index.open(copy), "split=test", config, where="split=train")
    section = distances(open_inputs(made / "figures", copy), SMALL)
    assert "cannot be used here" in section.lead[1]
    assert "was calibrated with best 2, not 1" in section.lead[1]


def test_a_walk_is_packed_in_millimetres_facing_ahead(made: Path) -> None:
    archive = Archive(made / "walks.sga")
    name = archive.rows[5].recording
    walk = draw(archive, name, ReportConfig(seconds=1.0, rate=10.0))
    packed = walk.as_json()
    points = np.frombuffer(base64.b64decode(packed["points"]), "<i2").reshape(packed["frames"], 20, 3)
    assert (points == walk.points).all()
    assert (packed["frames"], packed["rate"]) == (10, 10.0)
    layout = archive.layout
    left, right = (points[:, layout.index(f"hip_{side}"), 0].mean() for side in ("left", "right"))
    assert left > 0 > right
    toes = points[:, layout.index("foot_left"), 2] - points[:, layout.index("ankle_left"), 2]
    assert np.median(toes) > 0
    assert points[..., 1].min() >= 0
    assert (points[:, layout.index("hip_center"), [0, 2]] == 0).all()


def test_bones_keep_their_lengths_when_a_body_is_turned() -> None:
    layout = get_layout("kinect-v1")
    joints = np.random.default_rng(0).normal(size=(40, 20, 3))
    turned = face_ahead(joints, layout)
    for joint, parent in layout.bones:
        before, after = (np.linalg.norm(body[:, joint] - body[:, parent], axis=-1) for body in (joints, turned))
        np.testing.assert_allclose(before, after, rtol=1e-9)


def test_a_lost_joint_is_marked_and_not_drawn(tmp_path: Path) -> None:
    from sgela_fast.skeletons.archive import ArchiveWriter
    from sgela_fast.skeletons.recording import Recording

    layout = get_layout("kinect-v1")
    joints = (2 + np.random.default_rng(0).random((30, 20, 3))).astype(np.float32)
    joints[10:20, layout.index("head")] = 0
    joints[12, layout.index("knee_left")] = np.nan
    writer = ArchiveWriter(tmp_path / "walks.sga", layout, {})
    writer.add(Recording("a", joints, "kinect-v1"))
    walk = draw(writer.finish(), "a", ReportConfig(seconds=1.0, rate=30.0))
    lost = (walk.points == LOST).all(axis=-1)
    assert lost.sum() == 11
    assert lost[10:20, layout.index("head")].all()
    assert lost[12, layout.index("knee_left")]


def test_probes_name_their_walks_once(made: Path) -> None:
    inputs = open_inputs(made / "figures")
    player = playback(inputs, rankings(inputs, SMALL), SMALL).data["player"]
    assert len(player["probes"]) == SMALL.probes
    names = [walk["name"] for walk in player["walks"]]
    assert len(set(names)) == len(names)
    for probe in player["probes"]:
        assert [panel["title"] for panel in probe["walks"]][:2] == ["Probe", "Best match"]
        assert probe["walks"][-1]["title"] == "Worst match"
        assert all(0 <= panel["walk"] < len(names) for panel in probe["walks"])


def test_quality_is_that_of_the_inspection(made: Path) -> None:
    section = quality(open_inputs(made / "figures"), SMALL)
    totals = dict(row for part in section.parts if part.__class__.__name__ == "Table" for row in part.rows)
    assert totals["recordings"] == str(PERSONS * WALKS)
    assert totals["persons"] == str(PERSONS)
    some = quality(open_inputs(made / "figures"), ReportConfig(recordings=3))
    assert "3 of 20 recordings" in some.lead[0]
