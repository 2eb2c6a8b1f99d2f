// What the two op files of attention_decoder's training pass share: checked arguments, and the forward pass of a stretch of
// windows, which the op runs once and a backward pass without a tape runs again.
#pragma once

#include <algorithm>
#include <vector>

#include "attention_decoder/arguments.h"
#include "attention_decoder/training.h"

namespace sgela::decoder {

template <class T>
const TrainingKernels<T>& chosen_training_kernels() {
#if defined(__x86_64__)
  switch (chosen_isa()) {
    case Isa::kAvx512:
      return training_kernels_avx512<T>();
    case Isa::kAvx2:
      return training_kernels_avx2<T>();
    default:
      break;
  }
#endif
  return training_kernels_baseline<T>();
}

// The arguments of a call, checked, dense where the kernels need them so.
template <class T>
struct Arguments {
  const Given& given;
  const Settings& settings;
  Shape shape;
  Tensor encoded, h0, c0;
  OptionalTensor teacher, output_bias;
  std::vector<Tensor> biases;
  std::vector<T> mask;
  locality_attention::Attention attention;

  Arguments(const Given& weights, const std::vector<Tensor>& given_biases, const Settings& given_settings,
            const Tensor& given_encoded, const Tensor& given_h0, const Tensor& given_c0,
            const OptionalTensor& given_teacher, Size steps)
      : given(weights), settings(given_settings), shape(weights.shape()), encoded(given_encoded), h0(given_h0), c0(given_c0) {
    const ScalarType type = given.type();
    STD_TORCH_CHECK(encoded.dim() == 4, "attention_decoder: encoded has the shape (G, B, Tk, K)");
    shape.batch = encoded.size(1), shape.keys = encoded.size(2), shape.steps = steps;
    const Size groups = shape.groups, batch = shape.batch, hidden = shape.hidden;
    check(encoded, {groups, batch, shape.keys, hidden}, type, "encoded");
    check(h0, {shape.layers, groups, batch, hidden}, type, "h0");
    check(c0, {shape.layers, groups, batch, hidden}, type, "c0");
    STD_TORCH_CHECK(steps >= 1, "attention_decoder takes at least one step");
    STD_TORCH_CHECK(!shape.attends || shape.keys >= 1, "attention_decoder: there is nothing to attend to");
    STD_TORCH_CHECK(settings.mode >= 0 && settings.mode <= 2, "attention_decoder: mode must be 0, 1 or 2");
    STD_TORCH_CHECK(settings.direction == 1 || settings.direction == -1, "attention_decoder: direction must be 1 or -1");
    STD_TORCH_CHECK(static_cast<Size>(given_biases.size()) == shape.layers, "attention_decoder takes one bias a layer");
    encoded = with_unit_stride(encoded), h0 = dense(h0, type), c0 = dense(c0, type);
    for (const Tensor& bias : given_biases) {
      check(bias, {groups, 4 * hidden}, type, "bias");
      biases.push_back(dense(bias, type));
    }
    if (given.output_bias) output_bias = dense(*given.output_bias, type);
    if (given_teacher) {
      check(*given_teacher, {groups, batch, steps, shape.joints}, type, "teacher");
      teacher = with_unit_stride(*given_teacher);
    }
    attention = attention_of(shape, settings);
    if (shape.attends && settings.mode != 0) {
      const Kernels<T>& kernels = chosen_kernels<T>();
      mask.resize(static_cast<size_t>(steps + shape.keys - 1 + kernels.lanes));
      kernels.fill_mask(attention, mask.data(), static_cast<Size>(mask.size()));
      attention.mask = mask.data();
    }
  }

  bool feeds_back() const { return settings.feedback && !teacher.has_value(); }
  Tensor empty(const std::vector<int64_t>& sizes) const {
    return empty_beside(encoded, sizes, given.type());
  }
  Tensor empty_if(bool wanted, const std::vector<int64_t>& sizes) const {
    return empty(wanted ? sizes : std::vector<int64_t>{0});
  }
};

template <class T>
T* data_if(const Tensor& tensor) {
  return tensor.numel() == 0 ? nullptr : static_cast<T*>(tensor.mutable_data_ptr());
}

// Results of a stretch of windows, batch dimensions as long as it.
struct Decoded {
  Tensor context, loss, alignment, reconstruction, attentional, h, c, tape;
};

template <class T>
Tape<T> tape_of(const Shape& shape, const Decoded& decoded, Size first, Size windows) {
  Tape<T> tape{};
  tape.first = first, tape.windows = windows;
  tape.gates = data_if<T>(decoded.tape);
  if (shape.projects_keys && tape.gates != nullptr) tape.query = tape.gates + tape_gates_size(shape, windows);
  tape.context = data_if<T>(decoded.context), tape.attentional = data_if<T>(decoded.attentional);
  tape.reconstruction = data_if<T>(decoded.reconstruction);
  tape.h = data_if<T>(decoded.h), tape.c = data_if<T>(decoded.c);
  return tape;
}

// Windows of a block: so few that their gradients stay in L2, and blocks for all threads. No result depends on it.
inline Size training_block(const Shape& shape, Size windows) {
  constexpr Size kMost = 72, kFewest = 12;
  const Size groups = std::max<Size>(shape.groups, 1);
  const Size wanted = (torch::stable::get_num_threads() + groups - 1) / groups;
  const Size blocks =
      std::max({Size(1), (windows + kMost - 1) / kMost, std::min(wanted, windows / kFewest)});
  return std::max<Size>(1, (windows + blocks - 1) / blocks);
}

// `packed` as pack_weights() makes it without feedback.
template <class T>
Decoded decode_taped(const Arguments<T>& given, const Tensor& packed, Size first, Size windows, bool save_tape) {
  Shape shape = given.shape;
  shape.batch = windows;
  const Size groups = shape.groups, steps = shape.steps, hidden = shape.hidden, layers = shape.layers;
  const ScalarType type = given.given.type();
  const std::vector<int64_t> rows{groups, windows, steps, hidden}, states{layers, groups, windows, steps, hidden};
  const Size tape_size = tape_gates_size(shape, windows) + tape_query_size(shape, windows);
  Decoded out{given.empty_if(shape.attends, rows),
              given.empty({groups, windows}),
              given.empty_if(shape.attends, {groups, windows, steps, shape.keys}),
              given.empty({groups, windows, steps, shape.joints}),
              given.empty(rows),
              given.empty(states),
              given.empty(states),
              given.empty({save_tape ? tape_size : 0})};
  const auto part = [&](Tensor state) {  // (L, G, B, K)
    return windows == given.shape.batch ? state : dense(torch::stable::narrow(state, 2, first, windows), type);
  };
  const Tensor h0 = part(given.h0), c0 = part(given.c0);
  std::vector<const T*> biases;
  for (const Tensor& bias : given.biases) biases.push_back(data_of<T>(bias));
  Decoding<T> p{};
  p.shape = shape;
  p.packed = data_of<T>(packed) + kHeader;
  p.encoded = data_of<T>(given.encoded) + first * given.encoded.stride(1);
  for (int i = 0; i < 3; ++i) p.encoded_strides[i] = given.encoded.stride(i);
  p.h0 = data_of<T>(h0), p.c0 = data_of<T>(c0);
  p.biases = biases.data();
  if (given.output_bias) p.output_bias = data_of<T>(*given.output_bias);
  if (given.teacher) {
    p.teacher = data_of<T>(*given.teacher) + first * given.teacher->stride(1);
    for (int i = 0; i < 3; ++i) p.teacher_strides[i] = given.teacher->stride(i);
  }
  p.feedback = given.feeds_back(), p.tanh = given.settings.tanh;
  p.attention = given.attention;
  p.context = data_if<T>(out.context), p.loss = data_if<T>(out.loss), p.alignment = data_if<T>(out.alignment);
  p.reconstruction = data_if<T>(out.reconstruction), p.attentional = data_if<T>(out.attentional);
  p.h = data_if<T>(out.h), p.c = data_if<T>(out.c);
  const Tape<T> tape = tape_of<T>(shape, out, 0, windows);
  const TrainingKernels<T>& kernels = chosen_training_kernels<T>();
  const Size block = training_block(shape, windows), blocks = (windows + block - 1) / block;
  for_each_task<T>(groups * blocks, kernels.forward_workspace(shape, block), given.encoded, type,
                         [&](Size task, T* workspace) {
                           const Size begin = task % blocks * block;
                           kernels.forward(p, tape, task / blocks, begin, std::min(block, windows - begin), workspace);
                         });
  return out;
}

}  // namespace sgela::decoder
