"""The folder of a reproduction: what it holds, and how it is written and read.

* ``reproduction.json``: schema, settings, data sets, environment, claims. Replaced whole.
* ``results.jsonl``: one finished cell a line (:class:`CellResult`), appended and flushed to disk; a line that a crash
  has torn is cut off when the folder is next written to, and skipped by readers.
* ``probes/*.npz``: place of the true person for each probe window (:class:`sgela_fast.evaluation.probes.Probes`).
* ``failures.json``: cells that failed in the last run, and why.
* ``encoders/ID/``: run folders. ``stores/ID/``: encodings, while they are needed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from sgela_fast.atomic import make_folder, write_json, writing
from sgela_fast.errors import DataError
from sgela_fast.evaluation.probes import Probes, read_probes, write_probes

__all__ = ["FIGURES", "TABLES", "CellResult", "Probes", "ResultsFolder", "read_cells", "read_probes"]

SCHEMA = "sgela-fast/reproduction"
SCHEMA_VERSION = 1
INDEX = "reproduction.json"
RESULTS = "results.jsonl"
FAILURES = "failures.json"
PROBES = "probes"
TABLES = ("1", "2", "3", "figure3a", "figure3b", "sweep-frames", "sweep-range", "size")
# Names of an evaluation's figures (shares in 0..1) and those that cells give them (per cent).
FIGURES = {
    "rank1": "rank1",
    "rank5": "rank5",
    "rank10": "rank10",
    "nauc_cmc": "nauc_cmc",
    "nauc_roc": "nauc_roc",
    "mean_average_precision": "mean_ap",
    "mean_inverse_negative_penalty": "mean_inp",
}


@dataclass(frozen=True)
class CellResult:
    """One finished cell of the paper's tables and figures, a line of ``results.jsonl``.

    Attributes:
        cell: unique name, such as ``table2/kgbd/las-reverse-ages/split/seed0/C-validation``.
        table: one of :data:`TABLES`.
        row: key of the row within its table, the same for all data sets, splits, seeds and protocols.
        label: the row in words.
        dataset: what is tested.
        trained_on: data set that the encoder was trained on; ``None`` for untrained encoders and methods without one.
        method: ``ours``, ``untrained``, or the name of a baseline.
        components: Table 2: which components are in use, by the names of the paper's columns.
        protocol: ``C`` or ``G``; ``None`` for cells that are no Re-ID figures.
        selection: ``validation``, ``best-on-test`` or ``none`` (nothing is trained or chosen).
        split: column that divides training from test recordings.
        seed: of encoder and recognition network.
        persons: classes or gallery identities.
        probes: test windows.
        figures: per cent, by the values of :data:`FIGURES`; absent or ``None`` where undefined.
        interval: name of a figure to the ends of its interval over persons, per cent.
        recordings: the figures with whole recordings as probes.
        chance: Rank-1 of guessing, per cent.
        published: ``rank1``, ``nauc``, ``dataset`` and ``source`` of the paper's figure; ``None`` if there is none.
        training: of the encoder: ``steps``, ``epochs``, ``seconds`` and ``curve``, a list of
            ``[step, L_R, L_A, held-out L_R or None]`` per window.
        values: of cells that are no Re-ID figures: matrices, losses, counts.
        probes_file: path below the folder of the probes, for :func:`read_probes`.
        seconds: time the measurement took, without encoding and training of the encoder.
        notes: remarks.
    """

    cell: str
    table: str
    row: str
    label: str
    dataset: str
    trained_on: str | None = None
    method: str = "ours"
    components: dict[str, bool] = field(default_factory=dict)
    protocol: str | None = None
    selection: str | None = None
    split: str = "split"
    seed: int = 0
    persons: int = 0
    probes: int = 0
    figures: dict[str, float | None] = field(default_factory=dict)
    interval: dict[str, tuple[float, float]] = field(default_factory=dict)
    recordings: dict[str, float | None] = field(default_factory=dict)
    chance: float | None = None
    published: dict[str, Any] | None = None
    training: dict[str, Any] | None = None
    values: dict[str, Any] = field(default_factory=dict)
    probes_file: str | None = None
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)


_NAMES = {item.name for item in fields(CellResult)}


class ResultsFolder:
    """Reads and writes the folder of a reproduction; one process at a time writes.

    Args:
        path: the folder; made when first written to.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def read(self) -> list[CellResult]:
        """All finished cells, in the order in which they were finished.

        Raises:
            DataError: a line other than a torn last one is damaged.
        """
        return read_cells(self.path / RESULTS)

    def append(self, cells: Iterable[CellResult]) -> None:
        """Add finished cells, durably: they are on the disk when this returns.

        Raises:
            OutputError: they cannot be written.
        """
        lines = "".join(json.dumps(asdict(cell), ensure_ascii=False, allow_nan=False) + "\n" for cell in cells)
        path = self.path / RESULTS
        make_folder(self.path)
        with writing(path), path.open("ab+") as file:
            _cut_torn_line(file)
            file.write(lines.encode())
            file.flush()
            os.fsync(file.fileno())

    def read_index(self) -> dict[str, Any]:
        """Content of ``reproduction.json``.

        Raises:
            DataError: it is missing, damaged or of an unknown version.
        """
        path = self.path / INDEX
        try:
            content: dict[str, Any] = json.loads(path.read_text())
        except FileNotFoundError as error:
            raise DataError(f"{self.path} holds no reproduction: {INDEX} is missing; give another folder") from error
        except (OSError, ValueError) as error:
            raise DataError(f"{path} is damaged ({error}); start over in another --out") from error
        if (content.get("schema"), content.get("version")) != (SCHEMA, SCHEMA_VERSION):
            raise DataError(
                f"{path} is no {SCHEMA} of version {SCHEMA_VERSION}; read it with the release that wrote it"
            )
        return content

    def write_index(self, content: dict[str, Any]) -> None:
        """Replace ``reproduction.json``; schema and version are added."""
        make_folder(self.path)
        write_json(self.path / INDEX, {"schema": SCHEMA, "version": SCHEMA_VERSION, **content})

    def write_probes(self, name: str, probes: Probes) -> str:
        """Write ``probes/NAME.npz``; returns the path below the folder, for :attr:`CellResult.probes_file`."""
        relative = f"{PROBES}/{name}.npz"
        write_probes(self.path / relative, probes)
        return relative

    def read_probes(self, cell: CellResult) -> Probes:
        """Probes of ``cell``.

        Raises:
            DataError: it has none, or the file is missing or damaged.
        """
        if cell.probes_file is None:
            raise DataError(f"{cell.cell} has no probes; choose a cell with Re-ID figures")
        return read_probes(self.path / cell.probes_file)


def read_cells(path: str | Path) -> list[CellResult]:
    """Cells of a ``results.jsonl``; none if there is no such file. Unknown entries of a line are ignored.

    Raises:
        DataError: a line other than a torn last one is damaged.
    """
    file = Path(path)
    if not file.exists():
        return []
    lines = file.read_bytes().split(b"\n")
    cells = []
    for number, line in enumerate(lines[:-1], 1):  # behind the last line feed stands nothing, or a torn line
        try:
            content = json.loads(line)
            cells.append(CellResult(**{name: value for name, value in content.items() if name in _NAMES}))
        except (ValueError, TypeError, AttributeError) as error:
            raise DataError(f"{file}, line {number} is damaged ({error}); remove it to have its cell redone") from error
    return cells


def _cut_torn_line(file: Any) -> None:
    """Remove what stands behind the last line feed."""
    size = file.seek(0, os.SEEK_END)
    position = size
    while position:
        start = max(0, position - 65536)
        file.seek(start)
        found = file.read(position - start).rfind(b"\n")
        if found >= 0:
            position = start + found + 1
            break
        position = start
    if position < size:
        file.truncate(position)
