"""Find a person, a recording or a window in a store of gait encodings."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sgela_fast.search.calibration import calibrate
    from sgela_fast.search.config import CalibrationConfig, IndexConfig, RerankConfig
    from sgela_fast.search.index import Index
    from sgela_fast.search.queries import Queries
    from sgela_fast.search.result import SearchResult
    from sgela_fast.search.thresholds import Calibration

_MODULES = {
    "Calibration": "thresholds",
    "CalibrationConfig": "config",
    "Index": "index",
    "IndexConfig": "config",
    "Queries": "queries",
    "RerankConfig": "config",
    "SearchResult": "result",
    "calibrate": "calibration",
}
__all__ = [
    "Calibration",
    "CalibrationConfig",
    "Index",
    "IndexConfig",
    "Queries",
    "RerankConfig",
    "SearchResult",
    "calibrate",
]


def __getattr__(name: str) -> Any:
    # Settings are read for the command line's help, which must not load torch.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
