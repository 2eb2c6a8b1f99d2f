"""What is wrong with a command line, in one sentence instead of a parser's own words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise

_KEY = re.compile(r'Parser key "(?P<key>[^"]+)":\s*(?P<rest>.*)', re.DOTALL)
_GOT = re.compile(r"(?:Got value|Given value): (?P<value>.*)\Z", re.DOTALL)
_LITERAL = re.compile(r"Literal\[(?P<choices>[^\]]*)\]")
_KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text"}
_UNKNOWN = re.compile(r"argument command: invalid choice: '(?P<word>[^']*)'")
_YAML = re.compile(r"Problems parsing config:(?P<fault>.*)", re.DOTALL)
_PLACE = re.compile(r'in "<unicode string>", (line \d+, column \d+):?')
_UNKNOWN_KEY = re.compile(r"Subcommand '[^']*' does not accept option '(?P<key>[^']*)'")
_REQUIRED = re.compile(r"the following arguments are required: (?P<names>.*)")


def argument_sentence(message: str, command: str | None, commands: Iterable[str], arguments: Sequence[str] = ()) -> str:
    """Reword a message of the argument parser.

    Args:
        message: the parser's, of one or more lines.
        command: the sub-command, ``None`` if it is not known.
        commands: all sub-commands.
        arguments: the command line, which names the configuration file.

    Returns:
        One line that names the argument and what it may be, and where the help is.
    """
    if command:
        return f"{_reworded(message, command, _config_file(arguments))}; see `sgela-fast {command} --help`"
    unknown = _UNKNOWN.match(message)
    first = f"there is no command {unknown['word']!r}" if unknown else "name a command"
    return f"{first}; choose one of: {', '.join(commands)}"


def _config_file(arguments: Sequence[str]) -> str:
    """The configuration file that ``arguments`` name; the option's name if there is none."""
    for word, following in pairwise([*arguments, ""]):
        if word == "--config" and following:
            return following
        if word.startswith("--config="):
            return word.removeprefix("--config=")
    return "--config"


def _reworded(message: str, command: str, config: str) -> str:
    yaml = _YAML.match(message)
    if yaml:
        fault = _PLACE.sub(r"(\1)", yaml["fault"])
        return f"{config} is not valid YAML: {_one_line(fault)}"
    unknown = _UNKNOWN_KEY.match(message)
    if unknown:
        return f"{config} has the unknown setting {unknown['key']!r}"
    if message.startswith("Unexpected config:"):
        return f"{config} holds no settings; write them as `section: {{name: value}}`"
    required = _REQUIRED.match(message)
    if required:
        names = required["names"].split(", ")
        return f"these arguments are missing: {', '.join(name.removeprefix(f'{command}.') for name in names)}"
    keyed = _KEY.match(message)
    if not keyed:
        return _one_line(message)
    got, wanted = _GOT.search(keyed["rest"]), _wanted(keyed["rest"])
    if not got or not wanted:
        return f"{keyed['key']}: {_one_line(keyed['rest'])}"
    return f"{keyed['key']} is {_one_line(got['value'])!r}; {wanted}"


def _wanted(text: str) -> str:
    literal = _LITERAL.search(text)
    if literal:
        choices = re.findall(r"'([^']*)'", literal["choices"])
        return f"choose {', '.join(choices[:-1])} or {choices[-1]}" if len(choices) > 1 else f"it must be {choices[0]}"
    kinds = [words for name, words in _KINDS.items() if f"<class '{name}'>" in text.partition("Given value")[0]]
    return f"it must be {' or '.join(kinds)}" if kinds else ""


def _one_line(text: str) -> str:
    return " ".join(text.split())
