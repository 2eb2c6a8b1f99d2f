"""The figures that the paper and its authors' later tables print, and what each row of them stands for.

The printed Table 2 has rows whose last check marks are easily lost in transcription: three pairs of rows differ in
nothing else than "AGEs". The paper's own text says which is which (section 5):

* (c) "BAS improves the model by 6.6 and 3.1": 53.3 / 84.6 against 46.7 / 81.5, the row without attention; and "LAS
  further improves BAS's by 4.4 and 1.2": 57.7 / 85.8 against 53.3 / 84.6. So 53.3 / 84.6 is BAS and 57.7 / 85.8 LAS,
  both with encoded gait states, as the row without attention.
* (d) "AGEs improve by up to 1.8 and 0.7": 55.1 against 53.3 (BAS), 54.5 against 52.9 (MBAS), 59.1 against 57.7 (LAS).
* (b) "reverse improves by 1.4 to 9.4": 54.5 against 53.1 (MBAS), 55.1 against 45.7 (BAS). Its "0.8 to 1.4 nAUC" does
  not hold for the printed MBAS rows, 85.6 against 83.6; the figures are kept as printed.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from sgela_fast.models.config import Attention, Feature

PAPER = "Rao et al., IJCAI 2020"
# Data sets of Table 1, in its columns' order, by the names that conditions of data sets have here.
DATASETS = {"biwi": "BIWI", "ias-a": "IAS-A", "ias-b": "IAS-B", "kgbd": "KGBD"}
LATER = {"ks20": "KS20"}
COMPONENTS = ("GE", "GD", "Rev.", "BAS", "MBAS", "LAS", "AGEs")


# What a kind of method is computed from.
NEEDS = {"depth": "depth images", "multi-modal": "images and skeletons", "skeleton": "skeletons"}


class Method(NamedTuple):
    """A row of Table 1.

    Attributes:
        row: key.
        label: as printed.
        kind: ``depth`` or ``multi-modal`` (need images that no skeleton archive has), or ``skeleton``.
        rank1: per cent, in the order of :data:`DATASETS`.
        nauc: likewise.
        later: Rank-1 and nAUC on the data sets of :data:`LATER`, from the journal extension's table.
    """

    row: str
    label: str
    kind: str
    rank1: tuple[float | None, ...]
    nauc: tuple[float | None, ...]
    later: tuple[float, float] | None = None

    @property
    def needs(self) -> str:
        """What it is computed from."""
        return NEEDS[self.kind]

    @property
    def absent(self) -> str:
        """Why there may be no figure of ours."""
        return "not run" if self.kind == "skeleton" else f"needs {self.needs}"

    def measured_as(self, label: str) -> str:
        """What a row is called whose figure is that of ``label``; nothing of ours may pass for PoseGait."""
        return f"{label} (in the place of {self.label})" if self.row == "pose-cnn" else self.label


_NONE = (None, None, None, None)
TABLE1 = (
    Method("gei", "Gait Energy Image", "depth", (21.4, 25.6, 15.9, None), (73.2, 72.1, 66.0, None)),
    Method("gev", "Gait Energy Volume", "depth", (25.7, 20.4, 13.7, None), (83.2, 66.2, 64.8, None)),
    Method("3d-lstm", "3D LSTM", "depth", (27.0, 31.0, 33.8, None), (83.3, 77.6, 78.0, None)),
    Method("pcm", "PCM + skeleton", "multi-modal", (42.9, 27.3, 81.8, None), _NONE),
    Method("size-shape-svm", "Size-shape + SVM", "multi-modal", (20.5, None, None, None), _NONE),
    Method("size-shape-lda", "Size-shape + LDA", "multi-modal", (22.1, None, None, None), _NONE),
    Method("dvcov", "DVCov + SKL", "multi-modal", (21.4, 46.6, 45.9, None), _NONE),
    Method("ed", "ED + SKL", "multi-modal", (30.0, 52.3, 63.3, None), _NONE),
    Method("rta", "CNN-LSTM with RTA", "multi-modal", (50.0, None, None, None), _NONE),
    Method("d13-svm", "D13 + SVM", "skeleton", (17.9, None, None, None), _NONE),
    Method("d13-knn", "D13 + KNN", "skeleton", (39.3, 33.8, 40.5, 46.9), (64.3, 63.6, 71.1, 90.0), (58.3, 78.0)),
    Method(
        "d16-adaboost", "D16 + AdaBoost", "skeleton", (41.8, 27.4, 39.2, 69.9), (74.1, 65.5, 78.2, 90.6), (59.8, 78.8)
    ),
    Method(
        "single-layer-lstm",
        "Single-layer LSTM",
        "skeleton",
        (15.8, 20.0, 19.1, 39.8),
        (65.8, 65.9, 68.4, 87.2),
        (80.9, 92.3),
    ),
    Method(
        "multi-layer-lstm",
        "Multi-layer LSTM",
        "skeleton",
        (36.1, 34.4, 30.9, 46.2),
        (75.6, 72.1, 71.9, 89.8),
        (81.6, 94.2),
    ),
    Method("pose-cnn", "PoseGait", "skeleton", (33.3, 41.4, 37.1, 90.6), (81.8, 79.9, 74.8, 97.8), (70.5, 94.0)),
    Method("ours", "Ours (LAS, AGEs)", "skeleton", (59.1, 56.1, 58.2, 87.7), (86.5, 81.7, 85.3, 96.3), (86.9, 94.9)),
)


class Ablation(NamedTuple):
    """A row of Table 2 (BIWI, Walking).

    Attributes:
        row: key.
        attention: ``None`` for the supervised encoder alone.
        reverse: whether the target is reversed.
        feature: what the recognition network reads: ``ages`` or ``states``.
        rank1: per cent.
        nauc: per cent.
    """

    row: str
    attention: Attention | None
    reverse: bool
    feature: Feature
    rank1: float
    nauc: float

    @property
    def components(self) -> dict[str, bool]:
        """The paper's columns."""
        used = {"GE"} if self.attention is None else {"GE", "GD", self.attention.upper()}
        used |= {name for name, there in (("Rev.", self.reverse), ("AGEs", self.feature == "ages")) if there}
        return {name: name in used for name in COMPONENTS}

    @property
    def label(self) -> str:
        """The components in use, in words."""
        return ", ".join(name for name, there in self.components.items() if there)


TABLE2 = (
    Ablation("ge", None, False, "states", 36.1, 75.6),
    Ablation("none-plain-states", "none", False, "states", 41.5, 80.1),
    Ablation("none-reverse-states", "none", True, "states", 46.7, 81.5),
    Ablation("bas-plain-ages", "bas", False, "ages", 45.7, 84.1),
    Ablation("bas-reverse-states", "bas", True, "states", 53.3, 84.6),
    Ablation("bas-reverse-ages", "bas", True, "ages", 55.1, 85.2),
    Ablation("mbas-reverse-states", "mbas", True, "states", 52.9, 85.0),
    Ablation("mbas-plain-ages", "mbas", False, "ages", 53.1, 83.6),
    Ablation("mbas-reverse-ages", "mbas", True, "ages", 54.5, 85.6),
    Ablation("las-reverse-states", "las", True, "states", 57.7, 85.8),
    Ablation("las-plain-ages", "las", False, "ages", 57.2, 85.7),
    Ablation("las-reverse-ages", "las", True, "ages", 59.1, 86.5),
)

# Table 3, Rank-1: attention and data set to (self, transfer); transferred encoders were trained on KGBD.
TABLE3 = {
    ("bas", "biwi"): (55.1, 53.5),
    ("bas", "ias-a"): (54.7, 54.2),
    ("bas", "ias-b"): (56.3, 57.1),
    ("las", "biwi"): (59.1, 58.4),
    ("las", "ias-a"): (56.1, 56.3),
    ("las", "ias-b"): (58.2, 57.4),
}

# Figure 3 is drawn, not printed in numbers: what the text says of it.
FIGURE3 = {
    "a": "average attention on dimension X: las dense near the anti-diagonal, bas spread much more evenly; alike for Y "
    "and Z",
    "b": "training with las converges faster with an evidently smaller reconstruction loss; mbas does not help",
}

# Protocol G: AGEs as later work measured them: Rank-1, Rank-5, Rank-10, mAP. Other conditions than Table 1's.
GALLERY = {
    "biwi": (11.7, 21.4, 27.3, 12.6),
    "biwi-still": (25.1, 43.1, 61.6, 8.9),
    "ias-a": (31.1, 54.8, 67.4, 13.4),
    "ias-b": (31.1, 52.3, 64.2, 12.8),
    "ks20": (43.2, 70.1, 80.0, 8.9),
    "kgbd": (2.9, 5.6, 7.5, 0.9),
}
GALLERY_SOURCE = "AGE under protocol G, as tables of later work (SimMC and after) print it"
LATER_SOURCE = "Rao et al., TPAMI 2021"

# Size: what the journal extension prints for this model: parameters in millions, and "GFLOPs". The count of
# parameters holds for 25 joints, two never used copies of LSTM tensors included; no count of operations gives 37.4.
SIZE = {"parameters_millions": 7.15, "gflops": 37.4, "source": LATER_SOURCE}


def for_method(row: str, condition: str) -> dict[str, Any] | None:
    """Published figure of a row of Table 1 on a data set."""
    method = next((method for method in TABLE1 if method.row == row), None)
    if method is None:
        return None
    if condition in DATASETS:
        place = list(DATASETS).index(condition)
        return _entry(method.rank1[place], method.nauc[place], DATASETS[condition], "Table 1")
    if condition in LATER and method.later:
        return _entry(*method.later, LATER[condition], LATER_SOURCE)
    return None


def for_ablation(row: str) -> dict[str, Any] | None:
    """Published figure of a row of Table 2, which is about BIWI whatever is tested here."""
    found = next((ablation for ablation in TABLE2 if ablation.row == row), None)
    return found and _entry(found.rank1, found.nauc, "BIWI", "Table 2")


def for_transfer(attention: str, condition: str, transferred: bool) -> dict[str, Any] | None:
    """Published figure of Table 3; the paper's transferred encoders were trained on KGBD."""
    if (attention, condition) not in TABLE3:
        return None
    return _entry(TABLE3[attention, condition][transferred], None, DATASETS[condition], "Table 3")


def for_gallery(condition: str) -> dict[str, Any] | None:
    """Published figure of AGEs under protocol G."""
    if condition not in GALLERY:
        return None
    rank1, rank5, rank10, mean_ap = GALLERY[condition]
    name = {**DATASETS, **LATER, "biwi-still": "BIWI, Still"}[condition]
    entry = _entry(rank1, None, name, GALLERY_SOURCE)
    return entry and {**entry, "rank5": rank5, "rank10": rank10, "mean_ap": mean_ap}


def _entry(rank1: float | None, nauc: float | None, dataset: str, source: str) -> dict[str, Any] | None:
    if rank1 is None and nauc is None:
        return None
    return {"rank1": rank1, "nauc": nauc, "dataset": dataset, "source": source}


def as_json() -> dict[str, Any]:
    """All published tables, for whoever shows the results without this package."""
    return {
        "source": PAPER,
        "table1": [
            {
                "row": method.row,
                "label": method.label,
                "kind": method.kind,
                "rank1": dict(zip(DATASETS.values(), method.rank1, strict=True)),
                "nauc": dict(zip(DATASETS.values(), method.nauc, strict=True)),
            }
            for method in TABLE1
        ],
        "table2": {
            "dataset": "BIWI",
            "rows": [
                {
                    "row": row.row,
                    "label": row.label,
                    "components": row.components,
                    "rank1": row.rank1,
                    "nauc": row.nauc,
                }
                for row in TABLE2
            ],
        },
        "table3": [
            {"attention": attention, "dataset": DATASETS[name], "trained_on": "KGBD", "self": own, "transfer": other}
            for (attention, name), (own, other) in TABLE3.items()
        ],
        "figure3": FIGURE3,
        "gallery": {"source": GALLERY_SOURCE, "rank1_rank5_rank10_map": GALLERY},
        "size": SIZE,
    }
