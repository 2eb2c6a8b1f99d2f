"""Sections as one file of HTML that needs nothing else: style and scripts stand inside, and nothing may be fetched."""

from __future__ import annotations

import base64
import hashlib
import importlib
import json
from collections.abc import Sequence
from importlib import resources
from typing import Any

from sgela_fast.errors import MissingDependencyError
from sgela_fast.report.chart import Chart
from sgela_fast.report.page import Heat, Section, Table

STYLES = ("page.css", "figures.css")
SCRIPTS = ("theme.js", "map.js", "player.js")
PACKAGE = "sgela_fast.report"


def render(title: str, summary: Sequence[str], sections: Sequence[Section], created: str) -> str:
    """The page.

    Args:
        title: of the page.
        summary: sentences at its beginning.
        sections: in the order in which they stand.
        created: when it was made.

    Raises:
        MissingDependencyError: Jinja2 is not installed.
    """
    require_jinja()
    from jinja2 import Environment, FunctionLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FunctionLoader(lambda name: _asset("templates", name)),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.tests.update(
        chart=lambda part: isinstance(part, Chart),
        heat=lambda part: isinstance(part, Heat),
        table=lambda part: isinstance(part, Table),
    )
    environment.filters["prose"] = prose
    style, script = ("".join(_asset("assets", name) for name in names).strip() for names in (STYLES, SCRIPTS))
    return environment.get_template("page.html").render(
        title=title,
        summary=summary,
        sections=sections,
        created=created,
        style=Markup(style),
        script=Markup(script),
        policy=policy(style, script),
        data_block=lambda content: Markup(data_block(content)),
    )


def require_jinja() -> None:
    """Say at once if there is nothing to make the page with.

    Raises:
        MissingDependencyError: Jinja2 is not installed.
    """
    try:
        importlib.import_module("jinja2")
    except ImportError as error:
        raise MissingDependencyError(
            'the page needs Jinja2; install it with pip install "sgela_fast[report]"'
        ) from error


def prose(sentence: str) -> Any:
    """A sentence with what stands between backticks as code; everything else is text."""
    from markupsafe import Markup

    pieces = sentence.split("`")
    if len(pieces) % 2 == 0:
        return sentence
    return Markup("").join(
        Markup("<code>{}</code>").format(piece) if place % 2 else piece for place, piece in enumerate(pieces)
    )


def policy(style: str, script: str) -> str:
    """Content security policy: this style and this script, nothing else, and nothing from anywhere."""
    return (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def data_block(content: Any) -> str:
    """JSON that may stand inside ``<script type="application/json">``, whatever its texts are.

    Everything beyond ASCII is escaped, and with it the line separators that are no JavaScript; so is all that could end
    the element or begin a comment.
    """
    text = json.dumps(content, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _asset(folder: str, name: str) -> str:
    return (resources.files(PACKAGE) / folder / name).read_text(encoding="utf-8")
