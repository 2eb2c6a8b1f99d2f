"""Training by several processes, each on its share of every batch: one model, one sum of gradients, one run folder.

Losses are sums over windows, so gradients of the shares are added up, not averaged, and the norm of the weights enters
once, in process 0. What comes out is what one process gets for the whole batch, but for the order of additions.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from sgela_fast.errors import ConfigError, SgelaError
from sgela_fast.training.launch import Launch, this_process

_CONNECTION = ("gloo", "nccl", "connection", "socket", "peer", "timed out", "timeout", "process group")


class PeerFailedError(SgelaError):
    """Another process of the training has ended, and this one cannot go on alone."""


class SaidElsewhereError(SgelaError):
    """The training has ended for a reason that another process reports; this one is silent."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Ranks:
    """The processes that train together; a single one where ``torchrun`` did not start this.

    Args:
        launch: which of them this is.
    """

    def __init__(self, launch: Launch) -> None:
        self.rank, self.size, self.local_rank = launch

    @property
    def leads(self) -> bool:
        """Whether this process writes and speaks."""
        return self.rank == 0

    def place(self, device: torch.device) -> torch.device:
        """The device of this process: of several CUDA devices each process takes one.

        Raises:
            ConfigError: there are more processes than CUDA devices on this machine.
        """
        if device.type != "cuda" or self.size == 1:
            return device
        count = torch.cuda.device_count()
        if self.local_rank >= count:
            raise ConfigError(
                f"{count} CUDA devices cannot serve process {self.local_rank + 1} on this machine; start at most "
                f"{count} processes with --nproc-per-node"
            )
        torch.cuda.set_device(self.local_rank)
        return torch.device("cuda", self.local_rank)

    def share(self, batch: Tensor) -> Tensor:
        """This process's windows of a step, ``(B,)`` or ``(A, B)`` -> ``(B / size,)`` or ``(A, B / size)``."""
        part = batch.shape[-1] // self.size
        return batch[..., self.rank * part : (self.rank + 1) * part]

    def wrap(self, model: nn.Module) -> nn.Module:
        """``model`` with gradients that are summed over all processes in the backward pass."""
        if self.size == 1:
            return model
        with self.guard():
            wrapped = DistributedDataParallel(model)
        # A lambda: torch reads a hook's annotations and does not know postponed ones.
        wrapped.register_comm_hook(None, lambda _, bucket: _sum(bucket))
        return wrapped

    def collecting(self, network: nn.Module, last: bool) -> AbstractContextManager[Any]:
        """Around each part of a step: gradients are summed over the processes in the ``last`` one alone."""
        if last or not isinstance(network, DistributedDataParallel):
            return nullcontext()
        return network.no_sync()

    def sum(self, values: list[float]) -> list[float]:
        """Sums over all processes, the same on each."""
        if self.size == 1:
            return values
        total = torch.tensor(values, dtype=torch.float64)
        with self.guard():
            dist.all_reduce(total)
            return [float(value) for value in total.tolist()]

    def settle(self, error: SgelaError | None) -> None:
        """Go on only if no process has an error.

        Raises:
            SgelaError: the error of this process, if it is the first that has one.
            SaidElsewhereError: another process has one.
        """
        if self.size > 1:
            found: list[Any] = [None] * self.size
            with self.guard():
                dist.all_gather_object(found, None if error is None else (str(error), error.exit_code))
            first = next((rank for rank, entry in enumerate(found) if entry is not None), None)
            if first is not None and first != self.rank:
                raise SaidElsewhereError(*found[first])
        if error is not None:
            raise error

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Inside, a lost connection to another process is a :class:`PeerFailedError`."""
        try:
            yield
        except RuntimeError as error:
            if self.size == 1 or not any(word in str(error).lower() for word in _CONNECTION):
                raise
            raise PeerFailedError(
                f"process {self.rank} of {self.size} stops because another process of this training has ended; go on "
                "from the last checkpoint with --resume"
            ) from error


def check_shares(batch: int, launch: Launch) -> None:
    """Every process of ``launch`` gets as many windows of a batch as the others.

    Raises:
        ConfigError: the batch cannot be shared evenly.
        SaidElsewhereError: the same, in all processes but the first.
    """
    size = launch.size
    if batch % size:
        sentence = f"training.batch is {batch} but {size} processes share it evenly; make it a multiple of {size}"
        raise SaidElsewhereError(sentence, ConfigError.exit_code) if launch.rank else ConfigError(sentence)


@contextmanager
def joined(device: torch.device) -> Iterator[Ranks]:
    """Join the processes that ``torchrun`` started; leave them at the end.

    Args:
        device: what the training computes on; it decides how processes talk.

    Raises:
        ConfigError: the others cannot be reached.
    """
    ranks = Ranks(this_process())
    if ranks.size == 1 or dist.is_initialized():
        yield ranks
        return
    try:
        # Gradients on CUDA devices by nccl; the few numbers of each step, and faults, always by gloo.
        dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    except (RuntimeError, ValueError) as error:
        raise ConfigError(
            f"the {ranks.size} processes cannot reach each other ({error}); start them all with torchrun"
        ) from error
    try:
        yield ranks
    finally:
        dist.destroy_process_group()


def _sum(bucket: Any) -> Any:
    future = dist.all_reduce(bucket.buffer(), async_op=True).get_future()
    return future.then(lambda done: done.value()[0])
