"""Peak memory of one call: outputs, gradients and temporaries, without the inputs.

On CUDA torch's allocator counts. On the CPU a forked process of its own computes the case once (so that libraries are
loaded and code is compiled), drops the outputs, gives free memory back, resets the kernel's high-water mark of resident
memory and computes it again: the figure is the mark's rise. It sees every allocation, a kernel's own scratch included,
to a page; it does not see scratch that a provider keeps from its first call to the next. Large allocations are mapped
and unmapped one by one there (`M_MMAP_THRESHOLD`), so that none hides in memory that was freed before.
"""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import re
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from sgela_fast.benchmarks.harness.suite import Case, Job, Provider, Unavailable

TIMEOUT_SECONDS = 120
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_M_MMAP_THRESHOLD, _RESET_PEAK = -3, "5"


def peak_bytes(provider: Provider, case: Case, job: Job, preload: list[str]) -> int:
    """Bytes that one call of ``provider`` adds to what was in use before, at its peak.

    Args:
        provider: who computes.
        case: what.
        job: the provider's prepared job, used on CUDA.
        preload: modules that the forked process needs, imported once for all.

    Raises:
        Unavailable: it cannot be measured; the message says why.
    """
    return _cuda_peak(job) if case.device == "cuda" else _in_fork(provider, case, preload)


def _cuda_peak(job: Job) -> int:
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    outputs = job()
    torch.cuda.synchronize()
    del outputs
    return torch.cuda.max_memory_allocated() - before


def _in_fork(provider: Provider, case: Case, preload: list[str]) -> int:
    if not _CLEAR.exists():
        raise Unavailable("the high-water mark of resident memory can be reset on Linux alone")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(preload)
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(provider, case, torch.get_num_threads(), there), daemon=True)
    process.start()
    there.close()
    try:
        if not here.poll(TIMEOUT_SECONDS):
            raise Unavailable(f"no figure within {TIMEOUT_SECONDS} s")
        answer: int | str = here.recv()
    except EOFError:
        raise Unavailable("the process that measures it died") from None
    finally:
        process.kill()  # it has answered, or never will
        process.join()
        here.close()
    if isinstance(answer, str):
        raise Unavailable(answer)
    return answer


def _measure(provider: Provider, case: Case, threads: int, there: Connection) -> None:
    torch.set_num_threads(threads)
    libc = ctypes.CDLL(None)
    libc.mallopt(_M_MMAP_THRESHOLD, 64 * 2**10)
    try:
        job = provider.prepare(case)
        job()
        gc.collect()
        libc.malloc_trim(0)
        _CLEAR.write_text(_RESET_PEAK)
        before = _status("VmRSS")
        job()
        there.send(_status("VmHWM") - before)
    except Exception as error:
        there.send(f"{type(error).__name__}: {str(error).partition(chr(10))[0]}")


def _status(field: str) -> int:
    found = re.search(rf"^{field}:\s*(\d+) kB$", _STATUS.read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024
