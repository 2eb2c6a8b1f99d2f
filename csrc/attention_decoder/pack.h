// Packing of one group's decoder weights for the instruction set of the including file; the layout is in decoder.h.
//
// One thread reads every weight once and writes the panels once; the folded weights pass through a workspace of 4K x K.
// Weights of fewer bits come with the feedback already folded in.
#pragma once

#include "attention_decoder/decoder.h"
#include "common/matrix.h"

namespace sgela::SGELA_ISA {

using decoder::Size;

// Gate columns of one vector of hidden units.
template <class T>
inline constexpr Size kGates = 4 * Vec<T>::kLanes;

template <class T>
SGELA_INLINE Size vectors_of(Size hidden) {
  return (hidden + Vec<T>::kLanes - 1) / Vec<T>::kLanes;
}

// Row of a (4K, ...) weight or bias that the columns `n` of the gates of one vector of units stand for, or -1.
template <class T>
SGELA_INLINE Size gate_row(Size hidden, Size vector, Size n) {
  const Size unit = vector * Vec<T>::kLanes + n % Vec<T>::kLanes;
  return unit < hidden ? n / Vec<T>::kLanes * hidden + unit : Size(-1);
}

// `depth` columns of a weight with rows of `row_size`, the four gates of each vector of units side by side.
template <class T>
void pack_gates(Size hidden, const T* weight, Size row_size, Size depth, T* panels) {
  const auto column_of = [=](Size n) {
    const Size row = gate_row<T>(hidden, n / kGates<T>, n % kGates<T>);
    return row < 0 ? nullptr : weight + row * row_size;
  };
  pack_columns(column_of, 1, depth, vectors_of<T>(hidden) * kGates<T>, panels);
}

template <class T>
void permute_bias(Size hidden, const T* bias, T* permuted) {
  for (Size i = 0; i < vectors_of<T>(hidden) * kGates<T>; ++i) {
    const Size row = gate_row<T>(hidden, i / kGates<T>, i % kGates<T>);
    permuted[i] = row < 0 ? T(0) : bias[row];
  }
}

// W_a + W_s W_F (4K, K), and W_s b_F (4K). Rounded once: sums are taken in float64.
template <class T>
void fold_feedback(const decoder::Shape& shape, const decoder::Weights<T>& weights, T* folded, T* bias) {
  constexpr Size kColumns = 64;
  const Size hidden = shape.hidden, joints = shape.joints, row_size = joints + hidden;
  for (Size row = 0; row < 4 * hidden; ++row) {
    const T* skeleton = weights.bottom_ih + row * row_size;
    double fed = 0;
    for (Size j = 0; weights.output_bias != nullptr && j < joints; ++j) {
      fed += static_cast<double>(skeleton[j]) * static_cast<double>(weights.output_bias[j]);
    }
    bias[row] = static_cast<T>(fed);
    for (Size first = 0; first < hidden; first += kColumns) {
      const Size columns = hidden - first < kColumns ? hidden - first : kColumns;
      double sums[kColumns];
      for (Size k = 0; k < columns; ++k) sums[k] = static_cast<double>(skeleton[joints + first + k]);
      for (Size j = 0; j < joints; ++j) {
        const double factor = static_cast<double>(skeleton[j]);
        const T* output = weights.output + j * hidden + first;
        for (Size k = 0; k < columns; ++k) sums[k] += factor * static_cast<double>(output[k]);
      }
      for (Size k = 0; k < columns; ++k) folded[row * hidden + first + k] = static_cast<T>(sums[k]);
    }
  }
}

template <class T>
Size pack_workspace(const decoder::Shape& shape) {
  return shape.attends ? 4 * shape.hidden * (shape.hidden + 1) : 0;
}

template <class T>
void pack_decoder(const decoder::Shape& shape, const decoder::Weights<T>& weights, bool feedback, T* packed,
                  T* workspace) {
  const Size hidden = shape.hidden, joints = shape.joints;
  const Size bottom_size = joints + shape.below(0);
  const T* below = weights.bottom_ih + joints;
  Size below_size = bottom_size;
  T* const fed_bias = packed + shape.fed_bias_offset();
  for (Size i = 0; i < vectors_of<T>(hidden) * kGates<T>; ++i) fed_bias[i] = T(0);
  if (feedback && shape.attends) {
    T* const bias = workspace + 4 * hidden * hidden;
    fold_feedback(shape, weights, workspace, bias);
    permute_bias(hidden, bias, fed_bias);
    below = workspace, below_size = hidden;
  }
  for (Size layer = 0; layer < shape.layers; ++layer) {
    const T* ih = layer == 0 ? below : weights.upper[2 * (layer - 1)];
    const T* hh = layer == 0 ? weights.bottom_hh : weights.upper[2 * (layer - 1) + 1];
    const Size depth = shape.below(layer);
    T* const panels = packed + shape.layer_offset(layer);
    if (depth > 0) pack_gates(hidden, ih, layer == 0 ? below_size : hidden, depth, panels);
    pack_gates(hidden, hh, hidden, hidden, panels + 4 * decoder::padded(hidden) * depth);
  }
  pack_gates(hidden, weights.bottom_ih, bottom_size, joints, packed + shape.skeleton_offset());
  // h . (W_key m) = (W_key^T h) . m: the decoded state is taken to the encoded ones, not they to it.
  if (shape.projects_keys) {
    const auto row_of = [&](Size n) { return weights.key + n * hidden; };
    pack_rows<kPanel<T>>(row_of, hidden, hidden, packed + shape.key_offset());
  }
  for (Size half = 0; shape.attends && half < 2; ++half) {
    const auto column_of = [&](Size n) { return weights.fusion + n * 2 * hidden + half * hidden; };
    pack_columns(column_of, 1, hidden, hidden, packed + shape.fusion_offset() + half * decoder::padded(hidden) * hidden);
  }
  pack_columns([&](Size j) { return weights.output + j * hidden; }, 1, hidden, joints, packed + shape.output_offset());
}

template <class W, class T>
void pack_reduced_as(const decoder::Shape& shape, const decoder::ReducedWeights& weights, T* packed) {
  const Size hidden = shape.hidden, joints = shape.joints, wide = 4 * decoder::padded(hidden);
  const Size columns = vectors_of<T>(hidden) * kGates<T>;
  const auto gate = [hidden](Size n) { return gate_row<T>(hidden, n / kGates<T>, n % kGates<T>); };
  const auto same = [](Size n) { return n; };
  for (Size layer = 0; layer < shape.layers; ++layer) {
    const Size depth = shape.below(layer);
    const decoder::ReducedMatrix below = weights.layers[2 * layer], state = weights.layers[2 * layer + 1];
    T* const at = packed + shape.layer_offset(layer);
    if (depth > 0) pack_matrix<W>(gate, {below.values, below.scales}, depth, depth, columns, wide, at);
    pack_matrix<W>(gate, {state.values, state.scales}, hidden, hidden, columns, wide, at + shape.gates_size(depth));
  }
  pack_gates(hidden, weights.skeleton, joints, joints, packed + shape.skeleton_offset());
  T* const fed_bias = packed + shape.fed_bias_offset();
  for (Size i = 0; i < columns; ++i) fed_bias[i] = T(0);
  if (weights.fed_bias != nullptr) permute_bias(hidden, weights.fed_bias, fed_bias);
  const auto pack_square = [&](const decoder::ReducedMatrix& matrix, T* to) {
    pack_matrix<W>(same, {matrix.values, matrix.scales}, hidden, hidden, hidden, decoder::padded(hidden), to);
  };
  if (shape.projects_keys) pack_square(weights.query, packed + shape.key_offset());
  for (Size half = 0; shape.attends && half < 2; ++half) {
    pack_square(weights.fusion[half], packed + shape.fusion_offset() + half * shape.square_size());
  }
  pack_columns([&](Size j) { return weights.output + j * hidden; }, 1, hidden, joints, packed + shape.output_offset());
}

template <class T>
void pack_reduced_decoder(const decoder::Shape& shape, const decoder::ReducedWeights& weights, T* packed) {
  if constexpr (sizeof(T) == 4) {
    (shape.stored == Stored::kInt8 ? pack_reduced_as<Int8, T> : pack_reduced_as<BFloat16, T>)(shape, weights, packed);
  }
}

}  // namespace sgela::SGELA_ISA
