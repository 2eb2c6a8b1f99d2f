"""The LSTM's gate kernels for CUDA, as far as they can be examined without a GPU.

They are compiled for every supported GPU and held to a budget. Their arithmetic, addresses and choice of vectors run on
the CPU: a C++ compiler gets the CUDA file with its launches turned into loops over threads, which no kernel here minds,
since its threads share nothing.
"""

from __future__ import annotations

import ctypes
import importlib
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils.cpp_extension import include_paths

from sgela_fast.benchmarks import cuda_compile_report as report
from sgela_fast.reference.batched_lstm import lstm_gates

CSRC = report.ROOT / "csrc"
GATES = CSRC / "batched_lstm" / "gates.cu"
STORAGE = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}
# Half types: half a unit in the last place of the largest result.
TOLERANCE = {torch.float32: 1e-6, torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}
BEFORE = """
#include <cuda_runtime.h>
#include <cmath>
#include <cstring>
#define __CUDACC__
#include "common/cell.h"
#undef __CUDACC__
#define __launch_bounds__(threads)
static uint3 threadIdx, blockIdx;
static dim3 blockDim;
static int widest;
template <class T> void __stcg(T* to, T value) { *to = value; }
cudaError_t cudaGetLastError() { return cudaSuccess; }
template <int kWidth, class Thread>
void run_on_host(dim3 grid, dim3 block, const Thread& thread) {
  widest = kWidth;
  blockDim = block;
  for (blockIdx.z = 0; blockIdx.z < grid.z; ++blockIdx.z)
    for (blockIdx.y = 0; blockIdx.y < grid.y; ++blockIdx.y)
      for (blockIdx.x = 0; blockIdx.x < grid.x; ++blockIdx.x)
        for (threadIdx.y = 0; threadIdx.y < block.y; ++threadIdx.y)
          for (threadIdx.x = 0; threadIdx.x < block.x; ++threadIdx.x) thread();
}
"""
# The members of both structs take eight bytes each, so a list of numbers fills them. The result is the vectors' width.
AFTER = """
template <class Arguments, class Launch>
int call(const long long* numbers, int count, int storage, const Launch& launch) {
  Arguments arguments;
  if (sizeof(arguments) != count * sizeof(long long)) return -1;
  std::memcpy(&arguments, numbers, sizeof(arguments));
  widest = 0;
  return launch(arguments, static_cast<sgela::lstm::Storage>(storage), nullptr) == cudaSuccess ? widest : -2;
}
extern "C" int gates_forward(const long long* numbers, int count, int storage) {
  return call<sgela::lstm::GatesForward>(numbers, count, storage, sgela::lstm::launch_gates_forward);
}
extern "C" int gates_backward(const long long* numbers, int count, int storage) {
  return call<sgela::lstm::GatesBackward>(numbers, count, storage, sgela::lstm::launch_gates_backward);
}
"""


@pytest.fixture(scope="module")
def nvcc() -> str:
    found = report.find_nvcc()
    if found is None:
        pytest.skip("no nvcc on this machine; `make check-cuda` installs it")
    return found


@pytest.fixture(scope="module")
def headers(nvcc: str) -> str:
    """Folder of the CUDA headers. nvcc may be a script that starts another one, which knows where they are."""
    settings = subprocess.run([nvcc, "--dryrun", "-c", "none.cu"], capture_output=True, text=True).stderr
    top = re.search(r"TOP=(.+)", settings)
    assert top is not None, settings
    return str(Path(top[1].strip(), "include"))


@pytest.fixture(scope="module")
def compiler() -> str:
    found = shutil.which("c++")
    if found is None:
        pytest.skip("no C++ compiler on this machine")
    return found


@pytest.fixture(scope="module")
def kernels(nvcc: str) -> list[report.Kernel]:
    return report.compile_file(nvcc, GATES)


def test_all_widths_and_dtypes_are_compiled_and_none_spills(kernels: list[report.Kernel]) -> None:
    assert len(kernels) == 2 * 2 * 8  # GPUs, directions; two widths of float and three of each half type
    assert not [kernel for kernel in kernels if report.beyond(kernel)]


def test_two_blocks_share_a_multiprocessor(kernels: list[report.Kernel]) -> None:
    assert max(kernel.registers for kernel in kernels) * 256 * 2 <= 65536


def test_accesses_of_a_vector_are_16_bytes(nvcc: str, tmp_path: Path) -> None:
    listing = tmp_path / "gates.ptx"
    command = [nvcc, *report.FLAGS, "-arch=sm_90", "-ptx", f"-I{CSRC}", str(GATES), "-o", str(listing)]
    subprocess.run(command, check=True, capture_output=True)
    bodies = re.split(r"\.visible \.entry |\.entry ", listing.read_text())[1:]
    widest = [body for body in bodies if re.match(r"\w*(IfLi4E|Li8E)", body)]
    assert len(widest) == 6
    for body in widest:
        loads, stores = re.findall(r"ld\.global([\w.]*)", body), re.findall(r"st\.global([\w.]*)", body)
        assert {load for load in loads if "u64" not in load} <= {".v4.f32", ".v4.u32", ".v4.b32"}
        assert {store.replace(".cg", "") for store in stores} <= {".v4.f32", ".v4.u32", ".v4.b32"}
        assert loads
        assert stores


def test_the_registration_compiles_without_a_warning(headers: str, compiler: str) -> None:
    torch_headers = [part for path in include_paths() for part in ("-isystem", path)]
    definitions = ["-DUSE_CUDA", "-DTORCH_TARGET_VERSION=0x020b000000000000"]
    command = [compiler, "-std=c++20", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", *definitions, f"-I{CSRC}"]
    command += [*torch_headers, "-isystem", headers, str(CSRC / "batched_lstm" / "gates_cuda.cpp")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_ops_say_what_they_write() -> None:
    importlib.import_module("sgela_fast.kernels.batched_lstm_gates")
    written = {
        name: {
            a.name for a in getattr(torch.ops.sgela_fast, name).default._schema.arguments if a.alias_info is not None
        }
        for name in ("lstm_gates_forward", "lstm_gates_backward")
    }
    assert written["lstm_gates_forward"] == {"h", "c", "output", "tape"}
    assert written["lstm_gates_backward"] == {"grad_gates", "grad_previous_h", "grad_previous_c"}


def test_the_ops_are_available_only_where_the_extension_was_built_for_cuda() -> None:
    extension = pytest.importorskip("sgela_fast._C", reason="the compiled extension was not built")
    gates = importlib.import_module("sgela_fast.kernels.batched_lstm_gates")
    assert gates.available() == (extension.build_info()["cuda"] is not None)
    c = torch.zeros(1, 1, 2)
    with pytest.raises(NotImplementedError, match="lstm_gates_forward"):
        gates.gates_forward(torch.zeros(1, 1, 8), None, None, c, c)


Call = Callable[[str, list[int], torch.dtype], int]


@pytest.fixture(scope="module")
def call(headers: str, compiler: str, tmp_path_factory: pytest.TempPathFactory) -> Call:
    """Run a launcher of the CUDA file on the CPU; returns the units of a vector that it chose."""
    folder = tmp_path_factory.mktemp("gates")
    launch = re.compile(r"(gates_\w+<T, kWidth>)<<<grid, block, 0, stream>>>\(a\);")
    body, launches = launch.subn(r"(void)stream, run_on_host<kWidth>(grid, block, [&] { \1(a); });", GATES.read_text())
    assert launches == 2
    source, library = folder / "gates.cpp", folder / "gates.so"
    source.write_text(BEFORE + body + AFTER)
    command = [compiler, "-std=c++20", "-O1", "-fsanitize=undefined", "-fno-sanitize-recover", "-shared", "-fPIC", "-w"]
    subprocess.run([*command, f"-I{CSRC}", f"-I{headers}", str(source), "-o", str(library)], check=True)
    loaded = ctypes.CDLL(str(library))

    def run(name: str, numbers: list[int], dtype: torch.dtype) -> int:
        return int(getattr(loaded, name)((ctypes.c_longlong * len(numbers))(*numbers), len(numbers), STORAGE[dtype]))

    return run


def pointers(*tensors: Tensor | None) -> list[int]:
    return [0 if tensor is None else tensor.data_ptr() for tensor in tensors]


def strides(*tensors: Tensor | None) -> list[int]:
    return [stride for tensor in tensors for stride in ((0, 0) if tensor is None else tensor.stride()[:2])]


def draw(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape).to(dtype)


def problem_numbers(hidden: int, step: int, lengths: Tensor | None, groups: int = 2, batch: int = 5) -> list[int]:
    return [groups, batch, hidden, step, *pointers(lengths), 0, 1]


def exact_step(gates: Tensor, h: Tensor, c: Tensor, alive: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Output, h and c of one step by the reference in float64."""
    new_h, new_c = lstm_gates(gates, c)
    zeros = torch.zeros_like(new_h)
    return torch.where(alive, new_h, zeros), torch.where(alive, new_h, h), torch.where(alive, new_c, c)


def assert_close(found: Tensor, wanted: Tensor, tolerance: float) -> None:
    error = (found.double() - wanted).abs().max()
    assert error <= tolerance * max(1.0, float(wanted.abs().max())), float(error)


CASES = [(torch.float32, 8, 4), (torch.float32, 7, 1), (torch.float32, 300, 4)]
CASES += [
    (dtype, hidden, width) for dtype in (torch.bfloat16, torch.float16) for hidden, width in ((16, 8), (12, 4), (5, 1))
]


@pytest.mark.parametrize(("dtype", "hidden", "width"), CASES)
@pytest.mark.parametrize("ragged", [False, True])
def test_a_step_forward_and_backward_equals_the_reference(
    call: Call, dtype: torch.dtype, hidden: int, width: int, ragged: bool
) -> None:
    groups, batch, steps, step = 2, 5, 3, 1
    gates, h = draw(groups, batch, 4 * hidden, dtype=dtype), draw(groups, batch, hidden, dtype=dtype)
    c = draw(groups, batch, hidden)
    lengths = torch.tensor([3, 1, 2, 0, 3]) if ragged else None
    # Results go into slices of a sequence, as the caller has them.
    sequence = torch.full((groups, batch, steps, hidden), torch.nan, dtype=dtype)
    tapes = torch.full((groups, batch, steps, 6, hidden), torch.nan)
    output, tape = sequence[:, :, step], tapes[:, :, step]
    new_h, new_c = torch.full_like(h, torch.nan), torch.full_like(c, torch.nan)
    numbers = problem_numbers(hidden, step, lengths) + pointers(gates, h, c) + strides(gates, h, c)
    numbers += pointers(new_h, new_c, output, tape) + strides(new_h, new_c, output, tape)
    assert call("gates_forward", numbers, dtype) == width

    alive = torch.ones(batch, 1, dtype=torch.bool) if lengths is None else (step < lengths)[:, None]
    leaves = [tensor.double().requires_grad_() for tensor in (gates, h, c)]
    results = exact_step(leaves[0], leaves[1], leaves[2], alive)
    for found, wanted in zip((output, new_h, new_c), results, strict=True):
        assert_close(found, wanted.detach(), TOLERANCE[found.dtype])
    assert_close(tape[:, :, 4:], torch.stack((new_c, new_h.float()), 2).double(), 1e-7)
    assert torch.isnan(sequence[:, :, [0, 2]]).all()
    assert torch.isnan(tapes[:, :, [0, 2]]).all()

    grad_output, grad_h, grad_c = draw(groups, batch, hidden, dtype=dtype), draw(*c.shape), draw(*c.shape)
    exact = torch.autograd.grad(results, leaves, [grad.double() for grad in (grad_output, grad_h, grad_c)])
    grad_gates, grad_before_h, grad_before_c = (torch.full_like(t, torch.nan) for t in (gates, c, c))
    numbers = problem_numbers(hidden, step, lengths) + pointers(tape, c, grad_output, grad_h, grad_c)
    numbers += strides(tape, c, grad_output, grad_h, grad_c) + pointers(grad_gates, grad_before_h, grad_before_c)
    assert call("gates_backward", numbers + strides(grad_gates, grad_before_h, grad_before_c), dtype) == width
    for found, gradient in zip((grad_gates, grad_before_h, grad_before_c), exact, strict=True):
        assert_close(found, gradient, TOLERANCE[found.dtype])


@pytest.mark.parametrize("dtype", list(STORAGE))
def test_states_that_are_not_given_are_zeros_and_outputs_that_are_not_asked_for_are_left(
    call: Call, dtype: torch.dtype
) -> None:
    hidden = 8
    gates = draw(2, 5, 4 * hidden, dtype=dtype)
    h, c = torch.empty(2, 5, hidden, dtype=dtype), torch.empty(2, 5, hidden)
    numbers = problem_numbers(hidden, 0, None) + pointers(gates, None, None) + strides(gates, None, None)
    assert call("gates_forward", numbers + pointers(h, c, None, None) + strides(h, c, None, None), dtype) > 0
    wanted_h, wanted_c = lstm_gates(gates.double(), torch.zeros(2, 5, hidden, dtype=torch.float64))
    assert_close(h, wanted_h, TOLERANCE[dtype])
    assert_close(c, wanted_c, TOLERANCE[torch.float32])


def test_unaligned_pointers_and_odd_strides_take_single_units(call: Call) -> None:
    hidden = 8
    padded = draw(2, 5, 4 * hidden + 1)
    for gates in (padded[..., : 4 * hidden], padded.flatten()[1:].as_strided((2, 5, 32), (160, 32, 1))):
        h, c = torch.empty(2, 5, hidden), torch.empty(2, 5, hidden)
        numbers = problem_numbers(hidden, 0, None) + pointers(gates, None, None) + strides(gates, None, None)
        assert (
            call("gates_forward", numbers + pointers(h, c, None, None) + strides(h, c, None, None), torch.float32) == 1
        )
        assert_close(h, lstm_gates(gates.double(), torch.zeros_like(c).double())[0], 1e-6)


def test_no_windows_launch_nothing_and_too_many_groups_are_an_error(call: Call) -> None:
    nothing = pointers(*[None] * 3) + strides(*[None] * 3) + pointers(*[None] * 4) + strides(*[None] * 4)
    for shape, answer in (({"batch": 0}, 0), ({"groups": 65536}, -2)):
        assert call("gates_forward", problem_numbers(8, 0, None, **shape) + nothing, torch.float32) == answer
