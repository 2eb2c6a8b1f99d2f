// What the op files of batched_lstm share: checks that guard the kernels' memory, conversions to the computing type,
// and the loop over tasks.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <algorithm>
#include <atomic>
#include <optional>
#include <vector>

#include "batched_lstm/lstm.h"
#include "common/huge_pages.h"

namespace sgela::lstm {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using OptionalTensor = std::optional<Tensor>;

// float64 computes in itself, float32, bfloat16 and float16 in float32.
inline ScalarType computing_type(ScalarType storage) {
  if (storage == ScalarType::Double) return ScalarType::Double;
  STD_TORCH_CHECK(storage == ScalarType::Float || storage == ScalarType::BFloat16 || storage == ScalarType::Half,
                  "batched_lstm takes float64, float32, bfloat16 and float16");
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

inline void check_sizes(const Tensor& tensor, const std::vector<int64_t>& sizes, const char* name) {
  bool equal = tensor.dim() == static_cast<int64_t>(sizes.size());
  for (size_t i = 0; equal && i < sizes.size(); ++i) equal = tensor.size(i) == sizes[i];
  STD_TORCH_CHECK(equal, "batched_lstm: ", name, " has another shape than the weights and the input say");
  STD_TORCH_CHECK(tensor.is_cpu(), "batched_lstm: ", name, " is not on the CPU");
}

// An optional tensor, checked and dense in the computing type; `data` is null without one.
template <class T>
struct Optional {
  OptionalTensor tensor;
  const T* data = nullptr;

  Optional(const OptionalTensor& given, const std::vector<int64_t>& sizes, ScalarType type, const char* name) {
    if (!given.has_value()) return;
    check_sizes(*given, sizes, name);
    tensor = dense(*given, type);
    data = static_cast<const T*>(tensor->const_data_ptr());
  }
};

// The weights' part of the shape: per layer weight_ih (G, 4K, I_l), weight_hh (G, 4K, K), bias (G, 4K).
inline Shape shape_of(const std::vector<Tensor>& weights) {
  STD_TORCH_CHECK(!weights.empty() && weights.size() % 3 == 0, "batched_lstm takes three weights a layer");
  STD_TORCH_CHECK(weights[0].dim() == 3 && weights[1].dim() == 3, "batched_lstm: weights have three dimensions");
  Shape shape{weights[0].size(0),
              0,
              0,
              weights[0].size(2),
              weights[1].size(2),
              static_cast<Size>(weights.size() / 3)};
  for (Size layer = 0; layer < shape.layers; ++layer) {
    check_sizes(weights[3 * layer], {shape.groups, 4 * shape.hidden, shape.layer_input(layer)}, "weight_ih");
    check_sizes(weights[3 * layer + 1], {shape.groups, 4 * shape.hidden, shape.hidden}, "weight_hh");
    check_sizes(weights[3 * layer + 2], {shape.groups, 4 * shape.hidden}, "bias");
  }
  return shape;
}

inline Shape shape_of(const Tensor& input, const std::vector<Tensor>& weights) {
  Shape shape = shape_of(weights);
  STD_TORCH_CHECK(input.dim() == 4, "batched_lstm: input has the shape (G, B, T, I)");
  shape.batch = input.size(1);
  shape.steps = input.size(2);
  check_sizes(input, {shape.groups, shape.batch, shape.steps, shape.input_size}, "input");
  return shape;
}

// (G, B, T, I) in the computing type with unit stride last, the other strides as they are.
inline Tensor rows_of(const Tensor& input, ScalarType type) {
  const Tensor converted = as(input, type);
  return converted.size(3) <= 1 || converted.stride(3) == 1 ? converted : torch::stable::contiguous(converted);
}

// The weights of all layers and groups in the computing type.
template <class T>
struct Weights {
  std::vector<Tensor> tensors;

  Weights(const std::vector<Tensor>& given, ScalarType type) {
    for (const Tensor& weight : given) tensors.push_back(dense(weight, type));
  }
  LayerWeights<T> of(const Shape& shape, Size group, Size layer) const {
    const auto data = [&](Size i) { return static_cast<const T*>(tensors[3 * layer + i].const_data_ptr()); };
    const Size rows = group * 4 * shape.hidden;
    return {data(0) + rows * shape.layer_input(layer), data(1) + rows * shape.hidden, data(2) + rows};
  }
};

template <class T>
const Kernels<T>& chosen_kernels() {
#if defined(__x86_64__)
  switch (chosen_isa()) {
    case Isa::kAvx512:
      return kernels_avx512<T>();
    case Isa::kAvx2:
      return kernels_avx2<T>();
    default:
      break;
  }
#endif
  return kernels_baseline<T>();
}

// Windows of a block: so few that their states stay in L2, and enough blocks for all threads. A window's result does
// not depend on it.
inline Size window_block(const Shape& shape) {
  constexpr Size kMost = 72, kFewest = 12;
  const Size threads = torch::stable::get_num_threads();
  const Size wanted = (threads + shape.groups - 1) / std::max<Size>(shape.groups, 1);
  const Size blocks = std::max({Size(1), (shape.batch + kMost - 1) / kMost, std::min(wanted, shape.batch / kFewest)});
  return std::max<Size>(1, (shape.batch + blocks - 1) / blocks);
}

// Calls run(task, workspace) for all tasks, each thread with a workspace of its own.
template <class T, class Run>
void for_each_task(Size tasks, Size workspace_size, const Tensor& beside, ScalarType type, const Run& run) {
  if (tasks <= 0) return;
  const Size workers = std::min<Size>(tasks, torch::stable::get_num_threads());
  const Tensor memory = empty_beside(beside, {workers * workspace_size}, type);
  T* const workspaces = static_cast<T*>(memory.mutable_data_ptr());
  std::atomic<Size> next{0};
  torch::stable::parallel_for(0, workers, 1, [&](int64_t begin, int64_t end) {
    for (int64_t worker = begin; worker < end; ++worker) {
      for (Size task = next++; task < tasks; task = next++) run(task, workspaces + worker * workspace_size);
    }
  });
}

}  // namespace sgela::lstm
