"""Which backend runs the model, at which precision, and why."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, get_args

import torch

from sgela_fast.errors import ConfigError
from sgela_fast.models.config import Backend, Precision
from sgela_fast.ops import attention_decoder, batched_lstm

# The ops under the fused model. Those that name the devices they have been run on do so in `_PROVEN`.
_OPS: tuple[Any, ...] = (batched_lstm, attention_decoder)
_AMPERE = 8  # the first generation of CUDA devices with tf32 and bf16


class BackendChoice(NamedTuple):
    """Which backend runs, ``reference`` or ``fused``, and why."""

    name: str
    reason: str


def choose_backend(
    wanted: Backend,
    device: torch.device | str = "cpu",
    precision: Precision = "fp32",
    *,
    ops: tuple[Any, ...] = _OPS,
) -> BackendChoice:
    """Resolve ``auto``; refuse what cannot run.

    ``auto`` takes the fused backend where all its ops have kernels that have been run and compared on such a device,
    else the reference. What is asked for by name is taken or refused, never replaced.

    Args:
        wanted: ``auto``, ``reference`` or ``fused``.
        device: where the model computes.
        precision: of its arithmetic.
        ops: modules of the ops under the fused model.

    Raises:
        ConfigError: backend or precision is unknown or cannot run on the device; the message says what is missing.
    """
    kind = torch.device(device).type
    if wanted not in get_args(Backend):
        raise ConfigError(f"unknown backend {wanted!r}; choose auto, reference or fused")
    missing = why_not_precision(precision, kind)
    if missing is not None:
        raise ConfigError(missing)
    why = _why_not_fused(kind, ops)
    if precision == "int8" and (wanted == "reference" or why is not None):
        cause = "backend reference is asked for" if why is None else f"it cannot run: {why}"
        raise ConfigError(f"precision int8 needs the fused backend but {cause}; or choose precision fp32 or bf16")
    if wanted == "reference":
        return BackendChoice("reference", "as asked for")
    if wanted == "fused":
        if why is not None:
            raise ConfigError(f"backend fused cannot run on the {kind}: {why}, or choose auto or reference")
        return BackendChoice("fused", f"as asked for: {_kernels(kind, ops)}")
    if why is not None:
        return BackendChoice("reference", f"auto: {why}")
    if any(kind not in getattr(op, "_PROVEN", (kind,)) for op in ops):
        return BackendChoice("reference", f"auto: the kernels have not been run on {kind} yet; ask for fused by name")
    return BackendChoice("fused", f"auto: {_kernels(kind, ops)}")


def why_not_precision(precision: Precision, device: str) -> str | None:
    """What to say of a precision that a device of the type ``device`` does not offer; ``None`` if it does."""
    if precision not in get_args(Precision):
        return f"unknown precision {precision!r}; choose {', '.join(get_args(Precision)[:-1])} or int8"
    if device == "cpu" and precision in ("tf32", "fp16"):
        return f"precision {precision} runs on CUDA devices alone; choose fp32 or bf16 on the CPU"
    if device != "cpu" and precision == "int8":
        return "precision int8 runs on the CPU alone; choose bf16 on CUDA devices, or the device cpu"
    if device == "cuda" and precision in ("tf32", "bf16") and torch.cuda.is_available():
        major, minor = torch.cuda.get_device_capability()
        if major < _AMPERE:
            return (
                f"precision {precision} needs a CUDA device of compute capability 8.0 or more and this one has "
                f"{major}.{minor}; choose fp32 or fp16"
            )
    return None


def _why_not_fused(device: str, ops: tuple[Any, ...]) -> str | None:
    if device not in ("cpu", "cuda"):
        return f"there are no kernels for {device}"
    # On CUDA devices the decoder may still be the reference's: the choice's reason says so.
    needed = [op for op in ops if device == "cpu" or op is not attention_decoder]
    reasons = [op.why_not_fused(device, torch.float32) for op in needed]
    return next((reason for reason in reasons if reason is not None), None)


def _kernels(device: str, ops: tuple[Any, ...]) -> str:
    if device == "cpu":
        return f"compiled kernels, {instruction_set()}, cpu"
    if attention_decoder not in ops:
        return f"kernels on {device}"
    rest = [op.__name__.rpartition(".")[2] for op in ops if op.why_not_fused(device, torch.float32) is not None]
    if not rest:
        return f"kernels on {device}, but plain PyTorch for attention_decoder in training"
    return f"kernels on {device}, but plain PyTorch for {', '.join(rest)}"


def instruction_set() -> str:
    """Which instruction set the compiled kernels use.

    Raises:
        ConfigError: SGELA_FAST_ISA asks for one that is not there.
    """
    try:
        return {"avx2": "AVX2", "avx512": "AVX-512"}.get(isa := importlib.import_module("sgela_fast._C").isa(), isa)
    except ValueError as error:
        raise ConfigError(str(error)) from error


@contextmanager
def float32_products(precision: Precision, device: str) -> Iterator[None]:
    """Inside, torch multiplies float32 matrices as ``precision`` says: ``tf32`` by TF32, all others exactly.

    The process's own setting is put back afterwards. A compiler traces past it: what is compiled keeps the setting that
    holds when it runs.

    Args:
        precision: of the model.
        device: type of the device that computes.
    """
    if device not in ("cpu", "cuda") or torch.compiler.is_compiling():
        yield
        return
    backends: Any = torch.backends
    setting = backends.cuda.matmul if device == "cuda" else backends.mkldnn.matmul
    before, wanted = setting.fp32_precision, "tf32" if precision == "tf32" else "ieee"
    exact = before == "ieee" or (before == "none" and backends.fp32_precision in ("none", "ieee"))
    if before == wanted or (wanted == "ieee" and exact):
        yield
        return
    setting.fp32_precision = wanted
    try:
        yield
    finally:
        setting.fp32_precision = before
