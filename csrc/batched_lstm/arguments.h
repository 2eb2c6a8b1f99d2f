// What the op files of batched_lstm share: checks that guard the kernels' memory, and the choice of kernels.
#pragma once

#include <algorithm>
#include <vector>

#include "batched_lstm/lstm.h"
#include "common/tensors.h"

namespace sgela::lstm {

inline void check_sizes(const Tensor& tensor, const std::vector<int64_t>& sizes, const char* name) {
  sgela::check_sizes("batched_lstm", tensor, sizes, name);
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
  return SGELA_OF_CHOSEN_ISA(kernels, T);
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

}  // namespace sgela::lstm
