// What the op files of attention_decoder share: the weights as they were given, the settings, and checks of what would be
// read out of bounds.
#pragma once

#include <limits>

#include "attention_decoder/decoder.h"
#include "common/tensors.h"

namespace sgela::decoder {

inline void check_sizes(const Tensor& tensor, const std::vector<int64_t>& sizes, const char* name) {
  sgela::check_sizes("attention_decoder", tensor, sizes, name);
}

inline void check(const Tensor& tensor, const std::vector<int64_t>& sizes, ScalarType type, const char* name) {
  check_sizes(tensor, sizes, name);
  STD_TORCH_CHECK(tensor.scalar_type() == type, "attention_decoder: ", name, " has another dtype than the weights");
}

template <class T>
const T* data_of(const Tensor& tensor) {
  return static_cast<const T*>(tensor.const_data_ptr());
}

// The weights as they were given: per layer weight_ih and weight_hh; key, fusion and output_bias may be missing.
struct Given {
  const std::vector<Tensor>& layers;
  const OptionalTensor &key, &fusion;
  const Tensor& output;
  const OptionalTensor& output_bias;

  ScalarType type() const { return output.scalar_type(); }

  // The weights' part of the shape, after checking that they fit together. Half precision is for who converts it.
  Shape shape(bool half = false) const {
    STD_TORCH_CHECK(layers.size() >= 2 && layers.size() % 2 == 0, "attention_decoder takes two weights a layer");
    STD_TORCH_CHECK(output.dim() == 3, "attention_decoder: the output layer's weight has three dimensions");
    STD_TORCH_CHECK(half || type() == ScalarType::Float || type() == ScalarType::Double,
                    "attention_decoder takes float32 and float64 here");
    computing_type(type());  // refuses what no kernel takes
    STD_TORCH_CHECK(fusion.has_value() || !key.has_value(), "attention_decoder: keys are projected for attention only");
    Shape it{};
    it.groups = output.size(0), it.joints = output.size(1), it.hidden = output.size(2);
    it.layers = static_cast<Size>(layers.size() / 2);
    it.attends = fusion.has_value(), it.projects_keys = key.has_value();
    const Size gates = 4 * it.hidden;
    for (Size layer = 0; layer < it.layers; ++layer) {
      const Size inputs = it.below(layer) + (layer == 0 ? it.joints : 0);
      check(layers[2 * layer], {it.groups, gates, inputs}, type(), "weight_ih");
      check(layers[2 * layer + 1], {it.groups, gates, it.hidden}, type(), "weight_hh");
    }
    check(output, {it.groups, it.joints, it.hidden}, type(), "output");
    if (key) check(*key, {it.groups, it.hidden, it.hidden}, type(), "key");
    if (fusion) check(*fusion, {it.groups, it.hidden, 2 * it.hidden}, type(), "fusion");
    if (output_bias) check(*output_bias, {it.groups, it.joints}, type(), "output_bias");
    return it;
  }
};

struct Settings {
  bool feedback;
  int64_t mode, direction;
  double sigma;
  std::optional<double> window;
  bool tanh, everything;
};

inline locality_attention::Attention attention_of(const Shape& shape, const Settings& settings) {
  locality_attention::Attention it;
  it.queries = shape.steps, it.keys = shape.keys, it.features = it.width = shape.hidden;
  it.outer = shape.groups, it.inner = shape.batch;
  it.direction = static_cast<int>(settings.direction);
  it.sigma = settings.sigma;
  it.window = settings.window.value_or(std::numeric_limits<double>::infinity());
  it.mode = static_cast<locality_attention::Mode>(settings.mode);
  return it;
}

// The tensor itself, or a copy whose last dimension is dense.
inline Tensor with_unit_stride(const Tensor& tensor) {
  const int64_t last = tensor.dim() - 1;
  return tensor.size(last) <= 1 || tensor.stride(last) == 1 ? tensor : torch::stable::contiguous(tensor);
}

template <class T>
const Kernels<T>& chosen_kernels() {
  return SGELA_OF_CHOSEN_ISA(kernels, T);
}

// All groups' packed weights, as decoder.h lays them out.
Tensor pack_weights(const Given& given, bool feedback);

}  // namespace sgela::decoder
