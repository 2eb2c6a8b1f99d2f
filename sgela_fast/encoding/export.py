"""Write an encoder as one file that runs elsewhere: a torch.export program or an ONNX model.

The graph takes raw windows in metres and holds the one normalisation, so that whoever runs it cannot forget it; it
returns the encodings. The file says in its metadata what it was made from.
"""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from sgela_fast._version import __version__
from sgela_fast.atomic import make_folder, write_file
from sgela_fast.encoding.encoder import Encoder
from sgela_fast.encoding.normalisation import center_index, normalise
from sgela_fast.encoding.recordings import Pooling, require_feature, require_pooling
from sgela_fast.errors import ConfigError, MissingDependencyError
from sgela_fast.models.config import Feature
from sgela_fast.models.sgela import SGELA, build_model

Format = Literal["onnx", "torch"]
SCHEMA = "sgela-fast/export"
SCHEMA_VERSION = 1
METADATA = "sgela_fast.json"  # of a torch.export file; an ONNX file has its entries as metadata properties
SUFFIXES: dict[str, Format] = {".onnx": "onnx", ".pt2": "torch"}


class EncodingGraph(nn.Module):
    """What is exported: raw windows ``(B, T, J, 3)`` to encodings ``(B, T, D)`` or, pooled, ``(B, D)``.

    Args:
        model: the model.
        center: index of the joint on which windows are centred, or ``None``.
        origin: index of the joint on which they were centred before, or ``None``.
        feature: ``ages`` or ``states``.
        mean: whether to pool over the frames.
    """

    def __init__(self, model: SGELA, center: int | None, origin: int | None, feature: Feature, mean: bool) -> None:
        super().__init__()
        self.model, self.center, self.origin, self.feature, self.mean = model, center, origin, feature, mean

    def forward(self, windows: Tensor) -> Tensor:
        """Normalise and encode ``windows``."""
        values = self.model.encodings(normalise(windows, self.center, self.origin)[0], self.feature)
        return values.mean(dim=1) if self.mean else values


def export(
    encoder: Encoder | str | Path,
    out: str | Path,
    *,
    format: Format | None = None,
    feature: Feature = "ages",
    pooling: Pooling = "none",
    backend: Literal["reference", "fused"] = "reference",
    origin: str | None = None,
) -> Path:
    """Write ``encoder`` as one file whose graph takes raw windows and returns encodings, both float32.

    Input ``windows (batch, T, J, 3)``: metres, y up, the encoder's layout, any batch from 1 on; joints that are lost
    are NaN or (0, 0, 0). Output, named after the feature, ``(batch, T, D)``, or pooled ``(batch, D)``. Windows are
    centred inside the graph, as by :meth:`Encoder.encode_windows`.

    Args:
        encoder: an encoder or the run folder to load it from.
        out: the file, replaced in one step.
        format: ``onnx``, or ``torch`` for a program that ``torch.export.load`` reads; ``None`` goes by the suffix of
            ``out``, ``.onnx`` or ``.pt2``.
        feature: ``ages``, or ``states`` for the encoded gait states.
        pooling: ``none`` or ``mean`` over the frames.
        backend: ``reference`` is made of PyTorch's own operations and needs this package no more; ``fused``, for
            ``torch`` alone, calls the fused ops: import :mod:`sgela_fast.ops.batched_lstm` and
            :mod:`sgela_fast.ops.attention_decoder` before loading it.
        origin: as in :meth:`Encoder.encode_windows`.

    Returns:
        The path of the file.

    Raises:
        ConfigError: unknown format, feature, pooling or joint, AGEs of a model without attention, or fused ops in an
            ONNX file.
        MissingDependencyError: ``onnx`` without onnx and onnxscript.
        OutputError: the file cannot be written.
    """
    out = Path(out)
    chosen = _format_of(out, format)
    require_pooling(pooling)
    if backend not in ("reference", "fused"):
        raise ConfigError(f"backend is {backend!r}; an export takes reference or fused")
    if chosen == "onnx":
        if backend == "fused":
            raise ConfigError("ONNX has no fused ops; export to format torch, or take backend reference")
        _require_onnx()
    if not isinstance(encoder, Encoder):
        encoder = Encoder.load(encoder, "reference", "cpu")
    require_feature(feature, encoder.model.config)
    make_folder(out.parent)
    program = _trace(encoder, feature, pooling, backend, origin)
    info = _describe(encoder, feature, pooling, backend, origin)
    content = _onnx_file(program, info) if chosen == "onnx" else _torch_file(program, info)
    write_file(out, lambda file: file.write(content))
    return out


def _format_of(out: Path, wanted: Format | None) -> Format:
    if wanted is None:
        if out.suffix not in SUFFIXES:
            raise ConfigError(f"cannot tell the format of {out}; name it {' or '.join(SUFFIXES)}, or give a format")
        return SUFFIXES[out.suffix]
    if wanted not in get_args(Format):
        raise ConfigError(f"format is {wanted!r}; choose onnx or torch")
    return wanted


def _require_onnx() -> None:
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            'ONNX files need onnx and onnxscript; install them with `pip install "sgela_fast[export]"`, or export to '
            "format torch"
        ) from error


def _describe(encoder: Encoder, feature: Feature, pooling: Pooling, backend: str, origin: str | None) -> dict[str, Any]:
    center = center_index(encoder.layout, encoder.window)
    return {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "made_by": f"sgela_fast {__version__}",
        **encoder.describe(),
        "joints": list(encoder.layout.joints),
        "center": None if center is None else encoder.layout.joints[center],
        "centered_before_on": origin,
        "feature": feature,
        "pooling": pooling,
        "graph": backend,
    }


def _trace(
    encoder: Encoder, feature: Feature, pooling: Pooling, backend: Literal["reference", "fused"], origin: str | None
) -> Any:
    config = encoder.model.config
    # A model of its own: the encoder's may be packed, in another precision or on another device.
    model = build_model(config, backend)
    model.load_state_dict({name: weight.float().cpu() for name, weight in encoder.model.state_dict().items()})
    centred_on = None if origin is None else encoder.layout.index(origin)
    center = center_index(encoder.layout, encoder.window)
    graph = EncodingGraph(model, center, centred_on, feature, pooling == "mean").eval().requires_grad_(False)
    example = torch.zeros(2, encoder.window.frames, config.joints, 3)
    with torch.no_grad():
        return torch.export.export(graph, (example,), dynamic_shapes=_dynamic_shapes())


def _dynamic_shapes() -> dict[str, dict[int, Any]]:
    return {"windows": {0: torch.export.Dim("batch", min=1)}}


def _torch_file(program: Any, info: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    torch.export.save(program, file, extra_files={METADATA: json.dumps(info, indent=2)})
    return file.getvalue()


def _onnx_file(program: Any, info: dict[str, Any]) -> bytes:
    example = program.example_inputs[0]
    with _quiet_exporter():
        made = torch.onnx.export(
            program,
            example,
            dynamo=True,
            verbose=False,
            input_names=["windows"],
            output_names=[info["feature"]],
            dynamic_shapes=_dynamic_shapes(),
        )
    assert made is not None
    made.model.producer_name, made.model.producer_version = "sgela_fast", __version__
    for name, entry in info.items():
        made.model.metadata_props[name] = entry if isinstance(entry, str) else json.dumps(entry)
    return made.model_proto.SerializeToString()


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Hide what the exporter says of itself: a deprecation inside torch, and that torchvision is not installed."""
    registry = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = registry.level
    registry.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r".*treespec, LeafSpec", FutureWarning)
            warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"(torch|onnx|onnxscript)\b.*")
            yield
    finally:
        registry.setLevel(level)
