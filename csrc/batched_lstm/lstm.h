// What the op files and the kernels of batched_lstm agree on: sizes, the layout of packed weights and of the tape, and
// the kernels' table per instruction set. No torch here, and no kernel.
//
// Packed weights, elements of the computing type: kHeader elements that say what follows, then per group and layer
//   bias (4 Kp), input panels (4 Kp x I_l), recurrent panels (4 Kp x K),    Kp = K rounded up to kUnitBlock,
// panels as in common/gemm.h with columns permuted so that two panels hold the four gates of one vector of hidden
// units. The size does not depend on the instruction set, the order of the columns does. Weights may be stored in fewer
// bits (common/stored.h); the bias never is, nor, beside int8, the panels that read the input itself.
//
// Tape, 6 K elements of the computing type per layer, group, window and step: first i, f, g, o (after sigmoid and tanh)
// and c as (L, G, T, unit block, B, 5, units of the block), so that a block of windows writes and reads whole stretches
// of memory for each vector of units; then h as (L, G, B, T, K), rows of the products for the weights' gradients.
#pragma once

#include <cstdint>

#include "common/isa.h"
#include "common/stored.h"

namespace sgela::lstm {

using Size = std::int64_t;

inline constexpr Size kHeader = 16;
inline constexpr Size kUnitBlock = 16;  // lanes of the widest vector
inline constexpr Size kTapeGates = 5;

// Functions inlined always: a copy compiled for one instruction set must not serve the others.
struct Shape {
  Size groups, batch, steps, input_size, hidden, layers;
  Stored stored = Stored::kFull;

  [[gnu::always_inline]] Size layer_input(Size layer) const { return layer == 0 ? input_size : hidden; }
  [[gnu::always_inline]] Size padded_hidden() const { return (hidden + kUnitBlock - 1) / kUnitBlock * kUnitBlock; }
  [[gnu::always_inline]] Stored stored_input(Size layer) const {
    return layer == 0 && stored == Stored::kInt8 ? Stored::kFull : stored;
  }
  [[gnu::always_inline]] Size input_matrix_size(Size layer) const {
    return stored_size(stored_input(layer), layer_input(layer), 4 * padded_hidden());
  }
  [[gnu::always_inline]] Size layer_size(Size layer) const {
    const Size columns = 4 * padded_hidden();
    return columns + input_matrix_size(layer) + stored_size(stored, hidden, columns);
  }
  [[gnu::always_inline]] Size packed_offset(Size group, Size layer) const {
    const Size lowest = layer_size(0), upper = layer_size(1);
    return group * (lowest + (layers - 1) * upper) + (layer == 0 ? 0 : lowest + (layer - 1) * upper);
  }
  [[gnu::always_inline]] Size packed_size() const { return kHeader + packed_offset(groups, 0); }
  [[gnu::always_inline]] Size tape_size() const {
    return layers * groups * batch * steps * (kTapeGates + 1) * hidden;
  }
  // Of the first gate of a unit; the other gates and c follow at distances of tape_row(unit).
  [[gnu::always_inline]] Size tape_gates(Size layer, Size group, Size window, Size step, Size unit) const {
    const Size block = unit / kUnitBlock * kUnitBlock;
    const Size before = ((layer * groups + group) * steps + step) * hidden + block;
    return (before * batch + window * tape_row(unit)) * kTapeGates + unit - block;
  }
  [[gnu::always_inline]] Size tape_row(Size unit) const {
    const Size left = hidden - unit / kUnitBlock * kUnitBlock;
    return left < kUnitBlock ? left : kUnitBlock;
  }
  [[gnu::always_inline]] Size tape_h(Size layer, Size group, Size window, Size step) const {
    const Size gates = layers * groups * batch * steps * kTapeGates * hidden;
    return gates + (((layer * groups + group) * batch + window) * steps + step) * hidden;
  }
  // Between rows of gradients of gates: not a multiple of the page, so that neighbours do not share their cache sets.
  [[gnu::always_inline]] Size gate_stride() const { return (4 * hidden + 15) / 16 * 16 + 16; }
  // Panels of W_hh and W_ih read by the backward pass, of `panel` columns each.
  [[gnu::always_inline]] Size panels_offset(Size group, Size layer, Size panel) const {
    const Size state = (hidden + panel - 1) / panel * panel, first = (input_size + panel - 1) / panel * panel;
    const Size lowest = 4 * hidden * (state + first), upper = 4 * hidden * 2 * state;
    return group * (lowest + (layers - 1) * upper) + (layer == 0 ? 0 : lowest + (layer - 1) * upper);
  }
  // Of a state (L, G, B, K).
  [[gnu::always_inline]] Size state_offset(Size layer, Size group, Size window) const {
    return ((layer * groups + group) * batch + window) * hidden;
  }
};

// One layer's weights of one group, contiguous: weight_ih (4K, I_l), weight_hh (4K, K), bias (4K).
template <class T>
struct LayerWeights {
  const T *weight_ih, *weight_hh, *bias;
};

// The same in fewer bits: values and scales as pack_matrix() in common/matrix.h takes them.
struct ReducedWeights {
  const void *weight_ih, *weight_hh;
  const float *scale_ih, *scale_hh, *bias;
};

// A block of windows of one group runs through all layers and steps on one thread.
template <class T>
struct Forward {
  Shape shape;
  const T* packed;           // behind the header
  const T* input;            // (G, B, T, I), unit stride last
  Size input_strides[3];
  const T *h0, *c0;          // (L, G, B, K) or null
  const Size* lengths;       // (B) or null
  const T* masks;            // (L - 1, G, B, T, K) or null
  T* output;                 // (G, B, T, K)
  T *h_n, *c_n;              // (L, G, B, K)
  T* tape;                   // or null
};

template <class T>
struct Backward {
  Shape shape;
  const T* panels;           // per group and layer: W_hh as B(4K, K), then W_ih as B(4K, I_l)
  const T* input;            // (G, B, T, I), unit stride last
  Size input_strides[3];
  const T *h0, *c0;          // (L, G, B, K) or null
  const Size* lengths;       // (B) or null
  const T* masks;            // (L - 1, G, B, T, K) or null
  const T* tape;
  const T *grad_output;      // (G, B, T, K) or null
  const T *grad_h_n, *grad_c_n;  // (L, G, B, K) or null
  T* grad_input;             // (G, B, T, I)
  T *grad_h0, *grad_c0;      // (L, G, B, K) or null
  T* const* grad_weights;    // per layer: (G, 4K, I_l), (G, 4K, K), (G, 4K)
  T* grad_gates;             // of the stretch of windows; layout in backward.h
  Size first_window, windows;  // the stretch
  Size block;                // windows of a block; only the stretch's last one may have fewer
};

// One instruction set's kernels. Workspaces are elements; `rows` windows from `first` on are one block.
template <class T>
struct Kernels {
  Size panel;  // columns of a panel
  void (*pack)(const Shape&, Size layer, const LayerWeights<T>&, T* packed);
  void (*pack_reduced)(const Shape&, Size layer, const ReducedWeights&, T* packed);  // null for float64
  Size (*forward_workspace)(const Shape&, Size rows);
  void (*forward)(const Forward<T>&, Size group, Size first, Size rows, T* workspace);
  void (*pack_backward)(const Shape&, Size layer, const LayerWeights<T>&, T* panels);
  Size (*backward_workspace)(const Shape&, Size rows);
  void (*backward)(const Backward<T>&, Size group, Size first, Size rows, T* workspace);
  Size (*weights_workspace)(const Shape&);
  void (*backward_weights)(const Backward<T>&, Size group, Size layer, Size stripe, T* workspace);
};

// Gate columns whose weight gradients are one task.
inline constexpr Size kStripe = 384;

template <class T>
const Kernels<T>& kernels_baseline();
template <class T>
const Kernels<T>& kernels_avx2();
template <class T>
const Kernels<T>& kernels_avx512();

}  // namespace sgela::lstm
