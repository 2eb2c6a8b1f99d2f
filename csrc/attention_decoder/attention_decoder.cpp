// The CPU ops attention_decoder_pack, attention_decoder_sample and attention_decoder_cpu: checks of what would be read out
// of bounds, allocation, the mask's table, and the loop over groups and blocks of windows. No thread waits for another
// before the end.

#include <algorithm>
#include <cstring>
#include <tuple>

#include "attention_decoder/decode_op.h"
#include "common/huge_pages.h"

namespace sgela::decoder {
namespace {

// Windows of a block: enough to make up for reading the weights, so few that their states stay in L2.
constexpr Size kMostWindows = 72, kFewestWindows = 12;

template <class T>
Tensor pack_as(const Given& given, bool feedback) {
  const Shape shape = given.shape(true);
  const ScalarType type = computing_type(given.type());
  const Tensor packed = empty_beside(given.output, {kHeader + shape.groups * shape.group_size()}, type);
  T* const data = static_cast<T*>(packed.mutable_data_ptr());
  prefer_huge_pages(data, static_cast<size_t>(packed.numel()) * sizeof(T));
  const std::vector<T> header = header_of<T>(shape, feedback && shape.attends);
  std::copy(header.begin(), header.end(), data);
  std::vector<Tensor> kept;  // their memory must live as long as the kernels run
  const auto pointer = [&](const OptionalTensor& tensor) -> const T* {
    if (!tensor.has_value()) return nullptr;
    return data_of<T>(kept.emplace_back(dense(*tensor, type)));
  };
  std::vector<const T*> layers;
  for (const Tensor& weight : given.layers) layers.push_back(pointer(weight));
  const T *key = pointer(given.key), *fusion = pointer(given.fusion), *output = pointer(given.output),
          *output_bias = pointer(given.output_bias);
  const Kernels<T>& kernels = chosen_kernels<T>();
  const Size square = shape.hidden * shape.hidden;
  for_each_task<T>(shape.groups, kernels.pack_workspace(shape), packed, type, [&](Size group, T* workspace) {
    const auto of_group = [group](const T* weight, Size size) { return weight == nullptr ? weight : weight + group * size; };
    std::vector<const T*> upper;
    for (size_t i = 2; i < layers.size(); ++i) upper.push_back(of_group(layers[i], 4 * square));
    const Weights<T> weights{of_group(layers[0], 4 * shape.hidden * (shape.joints + shape.below(0))),
                             of_group(layers[1], 4 * square),
                             upper.data(),
                             of_group(key, square),
                             of_group(fusion, 2 * square),
                             of_group(output, shape.joints * shape.hidden),
                             of_group(output_bias, shape.joints)};
    kernels.pack(shape, weights, feedback, data + kHeader + group * shape.group_size(), workspace);
  });
  return packed;
}

Size window_block(const Shape& shape) {
  const Size groups = std::max<Size>(shape.groups, 1);
  const Size wanted = (torch::stable::get_num_threads() + groups - 1) / groups;
  const Size blocks = std::max({Size(1), (shape.batch + kMostWindows - 1) / kMostWindows,
                                std::min(wanted, shape.batch / kFewestWindows)});
  return std::max<Size>(1, (shape.batch + blocks - 1) / blocks);
}

template <class T>
Results decode_as(const Tensor& encoded, const Tensor& h0, const Tensor& c0, const Given& given,
                  const std::vector<Tensor>& biases, const OptionalTensor& teacher, const OptionalTensor& packed,
                  Size steps, const Settings& settings) {
  const Shape shape = given.shape(true);
  const bool feedback = settings.feedback && !teacher.has_value();
  const bool usable = packed.has_value() && fits<T>(*packed, shape, feedback && shape.attends);
  return decode_packed<T>(shape, usable ? *packed : pack_as<T>(given, feedback), given.type(),
                          {encoded, h0, c0, biases, given.output_bias, teacher, steps}, settings);
}

// 64 bits that depend on one word in 64 kB of each tensor, the first and the last among them.
int64_t sample(std::vector<Tensor> tensors) {
  constexpr size_t kWord = sizeof(uint32_t), kEvery = 65536;
  uint64_t hash = tensors.size();
  for (const Tensor& tensor : tensors) {
    STD_TORCH_CHECK(tensor.is_cpu() && tensor.is_contiguous(), "attention_decoder_sample takes dense tensors on the CPU");
    const char* const bytes = static_cast<const char*>(tensor.const_data_ptr());
    const size_t size = static_cast<size_t>(tensor.numel()) * tensor.element_size();
    for (size_t at = 0; at < size; at += std::min(kEvery, std::max(kWord, size - std::min(size, kWord + at)))) {
      uint32_t word = 0;
      std::memcpy(&word, bytes + at, std::min(kWord, size - at));
      hash = (hash ^ word) * 0x9E3779B97F4A7C15;
      hash ^= hash >> 32;
    }
  }
  return static_cast<int64_t>(hash);
}

Tensor pack(std::vector<Tensor> layers, OptionalTensor key, OptionalTensor fusion, Tensor output,
            OptionalTensor output_bias, bool feedback) {
  return pack_weights({layers, key, fusion, output, output_bias}, feedback);
}

Results decode(Tensor encoded, Tensor h0, Tensor c0, std::vector<Tensor> layers, std::vector<Tensor> biases,
               OptionalTensor key, OptionalTensor fusion, Tensor output, OptionalTensor output_bias,
               OptionalTensor teacher, OptionalTensor packed, int64_t steps, bool feedback, int64_t mode,
               int64_t direction, double sigma, std::optional<double> window, bool tanh, bool everything) {
  const Given given{layers, key, fusion, output, output_bias};
  const Settings settings{feedback, mode, direction, sigma, window, tanh, everything};
  const bool is_double = given.type() == ScalarType::Double;
  return (is_double ? decode_as<double> : decode_as<float>)(encoded, h0, c0, given, biases, teacher, packed, steps,
                                                            settings);
}

}  // namespace

template <class T>
Results decode_packed(Shape shape, const Tensor& packed, ScalarType given_type, const Inputs& in,
                      const Settings& settings) {
  const ScalarType type = computing_type(given_type);
  STD_TORCH_CHECK(in.encoded.dim() == 4, "attention_decoder: encoded has the shape (G, B, Tk, K)");
  shape.batch = in.encoded.size(1), shape.keys = in.encoded.size(2), shape.steps = in.steps;
  const Size groups = shape.groups, batch = shape.batch, hidden = shape.hidden, joints = shape.joints;
  check(in.encoded, {groups, batch, shape.keys, hidden}, given_type, "encoded");
  check(in.h0, {shape.layers, groups, batch, hidden}, given_type, "h0");
  check(in.c0, {shape.layers, groups, batch, hidden}, given_type, "c0");
  STD_TORCH_CHECK(in.steps >= 1, "attention_decoder takes at least one step");
  STD_TORCH_CHECK(!shape.attends || shape.keys >= 1, "attention_decoder: there is nothing to attend to");
  STD_TORCH_CHECK(settings.mode >= 0 && settings.mode <= 2, "attention_decoder: mode must be 0, 1 or 2");
  STD_TORCH_CHECK(settings.direction == 1 || settings.direction == -1, "attention_decoder: direction must be 1 or -1");
  STD_TORCH_CHECK(settings.everything || shape.attends, "attention_decoder: without attention there are no contexts");
  STD_TORCH_CHECK(static_cast<Size>(in.biases.size()) == shape.layers, "attention_decoder takes one bias a layer");

  std::vector<Tensor> kept;  // their memory must live as long as the kernels run
  const auto pointer = [&](const Tensor& tensor) { return data_of<T>(kept.emplace_back(dense(tensor, type))); };
  std::vector<const T*> bias_pointers;
  for (const Tensor& bias : in.biases) {
    check_sizes(bias, {groups, 4 * hidden}, "bias");
    bias_pointers.push_back(pointer(bias));
  }
  const Tensor memory = with_unit_stride(as(in.encoded, type));

  Decoding<T> p{};
  p.shape = shape;
  p.packed = data_of<T>(packed) + kHeader;
  p.encoded = data_of<T>(memory);
  for (int i = 0; i < 3; ++i) p.encoded_strides[i] = memory.stride(i);
  p.h0 = pointer(in.h0), p.c0 = pointer(in.c0);
  p.biases = bias_pointers.data();
  if (in.output_bias) p.output_bias = pointer(*in.output_bias);
  if (in.teacher) {
    check(*in.teacher, {groups, batch, in.steps, joints}, given_type, "teacher");
    const Tensor& rows = kept.emplace_back(with_unit_stride(as(*in.teacher, type)));
    p.teacher = data_of<T>(rows);
    for (int i = 0; i < 3; ++i) p.teacher_strides[i] = rows.stride(i);
  }
  p.feedback = settings.feedback && !in.teacher.has_value(), p.tanh = settings.tanh;
  p.attention = attention_of(shape, settings);

  const auto output = [&](bool wanted, std::vector<int64_t> sizes, T*& data) {
    const Tensor tensor = empty_beside(memory, wanted ? sizes : std::vector<int64_t>{0}, type);
    data = wanted ? static_cast<T*>(tensor.mutable_data_ptr()) : nullptr;
    return tensor;
  };
  const bool everything = settings.everything;
  const Tensor context = output(shape.attends, {groups, batch, in.steps, hidden}, p.context);
  const Tensor loss = output(true, {groups, batch}, p.loss);
  const Tensor alignment = output(everything && shape.attends, {groups, batch, in.steps, shape.keys}, p.alignment);
  const Tensor reconstruction = output(everything, {groups, batch, in.steps, joints}, p.reconstruction);
  const Tensor attentional = output(everything, {groups, batch, in.steps, hidden}, p.attentional);
  const Tensor h = output(everything, {shape.layers, groups, batch, in.steps, hidden}, p.h);
  const Tensor c = output(everything, {shape.layers, groups, batch, in.steps, hidden}, p.c);

  const Kernels<T>& kernels = chosen_kernels<T>();
  const Size mask_size = shape.attends && settings.mode != 0 ? in.steps + shape.keys - 1 + kernels.lanes : 0;
  std::vector<T> mask(static_cast<size_t>(mask_size));
  if (mask_size > 0) {
    kernels.fill_mask(p.attention, mask.data(), mask_size);
    p.attention.mask = mask.data();
  }
  const Size block = window_block(shape), blocks = (batch + block - 1) / block;
  for_each_task<T>(groups * blocks, kernels.decode_workspace(shape, block), memory, type, [&](Size task, T* workspace) {
    const Size first = task % blocks * block;
    kernels.decode(p, task / blocks, first, std::min(block, batch - first), workspace);
  });
  const auto given = [&](const Tensor& tensor) { return as(tensor, given_type); };
  return {given(context),     given(loss), given(alignment), given(reconstruction),
          given(attentional), given(h),    given(c)};
}

template Results decode_packed<float>(Shape, const Tensor&, ScalarType, const Inputs&, const Settings&);
template Results decode_packed<double>(Shape, const Tensor&, ScalarType, const Inputs&, const Settings&);

Tensor pack_weights(const Given& given, bool feedback) {
  return given.type() == ScalarType::Double ? pack_as<double>(given, feedback) : pack_as<float>(given, feedback);
}

}  // namespace sgela::decoder

STABLE_TORCH_LIBRARY_IMPL(sgela_fast, CPU, m) {
  m.impl("attention_decoder_pack", TORCH_BOX(&sgela::decoder::pack));
  m.impl("attention_decoder_sample", TORCH_BOX(&sgela::decoder::sample));
  m.impl("attention_decoder_cpu", TORCH_BOX(&sgela::decoder::decode));
}
