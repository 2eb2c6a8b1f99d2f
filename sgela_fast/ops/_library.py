"""What every op shares: the library of schemas, the compiled extension, and rules for autocast and vmap.

Schemas are defined here in Python, so that they exist (with their shape rules) whether or not the extension was built.
Importing this module loads the extension if there is one; Triton is imported by the first call that needs it.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import forward_ad

LIBRARY = torch.library.Library("sgela_fast", "FRAGMENT")

try:
    importlib.import_module("sgela_fast._C")  # registers the CPU (and CUDA) implementations
except ImportError as error:
    WHY_NO_EXTENSION: str | None = str(error)
else:
    WHY_NO_EXTENSION = None

WHY_NOT_TORCH_FUNC = "torch.func's derivatives (grad, vjp, jvp, jacrev) do not reach custom ops"
WHY_NOT_FORWARD_MODE = "forward-mode derivatives (torch.autograd.forward_ad) do not reach it"
AUTOCASTING = tuple(device for device in ("cpu", "cuda", "xpu", "mps") if torch.amp.is_autocast_available(device))
WHY_NO_TRITON: str | None = None if importlib.util.find_spec("triton") else "triton is not installed"


def why_no_cpu_kernel(name: str) -> str | None:
    """Why the op ``name`` has no compiled CPU implementation here, or ``None`` if it has one."""
    if WHY_NO_EXTENSION is not None:
        return f"the compiled extension is not there ({WHY_NO_EXTENSION}); install with a C++ compiler"
    if not torch._C._dispatch_has_kernel_for_dispatch_key(f"sgela_fast::{name}", "CPU"):
        return f"the compiled extension is older than this source and has no {name}; build it again"
    return None


class Schema(NamedTuple):
    """A registered op: its qualified name and its default overload."""

    name: str
    overload: Any


def define(signature: str) -> Schema:
    """Define an op of the ``sgela_fast`` namespace from its schema."""
    LIBRARY.define(signature)
    name = signature.split("(", 1)[0].strip()
    return Schema(f"sgela_fast::{name}", getattr(torch.ops.sgela_fast, name).default)


def past_autograd() -> Any:
    """Skip autograd's bookkeeping and the ops' registered autograd kernels, for calls that want no gradient."""
    return torch._C._AutoDispatchBelowAutograd()


def is_transformed() -> bool:
    """Whether a compiler or a torch.func transform is at work, which must see the ops as they are registered."""
    return torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()


def is_transformed_by_torch_func() -> bool:
    """Whether any of torch.func's transforms is at work, outside a compiler."""
    return not torch.compiler.is_compiling() and bool(torch._C._are_functorch_transforms_active())


def is_differentiated_by_torch_func() -> bool:
    """Whether torch.func's grad, vjp or jvp is at work; torch does not let it reach the derivatives of custom ops."""
    if not is_transformed_by_torch_func():
        return False
    kinds = torch._C._functorch.TransformType
    transforms = torch._C._functorch.get_interpreter_stack() or []
    return any(transform.key() in (kinds.Grad, kinds.Jvp) for transform in transforms)


def is_differentiated_forwards() -> bool:
    """Whether a level of forward-mode derivatives is open: the kernels would return results without tangents."""
    return not torch.compiler.is_compiling() and forward_ad._current_level >= 0


def chooses_fused(name: str, backend: str, missing: str | None, proven: bool) -> bool:
    """Whether the op ``name`` runs its kernels for one call, and not its reference.

    Args:
        name: of the op, for the error.
        backend: ``auto``, ``reference`` or ``fused``.
        missing: why the kernels cannot run for these tensors; ``None`` if they can.
        proven: whether they have been run and compared on such a device, so that ``auto`` may choose them.

    Raises:
        RuntimeError: ``fused`` is asked for and cannot run.
    """
    if backend == "reference":
        return False
    if missing is None and is_differentiated_by_torch_func():
        missing = WHY_NOT_TORCH_FUNC
    if missing is None and is_differentiated_forwards():
        missing = WHY_NOT_FORWARD_MODE
    if backend == "fused" and missing is not None:
        raise RuntimeError(f"{name} cannot run fused: {missing}, or use backend='reference'")
    return missing is None and (backend == "fused" or proven)


def register(op: Schema, *, fake: Callable[..., Any], cuda: Callable[..., Any] | None = None) -> None:
    """Give ``op`` its shape rule and, if it is written in Python, its CUDA implementation."""
    torch.library.register_fake(op.name, fake, lib=LIBRARY)
    if cuda is not None:
        LIBRARY.impl(op.name.split("::")[1], cuda, "CUDA")


def register_autocast(op: Schema, tensors: Sequence[int]) -> None:
    """Under autocast, run ``op`` with the arguments at the positions ``tensors`` cast to autocast's dtype.

    ``torch.library.register_autocast`` would fix the dtype when the op is registered, and cast every tensor.
    """
    for device, key in (("cpu", "AutocastCPU"), ("cuda", "AutocastCUDA")):
        LIBRARY.impl(op.name.split("::")[1], _autocast_kernel(op, tuple(tensors), device, key), key)


def _autocast_kernel(op: Schema, tensors: tuple[int, ...], device: str, key: str) -> Callable[..., Any]:
    excluded = torch._C.DispatchKeySet(getattr(torch._C.DispatchKey, key))

    def kernel(*arguments: Any) -> Any:
        cast = [autocast(argument, device) if i in tensors else argument for i, argument in enumerate(arguments)]
        with torch._C._ExcludeDispatchKeyGuard(excluded):
            return op.overload(*cast)

    return kernel


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """Dtype of scores, softmax and loss for inputs of ``dtype``."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def autocasts(device: str) -> bool:
    """Whether autocast is on for devices of this type; for some (meta) it does not exist."""
    return device in AUTOCASTING and torch.is_autocast_enabled(device)


def autocast(argument: Any, device: str) -> Any:
    """``argument`` in autocast's dtype of ``device``; float64, integers and ``None`` are left alone."""
    if isinstance(argument, Tensor) and argument.dtype in (torch.float32, torch.bfloat16, torch.float16):
        return argument.to(torch.get_autocast_dtype(device))
    return argument


def register_vmap_over_first_dimension(op: Schema) -> None:
    """Batching rule of ops whose tensors all start with the same independent dimension.

    The mapped dimension is folded into the first one of every tensor argument and taken out of every result. Empty
    one-dimensional results, which stand for "no gradient", are passed through.
    """

    def rule(info: Any, in_dims: Sequence[Any], *arguments: Any) -> tuple[Any, Any]:
        size = info.batch_size
        folded = [
            _fold(argument, dim, size) if isinstance(argument, Tensor) else argument
            for argument, dim in zip(arguments, in_dims, strict=True)
        ]
        results = op.overload(*folded)
        if isinstance(results, Tensor):
            return results.unflatten(0, (size, -1)), 0
        unfolded = [result if _is_absent(result) else result.unflatten(0, (size, -1)) for result in results]
        return tuple(unfolded), tuple(None if _is_absent(result) else 0 for result in results)

    torch.library.register_vmap(op.name, rule, lib=LIBRARY)


def _fold(argument: Tensor, dim: int | None, size: int) -> Tensor:
    mapped = argument.expand(size, *argument.shape) if dim is None else argument.movedim(dim, 0)
    return mapped.flatten(0, 1)  # (V, N0, ...) -> (V N0, ...), a view whenever the strides allow


def _is_absent(result: Tensor) -> bool:
    return result.dim() == 1 and result.numel() == 0


def refuse_second_derivative(op: Schema) -> None:
    """Make a derivative of a backward op an error with a mend, in place of a graph that silently ends."""

    def backward(_ctx: Any, *_gradients: Any) -> Any:
        raise RuntimeError(f"{op.name} has no derivative of its own: second derivatives need backend='reference'")

    torch.library.register_autograd(op.name, backward, lib=LIBRARY)


def refuse_batched_gradients(op: Schema) -> None:
    """Make ``is_grads_batched=True`` an error with a mend for a backward op that returns a list.

    For other ops torch makes a loop of the calls.
    """

    def batched(*_arguments: Any) -> Any:
        raise RuntimeError(
            f"{op.name} takes one gradient a call: is_grads_batched needs backend='reference', or a loop"
        )

    LIBRARY.impl(op.name.split("::")[1], batched, "Batched")
