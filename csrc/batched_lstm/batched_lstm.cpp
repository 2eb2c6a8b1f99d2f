// The CPU ops batched_lstm_pack and batched_lstm: checks, allocation, and the loop over groups and blocks of windows.
// No thread waits for another before the end.

#include "batched_lstm/arguments.h"
#include "batched_lstm/forward_op.h"

namespace sgela::lstm {
namespace {

template <class T>
Tensor pack_as(const std::vector<Tensor>& given, ScalarType type) {
  const Shape shape = shape_of(given);
  const Weights<T> weights(given, type);
  const Tensor packed = empty_beside(given[0], {shape.packed_size()}, type);
  T* const data = static_cast<T*>(packed.mutable_data_ptr());
  write_header(shape, data);
  const Kernels<T>& kernels = chosen_kernels<T>();
  for_each_task<T>(shape.groups * shape.layers, 0, packed, type, [&](Size task, T*) {
    const Size group = task / shape.layers, layer = task % shape.layers;
    kernels.pack(shape, layer, weights.of(shape, group, layer), data + kHeader + shape.packed_offset(group, layer));
  });
  return packed;
}

template <class T>
ForwardResult forward_as(const Tensor& input, const std::vector<Tensor>& weights, const OptionalTensor& given,
                         const OptionalTensor& h0, const OptionalTensor& c0, const OptionalTensor& lengths,
                         const OptionalTensor& masks, bool save_tape) {
  const ScalarType type = computing_type(input.scalar_type());
  const Shape shape = shape_of(input, weights);
  const Tensor packed = given.has_value() && fits<T>(*given, shape, type) ? *given : pack_as<T>(weights, type);
  return run_packed<T>(shape, packed, input, h0, c0, lengths, masks, save_tape);
}

Tensor pack(std::vector<Tensor> weights, int64_t kind) {
  STD_TORCH_CHECK(kind >= 0 && kind <= 2, "batched_lstm_pack: kind must be 0, 1 or 2");
  STD_TORCH_CHECK(!weights.empty(), "batched_lstm_pack takes the weights of one layer or more");
  if (kind != 0) return pack_reduced(weights, static_cast<Stored>(kind));
  const ScalarType type = computing_type(weights[0].scalar_type());
  return type == ScalarType::Double ? pack_as<double>(weights, type) : pack_as<float>(weights, type);
}

std::tuple<Tensor, Tensor, Tensor, Tensor> batched_lstm(Tensor input, std::vector<Tensor> weights,
                                                        OptionalTensor packed, OptionalTensor h0, OptionalTensor c0,
                                                        OptionalTensor lengths, OptionalTensor dropout_masks,
                                                        bool save_tape) {
  ForwardResult out = run_forward(input, weights, packed, h0, c0, lengths, dropout_masks, save_tape);
  return {out.output, out.h_n, out.c_n, out.tape};
}

}  // namespace

template <class T>
ForwardResult run_packed(const Shape& shape, const Tensor& packed, const Tensor& input, const OptionalTensor& h0,
                         const OptionalTensor& c0, const OptionalTensor& lengths, const OptionalTensor& masks,
                         bool save_tape) {
  const ScalarType type = computing_type(input.scalar_type());
  const Tensor x = rows_of(input, type);
  const std::vector<int64_t> states{shape.layers, shape.groups, shape.batch, shape.hidden};
  const Optional<T> first_h(h0, states, type, "h0"), first_c(c0, states, type, "c0");
  const Optional<Size> ends(lengths, {shape.batch}, ScalarType::Long, "lengths");
  const Optional<T> dropout(masks, {shape.layers - 1, shape.groups, shape.batch, shape.steps, shape.hidden}, type,
                            "dropout_masks");

  ForwardResult out{empty_beside(x, {shape.groups, shape.batch, shape.steps, shape.hidden}, type),
                    empty_beside(x, states, type), empty_beside(x, states, type),
                    empty_beside(x, {save_tape ? shape.tape_size() : 0}, type)};
  const auto data = [](const Tensor& tensor) { return static_cast<T*>(tensor.mutable_data_ptr()); };
  const Forward<T> forward{shape,
                           static_cast<const T*>(packed.const_data_ptr()) + kHeader,
                           static_cast<const T*>(x.const_data_ptr()),
                           {x.stride(0), x.stride(1), x.stride(2)},
                           first_h.data,
                           first_c.data,
                           ends.data,
                           dropout.data,
                           data(out.output),
                           data(out.h_n),
                           data(out.c_n),
                           save_tape ? data(out.tape) : nullptr};
  const Kernels<T>& kernels = chosen_kernels<T>();
  const Size block = window_block(shape), blocks = (shape.batch + block - 1) / block;
  const Size workspace_size = kernels.forward_workspace(shape, block);
  for_each_task<T>(shape.groups * blocks, workspace_size, x, type, [&](Size task, T* workspace) {
    const Size first = task % blocks * block;
    kernels.forward(forward, task / blocks, first, std::min(block, shape.batch - first), workspace);
  });
  for (Tensor* tensor : {&out.output, &out.h_n, &out.c_n}) *tensor = as(*tensor, input.scalar_type());
  return out;
}

template ForwardResult run_packed<float>(const Shape&, const Tensor&, const Tensor&, const OptionalTensor&,
                                         const OptionalTensor&, const OptionalTensor&, const OptionalTensor&, bool);
template ForwardResult run_packed<double>(const Shape&, const Tensor&, const Tensor&, const OptionalTensor&,
                                          const OptionalTensor&, const OptionalTensor&, const OptionalTensor&, bool);

ForwardResult run_forward(const Tensor& input, const std::vector<Tensor>& weights, const OptionalTensor& packed,
                          const OptionalTensor& h0, const OptionalTensor& c0, const OptionalTensor& lengths,
                          const OptionalTensor& masks, bool save_tape) {
  const bool is_double = computing_type(input.scalar_type()) == ScalarType::Double;
  const auto run = is_double ? forward_as<double> : forward_as<float>;
  return run(input, weights, packed, h0, c0, lengths, masks, save_tape);
}

}  // namespace sgela::lstm

STABLE_TORCH_LIBRARY_IMPL(sgela_fast, CPU, m) {
  m.impl("batched_lstm_pack", TORCH_BOX(&sgela::lstm::pack));
  m.impl("batched_lstm", TORCH_BOX(&sgela::lstm::batched_lstm));
}
