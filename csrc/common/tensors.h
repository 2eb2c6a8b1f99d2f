// What the op files share: tensors in the computing type, checks of what would be read out of bounds, the choice of
// kernels by instruction set, and the loop over tasks. For files of the baseline that include torch.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <algorithm>
#include <atomic>
#include <optional>
#include <vector>

#include "common/huge_pages.h"
#include "common/isa.h"

// NAME_baseline<T>(), NAME_avx2<T>() or NAME_avx512<T>(), as chosen_isa() says.
#if defined(__x86_64__)
#define SGELA_OF_CHOSEN_ISA(NAME, T)                                            \
  (::sgela::chosen_isa() == ::sgela::Isa::kAvx512 ? NAME##_avx512<T>()          \
   : ::sgela::chosen_isa() == ::sgela::Isa::kAvx2 ? NAME##_avx2<T>()            \
                                                  : NAME##_baseline<T>())
#else
#define SGELA_OF_CHOSEN_ISA(NAME, T) NAME##_baseline<T>()
#endif

namespace sgela {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using OptionalTensor = std::optional<Tensor>;

// float64 computes in itself, float32, bfloat16 and float16 in float32.
inline ScalarType computing_type(ScalarType storage) {
  if (storage == ScalarType::Double) return ScalarType::Double;
  STD_TORCH_CHECK(storage == ScalarType::Float || storage == ScalarType::BFloat16 || storage == ScalarType::Half,
                  "the CPU kernels take float64, float32, bfloat16 and float16");
  return ScalarType::Float;
}

inline Tensor as(const Tensor& tensor, ScalarType type) {
  return tensor.scalar_type() == type ? tensor : torch::stable::to(tensor, type);
}

inline Tensor dense(const Tensor& tensor, ScalarType type) {
  const Tensor converted = as(tensor, type);
  return converted.is_contiguous() ? converted : torch::stable::contiguous(converted);
}

inline Tensor empty_beside(const Tensor& tensor, const std::vector<int64_t>& sizes, ScalarType type) {
  constexpr size_t kLarge = 4 << 20;
  const Tensor empty = torch::stable::new_empty(tensor, sizes, type);
  const size_t bytes = static_cast<size_t>(empty.numel()) * empty.element_size();
  if (bytes >= kLarge && empty.is_cpu()) prefer_huge_pages(empty.mutable_data_ptr(), bytes);
  return empty;
}

inline void check_sizes(const char* op, const Tensor& tensor, const std::vector<int64_t>& sizes, const char* name) {
  bool equal = tensor.dim() == static_cast<int64_t>(sizes.size());
  for (size_t i = 0; equal && i < sizes.size(); ++i) equal = tensor.size(i) == sizes[i];
  STD_TORCH_CHECK(equal, op, ": ", name, " has another shape than the other arguments say");
  STD_TORCH_CHECK(tensor.is_cpu(), op, ": ", name, " is not on the CPU");
}

// Calls run(task, workspace) for all tasks, each thread with a workspace of its own.
template <class T, class Run>
void for_each_task(int64_t tasks, int64_t workspace_size, const Tensor& beside, ScalarType type, const Run& run) {
  if (tasks <= 0) return;
  const int64_t workers = std::min<int64_t>(tasks, torch::stable::get_num_threads());
  const Tensor memory = empty_beside(beside, {workers * workspace_size}, type);
  T* const workspaces = static_cast<T*>(memory.mutable_data_ptr());
  std::atomic<int64_t> next{0};
  torch::stable::parallel_for(0, workers, 1, [&](int64_t begin, int64_t end) {
    for (int64_t worker = begin; worker < end; ++worker) {
      for (int64_t task = next++; task < tasks; task = next++) run(task, workspaces + worker * workspace_size);
    }
  });
}

}  // namespace sgela
