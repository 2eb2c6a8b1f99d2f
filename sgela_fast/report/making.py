"""How everything on the page was made: commands, versions, settings, and the bounds of the page itself."""

from __future__ import annotations

import platform
import shlex
from collections.abc import Mapping
from dataclasses import asdict
from importlib import metadata
from typing import Any

from sgela_fast._version import __version__
from sgela_fast.report.config import CURVE_POINTS, FINDINGS, SERIES, TABLE_ROWS, ReportConfig
from sgela_fast.report.inputs import Inputs
from sgela_fast.report.page import Section, Table

LIBRARIES = ("torch", "numpy", "pyarrow", "scikit-learn", "Jinja2")
SETTINGS_ROWS = 120
RECORDS = {
    "evaluation": "Evaluation",
    "reproduction": "Reproduction",
    "cross-view": "Evaluation",
    "labels": "Study of few labels",
}
SILHOUETTES = ("cross-view", "labels")
ENVIRONMENT = ("made_by", "versions", "environment", "created", "source")
SETTINGS = ("settings", "configuration", "budget", "datasets", "model", "parameters", "sequences")


def making(inputs: Inputs, config: ReportConfig, created: str) -> Section:
    """Environment and commands."""
    head = inputs.results.head
    versions = {
        "sgela_fast": __version__,
        "Python": platform.python_version(),
        **{name: _version(name) for name in LIBRARIES},
    }
    of_walks = (
        f"{config.probes} probes of {config.seconds:g} s at {config.rate:g} frames a second, and {FINDINGS} recordings "
        "for each kind of finding"
    )
    of_silhouettes = f"and tables of views and heat maps of {SERIES} stores"
    bounds = (
        f"The page keeps at most {TABLE_ROWS} rows of a table, {SERIES} lines of a diagram with {CURVE_POINTS} points "
        f"each, {config.points:,} points of the map, "
        + (of_silhouettes if inputs.results.kind in SILHOUETTES else of_walks)
        + "."
    )
    parts: list[Any] = [
        Table("This page", ("What", "Version"), tuple(versions.items())),
    ]
    heads = {RECORDS[inputs.results.kind]: head}
    if inputs.study is not None:
        heads[RECORDS["labels"]] = inputs.study.content
    for where, content in heads.items():
        for what, wanted in (("environment", ENVIRONMENT), ("settings", SETTINGS)):
            said = {name: content[name] for name in wanted if name in content}
            if said:
                parts.append(Table.bounded(f"{where}: {what}", ("Name", "Value"), flat(said), SETTINGS_ROWS))
    if inputs.store is not None:
        names = ("origin", "model_hash", "model", "window", "encoding", "archive", "archive_fingerprint", "made_by")
        kept = {name: inputs.store.info[name] for name in names if name in inputs.store.info}
        parts.append(Table.bounded("Store: how it was encoded", ("Name", "Value"), flat(kept), SETTINGS_ROWS))
    parts.append(Table.bounded("Settings of this page", ("Name", "Value"), flat(asdict(config)), SETTINGS_ROWS))
    lead = (f"Written {created} by sgela_fast {__version__}.", bounds)
    return Section("making", "How this was made", lead, parts=tuple(parts), data={"commands": commands(inputs)})


def commands(inputs: Inputs) -> list[str]:
    """The commands that make such results, as far as the files tell."""
    if inputs.results.kind in SILHOUETTES:
        return _silhouette_commands(inputs)
    lines = []
    if inputs.store is not None:
        info, store = inputs.store.info, inputs.store.path.name
        archive = str(info.get("archive", "walks.sga")).rpartition("/")[2]
        origin = str(info.get("origin", ""))
        run = _run(origin)
        if origin.startswith("run folder "):
            lines.append(_line("sgela-fast", "train", archive, "--out", run))
            lines.append(_line("sgela-fast", "encode", archive, "--model", run, "--out", store))
        elif info.get("model"):
            variant = str(info["model"].get("variant", "official"))
            lines.append(_line("sgela-fast", "encode", archive, "--untrained", variant, "--out", store))
    results = inputs.results
    if results.kind == "evaluation":
        settings = results.head.get("settings", {})
        stores = [str(name).rpartition("/")[2] for name in settings.get("stores", ())]
        splits = ",".join(settings.get("splits", ()))
        protocol = str(settings.get("protocol", "both"))
        lines.append(
            _line(
                "sgela-fast",
                "evaluate",
                *stores,
                "--splits",
                splits,
                "--protocol",
                protocol,
                "--out",
                results.path.name,
            )
        )
    else:
        lines.append(_line("sgela-fast", "reproduce", *_data(results.head), "--out", results.path.name))
    extra = [] if inputs.store is None else ["--store", inputs.store.path.name]
    extra += [] if inputs.archive is None else ["--archive", inputs.archive.path.name]
    lines.append(_line("sgela-fast", "report", results.path.name, *extra, "-o", "report.html"))
    return lines


def _silhouette_commands(inputs: Inputs) -> list[str]:
    """Training, encoding and evaluation of silhouettes, and the study of few labels."""
    lines, results, extra = [], inputs.results, []
    if inputs.store is not None:
        info, store = inputs.store.info, inputs.store.path.name
        silhouettes, run = str(info.get("archive", "")).rpartition("/")[2], _run(str(info.get("origin", "")))
        lines.append(_line("sgela-fast", "train", silhouettes, "--system", "selfgait", "--out", run))
        lines.append(_line("sgela-fast", "encode", silhouettes, "--model", run, "--out", store))
        extra = ["--store", store]
    if results.kind == "cross-view":
        stores, protocol = [path.name for path in results.stores], results.views[0].protocol
        out = ("--protocol", protocol, "--out", results.path.name)
        lines.append(_line("sgela-fast", "evaluate", *stores, *out))
    if (study := inputs.study) is not None:
        shares, given = [row["labels"] for row in study.rows if row["labels"]], []
        for name, value in {"labels": shares, "seeds": study.seeds, **study.content["settings"]}.items():
            given += [f"--{name}", *map(str, value if isinstance(value, list) else [value])]
        lines.append(
            _line("python", "-m", "benchmarks.selfgait_low_label", "--out", study.path.stem, "--work", "work", *given)
        )
        extra += ["--low_label", study.path.name] if results.kind == "cross-view" else []
    lines.append(_line("sgela-fast", "report", results.path.name, *extra, "-o", "report.html"))
    return lines


def _run(origin: str) -> str:
    """Name of the run folder that a store's encodings come from."""
    return origin.removeprefix("run folder ").rpartition("/")[2]


def _data(head: Mapping[str, Any]) -> list[str]:
    """The argument that names the data sets of a reproduction; synthetic walkers need none."""
    data = head.get("datasets") or []
    named = [f"{item['name']}={str(item['archive']).rpartition('/')[2]}" for item in data if item.get("archive")]
    return ["--data", *named] if named else []


def flat(content: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as rows of dotted names and text."""
    rows: list[tuple[str, str]] = []
    for name, value in content.items():
        if isinstance(value, Mapping):
            rows += flat(value, f"{prefix}{name}.")
        elif isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
            for place, item in enumerate(value):
                rows += flat(item, f"{prefix}{name}.{item.get('name', place)}.")
        else:
            shown = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
            rows.append((f"{prefix}{name}", shown))
    return rows


def _line(*words: str) -> str:
    return " ".join(map(shlex.quote, words))


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"
