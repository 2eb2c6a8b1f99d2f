"""Linear probe: how well a linear classifier tells persons apart by the embeddings of a model that stays as it is."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sgela_fast.atomic import make_folder, write_json
from sgela_fast.checkpoints.selfgait_run import load_selfgait
from sgela_fast.errors import DataError, MissingDependencyError, OutputError
from sgela_fast.models.device import choose_device
from sgela_fast.models.selfgait import SelfGait
from sgela_fast.silhouettes.clips import as_tensor
from sgela_fast.silhouettes.config import ClipConfig
from sgela_fast.silhouettes.dataset import SilhouetteSet
from sgela_fast.training.selfgait.batches import training_rows
from sgela_fast.training.selfgait.config import SECTION, SelfGaitTrainingConfig

FILE = "probe.json"
GALLERY = ("nm-01", "nm-02", "nm-03", "nm-04")


@dataclass(frozen=True)
class ProbeResult:
    """What a linear probe found; shares of sequences.

    Attributes:
        accuracy: of sequences that the classifier has not seen, those whose person it names.
        by_condition: the same for each kind of condition, such as ``nm``, ``bg`` and ``cl``.
        seen: the same of the sequences that it was fitted to.
        chance: that of naming the most frequent person.
        persons: classes.
        fitted: sequences it was fitted to.
        tested: sequences it was tested on.
    """

    accuracy: float
    by_condition: dict[str, float]
    seen: float
    chance: float
    persons: int
    fitted: int
    tested: int


def probe_selfgait(
    silhouettes: str | Path | SilhouetteSet,
    run: str | Path,
    training: SelfGaitTrainingConfig | None = None,
    *,
    out: str | Path | None = None,
) -> ProbeResult:
    """Fit a logistic regression to embeddings of normal walks and name the persons of all other sequences.

    The same persons are on both sides: their walks ``nm-01`` to ``nm-04`` are fitted to, their others tested. Sequences
    are embedded whole; features are brought to mean 0 and deviation 1.

    Args:
        silhouettes: a set or its folder.
        run: run folder of the model.
        training: whose sequences (``split``, ``subjects``), device and backend.
        out: folder for ``probe.json``.

    Raises:
        DataError: fewer than two persons, or one side has no sequence.
        MissingDependencyError: scikit-learn is not installed.
        OutputError: ``out`` holds a probe already, or it cannot be written.
        CheckpointError: the run cannot be loaded.
    """
    try:
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
    except ImportError as error:
        raise MissingDependencyError(
            'a linear probe needs scikit-learn; install it with pip install "sgela_fast[eval]"'
        ) from error
    config = training or SelfGaitTrainingConfig()
    if out is not None and (Path(out) / FILE).exists():
        raise OutputError(f"{out} already holds a {FILE}; choose another --out")
    loaded = load_selfgait(run, config.backend, choose_device(config.device, f"{SECTION}.device"))
    opened = silhouettes if isinstance(silhouettes, SilhouetteSet) else SilhouetteSet.open(silhouettes)
    chosen = opened.select(training_rows(opened.sequences, config))
    table = chosen.sequences
    fitted = np.isin(table.condition, GALLERY)
    known = np.isin(table.subject, np.unique(table.subject[fitted]))
    tested = known & np.logical_not(fitted)
    persons = len(np.unique(table.subject[fitted]))
    if persons < 2 or not tested.any():
        raise DataError(
            f"a linear probe needs two persons with walks {GALLERY[0]} to {GALLERY[-1]} and others, and there are "
            f"{persons} with {int(tested.sum())} others; give more silhouettes"
        )
    embeddings = embed_sequences(loaded.model, chosen, loaded.clips)
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    classifier.fit(embeddings[fitted], table.subject[fitted])
    right = classifier.predict(embeddings) == table.subject
    kinds = np.array([condition.partition("-")[0] for condition in table.condition])
    counts = np.unique(table.subject[tested], return_counts=True)[1]
    result = ProbeResult(
        accuracy=float(right[tested].mean()),
        by_condition={str(kind): float(right[tested & (kinds == kind)].mean()) for kind in np.unique(kinds[tested])},
        seen=float(right[fitted].mean()),
        chance=float(counts.max() / counts.sum()),
        persons=persons,
        fitted=int(fitted.sum()),
        tested=int(tested.sum()),
    )
    if out is not None:
        content: dict[str, Any] = {"run": str(run), "model_hash": loaded.model_hash, **asdict(result)}
        write_json(make_folder(Path(out)) / FILE, content)
    return result


@torch.inference_mode()
def embed_sequences(model: SelfGait, silhouettes: SilhouetteSet, clips: ClipConfig) -> NDArray[np.float32]:
    """Embeddings ``(n, S * E)`` of whole sequences, strips one behind the other; ``clips`` say how frames are cut."""
    rows = []
    for index in range(len(silhouettes)):
        frames = as_tensor(silhouettes.load(index)[None], clips).to(model.device)  # (1, T, H, W)
        rows.append(model.embed(frames)[:, 0].flatten().cpu().numpy())
    return np.stack(rows)
