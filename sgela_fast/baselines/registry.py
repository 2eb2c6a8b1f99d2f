"""The baselines by name. Imports no torch, so that a command line can list them."""

from __future__ import annotations

from dataclasses import dataclass

from sgela_fast.errors import ConfigError


@dataclass(frozen=True)
class Baseline:
    """A way to recognise persons.

    Attributes:
        name: how it is called.
        title: its row in a table.
        citation: where it comes from.
        features: what it looks at, a function of :mod:`sgela_fast.baselines.features`.
        method: what decides under protocol C: ``knn``, ``nearest``, ``svm``, ``adaboost`` or ``lda``
            (:mod:`sgela_fast.baselines.classical`), or a network of :mod:`sgela_fast.baselines.networks`.
        needs_labels: whether persons' names are used for training; without, they only mark the gallery.
        note: what a reader should know of this implementation.
    """

    name: str
    title: str
    citation: str
    features: str
    method: str
    needs_labels: bool
    note: str

    @property
    def is_network(self) -> bool:
        """Whether a network is trained step by step."""
        return self.method in ("lstm", "lstm-2", "axis-lstm-2", "cnn")


_MUNARO = "Munaro et al., 2014"
_WHAT_KNN = "k of 1, 5, 15, 30 is chosen; equal votes are ranked by each person's nearest window"

BASELINES: dict[str, Baseline] = {
    baseline.name: baseline
    for baseline in (
        Baseline("d13-knn", "D13 + kNN", _MUNARO, "d13_means", "knn", False, _WHAT_KNN),
        Baseline(
            "d13-svm",
            "D13 + SVM",
            _MUNARO,
            "d13_means",
            "svm",
            True,
            "RBF kernel, one against one, C of 1, 10, 100 is chosen; fitted to a share of the training windows",
        ),
        Baseline(
            "d16-adaboost",
            "D16 + AdaBoost",
            "Pala et al., 2019",
            "d16_means",
            "adaboost",
            True,
            "confidence-rated stumps, each person against the rest; the published weak learner is not known",
        ),
        Baseline(
            "bones-nearest",
            "Bone lengths, 1-NN",
            "",
            "bone_means",
            "nearest",
            False,
            "mean length of every bone of the layout",
        ),
        Baseline(
            "lda",
            "Bones + pose, LDA",
            "",
            "bones_and_pose",
            "lda",
            True,
            "mean and deviation of bone lengths and centred coordinates; covariance shrunk by Ledoit and Wolf's rule",
        ),
        Baseline(
            "position",
            "Hip position alone, kNN",
            "",
            "hip_position",
            "knn",
            False,
            "no gait at all: what the place where somebody walks gives away in camera coordinates",
        ),
        Baseline(
            "single-layer-lstm",
            "Single-layer LSTM",
            "Haque et al., 2016",
            "centred_frames",
            "lstm",
            True,
            "one layer of 256 on all coordinates, last state to a linear layer",
        ),
        Baseline(
            "multi-layer-lstm",
            "Multi-layer LSTM",
            "Zheng et al., 2019",
            "centred_frames",
            "lstm-2",
            True,
            "two layers of 256 on all coordinates, last state to a linear layer",
        ),
        Baseline(
            "ge-supervised",
            "GE (supervised)",
            "the paper, Table 2",
            "centred_frames",
            "axis-lstm-2",
            True,
            "the encoder's LSTMs, two layers of 256 for each axis, trained with labels; last states to a linear layer",
        ),
        Baseline(
            "pose-cnn",
            "Pose features v1 + CNN",
            "in the place of PoseGait (Liao et al., 2020)",
            "pose_features_v1",
            "cnn",
            True,
            "features and network of this package; PoseGait's 81 features are not public",
        ),
    )
}


def get_baseline(name: str) -> Baseline:
    """The baseline called ``name``.

    Raises:
        ConfigError: there is none.
    """
    if name not in BASELINES:
        raise ConfigError(f"baseline {name!r} is unknown; choose one of: {', '.join(BASELINES)}")
    return BASELINES[name]
