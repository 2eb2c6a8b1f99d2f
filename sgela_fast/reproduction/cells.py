"""The plan: which cells the paper's tables and figures have on the data at hand, and what each of them takes.

Several cells may show the same measurement: "ours" of Table 1, the last row of Table 2 and "self" of Table 3 are one.
A :class:`Work` is what is computed once; a :class:`Cell` is where it is shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from sgela_fast.baselines.registry import BASELINES
from sgela_fast.models.config import Attention, Feature
from sgela_fast.reproduction import published
from sgela_fast.reproduction.config import ATTENTIONS, TABLES, ReproductionConfig
from sgela_fast.reproduction.datasets import Condition, DataSet
from sgela_fast.reproduction.results import CellResult

Kind = Literal["recognition", "retrieval", "baseline", "attention", "curve", "size"]
# Rows of Tables 1 and 2 that say most, in this order: they are computed before any other.
FOREMOST = {
    ("1", "ours"): 0,
    ("2", "las-reverse-ages"): 0,
    ("1", "untrained"): 1,
    ("2", "untrained-ages"): 1,
    ("2", "bas-reverse-ages"): 2,
    ("2", "las-plain-ages"): 3,
    ("2", "none-reverse-states"): 4,
}
SUPERVISED = "ge-supervised"  # the baseline that is Table 2's row "GE"
# Baselines without a row in the paper: what bone lengths, a linear rule and the mere place in the room give away.
FURTHER = ("bones-nearest", "lda", "position")


@dataclass(frozen=True)
class EncoderSpec:
    """An encoder that some cell needs.

    Attributes:
        data: data set that it is trained on.
        split: column whose training side that is.
        seed: of its weights and of the order of windows.
        frames: f.
        attention: see :class:`sgela_fast.models.config.SGELAConfig`; so are ``reverse`` and ``mask_window`` (D).
        reverse: see there.
        mask_window: see there.
        trained: whether it is trained at all.
    """

    data: str
    split: str
    seed: int
    frames: int
    attention: Attention = "las"
    reverse: bool = True
    mask_window: int | None = None
    trained: bool = True

    @property
    def name(self) -> str:
        """Name of its run folder."""
        kind = f"{self.attention}-{'reverse' if self.reverse else 'plain'}" if self.trained else "untrained"
        window = f"f{self.frames}" + ("" if self.mask_window is None else f"-D{self.mask_window}")
        return f"{self.data}-{kind}-{window}-{self.split}-seed{self.seed}"


@dataclass(frozen=True)
class StoreSpec:
    """Encodings of a data set: ``feature`` is ``ages`` or ``states``."""

    encoder: EncoderSpec
    data: str
    feature: Feature

    @property
    def name(self) -> str:
        """Name of its folder."""
        return f"{self.encoder.name}-of-{self.data}-{self.feature}"


@dataclass(frozen=True)
class Work:
    """A measurement.

    Attributes:
        kind: ``recognition`` (protocol C) and ``retrieval`` (G) of a store, ``baseline`` (both protocols),
            ``attention`` and ``curve`` of an encoder, ``size`` of the model.
        condition: what is tested; empty where nothing is.
        split: column of that test.
        seed: of the recognition network or the baseline.
        selection: of protocol C.
        store: that is evaluated.
        encoder: that is looked into.
        baseline: its name.
    """

    kind: Kind
    condition: str = ""
    split: str = ""
    seed: int = 0
    selection: str = ""
    store: StoreSpec | None = None
    encoder: EncoderSpec | None = None
    baseline: str = ""

    @property
    def needs(self) -> EncoderSpec | None:
        """The encoder that it cannot do without."""
        return self.store.encoder if self.store else self.encoder

    @property
    def name(self) -> str:
        """Unique, and fit for a file name."""
        subject = self.store.name if self.store else self.encoder.name if self.encoder else self.baseline
        parts = (subject, "on", self.condition, self.split, f"seed{self.seed}") if self.condition else (subject,)
        return "-".join(part for part in (self.kind, *parts, self.selection) if part)


@dataclass(frozen=True)
class Cell:
    """A place in a table.

    Attributes:
        result: what is known beforehand; the figures are still empty.
        work: what fills it.
        order: cells with lesser ones tell more, and come first.
    """

    result: CellResult
    work: Work
    order: tuple[int, ...]


def plan(config: ReproductionConfig, data: Sequence[DataSet]) -> list[Cell]:
    """All cells, the most informative first."""
    planner = _Planner(config, data)
    cells = [cell for table in config.tables for name in TABLES[table] for cell in planner.table(name)]
    return sorted(cells, key=lambda cell: cell.order)


class _Planner:
    def __init__(self, config: ReproductionConfig, data: Sequence[DataSet]) -> None:
        self.config, self.data = config, data
        self._count = 0

    def table(self, name: str) -> Iterator[Cell]:
        """Cells of one table."""
        if name == "size":
            work = Work("size")
            label = "SGE-LA, three axes"
            yield Cell(CellResult("size/las", "size", "las", label, "", split="", published=published.SIZE), work, (0,))
            return
        makers = {
            "1": self._table1,
            "2": self._table2,
            "3": self._table3,
            "figure3a": self._figure3a,
            "figure3b": self._figure3b,
            "sweep-frames": self._sweep_frames,
            "sweep-range": self._sweep_range,
        }
        for seed_place, seed in enumerate(self.config.seeds):
            for split_place, split in enumerate(self.config.splits):
                for place, data in enumerate(self.data):
                    for condition in data.conditions(split, self.config.training.train_value):
                        context = _Context(condition, seed, seed_place + split_place, place)
                        yield from makers[name](context)

    def _table1(self, context: _Context) -> Iterator[Cell]:
        for method in published.TABLE1:
            if method.row in BASELINES:
                yield from self._baseline("1", method.row, context, method=method.row)
            elif method.row == "ours":
                yield from self._stored("1", "ours", method.label, context, self._encoder(context), "ages")
        for name in FURTHER:
            yield from self._baseline("1", name, context, method=name)
        untrained = self._encoder(context, trained=False)
        yield from self._stored("1", "untrained", "Untrained encoder", context, untrained, "ages", method="untrained")

    def _table2(self, context: _Context) -> Iterator[Cell]:
        for row in published.TABLE2:
            known = {"components": row.components, "entry": published.for_ablation(row.row)}
            if row.attention is None:
                yield from self._baseline("2", row.row, context, method=SUPERVISED, **known)
                continue
            encoder = self._encoder(context, attention=row.attention, reverse=row.reverse)
            yield from self._stored("2", row.row, row.label, context, encoder, row.feature, **known)
        untrained = self._encoder(context, trained=False)
        for feature in ("ages", "states"):
            label = f"Untrained, {'AGEs' if feature == 'ages' else 'encoded gait states'}"
            yield from self._stored("2", f"untrained-{feature}", label, context, untrained, feature, method="untrained")

    def _table3(self, context: _Context) -> Iterator[Cell]:
        condition, own = context.condition, context.condition.data
        same_layout = [data for data in self.data if data.archive.layout.name == own.archive.layout.name]
        sources = [data for data in same_layout if data.conditions(condition.split, self.config.training.train_value)]
        if len(sources) < 2:
            return
        transferred_kinds: tuple[Attention, ...] = ("bas", "las")
        for attention in transferred_kinds:
            for source in [own, *(data for data in sources if data.name != own.name)]:
                transferred = source.name != own.name
                row = f"{attention}-{'transfer' if transferred else 'self'}"
                label = f"{attention.upper()}, " + (f"encoder of {source.name}" if transferred else "own encoder")
                encoder = self._encoder(context, attention=attention, data=source.name)
                entry = published.for_transfer(attention, condition.name, transferred)
                yield from self._stored("3", row, label, context, encoder, "ages", entry=entry)

    def _figure3a(self, context: _Context) -> Iterator[Cell]:
        with_attention: tuple[Attention, ...] = ("bas", "mbas", "las")
        for attention in with_attention:
            yield from self._inside("figure3a", "attention", attention, context)

    def _figure3b(self, context: _Context) -> Iterator[Cell]:
        for attention in reversed(ATTENTIONS):
            yield from self._inside("figure3b", "curve", attention, context)

    def _sweep_frames(self, context: _Context) -> Iterator[Cell]:
        for frames in self.config.frames:
            encoder = self._encoder(context, frames=frames)
            yield from self._stored("sweep-frames", f"f{frames}", f"f = {frames}, D = f", context, encoder, "ages")

    def _sweep_range(self, context: _Context) -> Iterator[Cell]:
        frames = self.config.window.frames
        for reach in self.config.ranges:
            # D = f is what the other tables have, so that their encoder serves.
            encoder = self._encoder(context, mask_window=None if reach == frames else reach)
            yield from self._stored("sweep-range", f"D{reach}", f"f = {frames}, D = {reach}", context, encoder, "ages")

    def _encoder(self, context: _Context, **own: Any) -> EncoderSpec:
        common = {
            "data": context.condition.data.name,
            "split": context.condition.split,
            "seed": context.seed,
            "frames": self.config.window.frames,
            "mask_window": self.config.model.mask_window,
        }
        return EncoderSpec(**{**common, **own})

    def _stored(
        self,
        table: str,
        row: str,
        label: str,
        context: _Context,
        encoder: EncoderSpec,
        feature: Feature,
        *,
        entry: dict[str, Any] | None = None,
        **known: Any,
    ) -> Iterator[Cell]:
        """Cells of all protocols and selections."""
        condition = context.condition
        store = StoreSpec(encoder, condition.data.name, feature)
        work = Work("recognition", condition.name, condition.split, context.seed, store=store)
        if table == "1":
            entry = published.for_method(row, condition.name)
        known["trained_on"] = encoder.data if encoder.trained else None
        suffix = f"-from-{encoder.data}" if row.endswith("transfer") else ""
        if "C" in self.config.protocols:
            for selection in self.config.selections:
                chosen = replace(work, selection=selection)
                yield self._cell(table, row, label, context, chosen, "C", selection, entry, suffix, **known)
        if "G" in self.config.protocols:
            gallery = published.for_gallery(condition.name) if table == "1" and row == "ours" else None
            nearest = replace(work, kind="retrieval", seed=0)
            yield self._cell(table, row, label, context, nearest, "G", "none", gallery, suffix, **known)

    def _baseline(
        self, table: str, row: str, context: _Context, *, method: str, entry: dict[str, Any] | None = None, **known: Any
    ) -> Iterator[Cell]:
        """Cells of all protocols and selections; protocol G comes with the honest classifier."""
        condition, label = context.condition, BASELINES[method].title
        entry = entry or published.for_method(method, condition.name)
        known["method"] = method
        work = Work("baseline", condition.name, condition.split, context.seed, "validation", baseline=method)
        if "C" in self.config.protocols:
            for selection in self.config.selections:
                chosen = replace(work, selection=selection)
                yield self._cell(table, row, label, context, chosen, "C", selection, entry, **known)
        if "G" in self.config.protocols:
            yield self._cell(table, row, label, context, work, "G", "none", **known)

    def _inside(self, table: str, kind: Kind, attention: Attention, context: _Context) -> Iterator[Cell]:
        """A cell about an encoder itself; of data sets with several test sets the first one stands for all."""
        condition = context.condition
        if condition != condition.data.conditions(condition.split, self.config.training.train_value)[0]:
            return
        encoder = self._encoder(context, attention=attention)
        work = Work(kind, condition.name if kind == "attention" else "", condition.split, context.seed, encoder=encoder)
        yield self._cell(table, attention, attention.upper(), context, work, trained_on=encoder.data)

    def _cell(
        self,
        table: str,
        row: str,
        label: str,
        context: _Context,
        work: Work,
        protocol: str | None = None,
        selection: str | None = None,
        entry: dict[str, Any] | None = None,
        suffix: str = "",
        **known: Any,
    ) -> Cell:
        condition = context.condition
        title = table if table.startswith(("figure", "sweep")) else f"table{table}"
        how = {("C", selection): f"/C-{selection}", ("G", selection): "/G"}.get((protocol or "", selection), "")
        name = f"{title}/{condition.name}/{row}{suffix}/{condition.split}/seed{context.seed}{how}"
        result = CellResult(
            cell=name,
            table=table,
            row=row,
            label=label,
            dataset=condition.name,
            protocol=protocol,
            selection=selection,
            split=condition.split,
            seed=context.seed,
            published=entry,
            **known,
        )
        self._count += 1
        foremost = FOREMOST.get((table, row), len(FOREMOST))
        tier = _tier(table, selection, foremost < len(FOREMOST), context.replica)
        return Cell(result, work, (tier, context.replica, context.place, foremost, self._count))


@dataclass(frozen=True)
class _Context:
    condition: Condition
    seed: int
    replica: int
    place: int


def _tier(table: str, selection: str | None, foremost: bool, replica: int) -> int:
    """First the sizes and the claims' own rows, last what only confirms."""
    if table.startswith("sweep"):
        return 6
    if replica:
        return 5
    if selection == "best-on-test":
        return 4
    if foremost:
        return 1
    return 3 if table == "3" else 2
