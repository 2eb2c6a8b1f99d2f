// What the op files and the kernels of attention_decoder's training pass agree on: the tape, arguments of the backward
// pass, and the kernels' table per instruction set. No torch here, and no kernel.
//
// The training pass packs the weights as decoder.h says, never with feedback folded in: a prediction that is fed back is
// computed and read like a teacher's skeleton, so that its gradient has a place to go.
#pragma once

#include "attention_decoder/decoder.h"

namespace sgela::decoder {

// What the backward pass reads of the forward pass, for windows `first` to `first + windows` of the batch. All but gates
// and query are results of the op. Attention is computed again from query and encoded states, which costs less than
// reading its weights back would be worth.
template <class T>
struct Tape {
  Size first, windows;
  T* gates;            // (L, G, T, unit block, windows, 4, units of the block): i, f, g, o after their functions
  T* query;            // (G, windows, T, K), or null unless keys are projected
  T* context;          // (G, windows, T, K), or null without attention
  T* attentional;      // (G, windows, T, K)
  T* reconstruction;   // (G, windows, T, J)
  T *h, *c;            // (L, G, windows, T, K)
};

inline constexpr Size kUnitBlock = 16;  // lanes of the widest vector
// Gate columns of weight gradients that are one task where there are threads for it: whole register tiles of every
// instruction set.
inline constexpr Size kStripe = 192;

[[gnu::always_inline]] inline Size units_of_block(Size hidden, Size unit) {
  const Size left = hidden - unit / kUnitBlock * kUnitBlock;
  return left < kUnitBlock ? left : kUnitBlock;
}

// Of the first gate of a unit in a tape of `windows` windows; the other gates follow at distances of units_of_block().
[[gnu::always_inline]] inline Size tape_gates(const Shape& shape, Size windows, Size layer, Size group, Size window,
                                              Size step, Size unit) {
  const Size block = unit / kUnitBlock * kUnitBlock;
  const Size before = ((layer * shape.groups + group) * shape.steps + step) * shape.hidden + block;
  return (before * windows + window * units_of_block(shape.hidden, unit)) * 4 + unit - block;
}

[[gnu::always_inline]] inline Size tape_gates_size(const Shape& shape, Size windows) {
  return shape.layers * shape.groups * windows * shape.steps * 4 * shape.hidden;
}

[[gnu::always_inline]] inline Size tape_query_size(const Shape& shape, Size windows) {
  return shape.projects_keys ? shape.groups * windows * shape.steps * shape.hidden : 0;
}

// Between rows of gradients: not a multiple of the page, so that neighbours do not share their cache sets.
[[gnu::always_inline]] inline Size gradient_stride(Size columns) { return (columns + 15) / 16 * 16 + 16; }

// Gradients of what the weights multiply, of the windows and groups at work. Rows per group (and layer) as the blocks of
// windows, each (T, windows of the block).
template <class T>
struct RowGradients {
  Size first_window, windows, first_group;
  Size block;      // windows of a block; only the last one may have fewer
  T* gates;        // (groups at work, L, rows, gradient_stride(4K)): of pre-activations, columns i, f, g, o
  T* fused;        // (groups at work, rows, gradient_stride(K)): before the attentional layer's tanh; null without
  T* query;        // likewise, if keys are projected
  T* prediction;   // (groups at work, rows, gradient_stride(J))
};

template <class T>
struct WeightGradients {
  T* const* layers;   // per layer weight_ih (G, 4K, J + K or K), weight_hh (G, 4K, K)
  T* const* biases;   // per layer (G, 4K)
  T* key;             // (G, K, K) or null
  T* fusion;          // (G, K, 2K) or null
  T* output;          // (G, J, K)
  T* output_bias;     // (G, J) or null
};

template <class T>
struct Backward {
  Shape shape;              // of the whole batch
  const T* panels;          // per group, as training_panels.h lays them out
  Size panels_size;         // of a group
  const T* encoded;         // (G, B, Tk, K), unit stride last
  Size encoded_strides[3];
  const T *h0, *c0;         // (L, G, B, K)
  const T* teacher;         // (G, B, T, J), unit stride last, or null
  Size teacher_strides[3];
  bool feedback, tanh;
  locality_attention::Attention attention;  // as in Decoding
  Tape<T> tape;
  // Gradients of the results, dense; each may be null.
  const T *grad_context, *grad_loss, *grad_alignment, *grad_reconstruction, *grad_attentional, *grad_h, *grad_c;
  T* grad_encoded;          // (G, B, Tk, K)
  T *grad_h0, *grad_c0;     // (L, G, B, K)
  T* grad_teacher;          // (G, B, T, J) or null
  RowGradients<T> rows;
  WeightGradients<T> weights;
};

// The matrices whose gradients are sums of products over rows: the layers, then these.
enum class Matrix { kFusion = 0, kKey = 1, kOutput = 2 };
inline constexpr Size kMatricesBesideLayers = 3;

// Rows of the gradient of the matrix with this number.
[[gnu::always_inline]] inline Size gradient_rows(const Shape& shape, Size matrix) {
  if (matrix < shape.layers) return 4 * shape.hidden;
  switch (static_cast<Matrix>(matrix - shape.layers)) {
    case Matrix::kFusion:
      return shape.attends ? shape.hidden : 0;
    case Matrix::kKey:
      return shape.projects_keys ? shape.hidden : 0;
    default:
      return shape.joints;
  }
}

// One instruction set's kernels. Workspaces are elements; `rows` windows from `first` on are one block.
template <class T>
struct TrainingKernels {
  Size (*forward_workspace)(const Shape&, Size rows);
  void (*forward)(const Decoding<T>&, const Tape<T>&, Size group, Size first, Size rows, T* workspace);
  Size (*panels_size)(const Shape&);
  void (*pack_backward)(const Shape&, const Weights<T>&, T* panels);
  Size (*backward_workspace)(const Shape&, Size rows);
  void (*backward)(const Backward<T>&, Size group, Size first, Size rows, T* workspace);
  Size (*weights_workspace)(const Shape&, Size stripe);
  // Adds the rows at work to the rows `first` to `first + count` of the gradient of one matrix and of its bias.
  void (*backward_weights)(const Backward<T>&, Size group, Size matrix, Size first, Size count, T* workspace);
};

template <class T>
const TrainingKernels<T>& training_kernels_baseline();
template <class T>
const TrainingKernels<T>& training_kernels_avx2();
template <class T>
const TrainingKernels<T>& training_kernels_avx512();

}  // namespace sgela::decoder
