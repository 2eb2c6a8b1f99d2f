// The CPU ops attention_decoder_reduced and attention_decoder_pack_reduced: the decoding loop with weights of bfloat16 or
// int8. Matrices come as values and scales (empty for bfloat16), those of all layers first: what reads from below (empty
// without attention in the bottom layer), then what reads the state. With attention follow the transposed key, if there is
// one, and the halves of the attentional layer. Checks and layout; the loop is that of attention_decoder_cpu.

#include <algorithm>

#include "attention_decoder/decode_op.h"
#include "common/huge_pages.h"

namespace sgela::decoder {
namespace {

struct GivenReduced {
  const std::vector<Tensor>& matrices;
  const Tensor& skeleton;
  const OptionalTensor& fed_bias;
  const Tensor& output;
  Size layers;

  const Tensor& values(Size matrix) const { return matrices[2 * matrix]; }
  const Tensor& scales(Size matrix) const { return matrices[2 * matrix + 1]; }
  Size count() const { return static_cast<Size>(matrices.size()) / 2; }

  void check_matrix(Size matrix, Size rows, Size columns, const Shape& shape) const {
    const bool int8 = shape.stored == Stored::kInt8;
    check(values(matrix), {shape.groups, rows, columns}, int8 ? ScalarType::Char : ScalarType::BFloat16, "a matrix");
    STD_TORCH_CHECK(values(matrix).is_contiguous(), "attention_decoder: reduced weights are dense");
    if (!int8) return;
    check(scales(matrix), {shape.groups, rows}, ScalarType::Float, "the scales of a matrix");
    STD_TORCH_CHECK(scales(matrix).is_contiguous(), "attention_decoder: scales are dense");
  }

  // The weights' part of the shape, after checking that they fit together.
  Shape shape() const {
    STD_TORCH_CHECK(layers >= 1 && matrices.size() % 2 == 0 && count() >= 2 * layers && count() <= 2 * layers + 3 &&
                        count() != 2 * layers + 1,
                    "attention_decoder: reduced weights are two matrices a layer, and two or three for attention");
    STD_TORCH_CHECK(output.dim() == 3, "attention_decoder: the output layer's weight has three dimensions");
    Shape it{};
    it.groups = output.size(0), it.joints = output.size(1), it.hidden = output.size(2), it.layers = layers;
    it.attends = count() > 2 * layers, it.projects_keys = count() == 2 * layers + 3;
    it.stored = values(1).scalar_type() == ScalarType::Char ? Stored::kInt8 : Stored::kBFloat16;
    STD_TORCH_CHECK(it.hidden < 1 << 16, "attention_decoder: sums of so many products of int8 may not fit 32 bits");
    for (Size layer = 0; layer < layers; ++layer) {
      if (it.below(layer) > 0) check_matrix(2 * layer, 4 * it.hidden, it.below(layer), it);
      check_matrix(2 * layer + 1, 4 * it.hidden, it.hidden, it);
    }
    for (Size i = 2 * layers; i < count(); ++i) check_matrix(i, it.hidden, it.hidden, it);
    check(output, {it.groups, it.joints, it.hidden}, ScalarType::Float, "output");
    check(skeleton, {it.groups, 4 * it.hidden, it.joints}, ScalarType::Float, "skeleton");
    STD_TORCH_CHECK(output.is_contiguous() && skeleton.is_contiguous(), "attention_decoder: reduced weights are dense");
    if (fed_bias) {
      check(*fed_bias, {it.groups, 4 * it.hidden}, ScalarType::Float, "fed_bias");
      STD_TORCH_CHECK(fed_bias->is_contiguous(), "attention_decoder: reduced weights are dense");
    }
    return it;
  }

  ReducedMatrix of_group(Size matrix, Size group) const {
    const Tensor& it = values(matrix);
    const Size bytes = it.size(1) * it.size(2) * static_cast<Size>(it.element_size());
    const char* const data = static_cast<const char*>(it.const_data_ptr()) + group * bytes;
    return {data, scales(matrix).numel() == 0 ? nullptr : data_of<float>(scales(matrix)) + group * it.size(1)};
  }
};

Tensor pack_reduced(const GivenReduced& given, const Shape& shape) {
  const Tensor packed = empty_beside(given.output, {kHeader + shape.groups * shape.group_size()}, ScalarType::Float);
  float* const data = static_cast<float*>(packed.mutable_data_ptr());
  prefer_huge_pages(data, static_cast<size_t>(packed.numel()) * sizeof(float));
  const std::vector<float> header = header_of<float>(shape, given.fed_bias.has_value());
  std::copy(header.begin(), header.end(), data);
  const Kernels<float>& kernels = chosen_kernels<float>();
  for_each_task<float>(shape.groups, 0, packed, ScalarType::Float, [&](Size group, float*) {
    std::vector<ReducedMatrix> layers;
    for (Size i = 0; i < 2 * shape.layers; ++i) layers.push_back(given.of_group(i, group));
    const Size gates = 4 * shape.hidden, first = 2 * shape.layers + (shape.projects_keys ? 1 : 0);
    ReducedWeights weights{};
    weights.layers = layers.data();
    weights.skeleton = data_of<float>(given.skeleton) + group * gates * shape.joints;
    weights.fed_bias = given.fed_bias ? data_of<float>(*given.fed_bias) + group * gates : nullptr;
    if (shape.projects_keys) weights.query = given.of_group(2 * shape.layers, group);
    for (Size half = 0; shape.attends && half < 2; ++half) weights.fusion[half] = given.of_group(first + half, group);
    weights.output = data_of<float>(given.output) + group * shape.joints * shape.hidden;
    kernels.pack_reduced(shape, weights, data + kHeader + group * shape.group_size());
  });
  return packed;
}

Tensor pack(std::vector<Tensor> matrices, Tensor skeleton, OptionalTensor fed_bias, Tensor output, int64_t layers) {
  const GivenReduced given{matrices, skeleton, fed_bias, output, layers};
  return pack_reduced(given, given.shape());
}

Results decode(Tensor encoded, Tensor h0, Tensor c0, std::vector<Tensor> matrices, std::vector<Tensor> biases,
               Tensor skeleton, OptionalTensor fed_bias, Tensor output, OptionalTensor output_bias,
               OptionalTensor teacher, OptionalTensor packed, int64_t steps, bool feedback, int64_t mode,
               int64_t direction, double sigma, std::optional<double> window, bool tanh, bool everything) {
  const GivenReduced given{matrices, skeleton, fed_bias, output, static_cast<Size>(biases.size())};
  const Shape shape = given.shape();
  const ScalarType type = encoded.scalar_type();
  STD_TORCH_CHECK(computing_type(type) == ScalarType::Float,
                  "attention_decoder: with reduced weights the inputs are float32, bfloat16 or float16");
  const bool folds = feedback && !teacher.has_value() && shape.attends;
  STD_TORCH_CHECK(folds == fed_bias.has_value(), "attention_decoder: fed_bias is there when predictions are fed back");
  const bool usable = packed.has_value() && fits<float>(*packed, shape, folds);
  return decode_packed<float>(shape, usable ? *packed : pack_reduced(given, shape), type,
                              {encoded, h0, c0, biases, output_bias, teacher, steps},
                              {feedback, mode, direction, sigma, window, tanh, everything});
}

}  // namespace
}  // namespace sgela::decoder

STABLE_TORCH_LIBRARY_IMPL(sgela_fast, CPU, m) {
  m.impl("attention_decoder_pack_reduced", TORCH_BOX(&sgela::decoder::pack));
  m.impl("attention_decoder_reduced", TORCH_BOX(&sgela::decoder::decode));
}
