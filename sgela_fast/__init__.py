"""Gait encodings from 3D-skeleton walks: self-supervised, exact, reproducible (SGE-LA).

The usual way: recordings -> :class:`Archive` -> :func:`train` -> run folder -> :func:`encode` -> :class:`Store` ->
:func:`evaluate`. Each arrow is also a sub-command of ``sgela-fast``.

Symbols, the same in code, comments and documentation:

* ``A``: coordinate axes (x, y, z), each with a model of its own
* ``G``: groups; in ops, what stands for ``A`` where nothing is known of skeletons
* ``B``: windows in a batch
* ``T``: frames of a window (the paper's f), also decoding steps
* ``J``: joints of a skeleton
* ``K``: hidden units of an LSTM layer (the paper's k)
* ``C``: persons (classes of the recognition network)

Skeletons are float32 ``(frames, J, 3)`` in metres, right-handed, y up. The names below are loaded when they are first
used, so that importing the package takes no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from sgela_fast._version import __version__

if TYPE_CHECKING:
    from sgela_fast.checkpoints.run_folder import Run, load_run
    from sgela_fast.checkpoints.tf_import import import_checkpoint
    from sgela_fast.encoding.config import EncodingConfig
    from sgela_fast.encoding.encode import encode
    from sgela_fast.encoding.encoder import Encoder
    from sgela_fast.encoding.export import export
    from sgela_fast.encoding.store import Store
    from sgela_fast.encoding.stream import StreamEncoder
    from sgela_fast.errors import SgelaError
    from sgela_fast.evaluation.config import EvaluationConfig, RecognitionConfig, RetrievalConfig
    from sgela_fast.evaluation.evaluate import evaluate
    from sgela_fast.models.config import SGELAConfig
    from sgela_fast.models.sgela import build_model
    from sgela_fast.nn.locality_attention import LocalityAttention
    from sgela_fast.ops.locality_attention import locality_attention
    from sgela_fast.pipeline import PipelineConfig, run_pipeline
    from sgela_fast.report.config import ReportConfig
    from sgela_fast.report.report import write_report
    from sgela_fast.reproduction.config import JobConfig, ReproductionConfig
    from sgela_fast.reproduction.runner import reproduce
    from sgela_fast.search.config import IndexConfig
    from sgela_fast.search.index import Index
    from sgela_fast.skeletons.archive import Archive
    from sgela_fast.skeletons.config import ConvertConfig, ReaderOptions, WalkerConfig, WindowConfig
    from sgela_fast.skeletons.convert import convert
    from sgela_fast.skeletons.layouts import Layout, get_layout, layout_names
    from sgela_fast.skeletons.recording import Recording
    from sgela_fast.skeletons.walker import write_walkers
    from sgela_fast.training.config import TrainingConfig
    from sgela_fast.training.trainer import train

_MODULES = {
    "Archive": "skeletons.archive",
    "ConvertConfig": "skeletons.config",
    "Encoder": "encoding.encoder",
    "EncodingConfig": "encoding.config",
    "EvaluationConfig": "evaluation.config",
    "Index": "search.index",
    "IndexConfig": "search.config",
    "JobConfig": "reproduction.config",
    "Layout": "skeletons.layouts",
    "LocalityAttention": "nn.locality_attention",
    "PipelineConfig": "pipeline",
    "ReaderOptions": "skeletons.config",
    "RecognitionConfig": "evaluation.config",
    "Recording": "skeletons.recording",
    "ReportConfig": "report.config",
    "ReproductionConfig": "reproduction.config",
    "RetrievalConfig": "evaluation.config",
    "Run": "checkpoints.run_folder",
    "SGELAConfig": "models.config",
    "SgelaError": "errors",
    "Store": "encoding.store",
    "StreamEncoder": "encoding.stream",
    "TrainingConfig": "training.config",
    "WalkerConfig": "skeletons.config",
    "WindowConfig": "skeletons.config",
    "build_model": "models.sgela",
    "convert": "skeletons.convert",
    "encode": "encoding.encode",
    "evaluate": "evaluation.evaluate",
    "export": "encoding.export",
    "get_layout": "skeletons.layouts",
    "import_checkpoint": "checkpoints.tf_import",
    "layout_names": "skeletons.layouts",
    "load_run": "checkpoints.run_folder",
    "locality_attention": "ops.locality_attention",
    "reproduce": "reproduction.runner",
    "run_pipeline": "pipeline",
    "train": "training.trainer",
    "write_report": "report.report",
    "write_walkers": "skeletons.walker",
}

__all__ = [
    "Archive",
    "ConvertConfig",
    "Encoder",
    "EncodingConfig",
    "EvaluationConfig",
    "Index",
    "IndexConfig",
    "JobConfig",
    "Layout",
    "LocalityAttention",
    "PipelineConfig",
    "ReaderOptions",
    "RecognitionConfig",
    "Recording",
    "ReportConfig",
    "ReproductionConfig",
    "RetrievalConfig",
    "Run",
    "SGELAConfig",
    "SgelaError",
    "Store",
    "StreamEncoder",
    "TrainingConfig",
    "WalkerConfig",
    "WindowConfig",
    "__version__",
    "build_model",
    "convert",
    "encode",
    "evaluate",
    "export",
    "get_layout",
    "import_checkpoint",
    "layout_names",
    "load_run",
    "locality_attention",
    "reproduce",
    "run_pipeline",
    "train",
    "write_report",
    "write_walkers",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
