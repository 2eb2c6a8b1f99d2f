"""Reads the pickled ``ids_*.npy`` of the authors' preprocessed sets without unpickling them.

Such a file is a 0-d object array that holds a dict: person -> list of window numbers. Unpickling a file runs whatever
code its maker put in, so the bytes are interpreted here by a machine that knows only the instructions that build
dicts, lists, tuples, numbers, strings and NumPy's arrays, types and scalars. It imports and calls nothing that a file
names; every other instruction or name is an error.
"""

from __future__ import annotations

import pickletools
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from sgela_fast.errors import DataError

_ARRAY_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")
_KNOWN = {
    **{f"{module} _reconstruct": "array" for module in _ARRAY_MODULES},
    **{f"{module} scalar": "scalar" for module in _ARRAY_MODULES},
    **{f"{module} _frombuffer": "frombuffer" for module in ("numpy.core.numeric", "numpy._core.numeric")},
    "numpy ndarray": "ndarray",
    "numpy dtype": "dtype",
    "_codecs encode": "encode",
}
_DTYPE = re.compile(r"[<>|=]?([biufSUO]\d{0,5})")
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
}
_LITERALS = (
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
)
_MARK = object()


@dataclass(frozen=True)
class _Name:
    """One of the names in ``_KNOWN``; a token, not the thing itself."""

    kind: str


@dataclass
class _DType:
    code: str
    order: str = "="


@dataclass
class _Array:
    items: list[Any] = field(default_factory=list)


class _Refused(ValueError):
    """The bytes hold something that this machine does not know."""


def read_pickled_ids(path: Path, windows: int) -> list[str]:
    """Persons of the windows from a pickled ``ids_*.npy``.

    Args:
        path: the file.
        windows: how many windows there are.

    Returns:
        For each window its person.

    Raises:
        DataError: the file holds anything but a dict of window numbers, or does not give each window one person.
    """
    try:
        with path.open("rb") as file:
            if np.lib.format.read_magic(file) != (1, 0):
                raise _Refused("a npy version other than 1.0")
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
            if shape != () or dtype.kind != "O":
                raise _Refused(f"{dtype} {shape} instead of one object")
            content = _Machine().run(file.read())
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); copy it again") from error
    except (ValueError, IndexError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} is not a plain pickled dict of person and window numbers ({error}); it was not executed, write "
            "the persons into frame_id_*.npy instead"
        ) from error
    return _persons_of_windows(path, content, windows)


def _persons_of_windows(path: Path, content: Any, windows: int) -> list[str]:
    if isinstance(content, _Array) and len(content.items) == 1:
        content = content.items[0]
    persons: list[str | None] = [None] * windows
    if not isinstance(content, dict):
        raise DataError(f"{path} holds a {type(content).__name__}, not a dict of person and window numbers")
    for person, numbers in content.items():
        for number in numbers.items if isinstance(numbers, _Array) else numbers:
            if not isinstance(number, int) or not 0 <= number < windows or persons[number] is not None:
                raise DataError(
                    f"{path} gives person {person!r} the window {number!r}, which does not exist or has a person "
                    f"already ({windows} windows); it belongs to other arrays"
                )
            persons[number] = person.decode("latin1") if isinstance(person, bytes) else str(person)
    if None in persons:
        raise DataError(f"{path} gives window {persons.index(None)} of {windows} no person; it belongs to other arrays")
    return [str(person) for person in persons]


class _Machine:
    """A stack machine for the few pickle instructions that such files need."""

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def run(self, data: bytes) -> Any:
        for opcode, argument, _ in pickletools.genops(data):
            name = opcode.name
            if name == "STOP":
                return self._stack.pop()
            if name in _LITERALS:
                self._stack.append(argument)
            elif name in _CONSTANTS:
                self._stack.append(_CONSTANTS[name]())
            elif name not in ("PROTO", "FRAME"):
                step = getattr(self, f"_{name.lower()}", None)
                if step is None:
                    raise _Refused(f"instruction {name}")
                step(argument)
        raise _Refused("no end")

    def _mark(self, _: Any) -> None:
        self._stack.append(_MARK)

    def _since_mark(self) -> list[Any]:
        start = len(self._stack) - 1
        while start >= 0 and self._stack[start] is not _MARK:
            start -= 1
        if start < 0:
            raise _Refused("an end without a beginning")
        items = self._stack[start + 1 :]
        del self._stack[start:]
        return items

    def _put(self, slot: Any) -> None:
        self._memo[int(slot)] = self._stack[-1]

    def _memoize(self, _: Any) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    def _get(self, slot: Any) -> None:
        self._stack.append(self._memo[int(slot)])

    _binput = _long_binput = _put
    _binget = _long_binget = _get

    def _append(self, _: Any) -> None:
        item = self._stack.pop()
        self._list_on_top().append(item)

    def _appends(self, _: Any) -> None:
        items = self._since_mark()
        self._list_on_top().extend(items)

    def _list_on_top(self) -> list[Any]:
        if not isinstance(self._stack[-1], list):
            raise _Refused("items for what is no list")
        return self._stack[-1]

    def _list(self, _: Any) -> None:
        self._stack.append(self._since_mark())

    def _setitem(self, _: Any) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._set_items([key, value])

    def _setitems(self, _: Any) -> None:
        self._set_items(self._since_mark())

    def _dict(self, _: Any) -> None:
        items = self._since_mark()
        self._stack.append({})
        self._set_items(items)

    def _set_items(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if not isinstance(target, dict) or not all(isinstance(key, int | str | bytes | float) for key in items[::2]):
            raise _Refused("entries for what is no dict, or a key that is no number or text")
        target.update(zip(items[::2], items[1::2], strict=True))

    def _tuple(self, _: Any) -> None:
        self._stack.append(tuple(self._since_mark()))

    def _tuple1(self, _: Any) -> None:
        self._stack[-1:] = [tuple(self._stack[-1:])]

    def _tuple2(self, _: Any) -> None:
        self._stack[-2:] = [tuple(self._stack[-2:])]

    def _tuple3(self, _: Any) -> None:
        self._stack[-3:] = [tuple(self._stack[-3:])]

    def _global(self, name: Any) -> None:
        if name not in _KNOWN:
            raise _Refused(f"the name {str(name)[:60]!r}")
        self._stack.append(_Name(_KNOWN[name]))

    def _stack_global(self, _: Any) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        self._global(f"{module} {name}")

    def _reduce(self, _: Any) -> None:
        arguments, function = self._stack.pop(), self._stack.pop()
        if not isinstance(function, _Name) or not isinstance(arguments, tuple):
            raise _Refused("a call of what is no known name")
        if function.kind == "array":
            self._stack.append(_Array())
        elif function.kind == "dtype":
            self._stack.append(_DType(_text(arguments[0])))
        elif function.kind == "encode" and arguments[1] == "latin1":
            self._stack.append(_text(arguments[0]).encode("latin1"))
        elif function.kind == "frombuffer":
            content, dtype, shape, _ = arguments
            self._stack.append(_Array(_items(dtype, prod(shape), content)))
        elif function.kind == "scalar":
            (item,) = _items(arguments[0], 1, arguments[1])
            self._stack.append(item)
        else:
            raise _Refused(f"a call of {function.kind}")

    def _build(self, _: Any) -> None:
        state, target = self._stack.pop(), self._stack[-1]
        if isinstance(target, _DType):
            target.order = _text(state[1])
        elif isinstance(target, _Array):
            _, shape, dtype, _, content = state
            target.items[:] = _items(dtype, prod(shape), content)
        else:
            raise _Refused("a state for what is neither array nor type")


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("latin1")
    if not isinstance(value, str):
        raise _Refused(f"{type(value).__name__} where text is needed")
    return value


def _items(dtype: Any, count: int, content: Any) -> list[Any]:
    """The items of an array as plain Python numbers, texts or, for an object array, whatever they are."""
    if not isinstance(dtype, _DType) or not (known := _DTYPE.fullmatch(dtype.code)):
        raise _Refused("an array of an unknown type")
    if known[1].startswith("O"):
        if not isinstance(content, list) or len(content) != count:
            raise _Refused("an object array without its items")
        return content
    raw = content.encode("latin1") if isinstance(content, str) else content
    if dtype.order == ">" and not known[1].startswith("S"):
        raise _Refused("numbers with the most significant byte first")
    items: list[Any] = np.frombuffer(raw, np.dtype(known[1]), count=count).tolist()
    return items
