// What the op file and the kernels of attention_decoder agree on: sizes, the layout of packed weights, arguments, and the
// kernels' table per instruction set. No torch here, and no kernel.
//
// Packed weights, elements of the computing type: kHeader elements that say what follows, then per group
//   per layer     gate panels of what comes from below (K rows, none without attention in the bottom layer), then of the
//                 layer's own state (K rows); the four gates of one vector of hidden units lie side by side,
//   skeleton      gate panels (J rows) of the skeleton's share of the bottom layer's gates,
//   fed_bias      (4 Kp), the share of the gates that the output layer's bias has once it is fed back,
//   key           panels (K x K) that take the decoded state to where it meets the encoded ones,
//   fusion        panels (K x K) of the decoded state, then of the context,
//   output        panels (K x J),
// with Kp = K rounded up to kBlock and panels as in common/gemm.h. The size does not depend on the instruction set, the
// order of the columns does. The layers' biases are not in it: models tend to compute them anew. Weights may be stored in
// fewer bits (common/stored.h), but not fed_bias and the panels that read or make skeletons.
//
// With feedback the skeleton at step t > 0 is W_F a + b_F for the previous attentional vector a (Eq. 10), so its share of
// the gates, W_s (W_F a + b_F), folds into that of a: W_a + W_s W_F is packed in the place of W_a, and W_s b_F is fed_bias.
#pragma once

#include <cstdint>

#include "common/isa.h"
#include "common/stored.h"
#include "locality_attention/params.h"

namespace sgela::decoder {

using Size = std::int64_t;

inline constexpr Size kHeader = 16;
inline constexpr Size kBlock = 32;  // columns of the widest panel

// Functions inlined always: a copy compiled for one instruction set must not serve the others.
[[gnu::always_inline]] inline Size padded(Size columns) { return (columns + kBlock - 1) / kBlock * kBlock; }

struct Shape {
  Size groups, batch, steps, keys, joints, hidden, layers;
  bool attends, projects_keys;
  Stored stored = Stored::kFull;

  // Rows of the lower panels of a layer.
  [[gnu::always_inline]] Size below(Size layer) const { return layer == 0 && !attends ? 0 : hidden; }
  [[gnu::always_inline]] Size gates_size(Size depth) const { return stored_size(stored, depth, 4 * padded(hidden)); }
  [[gnu::always_inline]] Size square_size() const { return stored_size(stored, hidden, padded(hidden)); }
  [[gnu::always_inline]] Size layer_offset(Size layer) const {
    const Size state = gates_size(hidden);
    return layer == 0 ? 0 : gates_size(below(0)) + state + (layer - 1) * 2 * state;
  }
  [[gnu::always_inline]] Size skeleton_offset() const { return layer_offset(layers); }
  [[gnu::always_inline]] Size fed_bias_offset() const { return skeleton_offset() + 4 * padded(hidden) * joints; }
  [[gnu::always_inline]] Size key_offset() const { return fed_bias_offset() + 4 * padded(hidden); }
  [[gnu::always_inline]] Size fusion_offset() const { return key_offset() + (projects_keys ? square_size() : 0); }
  [[gnu::always_inline]] Size output_offset() const { return fusion_offset() + (attends ? 2 * square_size() : 0); }
  [[gnu::always_inline]] Size group_size() const { return output_offset() + padded(joints) * hidden; }
};

// One group's weights, contiguous; biases of the layers left out.
template <class T>
struct Weights {
  const T *bottom_ih, *bottom_hh;  // (4K, J or J + K), (4K, K)
  const T* const* upper;           // weight_ih, weight_hh of the layers above, each (4K, K)
  const T* key;                    // (K, K) or null
  const T* fusion;                 // (K, 2K) or null
  const T* output;                 // (J, K)
  const T* output_bias;            // (J) or null
};

// The same in fewer bits, the feedback folded in: values and scales as pack_matrix() in common/matrix.h takes them.
struct ReducedMatrix {
  const void* values;
  const float* scales;
};

struct ReducedWeights {
  const ReducedMatrix* layers;  // per layer what reads from below, which may be missing in the bottom one, and the state
  const float* skeleton;        // (4K, J)
  const float* fed_bias;        // (4K) or null
  ReducedMatrix query;          // (K, K), transposed key
  ReducedMatrix fusion[2];      // (K, K) of the decoded state and of the context
  const float* output;          // (J, K)
};

// A block of windows of one group runs through all steps on one thread.
template <class T>
struct Decoding {
  Shape shape;
  const T* packed;          // behind the header
  const T* encoded;         // (G, B, Tk, K), unit stride last
  Size encoded_strides[3];
  const T *h0, *c0;         // (L, G, B, K)
  const T* const* biases;   // per layer (G, 4K)
  const T* output_bias;     // (G, J) or null
  const T* teacher;         // (G, B, T, J), unit stride last, or null
  Size teacher_strides[3];
  bool feedback;
  bool tanh;
  locality_attention::Attention attention;  // of T queries a window; its pointers but the mask's are not set
  T* context;               // (G, B, T, K), or null without attention
  T* loss;                  // (G, B)
  // All null unless everything is wanted.
  T* reconstruction;        // (G, B, T, J)
  T* alignment;             // (G, B, T, Tk), or null without attention
  T* attentional;           // (G, B, T, K)
  T *h, *c;                 // (L, G, B, T, K)
};

// One instruction set's kernels. Workspaces are elements; `rows` windows from `first` on are one block.
template <class T>
struct Kernels {
  Size lanes;
  Size (*pack_workspace)(const Shape&);
  void (*pack)(const Shape&, const Weights<T>&, bool feedback, T* packed, T* workspace);
  void (*pack_reduced)(const Shape&, const ReducedWeights&, T* packed);  // null for float64
  void (*fill_mask)(const locality_attention::Attention&, T* table, Size entries);
  Size (*decode_workspace)(const Shape&, Size rows);
  void (*decode)(const Decoding<T>&, Size group, Size first, Size rows, T* workspace);
};

template <class T>
const Kernels<T>& kernels_baseline();
template <class T>
const Kernels<T>& kernels_avx2();
template <class T>
const Kernels<T>& kernels_avx512();

}  // namespace sgela::decoder
