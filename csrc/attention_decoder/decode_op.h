// What the op files of the decoding loop share: the header of packed weights, and the loop over packed weights of any
// storage.
#pragma once

#include <tuple>
#include <vector>

#include "attention_decoder/arguments.h"

namespace sgela::decoder {

using Results = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

// What a call takes beside weights and settings.
struct Inputs {
  const Tensor &encoded, &h0, &c0;
  const std::vector<Tensor>& biases;
  const OptionalTensor &output_bias, &teacher;
  Size steps;
};

// The first element of packed weights; the others are the instruction set, the shape, what was folded, and how weights are
// stored.
inline constexpr int kMagic = 1612;

template <class T>
std::vector<T> header_of(const Shape& shape, bool folded) {
  const Size values[] = {kMagic,        static_cast<Size>(chosen_isa()), shape.groups,        shape.layers,
                         shape.hidden,  shape.joints,                    shape.attends,       shape.projects_keys,
                         folded,        static_cast<Size>(shape.stored)};
  std::vector<T> header(kHeader, T(0));
  std::copy(std::begin(values), std::end(values), header.begin());
  return header;
}

// Packed from weights of this shape, in this way and for the instruction set in use?
template <class T>
bool fits(const Tensor& packed, const Shape& shape, bool folded) {
  const ScalarType type = sizeof(T) == 8 ? ScalarType::Double : ScalarType::Float;
  if (packed.scalar_type() != type || packed.dim() != 1 || !packed.is_contiguous() || !packed.is_cpu()) return false;
  const std::vector<T> header = header_of<T>(shape, folded);
  return packed.size(0) == kHeader + shape.groups * shape.group_size() &&
         std::equal(header.begin(), header.end(), data_of<T>(packed));
}

// The whole loop; T is the computing type of `given_type`, which inputs and results have.
template <class T>
Results decode_packed(Shape shape, const Tensor& packed, ScalarType given_type, const Inputs& in,
                      const Settings& settings);

}  // namespace sgela::decoder
