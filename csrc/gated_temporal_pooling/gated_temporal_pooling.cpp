// The CPU op gated_temporal_pooling and its backward: checks of what would be read out of bounds, allocation, and the
// loops over strips and blocks of sequences. Schemas are defined in Python.

#include <cmath>
#include <tuple>

#include "common/tensors.h"
#include "gated_temporal_pooling/pooling.h"

namespace sgela::pooling {
namespace {

// Rows (frames and pads) of a block, whose matrices then stay in L2; a sequence's result does not depend on it. The
// backward pass has more of them.
constexpr Size kForwardRows = 190, kBackwardRows = 100;
// Tasks that the backward pass is cut into where there are fewer strips: each has sums of its own for the gradients of
// the weights. The sums depend on it, and it on nothing but shapes.
constexpr Size kTasks = 16;

using ForwardResult = std::tuple<Tensor, Tensor, Tensor, Tensor>;
using BackwardResult = std::tuple<Tensor, std::vector<Tensor>>;

Size divide_up(Size a, Size b) { return (a + b - 1) / b; }

void check(const Tensor& tensor, const std::vector<int64_t>& sizes, const char* name) {
  check_sizes("gated_temporal_pooling", tensor, sizes, name);
}

// The arguments of either pass, checked and dense in the computing type.
template <class T>
struct Arguments {
  std::vector<Tensor> weights;
  std::vector<Gate> gates;
  std::vector<GateWeights<T>> pointers;
  Tensor features, lengths;
  Shape shape;

  Arguments(const Tensor& given, const std::vector<Tensor>& given_weights, const OptionalTensor& given_lengths,
            const std::vector<int64_t>& windows, ScalarType type) {
    STD_TORCH_CHECK(given.dim() == 4 && given.is_cpu(), "gated_temporal_pooling: features are (S, N, T, C) on the CPU");
    STD_TORCH_CHECK(!windows.empty() && given_weights.size() == 4 * windows.size(),
                    "gated_temporal_pooling takes four weights a window");
    shape = {given.size(0), given.size(1), given.size(2), given.size(3), nullptr, static_cast<Size>(windows.size())};
    STD_TORCH_CHECK(shape.frames > 0 && shape.channels > 0, "gated_temporal_pooling: there are no frames or channels");
    for (size_t g = 0; g < windows.size(); ++g) {
      const Tensor &conv1 = given_weights[4 * g], &conv2 = given_weights[4 * g + 2];
      STD_TORCH_CHECK(conv1.dim() == 4 && conv2.dim() == 4, "gated_temporal_pooling: convolutions have four dimensions");
      const Gate gate{conv1.size(1), conv1.size(3), conv2.size(3), windows[g]};
      STD_TORCH_CHECK(gate.hidden > 0 && gate.first % 2 == 1 && gate.second % 2 == 1 && gate.window > 0 &&
                          gate.window % 2 == 1,
                      "gated_temporal_pooling: taps and windows are odd");
      check(conv1, {shape.strips, gate.hidden, shape.channels, gate.first}, "conv1_weight");
      check(given_weights[4 * g + 1], {shape.strips, gate.hidden}, "conv1_bias");
      check(conv2, {shape.strips, shape.channels, gate.hidden, gate.second}, "conv2_weight");
      check(given_weights[4 * g + 3], {shape.strips, shape.channels}, "conv2_bias");
      gates.push_back(gate);
    }
    shape.gates = gates.data();
    for (const Tensor& weight : given_weights) weights.push_back(dense(weight, type));
    for (size_t g = 0; g < windows.size(); ++g) {
      const auto data = [&](size_t i) { return static_cast<const T*>(weights[4 * g + i].const_data_ptr()); };
      pointers.push_back({data(0), data(1), data(2), data(3)});
    }
    features = as(given, type);
    if (shape.channels > 1 && features.stride(3) != 1) features = torch::stable::contiguous(features);
    if (!given_lengths.has_value()) return;
    check(*given_lengths, {shape.count}, "lengths");
    lengths = dense(*given_lengths, ScalarType::Long);
  }
  Arguments(const Arguments&) = delete;  // the shape points into it

  void fill(Inputs<T>& in, double slope, bool maximum, Tensor& panels) const {
    in.shape = shape;
    in.weights = pointers.data();
    in.slope = static_cast<T>(slope);
    in.maximum = maximum;
    in.features = static_cast<const T*>(features.const_data_ptr());
    for (int i = 0; i < 3; ++i) in.strides[i] = features.stride(i);
    in.lengths = lengths.defined() ? static_cast<const Size*>(lengths.const_data_ptr()) : nullptr;
    in.panels = static_cast<T*>(panels.mutable_data_ptr());
  }
  // Sequences of each of as many equal blocks as keep to the rows.
  Size block(Size rows) const {
    const Size blocks = divide_up(shape.count, std::max<Size>(1, rows / (shape.frames + shape.pad())));
    return std::max<Size>(1, divide_up(shape.count, std::max<Size>(1, blocks)));
  }
};

template <class T>
T* data_of(const Tensor& tensor) {
  return static_cast<T*>(tensor.mutable_data_ptr());
}

template <class T>
ForwardResult forward_as(const Tensor& given, const std::vector<Tensor>& weights, const OptionalTensor& lengths,
                         const std::vector<int64_t>& windows, double slope, bool maximum, bool save_hidden) {
  const ScalarType storage = given.scalar_type(), type = computing_type(storage);
  const Arguments<T> arguments(given, weights, lengths, windows, type);
  const Shape& shape = arguments.shape;
  const Kernels<T>& kernels = SGELA_OF_CHOSEN_ISA(kernels, T);
  const Tensor& x = arguments.features;
  const std::vector<int64_t> pooled{shape.strips, shape.count, shape.channels}, none{0};
  const std::vector<int64_t> whole{shape.strips, shape.count, shape.frames, shape.channels};
  const Tensor output = empty_beside(x, maximum ? pooled : whole, type);
  const Tensor hidden = empty_beside(
      x, save_hidden ? std::vector<int64_t>{shape.strips, shape.count, shape.frames, shape.hidden()} : none, type);
  const Tensor chosen = empty_beside(x, maximum ? pooled : none, ScalarType::Int);
  const Tensor gates = empty_beside(
      x, maximum ? std::vector<int64_t>{shape.gate_count, shape.strips, shape.count, shape.channels} : none, type);
  Tensor panels = empty_beside(x, {shape.strips * kernels.panels_size(shape)}, type);

  Forward<T> forward{};
  arguments.fill(forward, slope, maximum, panels);
  forward.output = data_of<T>(output);
  forward.hidden = save_hidden ? data_of<T>(hidden) : nullptr;
  forward.chosen = maximum ? data_of<std::int32_t>(chosen) : nullptr;
  forward.gates = maximum ? data_of<T>(gates) : nullptr;
  if (shape.count > 0) {
    for_each_task<T>(shape.strips, 0, x, type, [&](Size strip, T*) { kernels.pack(forward, strip); });
    const Size block = arguments.block(kForwardRows), blocks = divide_up(shape.count, block);
    for_each_task<T>(shape.strips * blocks, kernels.workspace(shape, block), x, type, [&](Size task, T* workspace) {
      const Size first = task % blocks * block;
      kernels.forward(forward, task / blocks, first, std::min(block, shape.count - first), workspace);
    });
  }
  return {as(output, storage), hidden, chosen, gates};
}

template <class T>
BackwardResult backward_as(const Tensor& grad_output, const Tensor& given, const std::vector<Tensor>& weights,
                           const OptionalTensor& lengths, const Tensor& hidden, const Tensor& chosen,
                           const Tensor& gates, const std::vector<int64_t>& windows, double slope, bool maximum) {
  const ScalarType storage = given.scalar_type(), type = computing_type(storage);
  const Arguments<T> arguments(given, weights, lengths, windows, type);
  const Shape& shape = arguments.shape;
  const Kernels<T>& kernels = SGELA_OF_CHOSEN_ISA(kernels, T);
  const Tensor& x = arguments.features;
  const std::vector<int64_t> pooled{shape.strips, shape.count, shape.channels};
  const std::vector<int64_t> whole{shape.strips, shape.count, shape.frames, shape.channels};
  check(grad_output, maximum ? pooled : whole, "grad_output");
  const Tensor upstream = dense(grad_output, type);
  if (hidden.numel() > 0) check(hidden, {shape.strips, shape.count, shape.frames, shape.hidden()}, "hidden");
  if (maximum) {
    check(chosen, pooled, "chosen");
    check(gates, {shape.gate_count, shape.strips, shape.count, shape.channels}, "gates");
  }
  const Tensor saved = dense(hidden, type), frames = dense(chosen, ScalarType::Int), opened = dense(gates, type);
  Tensor panels = empty_beside(x, {shape.strips * kernels.backward_panels_size(shape)}, type);
  const Tensor grad_features = empty_beside(x, whole, type);
  std::vector<Tensor> grad_weights;
  std::vector<GateGradients<T>> gradients;
  for (const Tensor& weight : arguments.weights) {
    std::vector<int64_t> sizes;
    for (int64_t i = 0; i < weight.dim(); ++i) sizes.push_back(weight.size(i));
    grad_weights.push_back(empty_beside(x, sizes, type));
  }
  for (size_t g = 0; g < windows.size(); ++g) {
    const auto data = [&](size_t i) { return data_of<T>(grad_weights[4 * g + i]); };
    gradients.push_back({data(0), data(1), data(2), data(3)});
  }

  Backward<T> backward{};
  arguments.fill(backward, slope, maximum, panels);
  backward.grad_output = static_cast<const T*>(upstream.const_data_ptr());
  backward.hidden = saved.numel() > 0 ? static_cast<const T*>(saved.const_data_ptr()) : nullptr;
  backward.chosen = static_cast<const std::int32_t*>(frames.const_data_ptr());
  backward.gates = static_cast<const T*>(opened.const_data_ptr());
  backward.grad_features = data_of<T>(grad_features);
  backward.grad_weights = gradients.data();
  backward.block = arguments.block(kBackwardRows);
  const Size blocks = divide_up(shape.count, backward.block);
  backward.chunk = std::max<Size>(1, divide_up(blocks, std::max<Size>(1, divide_up(kTasks, shape.strips))));
  const Size chunks = divide_up(blocks, backward.chunk);
  const Tensor partial = empty_beside(x, {shape.strips * chunks * kernels.partial_size(shape)}, type);
  backward.partial = data_of<T>(partial);
  for_each_task<T>(shape.strips, 0, x, type, [&](Size strip, T*) { kernels.backward_pack(backward, strip); });
  for_each_task<T>(shape.strips * chunks, kernels.backward_workspace(shape, backward.block), x, type,
                   [&](Size task, T* workspace) {
                     kernels.backward(backward, task / chunks, task % chunks, chunks, workspace);
                   });
  // Also without a sequence, so that the gradients of the weights are set to 0.
  for_each_task<T>(shape.strips, 0, x, type, [&](Size strip, T*) { kernels.reduce(backward, strip, chunks); });
  for (Tensor& gradient : grad_weights) gradient = as(gradient, weights[0].scalar_type());
  return {as(grad_features, storage), grad_weights};
}

ForwardResult gated_temporal_pooling(Tensor features, std::vector<Tensor> weights, OptionalTensor lengths,
                                     std::vector<int64_t> windows, double negative_slope, bool maximum,
                                     bool save_hidden) {
  const bool is_double = computing_type(features.scalar_type()) == ScalarType::Double;
  return (is_double ? forward_as<double> : forward_as<float>)(features, weights, lengths, windows, negative_slope,
                                                              maximum, save_hidden);
}

BackwardResult gated_temporal_pooling_backward(Tensor grad_output, Tensor features, std::vector<Tensor> weights,
                                               OptionalTensor lengths, Tensor hidden, Tensor chosen, Tensor gates,
                                               std::vector<int64_t> windows, double negative_slope, bool maximum) {
  const bool is_double = computing_type(features.scalar_type()) == ScalarType::Double;
  return (is_double ? backward_as<double> : backward_as<float>)(grad_output, features, weights, lengths, hidden, chosen,
                                                                gates, windows, negative_slope, maximum);
}

}  // namespace
}  // namespace sgela::pooling

STABLE_TORCH_LIBRARY_IMPL(sgela_fast, CPU, m) {
  m.impl("gated_temporal_pooling", TORCH_BOX(&sgela::pooling::gated_temporal_pooling));
  m.impl("gated_temporal_pooling_backward", TORCH_BOX(&sgela::pooling::gated_temporal_pooling_backward));
}
