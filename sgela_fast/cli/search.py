"""``sgela-fast search``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sgela_fast.errors import ConfigError
from sgela_fast.search.config import Feature, Level, Metric, RerankConfig

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

    from sgela_fast.search.queries import Queries
    from sgela_fast.search.result import SearchResult

_OF_QUERY = ("query", "query_start", "known")


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the sub-command's arguments."""
    parser.add_argument("store", type=str, help="store folder, as `sgela-fast encode` makes it")
    parser.add_argument("--query", type=str, required=True, help="recording of the store, or a .npy file of encodings")
    parser.add_argument("--query_store", type=str | None, help="store that holds the query recording, if another one")
    parser.add_argument("-k", type=int, default=10, help="how many to find")
    parser.add_argument("--level", type=Level, default="window", help="what is ranked")
    parser.add_argument("--person", type=str | None, help="search these persons only, with commas between them")
    parser.add_argument(
        "--where",
        type=str,
        action="append",
        default=[],
        help="search only windows with COLUMN=VALUE,VALUE, COLUMN!=VALUE or COLUMN=LOW..HIGH; given several times, "
        "all must hold",
    )
    parser.add_argument("--include_own", action="store_true", help="also find windows of the query's own recording")
    parser.add_argument("--exact", action="store_true", help="compare all windows, whatever index there is")
    parser.add_argument("--best", type=int, default=1, help="matches of a query window in a unit that are averaged")
    parser.add_argument("--sequence", type=int, default=10, help="windows of a sequence")
    parser.add_argument("--metric", type=Metric | None, help="default: that of the index, or cosine")
    parser.add_argument("--feature", type=Feature | None, help="default: that of the index, or mean")
    parser.add_argument("--unknown", action="store_true", help="say unknown below the calibrated threshold")
    parser.add_argument("--threshold", type=float | None, help="say unknown below this score")
    parser.add_argument("--rerank", action="store_true", help="rank the nearest windows anew by their neighbourhoods")
    parser.add_class_arguments(RerankConfig, "reranking")
    parser.add_argument("--json", action="store_true", help="print the result as JSON instead of a table")


def run(args: Namespace) -> None:
    """Search and print what was found."""
    import json

    from sgela_fast.cli.progress import Progress
    from sgela_fast.search.index import Index

    if args.unknown and args.threshold is not None:
        raise ConfigError("--unknown takes the calibrated threshold; leave out --threshold, or --unknown")
    index = Index.open(args.store, metric=args.metric, feature=args.feature)
    where = [*args.where, *([f"person={args.person}"] if args.person else [])]
    with Progress("Searching", None, "windows compared") as progress:
        result = index.search(
            _query(args, index),
            args.k,
            where=where,
            level=args.level,
            best=args.best,
            sequence=args.sequence,
            exact=args.exact,
            include_own=args.include_own,
            rerank=RerankConfig(**vars(args.reranking)) if args.rerank else None,
            threshold="calibrated" if args.unknown else args.threshold,
            advance=progress.advance,
        )
    if args.json:
        print(json.dumps(as_json(result), indent=2, allow_nan=False))
    else:
        print_table(result)


def _query(args: Namespace, index: Any) -> Queries:
    from sgela_fast.encoding.store import Store
    from sgela_fast.search.queries import Queries

    if args.query_store is not None:
        return Queries.of_recordings(Store(args.query_store), args.query)
    if args.query.endswith(".npy"):
        return Queries.of_file(args.query)
    return Queries.of_recordings(index.store, args.query)


def as_json(result: SearchResult) -> dict[str, Any]:
    """The result with a list of hits for each query."""
    hits: list[list[dict[str, Any]]] = [[] for _ in result.queries]
    query = -1
    for row in result.table.to_pylist():
        # Ranks start anew with every query; a query without hits has none.
        if row["rank"] == 1:
            query = next(place for place in range(query + 1, len(hits)) if result.rows[place, 0] >= 0)
        hits[query].append({name: value for name, value in row.items() if name not in _OF_QUERY})
    known = [None] * len(hits) if result.known is None else result.known.tolist()
    described = zip(result.queries, result.starts.tolist(), known, hits, strict=True)
    return {
        "store": str(result.store.path),
        "level": result.units.level,
        "metric": result.metric,
        "method": result.method,
        "recall": result.recall,
        "threshold": result.threshold,
        "false_match_rate": result.false_match_rate,
        "queries": [
            {"query": name, "start": start, **({} if is_known is None else {"known": is_known}), "hits": found}
            for name, start, is_known, found in described
        ],
    }


def print_table(result: SearchResult) -> None:
    """One line a hit, best first, and how they were found."""

    from rich.table import Table

    from sgela_fast.cli.console import plain_console

    rows = result.table.to_pylist()
    title = f"{result.units.level}s of {result.store.path}, {result.metric}, {result.method}"
    if result.recall is not None:
        title += f" (recall@10 {result.recall:.3f})"
    table = Table(title=title, title_justify="left")
    shown = [name for name in ("query", "query_start", "rank", "score") if name in (rows[0] if rows else ())]
    shown += [
        name
        for name in ("known", "person", "recording", "window_start", "window", "recordings", "windows", "sensor")
        if name in (rows[0] if rows else ())
    ]
    for name in shown:
        table.add_column(name, justify="left" if name in ("query", "person", "recording", "sensor") else "right")
    for row in rows:
        cells = [f"{row[name]:.4f}" if name == "score" else row[name] for name in shown]
        table.add_row(*("" if cell is None else str(cell) for cell in cells))
    # A file or pipe has no width of its own; folded cells would be hard to read back.
    plain_console(160).print(table if rows else f"{title}: nothing fits")
    if result.known is not None:
        rate = "" if result.false_match_rate is None else f" (false-match rate {100 * result.false_match_rate:g} %)"
        unknown = int((~result.known).sum())
        print(f"unknown: {unknown} of {len(result.known)} queries stay below {result.threshold:.6f}{rate}")
