"""Conditions on a store's columns: which windows are searched at all."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sgela_fast.encoding.store import Store
from sgela_fast.errors import ConfigError, DataError

Mask = NDArray[np.bool_]
Where = str | Iterable[str] | Mask | None
_CONDITION = re.compile(r"\s*(?P<column>[^=!]+?)\s*(?P<sign>!?=)(?P<value>.*)", re.DOTALL)


def chosen_windows(store: Store, where: Where) -> Mask:
    """Windows of a store that fulfil every condition.

    Args:
        store: the store.
        where: a mask ``(N,)``, or conditions, of which all must hold: ``person=p001,p002`` (any of these),
            ``sensor!=kinect-v1`` (none of these), ``window_start=100..400`` (from 100 to 400, both included; either
            end may be left out). Numbers are compared as numbers and text as text, which is right for ISO dates. A
            window without an entry fulfils no condition but ``!=``.

    Returns:
        ``(N,)``, true for the windows to search.

    Raises:
        ConfigError: a condition is malformed or the mask has another length.
        DataError: the store has no such column.
    """
    if where is None:
        return np.ones(len(store), np.bool_)
    if isinstance(where, np.ndarray):
        if where.dtype != np.bool_ or where.shape != (len(store),):
            raise ConfigError(
                f"a mask over {store.path} must be bool of shape ({len(store)},), not {where.dtype} {where.shape}"
            )
        return where.copy()
    mask = np.ones(len(store), np.bool_)
    for condition in [where] if isinstance(where, str) else where:
        mask &= _fulfilled(store, condition)
    return mask


def _fulfilled(store: Store, condition: str) -> Mask:
    parts = _CONDITION.fullmatch(condition)
    if parts is None:
        raise ConfigError(
            f"the condition {condition!r} cannot be read; write COLUMN=VALUE,VALUE or COLUMN!=VALUE or COLUMN=LOW..HIGH"
        )
    name, value = parts["column"], parts["value"]
    if name not in store.table.column_names:
        raise DataError(
            f"{store.path} has no column {name!r}, only {', '.join(store.table.column_names)}; name one of them"
        )
    column = store.table[name]
    if ".." in value:
        low, _, high = value.partition("..")
        found = _between(column, low.strip(), high.strip(), condition)
    else:
        wanted = [_entry(column.type, word.strip(), condition) for word in value.split(",")]
        found = pc.is_in(column, value_set=pa.array(wanted, column.type))
    mask = pc.fill_null(found, False).combine_chunks()
    array: Mask = np.asarray(mask.to_numpy(zero_copy_only=False), np.bool_)
    return ~array if parts["sign"] == "!=" else array


def _between(column: pa.ChunkedArray, low: str, high: str, condition: str) -> pa.ChunkedArray:
    found = pc.is_valid(column)
    for end, compare in ((low, pc.greater_equal), (high, pc.less_equal)):
        if end:
            found = pc.and_(found, compare(column, pa.scalar(_entry(column.type, end, condition), column.type)))
    return found


def _entry(kind: pa.DataType, word: str, condition: str) -> int | float | bool | str:
    """A word of a condition as an entry of a column of type ``kind``."""
    try:
        if pa.types.is_boolean(kind):
            return {"true": True, "false": False}[word.lower()]
        if pa.types.is_integer(kind):
            return int(word)
        return float(word) if pa.types.is_floating(kind) else word
    except (KeyError, ValueError):
        kinds = "true or false" if pa.types.is_boolean(kind) else "a number"
        raise ConfigError(f"the condition {condition!r} compares with {word!r}; it must be {kinds}") from None
