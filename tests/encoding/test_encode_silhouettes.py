"""Encoding silhouettes with SelfGait: one row a sequence, the same bytes however often a job was stopped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from sgela_fast.encoding.config import EncodingConfig, EngineConfig
from sgela_fast.encoding.silhouettes import SilhouetteEncoder, encode_silhouettes
from sgela_fast.encoding.store import Store
from sgela_fast.errors import ConfigError, DataError, Interrupted
from sgela_fast.models.selfgait import build_selfgait
from sgela_fast.models.selfgait_config import SelfGaitConfig
from sgela_fast.silhouettes.clips import as_tensor
from sgela_fast.silhouettes.config import ClipConfig
from sgela_fast.silhouettes.dataset import SilhouetteSet
from sgela_fast.silhouettes.fingerprint import fingerprint
from tests.silhouette_bars import bars

CLIPS = ClipConfig(frames=5, crop=8, shrink=4)
# 14 sequences of 18 numbers a part.
SMALL = EncodingConfig(part_mb=0.001, batch=3, device="cpu", threads=1)


@pytest.fixture(scope="module")
def silhouettes() -> SilhouetteSet:
    return bars(spread=2)


@pytest.fixture(scope="module")
def encoder() -> SilhouetteEncoder:
    config = SelfGaitConfig(frames=5, height=16, width=12, channels=(2, 4, 4), bins=(1, 2), embedding=6, projector=8)
    return SilhouetteEncoder(build_selfgait(config, "reference").eval(), CLIPS, "0" * 64, "tests")


def test_a_row_is_the_embedding_of_a_whole_sequence(
    silhouettes: SilhouetteSet, encoder: SilhouetteEncoder, tmp_path: Path
) -> None:
    store = encode_silhouettes(silhouettes, encoder, tmp_path / "store", SMALL).store
    table, values = store.table.to_pydict(), store.values()
    assert (store.info["strips"], store.info["channels"], store.info["system"]) == (3, 6, "selfgait")
    assert values.shape == (48, 18)
    assert table["recording"] == silhouettes.sequences.key.tolist()
    assert table["person"] == silhouettes.sequences.subject.tolist()
    assert table["condition"] == silhouettes.sequences.condition.tolist()
    assert table["view"] == silhouettes.sequences.view.tolist()
    assert table["frames"] == silhouettes.sequences.frames.tolist()
    assert len(set(table["frames"])) == 3
    assert table["window"] == list(range(48))
    with torch.no_grad():
        for index in range(48):
            clip = as_tensor(silhouettes.load(index)[None], CLIPS)
            strips = encoder.model.embed(clip)[:, 0]  # (S, E)
            np.testing.assert_allclose(values[index].reshape(3, 6), strips.numpy(), rtol=1e-5, atol=1e-6)


def test_an_interrupted_job_is_gone_on_with_to_the_same_bytes(
    silhouettes: SilhouetteSet, encoder: SilhouetteEncoder, tmp_path: Path
) -> None:
    encode_silhouettes(silhouettes, encoder, tmp_path / "whole", SMALL)
    done = 0

    def stop_halfway(units: int = 1, *, note: str = "") -> None:
        nonlocal done
        assert note.endswith(" sequences/s")
        done += units
        if done >= 28:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted, match="go on with the same command and --resume"):
        encode_silhouettes(silhouettes, encoder, tmp_path / "parts", SMALL, progress=stop_halfway)
    result = encode_silhouettes(silhouettes, encoder, tmp_path / "parts", SMALL, resume=True)
    assert 0 < result.windows < 48
    names = sorted(file.name for file in (tmp_path / "whole").glob("part-*"))
    assert names == sorted(file.name for file in (tmp_path / "parts").glob("part-*"))
    assert len(names) == 2 * 4
    for name in names:
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes()


class Torn:
    """A source one of whose sequences cannot be read."""

    def __init__(self, silhouettes: SilhouetteSet) -> None:
        self.silhouettes, self.sequences = silhouettes, silhouettes.sequences

    def frames(self, index: int) -> NDArray[np.uint8]:
        if index == 5:
            raise DataError("no frame of it is usable")
        return self.silhouettes.load(index)


def test_a_sequence_that_cannot_be_read_is_quarantined(
    silhouettes: SilhouetteSet, encoder: SilhouetteEncoder, tmp_path: Path
) -> None:
    torn = SilhouetteSet(Torn(silhouettes), "torn")
    result = encode_silhouettes(torn, encoder, tmp_path / "store", SMALL)
    assert len(result.store) == 47
    left_out = Store(tmp_path / "store").quarantine.to_pylist()
    assert [(row["recording"], row["kind"], row["reason"]) for row in left_out] == [
        (silhouettes.sequences.key[5], "unreadable", "no frame of it is usable")
    ]
    with pytest.raises(DataError, match="of torn cannot be encoded: no frame of it is usable"):
        encode_silhouettes(torn, encoder, tmp_path / "strict", SMALL, strict=True)


def test_rows_do_not_depend_on_the_batch(
    silhouettes: SilhouetteSet, encoder: SilhouetteEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = encode_silhouettes(silhouettes, encoder, tmp_path / "one", EncodingConfig(batch=1, device="cpu")).store
    monkeypatch.setattr("sgela_fast.encoding.silhouettes.FRAMES_AT_ONCE", 20)
    many = encode_silhouettes(silhouettes, encoder, tmp_path / "many", EncodingConfig(device="cpu")).store
    np.testing.assert_allclose(one.values(), many.values(), rtol=1e-5, atol=1e-6)


def test_settings_of_skeletons_are_refused(
    silhouettes: SilhouetteSet, encoder: SilhouetteEncoder, tmp_path: Path
) -> None:
    for settings in ({"stride": 2}, {"feature": "states"}, {"pooling": "mean"}, {"precision": "bf16"}):
        config = EncodingConfig(**settings)  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match=f"encoding.{next(iter(settings))} is for skeletons and tests reads"):
            encode_silhouettes(silhouettes, encoder, tmp_path / "store", config)
    with pytest.raises(ConfigError, match="silhouettes are encoded with engine local"):
        encode_silhouettes(silhouettes, encoder, tmp_path / "store", engine=EngineConfig(engine="ray"))
    assert not (tmp_path / "store").exists()


def test_persons_who_were_trained_on_are_marked_and_left_out_of_the_evaluation(
    silhouettes: SilhouetteSet, encoder: SilhouetteEncoder, tmp_path: Path
) -> None:
    own = fingerprint(silhouettes.sequences)
    half = len(silhouettes.sequences.subjects) // 2
    trained = replace(encoder, subjects=half, trained_on=own)
    store = encode_silhouettes(silhouettes, trained, tmp_path / "store", SMALL).store
    table = store.table.to_pydict()
    known = set(silhouettes.sequences.subjects[:half])
    assert table["split"] == ["train" if person in known else "test" for person in table["person"]]
    elsewhere = replace(trained, trained_on="another set")
    other = encode_silhouettes(silhouettes, elsewhere, tmp_path / "other", SMALL).store
    assert "split" not in other.table.column_names
