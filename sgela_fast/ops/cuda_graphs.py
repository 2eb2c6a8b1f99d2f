"""CUDA graphs for small batches: a callable is captured once for each kind of inputs, and replayed.

A call of few windows spends nearly all of its time launching kernels from Python; a graph launches them all at once.
**Never run on a GPU**: the bookkeeping is tested without one, the capture itself only where there is one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

# Batches that graphs are captured for; one in between is filled up to the next. Twice the work at worst, where a call
# costs launches and not work.
BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128)


class GraphBackend(Protocol):
    """What captures and replays; another one can stand in for CUDA's in tests."""

    def why_not(self, tensor: Tensor) -> str | None:
        """Why a graph cannot read ``tensor``, or ``None`` if it can."""

    def capture(self, call: Callable[[], tuple[Tensor, ...]]) -> tuple[Callable[[], None], tuple[Tensor, ...]]:
        """What replays ``call``, and the tensors that a replay writes its results to."""


class CudaGraphs:
    """CUDA's graphs. All graphs of one object share a pool of memory, so they must not run at the same time."""

    def __init__(self, warmups: int = 3) -> None:
        self._warmups = warmups
        self._pool: Any = None

    def why_not(self, tensor: Tensor) -> str | None:
        """See :class:`GraphBackend`."""
        if not tensor.is_cuda:
            return f"it is on {tensor.device}, and CUDA graphs need a CUDA device"
        current = torch.cuda.current_device()
        return None if tensor.get_device() == current else f"it is on {tensor.device}, and the current one is {current}"

    def capture(self, call: Callable[[], tuple[Tensor, ...]]) -> tuple[Callable[[], None], tuple[Tensor, ...]]:
        """See :class:`GraphBackend`. Kernels are compiled and libraries set up by calls before the capture."""
        current = torch.cuda.current_stream()
        side = torch.cuda.Stream()
        side.wait_stream(current)
        with torch.cuda.stream(side):
            for _ in range(self._warmups):
                call()
        current.wait_stream(side)
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            results = call()
        return graph.replay, results


class _Graph(NamedTuple):
    inputs: tuple[Tensor, ...]
    replay: Callable[[], None]
    results: tuple[Tensor, ...]
    make: Callable[[tuple[Tensor, ...]], Any]  # what the callable returns, of a tuple of its results


class GraphedCall:
    """A callable of tensors whose calls are replayed from CUDA graphs.

    For each kind of call (shapes but for the batch, the batch's bucket, dtypes, device) the callable is run a few times
    and captured once, with input tensors of its own; a call copies its inputs there, replays, and copies the results
    out. Batches are filled up to the next bucket, so rows of the batch must not depend on each other; what stands in
    the rows that are filled up is that of an earlier call, or zeros. Larger batches than the last bucket are called as
    they are, without a graph.

    The callable must do the same for every call of a kind: no decisions by values, no waiting for the device, no random
    numbers, no gradients. What it reads beside its inputs (weights) is read anew in each replay from where it was at
    the capture: changes in place are followed, tensors put in its place are not; call :meth:`forget` then. One thread
    and one stream at a time.

    Never run on a GPU.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        batch_dims: Sequence[int | None],
        result_dims: Sequence[int | None],
        buckets: Sequence[int] = BUCKETS,
        limit: int = 16,
        backend: GraphBackend | None = None,
    ) -> None:
        """Wrap a callable; nothing is captured yet.

        Args:
            function: takes tensors, returns a tensor or a sequence of tensors (also a named one), under ``no_grad``.
            batch_dims: dimension of the batch in each input, ``None`` for an input without one.
            result_dims: likewise for each result.
            buckets: batches to capture for.
            limit: graphs that are kept; beyond, the one that was not used for longest is given back.
            backend: what captures; CUDA's graphs by default.

        Raises:
            ValueError: there is no bucket, one is not positive, ``limit`` is not positive, or no input has a batch.
        """
        if not buckets or min(buckets) < 1:
            raise ValueError(f"buckets is {tuple(buckets)}; give one batch or more, each 1 or more")
        if limit < 1:
            raise ValueError(f"limit is {limit}; it must be 1 or more")
        if all(dim is None for dim in batch_dims):
            raise ValueError("batch_dims names no dimension; one input must have a batch")
        self._function = function
        self._batch_dims, self._result_dims = tuple(batch_dims), tuple(result_dims)
        self._buckets = tuple(sorted(set(buckets)))
        self._limit = limit
        self._backend: GraphBackend = CudaGraphs() if backend is None else backend
        self._graphs: OrderedDict[tuple[Any, ...], _Graph] = OrderedDict()

    def __len__(self) -> int:
        """Graphs that are kept now."""
        return len(self._graphs)

    def forget(self) -> None:
        """Give all graphs and their memory back; the next calls capture anew."""
        self._graphs.clear()

    def __call__(self, *inputs: Tensor) -> Any:
        """What the callable returns for the inputs, in tensors of its own.

        Raises:
            ValueError: there are more or fewer inputs than ``batch_dims``, their batches differ, or one is on a device
                without graphs.
            RuntimeError: an input requires a gradient where gradients are recorded.
        """
        batch = self._check(inputs)
        bucket = next((size for size in self._buckets if size >= batch), None)
        if bucket is None or batch == 0:
            with torch.no_grad():
                return self._function(*inputs)
        shapes = [self._padded(tensor, dim, bucket) for tensor, dim in zip(inputs, self._batch_dims, strict=True)]
        key = tuple((shape, tensor.dtype, tensor.device) for shape, tensor in zip(shapes, inputs, strict=True))
        graph = self._graphs.get(key)
        with torch.no_grad():
            if graph is None:
                while len(self._graphs) >= self._limit:
                    self._graphs.popitem(last=False)
                graph = self._capture(shapes, inputs)
                self._graphs[key] = graph
            self._graphs.move_to_end(key)
            self._fill(graph.inputs, inputs)
            graph.replay()
            results = tuple(
                (result if dim is None else result.narrow(dim, 0, batch)).clone()
                for result, dim in zip(graph.results, self._result_dims, strict=True)
            )
        return graph.make(results)

    def _check(self, inputs: tuple[Tensor, ...]) -> int:
        if len(inputs) != len(self._batch_dims):
            raise ValueError(f"there are {len(inputs)} inputs and {len(self._batch_dims)} batch_dims; give one each")
        batches = []
        for index, (tensor, dim) in enumerate(zip(inputs, self._batch_dims, strict=True)):
            missing = self._backend.why_not(tensor)
            if missing is not None:
                raise ValueError(f"input {index} has no graph: {missing}; call the function itself")
            if tensor.requires_grad and torch.is_grad_enabled():
                raise RuntimeError(f"input {index} requires a gradient, and graphs record none; use torch.no_grad()")
            if dim is not None:
                batches.append(tensor.shape[dim])
        if len(set(batches)) > 1:
            raise ValueError(f"the inputs have batches of {batches}; they must be equal")
        return batches[0]

    @staticmethod
    def _padded(tensor: Tensor, dim: int | None, bucket: int) -> tuple[int, ...]:
        shape = list(tensor.shape)
        if dim is not None:
            shape[dim] = bucket
        return tuple(shape)

    def _capture(self, shapes: Sequence[tuple[int, ...]], inputs: tuple[Tensor, ...]) -> _Graph:
        own = tuple(tensor.new_zeros(shape) for tensor, shape in zip(inputs, shapes, strict=True))

        made: list[Callable[[tuple[Tensor, ...]], Any]] = []

        def call() -> tuple[Tensor, ...]:
            results = self._function(*own)
            kind = type(results)
            made.append(_only if isinstance(results, Tensor) else getattr(kind, "_make", kind))
            return (results,) if isinstance(results, Tensor) else tuple(results)

        self._fill(own, inputs)  # what warms up then has the call's own numbers
        replay, results = self._backend.capture(call)
        if len(results) != len(self._result_dims):
            wanted = len(self._result_dims)
            raise ValueError(f"the call has {len(results)} results and {wanted} result_dims; give one each")
        return _Graph(own, replay, results, made[-1])

    def _fill(self, own: tuple[Tensor, ...], inputs: tuple[Tensor, ...]) -> None:
        for target, tensor, dim in zip(own, inputs, self._batch_dims, strict=True):
            (target if dim is None else target.narrow(dim, 0, tensor.shape[dim])).copy_(tensor)


def _only(results: tuple[Tensor, ...]) -> Tensor:
    return results[0]
