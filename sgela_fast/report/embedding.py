"""Encodings of many windows as points of a plane."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sgela_fast.encoding.store import Store
from sgela_fast.errors import MissingDependencyError
from sgela_fast.report.chart import HEIGHT, WIDTH
from sgela_fast.report.config import ReportConfig
from sgela_fast.report.inputs import Inputs
from sgela_fast.report.page import Section, Table, evenly
from sgela_fast.search.units import texts

COLOURS, SHAPES = 8, 5
MARGIN = 14
COMPONENTS = 50  # of the PCA that t-SNE starts from
ITERATIONS = 500  # of t-SNE, whose time is that of everything else together
LISTED = 60  # persons in the legend's table

Points = NDArray[np.float64]


def embedding_map(inputs: Inputs, config: ReportConfig) -> Section:
    """The map of windows, coloured by person."""
    title = "Map of encodings"
    if inputs.store is None:
        return Section("map", title, missing=f"There is no store to draw: {inputs.why_no_store}.")
    store = inputs.store
    whole = inputs.results.kind == "cross-view"
    unit = "sequences" if whole else "windows"
    rows = drawn_rows(store, config.points)
    if len(rows) < 3:
        return Section("map", title, missing=f"{store.path.name} has too few {unit} to draw; encode more recordings.")
    values = store.values(rows)
    vectors = values.mean(axis=1) if values.ndim == 3 else values  # (N, D)
    finite = np.isfinite(vectors).all(axis=1)
    if finite.sum() < 3:
        why = f"The encodings in {store.path.name} are not finite; encode the archive again."
        return Section("map", title, missing=why)
    rows, vectors = rows[finite], vectors[finite]
    places, method = project(vectors, config)
    table = store.table.take(rows)
    persons, recordings = texts(table, "person"), texts(table, "recording")
    starts = table["window_start"].to_pylist()
    names = sorted(set(persons.tolist()) - {""})
    order = {name: place for place, name in enumerate(names)}
    placed, height = _in_frame(places)
    points = [
        {
            "x": round(float(x), 1),
            "y": round(float(y), 1),
            "colour": order[person] % COLOURS if person else COLOURS,
            "shape": order[person] // COLOURS % SHAPES if person else 0,
            "person": order.get(person, -1),
            "text": f"{recording}, {person or 'nobody named'}{'' if whole else f', frame {start}'}",
        }
        for (x, y), person, recording, start in zip(placed, persons.tolist(), recordings.tolist(), starts, strict=True)
    ]
    lead = [
        f"{len(rows):,} of {len(store):,} {unit} of {store.path.name}, drawn evenly from its recordings; the "
        f"{'embedding' if whole else 'mean encoding'} of each as a point, by {method}.",
        "Points of one person share colour and shape"
        + (f"; with {len(names)} persons these repeat" if len(names) > COLOURS * SHAPES else "")
        + ". Point at one, or use the arrow keys in the map, to see its recording; choose a person to bring out.",
    ]
    if config.projection == "tsne" and "t-SNE" in method:
        lead.append("t-SNE keeps neighbours together; distances between far groups mean little.")
    listed = [
        (name, str(int((persons == name).sum())), str(len(set(recordings[persons == name])))) for name in names[:LISTED]
    ]
    legend = Table(
        "Persons on the map",
        ("Person", "Points", "Recordings"),
        tuple(listed),
        (1, 2),
        max(0, len(names) - len(listed)),
    )
    data = {
        "points": points,
        "persons": names,
        "legend": legend,
        "width": WIDTH,
        "height": height,
        "method": method,
    }
    return Section("map", title, tuple(lead), data=data)


def drawn_rows(store: Store, most: int) -> NDArray[np.int64]:
    """At most ``most`` valid windows, evenly from the recordings' windows in the order of the store."""
    valid = np.flatnonzero(store.columns("valid")["valid"].to_numpy(zero_copy_only=False).astype(bool))
    return valid[evenly(len(valid), most)]


def project(vectors: NDArray[np.float32], config: ReportConfig) -> tuple[Points, str]:
    """Two coordinates for each vector, and how they were found.

    Args:
        vectors: ``(N, D)``, N at least 3.
        config: the method and its seed.

    Returns:
        ``(N, 2)`` and the method in words.

    Raises:
        MissingDependencyError: scikit-learn is not installed.
    """
    try:
        from sklearn.decomposition import PCA
        from sklearn.manifold import TSNE
    except ImportError as error:
        raise MissingDependencyError(
            'the map of encodings needs scikit-learn; install it with pip install "sgela_fast[report]"'
        ) from error
    count, width = vectors.shape
    if not np.ptp(vectors, axis=0).any():
        return np.zeros((count, 2)), "no projection, for all encodings are equal"
    pca = PCA(
        min(COMPONENTS, count, width), svd_solver="full" if count * width < 2**20 else "randomized", random_state=0
    )
    reduced = pca.fit_transform(vectors)
    # TSNE needs more points than neighbours.
    if config.projection == "pca" or count < 10:
        share = 100 * pca.explained_variance_ratio_[:2].sum()
        flat = reduced[:, :2] if reduced.shape[1] > 1 else np.column_stack([reduced[:, 0], np.zeros(count)])
        return flat, f"PCA, whose two components hold {share:.0f} % of the variance"
    perplexity = min(30.0, (count - 1) / 3)
    # Not PCA's own start: one component is all that some encodings have.
    start = reduced[:, :2] if reduced.shape[1] > 1 else "random"
    if not isinstance(start, str):
        start = 1e-4 * start / (start[:, 0].std() or 1.0)
    found = TSNE(perplexity=perplexity, init=start, max_iter=ITERATIONS, random_state=config.seed).fit_transform(
        reduced
    )
    words = (
        f"t-SNE (perplexity {perplexity:.3g}, seed {config.seed}) of the first {reduced.shape[1]} principal components"
    )
    return np.asarray(found, np.float64), words


def _in_frame(places: Points) -> tuple[Points, int]:
    """Places within a picture as wide as a diagram, both axes by the same factor, and its height."""
    # The longer side lies across.
    turned = places if np.ptp(places[:, 0]) >= np.ptp(places[:, 1]) else places[:, ::-1]
    low, high = turned.min(axis=0), turned.max(axis=0)
    factor = (WIDTH - 2 * MARGIN) / (float(high[0] - low[0]) or 1.0)
    found = np.asarray(MARGIN + (turned - low) * factor, np.float64)
    return found, max(HEIGHT // 2, round(float(found[:, 1].max()) + MARGIN))
