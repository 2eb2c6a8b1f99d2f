"""Adjust docstrings' cross references for the documentation site."""

from __future__ import annotations

import re
from typing import Any

_ROLE = re.compile(r":(?:class|func|mod|meth|attr|data):(<code>)~?(?:sgela_fast\.)?")


def on_page_content(html: str, **_: Any) -> str:
    """Docstrings mark names with Sphinx roles, which editors understand; on the site a plain code span is enough."""
    return _ROLE.sub(r"\1", html)
