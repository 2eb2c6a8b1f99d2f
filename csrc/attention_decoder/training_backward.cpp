// The CPU op attention_decoder_backward: checks, allocation, and two loops per stretch of windows and few groups, over
// blocks of windows and over stripes of the weights' gradients. Without a tape each stretch is decoded again first, so that
// no more than its tape is ever there.

#include <tuple>

#include "attention_decoder/training_op.h"

namespace sgela::decoder {
namespace {

using Results = std::tuple<Tensor, Tensor, Tensor, Tensor, std::vector<Tensor>>;

// Windows whose gradients of rows are at hand at once: their number and that of threads say how many groups' are. It is
// part of the order of the sums, so nothing but the shape may have a say in it.
Size stretch_of(const Shape& shape) {
  constexpr Size kRows = 1536, kWhole = 64;
  const Size windows = (kRows / shape.steps + kWhole - 1) / kWhole * kWhole;
  return std::max(kWhole, windows);
}

// The gradients of the results, each possibly missing: of context, loss, alignment, reconstruction, attentional, h, c.
template <class T>
struct Upstream {
  std::vector<Tensor> kept;
  const T* data[7] = {};

  Upstream(const Shape& shape, const OptionalTensor* given, ScalarType type) {
    const Size g = shape.groups, b = shape.batch, t = shape.steps, k = shape.hidden;
    const std::vector<int64_t> sizes[] = {{g, b, t, k}, {g, b}, {g, b, t, shape.keys}, {g, b, t, shape.joints},
                                          {g, b, t, k}, {shape.layers, g, b, t, k}, {shape.layers, g, b, t, k}};
    const bool exists[] = {shape.attends, true, shape.attends, true, true, true, true};
    for (int i = 0; i < 7; ++i) {
      if (!given[i].has_value() || !exists[i]) continue;
      check(*given[i], sizes[i], type, "a gradient");
      data[i] = data_of<T>(kept.emplace_back(dense(*given[i], type)));
    }
  }
};

Decoded taped_results(const Shape& shape, const std::vector<Tensor>& taped, ScalarType type) {
  STD_TORCH_CHECK(taped.size() == 6, "attention_decoder_backward takes six tensors of the forward pass, or none");
  const Size g = shape.groups, b = shape.batch, t = shape.steps, k = shape.hidden;
  const std::vector<int64_t> rows{g, b, t, k}, states{shape.layers, g, b, t, k}, none{0};
  check(taped[0], shape.attends ? rows : none, type, "context");
  check(taped[1], {g, b, t, shape.joints}, type, "reconstruction");
  check(taped[2], rows, type, "attentional");
  check(taped[3], states, type, "h");
  check(taped[4], states, type, "c");
  check(taped[5], {tape_gates_size(shape, b) + tape_query_size(shape, b)}, type, "the tape");
  const auto at = [&](size_t i) { return dense(taped[i], type); };
  return {at(0), Tensor(), Tensor(), at(1), at(2), at(3), at(4), at(5)};
}

template <class T>
Tensor packed_backward(const Arguments<T>& given) {
  const Shape& shape = given.shape;
  const TrainingKernels<T>& kernels = chosen_training_kernels<T>();
  const ScalarType type = given.given.type();
  std::vector<Tensor> kept;  // their memory must live as long as the kernels run
  const auto pointer = [&](const OptionalTensor& tensor) -> const T* {
    return tensor.has_value() ? data_of<T>(kept.emplace_back(dense(*tensor, type))) : nullptr;
  };
  std::vector<const T*> layers;
  for (const Tensor& weight : given.given.layers) layers.push_back(pointer(weight));
  const T *key = pointer(given.given.key), *fusion = pointer(given.given.fusion), *output = pointer(given.given.output);
  const Size square = shape.hidden * shape.hidden, size = kernels.panels_size(shape);
  const Tensor panels = given.empty({shape.groups * size});
  T* const data = data_if<T>(panels);
  for_each_task<T>(shape.groups, 0, given.encoded, type, [&](Size group, T*) {
    const auto of_group = [group](const T* weight, Size elements) {
      return weight == nullptr ? weight : weight + group * elements;
    };
    std::vector<const T*> upper;
    for (size_t i = 2; i < layers.size(); ++i) upper.push_back(of_group(layers[i], 4 * square));
    kernels.pack_backward(shape,
                          {of_group(layers[0], 4 * shape.hidden * (shape.joints + shape.below(0))),
                           of_group(layers[1], 4 * square), upper.data(), of_group(key, square),
                           of_group(fusion, 2 * square), of_group(output, shape.joints * shape.hidden), nullptr},
                          data + group * size);
  });
  return panels;
}

// Stripes of the gradients of all matrices of the groups at work.
struct Stripe {
  Size group, matrix, first, count;
};

std::vector<Stripe> stripes_of(const Shape& shape, Size first_group, Size groups) {
  const Size parts = (2 * torch::stable::get_num_threads() + groups - 1) / groups;
  std::vector<Stripe> stripes;
  for (Size matrix = 0; matrix < shape.layers + kMatricesBesideLayers; ++matrix) {
    const Size rows = gradient_rows(shape, matrix);
    const Size of_part = (rows + parts - 1) / parts, stripe = (of_part + kStripe - 1) / kStripe * kStripe;
    for (Size group = first_group; group < first_group + groups; ++group) {
      for (Size first = 0; first < rows; first += stripe) {
        stripes.push_back({group, matrix, first, std::min(stripe, rows - first)});
      }
    }
  }
  return stripes;
}

template <class T>
Results backward_as(const Arguments<T>& given, const OptionalTensor* gradients, const std::vector<Tensor>& taped,
                    bool teacher_gradient) {
  const Shape& shape = given.shape;
  const ScalarType type = given.given.type();
  const Size groups = shape.groups, batch = shape.batch, steps = shape.steps, hidden = shape.hidden;
  const Upstream<T> upstream(shape, gradients, type);
  const Tensor panels = packed_backward(given);
  const Tensor grad_encoded = given.empty({groups, batch, shape.keys, hidden});
  const Tensor grad_h0 = given.empty({shape.layers, groups, batch, hidden}), grad_c0 = given.empty(grad_h0.sizes().vec());
  const Tensor grad_teacher = given.empty_if(teacher_gradient && given.teacher, {groups, batch, steps, shape.joints});
  std::vector<Tensor> grad_weights;
  std::vector<T*> layers, biases;
  const auto gradient_of = [&](const Tensor& weight) {
    grad_weights.push_back(given.empty(weight.sizes().vec()));
    return static_cast<T*>(grad_weights.back().mutable_data_ptr());
  };
  const auto gradient_if = [&](const OptionalTensor& weight) { return weight ? gradient_of(*weight) : nullptr; };
  for (const Tensor& weight : given.given.layers) layers.push_back(gradient_of(weight));
  for (const Tensor& bias : given.biases) biases.push_back(gradient_of(bias));

  Backward<T> p{};
  p.shape = shape;
  p.panels = data_of<T>(panels), p.panels_size = chosen_training_kernels<T>().panels_size(shape);
  p.encoded = data_of<T>(given.encoded);
  for (int i = 0; i < 3; ++i) p.encoded_strides[i] = given.encoded.stride(i);
  p.h0 = data_of<T>(given.h0), p.c0 = data_of<T>(given.c0);
  if (given.teacher) {
    p.teacher = data_of<T>(*given.teacher);
    for (int i = 0; i < 3; ++i) p.teacher_strides[i] = given.teacher->stride(i);
  }
  p.feedback = given.feeds_back(), p.tanh = given.settings.tanh;
  p.attention = given.attention;
  p.grad_context = upstream.data[0], p.grad_loss = upstream.data[1], p.grad_alignment = upstream.data[2];
  p.grad_reconstruction = upstream.data[3], p.grad_attentional = upstream.data[4];
  p.grad_h = upstream.data[5], p.grad_c = upstream.data[6];
  p.grad_encoded = data_if<T>(grad_encoded), p.grad_h0 = data_if<T>(grad_h0), p.grad_c0 = data_if<T>(grad_c0);
  p.grad_teacher = data_if<T>(grad_teacher);
  T* const grad_key = gradient_if(given.given.key);
  T* const grad_fusion = gradient_if(given.given.fusion);
  T* const grad_output = gradient_of(given.given.output);
  p.weights = {layers.data(), biases.data(), grad_key, grad_fusion, grad_output, gradient_if(given.given.output_bias)};

  const Size stretch = std::min(stretch_of(shape), batch), threads = torch::stable::get_num_threads();
  const Size block = training_block(shape, stretch), blocks = std::max<Size>(1, (stretch + block - 1) / block);
  const Size at_once = std::max<Size>(1, std::min(groups, (threads + blocks - 1) / blocks));
  const Size rows = at_once * stretch * steps;
  const Tensor gates = given.empty({rows * shape.layers * gradient_stride(4 * hidden)});
  const Tensor fused = given.empty({shape.attends ? rows * gradient_stride(hidden) : 0});
  const Tensor query = given.empty({shape.projects_keys ? rows * gradient_stride(hidden) : 0});
  const Tensor prediction = given.empty({rows * gradient_stride(shape.joints)});
  Decoded decoded;
  Tensor packed;
  if (taped.empty()) {
    packed = pack_weights(given.given, false);
  } else {
    decoded = taped_results(shape, taped, type);
    p.tape = tape_of<T>(shape, decoded, 0, batch);
  }
  const TrainingKernels<T>& kernels = chosen_training_kernels<T>();
  // Also without a window, so that the gradients of the weights are set to 0.
  for (Size first = 0; first == 0 || first < batch; first += stretch) {
    const Size windows = std::min(stretch, batch - first);
    if (taped.empty() && windows > 0) {
      decoded = decode_taped(given, packed, first, windows, true);
      p.tape = tape_of<T>(shape, decoded, first, windows);
    }
    for (Size group = 0; group < groups; group += at_once) {
      const Size count = std::min(at_once, groups - group), some = (windows + block - 1) / block;
      p.rows = {first,          windows,        group, block, data_if<T>(gates), data_if<T>(fused), data_if<T>(query),
                data_if<T>(prediction)};
      for_each_task<T>(count * some, kernels.backward_workspace(shape, block), given.encoded, type,
                             [&](Size task, T* workspace) {
                               const Size begin = task % some * block;
                               kernels.backward(p, group + task / some, first + begin, std::min(block, windows - begin),
                                                workspace);
                             });
      const std::vector<Stripe> stripes = stripes_of(shape, group, count);
      Size widest = 0;
      for (const Stripe& stripe : stripes) widest = std::max(widest, stripe.count);
      for_each_task<T>(static_cast<Size>(stripes.size()), kernels.weights_workspace(shape, widest), given.encoded,
                             type, [&](Size task, T* workspace) {
                               const Stripe& it = stripes[static_cast<size_t>(task)];
                               kernels.backward_weights(p, it.group, it.matrix, it.first, it.count, workspace);
                             });
    }
    if (stretch == 0) break;
  }
  return {grad_encoded, grad_h0, grad_c0, grad_teacher, grad_weights};
}

Results backward(OptionalTensor grad_context, OptionalTensor grad_loss, OptionalTensor grad_alignment,
                 OptionalTensor grad_reconstruction, OptionalTensor grad_attentional, OptionalTensor grad_h,
                 OptionalTensor grad_c, Tensor encoded, Tensor h0, Tensor c0, std::vector<Tensor> layers,
                 std::vector<Tensor> biases, OptionalTensor key, OptionalTensor fusion, Tensor output,
                 OptionalTensor output_bias, OptionalTensor teacher, std::vector<Tensor> taped, int64_t steps,
                 bool feedback, int64_t mode, int64_t direction, double sigma, std::optional<double> window, bool tanh,
                 bool teacher_gradient) {
  const Given given{layers, key, fusion, output, output_bias};
  const Settings settings{feedback, mode, direction, sigma, window, tanh, true};
  const OptionalTensor gradients[] = {grad_context,     grad_loss, grad_alignment, grad_reconstruction,
                                      grad_attentional, grad_h,    grad_c};
  const auto run = [&]<class T>(T) {
    return backward_as(Arguments<T>(given, biases, settings, encoded, h0, c0, teacher, steps), gradients, taped,
                       teacher_gradient);
  };
  return given.type() == ScalarType::Double ? run(double{}) : run(float{});
}

}  // namespace
}  // namespace sgela::decoder

STABLE_TORCH_LIBRARY_IMPL(sgela_fast, CPU, m) {
  m.impl("attention_decoder_backward", TORCH_BOX(&sgela::decoder::backward));
}
