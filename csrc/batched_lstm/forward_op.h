// What the op files of batched_lstm's forward pass share: the header of packed weights, and the pass itself.
#pragma once

#include <vector>

#include "batched_lstm/arguments.h"

namespace sgela::lstm {

struct ForwardResult {
  Tensor output, h_n, c_n, tape;
};

// The forward pass as the backward op calls it too, to compute a tape that was not kept.
ForwardResult run_forward(const Tensor& input, const std::vector<Tensor>& weights, const OptionalTensor& packed,
                          const OptionalTensor& h0, const OptionalTensor& c0, const OptionalTensor& lengths,
                          const OptionalTensor& masks, bool save_tape);

// With weights packed for `shape`, of any storage. T is the computing type of the input.
template <class T>
ForwardResult run_packed(const Shape& shape, const Tensor& packed, const Tensor& input, const OptionalTensor& h0,
                         const OptionalTensor& c0, const OptionalTensor& lengths, const OptionalTensor& masks,
                         bool save_tape);

// The op batched_lstm_pack for weights of fewer bits, five tensors a layer: weight_ih, its scales, weight_hh, its scales,
// bias.
Tensor pack_reduced(const std::vector<Tensor>& weights, Stored stored);

// The first element of packed weights; the others are the instruction set, the shape, and how weights are stored.
inline constexpr int kMagic = 1611;

template <class T>
std::vector<T> header_of(const Shape& shape) {
  const Size isa = static_cast<Size>(chosen_isa());
  const Size values[] = {kMagic,           isa,          shape.groups,
                         shape.layers,     shape.input_size, shape.hidden,
                         static_cast<Size>(shape.stored)};
  std::vector<T> header(kHeader, T(0));
  std::copy(std::begin(values), std::end(values), header.begin());
  return header;
}

template <class T>
void write_header(const Shape& shape, T* packed) {
  const std::vector<T> header = header_of<T>(shape);
  std::copy(header.begin(), header.end(), packed);
}

// Packed for these weights' shape and the instruction set in use?
template <class T>
bool fits(const Tensor& packed, const Shape& shape, ScalarType type) {
  if (packed.scalar_type() != type || packed.dim() != 1 || packed.size(0) != shape.packed_size()) return false;
  const std::vector<T> header = header_of<T>(shape);
  return packed.is_contiguous() && packed.is_cpu() &&
         std::equal(header.begin(), header.end(), static_cast<const T*>(packed.const_data_ptr()));
}

}  // namespace sgela::lstm
