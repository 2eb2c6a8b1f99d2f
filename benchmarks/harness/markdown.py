"""A results file as Markdown: what was run, the limits, a summary for the subject, and every figure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

Entry = dict[str, Any]
# Relative difference of wall and CPU time from which a row is marked as disturbed.
DISTURBED = 1.15


def render(content: dict[str, Any]) -> str:
    """The whole report."""
    parts = [f"# {content['title']}", _environment(content), _limits(content), _reading(content)]
    parts += ["## Summary", summaries(content), "## All figures"]
    for name, records in _groups(content).items():
        parts += [f"### {name}", _details(records, content), *_told(records)]
    return "\n\n".join(parts) + "\n"


def summaries(content: dict[str, Any]) -> str:
    """One table for each group of cases, with the subject's figures and the others' ratios."""
    return "\n\n".join(f"### {name}\n\n{_summary(records, content)}" for name, records in _groups(content).items())


def _groups(content: dict[str, Any]) -> dict[str, list[Entry]]:
    groups: dict[str, list[Entry]] = {}
    for record in content["records"]:
        groups.setdefault(record["case"]["group"], []).append(record)
    return groups


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; the first column is aligned to the left, all others to the right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def milliseconds(seconds: float | None) -> str:
    """Three significant digits, in ms."""
    return "" if seconds is None else significant(seconds * 1e3)


def significant(value: float) -> str:
    """Three significant digits without an exponent, thousands separated by commas."""
    if value == 0:
        return "0"
    for decimals, least in ((0, 100), (1, 10), (2, 1), (3, 0.1), (4, 0.01)):
        if abs(value) >= least:
            return f"{value:,.{decimals}f}"
    return f"{value:.5f}"


def size(count: float | None) -> str:
    """Bytes in a unit that fits."""
    if count is None:
        return ""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{significant(count / factor)} {unit}"
    return f"{count:.0f} B"


def ratio(value: float | None) -> str:
    """How many times as long something takes."""
    return "" if value is None else f"{significant(value)}×"


def by_case(records: Sequence[Entry]) -> dict[str, dict[str, Entry]]:
    """Records by case name, then provider."""
    cases: dict[str, dict[str, Entry]] = {}
    for record in records:
        cases.setdefault(record["case"]["name"], {})[record["provider"]] = record
    return cases


def median(record: Entry | None) -> float | None:
    """Median seconds per call, ``None`` if there is no time."""
    return record["seconds"]["median"] if record and record["seconds"] else None


def _environment(content: dict[str, Any]) -> str:
    about, settings = content["environment"], content["settings"]
    commit = (about["commit"] or "unknown")[:10] + (" with uncommitted changes" if about["dirty"] else "")
    versions = [f"torch {about['torch']}", f"Python {about['python']}"]
    libraries = ("sgela_fast", "triton", "cuda", "onnxruntime", "openvino")
    versions += [f"{name} {about[name]}" for name in libraries if about.get(name)]
    rows = [
        ["device", about["device"]],
        ["processor", f"{about['cpu']} ({', '.join(about['cpu_flags'])}), {about['cores']} cores"],
        ["own CPU kernels", about["kernel_isa"] or "not built"],
        ["threads", f"{about['threads']}, {_cores(about['pinned_to'])}"],
        ["governor, load average", f"{about['governor'] or 'not readable'}, {about['load_average']}"],
        ["float32 products", about["precision"]],
        ["versions", ", ".join(versions)],
        ["commit", commit],
        ["date, run time", f"{about['date']}, {settings['run_seconds']:.0f} s"],
    ]
    if "energy" in content:
        rows.append(["energy", content["energy"]["counter"] or content["energy"]["reason"]])
    if "command" in settings:
        rows.append(["command", f"`{settings['command']}`"])
    smoke = "\n\n**A smoke test with small sizes and few samples: no figure here means anything.**"
    return table(["", "run"], rows) + (smoke if settings["quick"] else "")


def _cores(pinned_to: Sequence[int] | None) -> str:
    return f"pinned to core {', '.join(map(str, pinned_to))}" if pinned_to else "not pinned"


def _limits(content: dict[str, Any]) -> str:
    rows = [
        [f"copy, {level['name']}", f"{level['bytes_per_second'] / 1e9:.1f} GB/s", f"{size(level['copied'])} copied"]
        for level in content["limits"]["copy"]
    ]
    rows += [
        [f"matrix product, {dtype}", f"{rate / 1e9:,.1f} GFLOP/s", ""]
        for dtype, rate in content["limits"]["flop_per_second"].items()
    ]
    return "Limits, measured in this run:\n\n" + table(["limit", "rate", "measured with"], rows)


def _reading(content: dict[str, Any]) -> str:
    unit, subject = content["unit"], content["subject"]
    return (
        f"Times are medians over interleaved rounds, in ms per call ({_clocks(content)}). Bytes and limit are those of "
        "the algorithm, whoever computes it: inputs once, outputs once, matrix products at the measured rate; the "
        f"larger bound counts. A ratio says how many times as long a provider takes as {subject}: the median of the "
        f"ratios within one round. {unit.capitalize()} per second follow from the median time. Peak memory is beyond "
        "the inputs. Where no time stands, the list of all figures says why. A star marks times during which the core "
        "was shared (the wall clock ran on well beyond the CPU time)."
    )


def _clocks(content: dict[str, Any]) -> str:
    words = {"cpu": "CPU time", "wall": "wall clock", "device": "the device's clock"}
    used = dict.fromkeys(record["clock"] for record in content["records"] if record["clock"])
    return ", ".join(words[clock] for clock in used) or "none"


def _summary(records: Sequence[Entry], content: dict[str, Any]) -> str:
    subject, cases = content["subject"], by_case(records)
    names = list(dict.fromkeys(record["provider"] for record in records))
    if not any(median(case.get(subject)) for case in cases.values()):
        subject = next((name for name in names if any(median(case.get(name)) for case in cases.values())), subject)
    others = [name for name in names if name != subject and any(median(case.get(name)) for case in cases.values())]
    axes = list(records[0]["case"]["axes"])
    header = [*axes, "bytes", "limit", f"{subject} ms", f"{content['unit']}/s", "of limit", "peak", *others]
    rows = []
    for case in cases.values():
        first, ours = next(iter(case.values())), case.get(subject)
        base = median(ours)
        rows.append(
            [
                *(str(first["case"]["axes"][axis]) for axis in axes),
                size((ours or first)["case"]["bytes"]),
                f"{milliseconds((ours or first)['bound']['seconds'])} ({(ours or first)['bound']['kind']})",
                milliseconds(base) + _star(ours),
                _rate(ours),
                _percent(ours),
                size(ours["peak_bytes"]) if ours else "",
                *(_ratio_to(case.get(name), base, subject == content["subject"]) for name in others),
            ]
        )
    return table(header, rows)


def _details(records: Sequence[Entry], content: dict[str, Any]) -> str:
    header = ["case", "provider", "ms", "min", "p20", "p80", f"{content['unit']}/s", "of limit", "deviation"]
    counted = any(record.get("joules") for record in records)
    header += ["compiled in", "peak", *([f"J per million {content['unit']}"] if counted else []), "remark"]
    rows = []
    absent: dict[str, list[str]] = {}
    for record in records:
        axes = ", ".join(f"{axis}={value}" for axis, value in record["case"]["axes"].items())
        if record["status"] == "unavailable":
            absent.setdefault(f"{record['provider']}: {record['reason']}", []).append(axes)
            continue
        times = record["seconds"] or {}
        off = record["deviations"]
        rows.append(
            [
                axes,
                record["provider"],
                milliseconds(times.get("median")) + _star(record),
                *(milliseconds(times.get(name)) for name in ("min", "p20", "p80")),
                _rate(record),
                _percent(record),
                f"{max(off.values()):.0e}" if off else "",
                f"{record['first_call_seconds']:.1f} s" if record["compiles"] and record["first_call_seconds"] else "",
                size(record["peak_bytes"]),
                *([significant(record.get("joules_per_million") or 0.0)] if counted else []),
                _remark(record),
            ]
        )
    everywhere = len(by_case(records))
    notes = [
        f"- No time for {reason}" + ("" if len(cases) == everywhere else f" ({'; '.join(cases)})")
        for reason, cases in absent.items()
    ]
    return "\n\n".join([table(header, rows), *(["\n".join(notes)] if notes else [])])


def _told(records: Sequence[Entry]) -> list[str]:
    """Tables of what jobs told beside their time, one for each kind."""
    kinds: dict[tuple[str, ...], list[list[str]]] = {}
    for record in records:
        if not record.get("details"):
            continue
        axes = ", ".join(f"{axis}={value}" for axis, value in record["case"]["axes"].items())
        figures = [significant(v) if isinstance(v, float) else str(v) for v in record["details"].values()]
        kinds.setdefault(tuple(record["details"]), []).append([axes, record["provider"], *figures])
    return [table(["case", "provider", *names], rows) for names, rows in kinds.items()]


def _remark(record: Entry) -> str:
    words = [record["note"], record["reason"], record["peak_reason"] and f"no peak: {record['peak_reason']}"]
    if record["status"] == "refused":
        words[1] = f"wrong: {record['reason']}"
    return "; ".join(word for word in words if word).replace("|", "/")


def _ratio_to(record: Entry | None, base: float | None, paired: bool) -> str:
    other = median(record)
    if record is None or other is None:
        return "wrong" if record and record["status"] == "refused" else ""
    if paired and record["ratio_to_subject"]:
        return ratio(record["ratio_to_subject"]["median"])
    return ratio(other / base) if base else f"{milliseconds(other)} ms"


def _rate(record: Entry | None) -> str:
    return f"{record['items_per_second']:,.0f}" if record and record["items_per_second"] else ""


def _percent(record: Entry | None) -> str:
    if not record or not record["fraction_of_bound"]:
        return ""
    percent = 100 * record["fraction_of_bound"]
    return f"{percent:.0f} %" if percent >= 1 else f"{percent:.1g} %"


def _star(record: Entry | None) -> str:
    if not record or not record["cpu_seconds"] or record["case"].get("device") == "cuda":
        return ""
    return "\\*" if record["wall_seconds"]["median"] > DISTURBED * record["cpu_seconds"]["median"] else ""
