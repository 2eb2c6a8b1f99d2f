"""CUDA files are compiled for every supported GPU, and what kernels take is held to a budget. It needs no GPU."""

from __future__ import annotations

from pathlib import Path

import pytest

from sgela_fast.benchmarks import cuda_compile_report as report
from sgela_fast.benchmarks.cuda_compile_report import Budget, CompileError, Kernel

FILES = sorted((report.ROOT / "csrc").rglob("*.cu"))
PTXAS = """
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '_ZN1k4copyIfEEvPKT_PS1_l' for 'sm_80'
ptxas info    : Function properties for _ZN1k4copyIfEEvPKT_PS1_l
    16 bytes stack frame, 8 bytes spill stores, 4 bytes spill loads
ptxas info    : Function properties for _ZN1k6helperEv
    32 bytes stack frame, 2 bytes spill stores, 1 bytes spill loads
ptxas info    : Used 40 registers, used 1 barriers, 512 bytes smem, 376 bytes cmem[0]
ptxas info    : Compile time = 2.983 ms
ptxas info    : Compiling entry function 'plain' for 'sm_90a'
ptxas info    : Function properties for plain
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 12 registers
"""
MEAN = """
#include <cuda_bf16.h>
namespace demo {
template <typename T>
__global__ void block_sum(const T* in, float* out) {
  __shared__ float part[128];
  part[threadIdx.x] = static_cast<float>(in[blockIdx.x * 128 + threadIdx.x]);
  __syncthreads();
  if (threadIdx.x == 0) {
    float sum = 0;
    for (float value : part) sum += value;
    out[blockIdx.x] = sum;
  }
}
void launch(const __nv_bfloat16* in, float* out, int blocks, cudaStream_t stream) {
  block_sum<<<blocks, 128, 0, stream>>>(in, out);
}
}  // namespace demo
"""
# 200 live values a thread, but 1024 threads a block leave 64 registers for each.
SPILLING = """
__global__ void __launch_bounds__(1024) hoard(const float* in, float* out) {
  float held[200];
#pragma unroll
  for (int i = 0; i < 200; ++i) held[i] = in[i * 1024 + threadIdx.x];
  __syncthreads();
#pragma unroll
  for (int i = 0; i < 200; ++i) out[(i * 1024 + threadIdx.x) * 7] = held[199 - i] * held[i];
}
"""


@pytest.fixture(scope="module")
def nvcc() -> str:
    found = report.find_nvcc()
    if found is None:
        pytest.skip("no nvcc on this machine; `make check-cuda` installs it")
    return found


def source(folder: Path, text: str, name: str = "kernel.cu") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_what_ptxas_says_is_read_for_each_kernel_and_gpu() -> None:
    first, second = report.parse(PTXAS)
    assert first[1:] == ("80", 40, 32, 15, 512)
    assert second == Kernel("plain", "90a", 12, 0, 0, 0)


def test_output_that_cannot_be_read_is_an_error() -> None:
    with pytest.raises(ValueError, match="cannot read"):
        list(report.parse("Compiling entry function 'f' for 'sm_80'\nnothing else\n"))


def test_spills_are_beyond_the_budget_unless_the_kernel_is_listed() -> None:
    kernel = Kernel("sgela::rows<float, 4>", "80", 255, 0, 8, 0)
    assert report.beyond(kernel) == ["spills"]
    assert report.beyond(kernel, {"rows": Budget(spills=8)}) == []
    assert report.beyond(kernel, {"other": Budget(spills=8)}) == ["spills"]


def test_hopper_files_are_compiled_for_hopper_alone() -> None:
    assert report.gpus_of(Path("csrc/lstm_sm90a.cu")) == ("90a",)
    assert report.gpus_of(Path("csrc/lstm.cu")) == ("80", "90")


def test_a_file_is_compiled_for_all_gpus(nvcc: str, tmp_path: Path) -> None:
    kernels = report.compile_file(nvcc, source(tmp_path, MEAN))
    assert {kernel.gpu for kernel in kernels} == {"80", "90"}
    assert all(kernel.shared == 512 and 0 < kernel.registers < 128 for kernel in kernels)
    assert not any(report.beyond(kernel) for kernel in kernels)


def test_a_kernel_that_spills_ends_the_report_with_status_1(
    nvcc: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source(tmp_path, SPILLING)
    assert report.main([str(tmp_path)]) == 1
    printed = capsys.readouterr().out
    assert "`hoard" in printed
    assert "2 beyond their budget" in printed


def test_a_file_that_does_not_compile_ends_the_report_with_status_1(
    nvcc: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(CompileError, match="nonsense"):
        report.compile_file(nvcc, source(tmp_path, "__global__ void f() { nonsense; }"))
    assert report.main([str(tmp_path)]) == 1
    assert "kernel.cu does not compile" in capsys.readouterr().err


def test_a_warning_is_an_error(nvcc: str, tmp_path: Path) -> None:
    with pytest.raises(CompileError, match="never referenced"):
        report.compile_file(nvcc, source(tmp_path, "__global__ void f() { int unused; }"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_kernel_keeps_to_its_budget(nvcc: str, path: Path) -> None:
    over = [(kernel, report.beyond(kernel)) for kernel in report.compile_file(nvcc, path)]
    assert not [found for found in over if found[1]]
