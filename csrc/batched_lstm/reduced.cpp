// The CPU op batched_lstm_reduced, and packing of its weights: bfloat16 or int8, five tensors a layer (weight_ih, its scales,
// weight_hh, its scales, bias). Scales are empty beside bfloat16, and beside the bottom layer's weight_ih, which stays
// float32 when the others are int8. Checks and layout; the pass is that of batched_lstm.

#include "batched_lstm/forward_op.h"

namespace sgela::lstm {
namespace {

constexpr Size kPerLayer = 5;

void check_matrix(const Tensor& values, const Tensor& scales, const std::vector<int64_t>& sizes, Stored stored) {
  check_sizes(values, sizes, "a weight");
  const ScalarType wanted = stored == Stored::kInt8 ? ScalarType::Char
                            : stored == Stored::kBFloat16 ? ScalarType::BFloat16 : ScalarType::Float;
  STD_TORCH_CHECK(values.scalar_type() == wanted && values.is_contiguous(),
                  "batched_lstm: a weight of fewer bits has another dtype than the others, or is not contiguous");
  if (stored != Stored::kInt8) return;
  check_sizes(scales, {sizes[0], sizes[1]}, "the scales of a weight");
  STD_TORCH_CHECK(scales.scalar_type() == ScalarType::Float && scales.is_contiguous(),
                  "batched_lstm: scales are dense and float32");
}

Shape reduced_shape(const std::vector<Tensor>& weights, Stored stored) {
  STD_TORCH_CHECK(!weights.empty() && weights.size() % kPerLayer == 0, "batched_lstm: reduced weights are five a layer");
  STD_TORCH_CHECK(weights[0].dim() == 3 && weights[2].dim() == 3, "batched_lstm: weights have three dimensions");
  Shape shape{weights[0].size(0),
              0,
              0,
              weights[0].size(2),
              weights[2].size(2),
              static_cast<Size>(weights.size()) / kPerLayer,
              stored};
  STD_TORCH_CHECK(shape.hidden < 1 << 16, "batched_lstm: sums of so many products of int8 may not fit 32 bits");
  for (Size layer = 0; layer < shape.layers; ++layer) {
    const Tensor* const given = &weights[kPerLayer * layer];
    const int64_t gates = 4 * shape.hidden;
    check_matrix(given[0], given[1], {shape.groups, gates, shape.layer_input(layer)}, shape.stored_input(layer));
    check_matrix(given[2], given[3], {shape.groups, gates, shape.hidden}, stored);
    check_sizes(given[4], {shape.groups, gates}, "bias");
    STD_TORCH_CHECK(given[4].scalar_type() == ScalarType::Float && given[4].is_contiguous(),
                    "batched_lstm: the bias beside reduced weights is dense and float32");
  }
  return shape;
}

// The matrix of one group: `size` elements of it, and its scales.
const void* of_group(const Tensor& values, Size group) {
  const Size bytes = values.size(1) * values.size(2) * static_cast<Size>(values.element_size());
  return static_cast<const char*>(values.const_data_ptr()) + group * bytes;
}

const float* scales_of_group(const Tensor& scales, Size group, Size rows) {
  return scales.numel() == 0 ? nullptr : static_cast<const float*>(scales.const_data_ptr()) + group * rows;
}

Tensor pack_checked(const std::vector<Tensor>& weights, const Shape& shape) {
  const Tensor packed = empty_beside(weights[0], {shape.packed_size()}, ScalarType::Float);
  float* const data = static_cast<float*>(packed.mutable_data_ptr());
  write_header(shape, data);
  const Kernels<float>& kernels = chosen_kernels<float>();
  for_each_task<float>(shape.groups * shape.layers, 0, packed, ScalarType::Float, [&](Size task, float*) {
    const Size group = task / shape.layers, layer = task % shape.layers, rows = 4 * shape.hidden;
    const Tensor* const given = &weights[kPerLayer * layer];
    const ReducedWeights of{of_group(given[0], group), of_group(given[2], group), scales_of_group(given[1], group, rows),
                            scales_of_group(given[3], group, rows),
                            static_cast<const float*>(given[4].const_data_ptr()) + group * rows};
    kernels.pack_reduced(shape, layer, of, data + kHeader + shape.packed_offset(group, layer));
  });
  return packed;
}

std::tuple<Tensor, Tensor, Tensor> batched_lstm_reduced(Tensor input, std::vector<Tensor> weights, OptionalTensor packed,
                                                        OptionalTensor h0, OptionalTensor c0, OptionalTensor lengths) {
  STD_TORCH_CHECK(weights.size() >= kPerLayer, "batched_lstm: reduced weights are five a layer");
  const Stored stored = weights[2].scalar_type() == ScalarType::Char ? Stored::kInt8 : Stored::kBFloat16;
  Shape shape = reduced_shape(weights, stored);
  STD_TORCH_CHECK(input.dim() == 4, "batched_lstm: input has the shape (G, B, T, I)");
  STD_TORCH_CHECK(computing_type(input.scalar_type()) == ScalarType::Float,
                  "batched_lstm: with reduced weights the input is float32, bfloat16 or float16");
  shape.batch = input.size(1), shape.steps = input.size(2);
  check_sizes(input, {shape.groups, shape.batch, shape.steps, shape.input_size}, "input");
  const bool usable = packed.has_value() && fits<float>(*packed, shape, ScalarType::Float);
  const ForwardResult out = run_packed<float>(shape, usable ? *packed : pack_checked(weights, shape), input, h0, c0,
                                              lengths, std::nullopt, false);
  return {out.output, out.h_n, out.c_n};
}

}  // namespace

Tensor pack_reduced(const std::vector<Tensor>& weights, Stored stored) {
  return pack_checked(weights, reduced_shape(weights, stored));
}

}  // namespace sgela::lstm

STABLE_TORCH_LIBRARY_IMPL(sgela_fast, CPU, m) {
  m.impl("batched_lstm_reduced", TORCH_BOX(&sgela::lstm::batched_lstm_reduced));
}
