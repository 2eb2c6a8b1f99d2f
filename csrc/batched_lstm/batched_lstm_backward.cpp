// The CPU op batched_lstm_backward: checks, allocation, and two loops per stretch of windows, over groups and blocks of
// windows and over groups, layers and stripes of gate columns.

#include "batched_lstm/arguments.h"
#include "batched_lstm/forward_op.h"

namespace sgela::lstm {
namespace {

// Rows (windows x steps) of a stretch for every thread or two: their gates' gradients take 4 MB per layer and group at
// K = 256, which the next stretch finds in the cache again. The sums do not depend on it.
constexpr Size kStretchRows = 1024;

using BackwardResult = std::tuple<Tensor, Tensor, Tensor, std::vector<Tensor>>;

template <class T>
BackwardResult backward_as(const OptionalTensor& grad_output, const OptionalTensor& grad_h_n,
                           const OptionalTensor& grad_c_n, const Tensor& input, const std::vector<Tensor>& given,
                           const OptionalTensor& h0, const OptionalTensor& c0, const OptionalTensor& lengths,
                           const OptionalTensor& masks, const Tensor& given_tape) {
  const ScalarType storage = input.scalar_type(), type = computing_type(storage);
  const Shape shape = shape_of(input, given);
  const Tensor x = rows_of(input, type);
  const std::vector<int64_t> states{shape.layers, shape.groups, shape.batch, shape.hidden};
  const std::vector<int64_t> outputs{shape.groups, shape.batch, shape.steps, shape.hidden};
  const Optional<T> first_h(h0, states, type, "h0"), first_c(c0, states, type, "c0");
  const Optional<T> output_gradient(grad_output, outputs, type, "grad_output");
  const Optional<T> h_gradient(grad_h_n, states, type, "grad_h_n"), c_gradient(grad_c_n, states, type, "grad_c_n");
  const Optional<Size> ends(lengths, {shape.batch}, ScalarType::Long, "lengths");
  const Optional<T> dropout(masks, {shape.layers - 1, shape.groups, shape.batch, shape.steps, shape.hidden}, type,
                            "dropout_masks");
  const Size tape_size = shape.tape_size();
  Tensor tape = given_tape;
  if (tape.numel() == 0 && tape_size > 0) {
    tape = run_forward(input, given, std::nullopt, h0, c0, lengths, masks, true).tape;
  }
  STD_TORCH_CHECK(tape.scalar_type() == type && tape.is_contiguous() && tape.numel() == tape_size,
                  "batched_lstm_backward: the tape is not the one of this forward pass");

  const Kernels<T>& kernels = chosen_kernels<T>();
  const Weights<T> weights(given, type);
  const Tensor panels = empty_beside(x, {shape.panels_offset(shape.groups, 0, kernels.panel)}, type);
  const auto data = [](const Tensor& tensor) { return static_cast<T*>(tensor.mutable_data_ptr()); };
  for_each_task<T>(shape.groups * shape.layers, 0, x, type, [&](Size task, T*) {
    const Size group = task / shape.layers, layer = task % shape.layers;
    kernels.pack_backward(shape, layer, weights.of(shape, group, layer),
                          data(panels) + shape.panels_offset(group, layer, kernels.panel));
  });

  const Size block = window_block(shape);
  const Size rows = std::max<Size>(1, torch::stable::get_num_threads() / 2) * kStretchRows;
  const Size blocks_of_stretch = std::max<Size>(1, rows / std::max<Size>(1, shape.steps * block));
  const Size stretch = std::min(shape.batch, blocks_of_stretch * block);
  const Tensor grad_gates =
      empty_beside(x, {shape.groups * shape.layers * stretch * shape.steps * shape.gate_stride()}, type);
  Tensor grad_input = empty_beside(x, {shape.groups, shape.batch, shape.steps, shape.input_size}, type);
  Tensor grad_h0 = empty_beside(x, h0.has_value() ? states : std::vector<int64_t>{0}, type);
  Tensor grad_c0 = empty_beside(x, c0.has_value() ? states : std::vector<int64_t>{0}, type);
  std::vector<Tensor> grad_weights;
  std::vector<T*> grad_weights_data;
  for (Size layer = 0; layer < shape.layers; ++layer) {
    const Size gates = 4 * shape.hidden;
    grad_weights.push_back(empty_beside(x, {shape.groups, gates, shape.layer_input(layer)}, type));
    grad_weights.push_back(empty_beside(x, {shape.groups, gates, shape.hidden}, type));
    grad_weights.push_back(empty_beside(x, {shape.groups, gates}, type));
  }
  for (const Tensor& gradient : grad_weights) grad_weights_data.push_back(data(gradient));

  Backward<T> backward{shape,
                       data(panels),
                       static_cast<const T*>(x.const_data_ptr()),
                       {x.stride(0), x.stride(1), x.stride(2)},
                       first_h.data,
                       first_c.data,
                       ends.data,
                       dropout.data,
                       static_cast<const T*>(tape.const_data_ptr()),
                       output_gradient.data,
                       h_gradient.data,
                       c_gradient.data,
                       data(grad_input),
                       h0.has_value() ? data(grad_h0) : nullptr,
                       c0.has_value() ? data(grad_c0) : nullptr,
                       grad_weights_data.data(),
                       data(grad_gates),
                       0,
                       0,
                       block};
  // Also without a window, so that the gradients of the weights are set to 0.
  for (Size first = 0; first == 0 || first < shape.batch; first += stretch) {
    backward.first_window = first;
    backward.windows = std::min(stretch, shape.batch - first);
    const Size blocks = (backward.windows + block - 1) / block;
    for_each_task<T>(shape.groups * blocks, kernels.backward_workspace(shape, block), x, type,
                     [&](Size task, T* workspace) {
                       const Size begin = task % blocks * block;
                       kernels.backward(backward, task / blocks, first + begin,
                                        std::min(block, backward.windows - begin), workspace);
                     });
    const Size stripes = (4 * shape.hidden + kStripe - 1) / kStripe;
    for_each_task<T>(shape.groups * shape.layers * stripes, kernels.weights_workspace(shape), x, type,
                     [&](Size task, T* workspace) {
                       const Size group = task / stripes / shape.layers, layer = task / stripes % shape.layers;
                       kernels.backward_weights(backward, group, layer, task % stripes, workspace);
                     });
    if (stretch == 0) break;
  }
  for (Tensor* tensor : {&grad_input, &grad_h0, &grad_c0}) *tensor = as(*tensor, storage);
  for (Tensor& gradient : grad_weights) gradient = as(gradient, given[0].scalar_type());
  return {grad_input, grad_h0, grad_c0, grad_weights};
}

BackwardResult batched_lstm_backward(OptionalTensor grad_output, OptionalTensor grad_h_n, OptionalTensor grad_c_n,
                                     Tensor input, std::vector<Tensor> weights, OptionalTensor h0, OptionalTensor c0,
                                     OptionalTensor lengths, OptionalTensor dropout_masks,
                                     [[maybe_unused]] Tensor output, Tensor tape) {
  const bool is_double = computing_type(input.scalar_type()) == ScalarType::Double;
  return (is_double ? backward_as<double> : backward_as<float>)(grad_output, grad_h_n, grad_c_n, input, weights, h0, c0,
                                                                lengths, dropout_masks, tape);
}

}  // namespace
}  // namespace sgela::lstm

STABLE_TORCH_LIBRARY_IMPL(sgela_fast, CPU, m) {
  m.impl("batched_lstm_backward", TORCH_BOX(&sgela::lstm::batched_lstm_backward));
}
