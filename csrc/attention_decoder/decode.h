// The decoding loop (Eqs. 2 and 4 to 10) for the instruction set of the including file.
//
// One thread owns a block of windows of one group and takes it through all steps and layers. Per step it reads the packed
// weights once (5 MB at K = 256 and two layers, L3) and the block's encoded states once; the states h, c and a of the
// block stay in L2, the gates of one vector of hidden units in L1. To memory go the contexts, from where the attentional
// layer reads them back, and whatever else is asked for.
#pragma once

#include "attention_decoder/pack.h"
#include "common/cell.h"
#include "locality_attention/rows.h"

namespace sgela::SGELA_ISA {

// Hands out pieces of a workspace; without memory it only counts.
template <class T>
struct Pieces {
  T* memory;
  Size used = 0;

  T* take(Size elements) {
    T* piece = memory == nullptr ? nullptr : memory + used;
    used += (elements + 15) / 16 * 16;
    return piece;
  }
};

template <class T>
void copy_row(const T* from, Size count, T* to) {
  for (Size i = 0; i < count; ++i) to[i] = from[i];
}

// Vectors of hidden units whose gates are formed at once: one, so that the gates of many windows stay in L1; with few
// windows four, for long reads of the weights and cells side by side.
SGELA_INLINE Size slice_of(Size rows) { return rows <= kFewRows ? 4 : 1; }

// Enough for `rows` windows or fewer.
template <class T>
SGELA_INLINE Size gates_size(Size rows) {
  const Size few = rows < kFewRows ? rows : kFewRows;
  return kGates<T> * (few * slice_of(few) > rows ? few * slice_of(few) : rows);
}

template <class T>
struct DecodeScratch {
  T *h, *next_h;   // (L, rows, Kp): before and after the step
  T* c;            // (L, rows, Kp)
  T* attentional;  // (rows, Kp)
  T* query;        // (rows, Kp), if keys are projected
  Size zeros;      // elements up to here start as zeros, padding included
  T* gates;        // (rows, the gates of a slice of hidden units)
  T* bias;         // (L, 4 Kp) in the order of the panels
  T* fed_bias;     // (4 Kp): the bottom layer's from the second step on
  T* key_bias;     // (Tk): 0, and -inf up to a whole vector
  T* scores;       // (Tk)
  T* staged;       // (rows, Tk, K up to a whole vector), if K is not one
  T *below, *own;  // what int8 weights read: from below or the context, and the layer's own or the decoded state
  Size size;

  // Enough for `rows` windows or fewer.
  DecodeScratch(const decoder::Shape& shape, Size rows, T* memory) {
    Pieces<T> pieces{memory};
    const Size width = decoder::padded(shape.hidden), keys = rounded_up(shape.keys, Vec<T>::kLanes);
    h = pieces.take(shape.layers * rows * width);
    next_h = pieces.take(shape.layers * rows * width);
    c = pieces.take(shape.layers * rows * width);
    attentional = pieces.take(rows * width);
    query = pieces.take(shape.projects_keys ? rows * width : 0);
    zeros = pieces.used;
    gates = pieces.take(gates_size<T>(rows));
    bias = pieces.take(shape.layers * 4 * width);
    fed_bias = pieces.take(4 * width);
    key_bias = pieces.take(keys);
    scores = pieces.take(keys);
    staged = pieces.take(shape.attends ? staging_size<T>(rows * shape.keys, shape.hidden) : 0);
    below = pieces.take(activations_size<T>(shape.stored, rows, shape.hidden));
    own = pieces.take(activations_size<T>(shape.stored, rows, shape.hidden));
    size = pieces.used;
  }
};

// A block of windows: where its pieces of the arguments lie.
template <class T>
struct Block {
  const decoder::Decoding<T>& decoding;
  const decoder::Shape& shape;
  Size group, first, rows, width;
  const T* packed;
  DecodeScratch<T>& scratch;
  Rows<T> encoded;     // (rows, Tk, K), whole vectors
  Size encoded_window; // between windows

  // Row of a (G, B, T, columns) tensor.
  SGELA_INLINE T* row_of(T* tensor, Size row, Size step, Size columns) const {
    return tensor + (((group * shape.batch + first + row) * shape.steps) + step) * columns;
  }
};

// Rows of a matrix, beside which a product reads panels.
template <class T>
struct Factor {
  const T* rows;  // null for zeros
  Size stride;
};

// Gates to states of one vector of hidden units of all rows; the gates are activated in place. In two passes, because
// tanh(c) waits for c: each pass alone has many rows under way at once.
template <class T>
void update_cells(Size rows, T* gates, Size stride, T* c, T* h, Size width) {
  using V = Vec<T>;
  constexpr Size kLanes = V::kLanes;
  for (Size r = 0; r < rows; ++r) {
    T* const z = gates + r * stride;
    T* const cell = c + r * width;
    const Gates<V> out = activate(Gates<V>{load(z), load(z + kLanes), load(z + 2 * kLanes), load(z + 3 * kLanes)});
    store(cell, next_c(out, load(cell)));
    store(z + 3 * kLanes, out.o);
  }
  for (Size r = 0; r < rows; ++r) {
    store(h + r * width, next_h(load(gates + r * stride + 3 * kLanes), load(c + r * width)));
  }
}

// One layer's step. `below` is what it reads besides its own state, `skeleton` what the bottom layer does. W is the type
// of the weights.
template <class T, class W = T>
void run_cells(const Block<T>& it, Size layer, const T* bias, Factor<T> below, Factor<T> skeleton) {
  constexpr Size kLanes = Vec<T>::kLanes;
  const Size hidden = it.shape.hidden, depth = it.shape.below(layer), at = layer * it.rows * it.width;
  const Size vectors = vectors_of<T>(hidden), joints = it.shape.joints, slice = slice_of(it.rows);
  const Size total = 4 * it.width;
  const T* below_matrix = it.packed + it.shape.layer_offset(layer);
  const T* state_matrix = below_matrix + it.shape.gates_size(depth);
  const T* skeleton_panels = it.packed + it.shape.skeleton_offset();
  T* const gates = it.scratch.gates;
  typename ActivationsOf<T, W>::Type read{};
  if (below.rows != nullptr) read = activations<W>(it.rows, depth, below.rows, below.stride, it.scratch.below);
  const auto state = activations<W>(it.rows, hidden, static_cast<const T*>(it.scratch.h + at), it.width, it.scratch.own);
  for (Size vector = 0; vector < vectors; vector += slice) {
    const Size count = vectors - vector < slice ? vectors - vector : slice;
    const Size first = vector * kGates<T>, columns = count * kGates<T>;
    for (Size r = 0; r < it.rows; ++r) copy_row(bias + first, columns, gates + r * columns);
    if (below.rows != nullptr) {
      multiply_matrix<W>(it.rows, columns, depth, read, below_matrix, total, first, gates, columns, true);
    }
    if (skeleton.rows != nullptr) {
      multiply(it.rows, columns, joints, skeleton.rows, skeleton.stride, skeleton_panels + first * joints, gates, columns,
               true);
    }
    multiply_matrix<W>(it.rows, columns, hidden, state, state_matrix, total, first, gates, columns, true);
    for (Size v = 0; v < count; ++v) {
      const Size unit = at + (vector + v) * kLanes;
      update_cells(it.rows, gates + v * kGates<T>, columns, it.scratch.c + unit, it.scratch.next_h + unit, it.width);
    }
  }
}

// The locality mask of all steps, from which step t reads on from entry t (reverse) or T - 1 - t (identity).
template <class T>
void fill_decoder_mask(const locality_attention::Attention& p, T* table, Size entries) {
  constexpr int kLanes = Vec<double>::kLanes;
  const Size shift = p.direction < 0 ? 1 - p.keys : 1 - p.queries;
  for (Size i = 0; i < entries; i += kLanes) {
    const Vec<double> offset = iota<double>() + broadcast(static_cast<double>(i + shift));
    double mask[kLanes];
    store(mask, mask_at(offset, mask_precision(p), p.window, mask_is_complement(p)));
    for (int lane = 0; lane < kLanes && i + lane < entries; ++lane) table[i + lane] = static_cast<T>(mask[lane]);
  }
}

// Scores, weights, loss and context of one step of all windows. `query` (rows, Kp) is padded with zeros.
template <class T>
void attend(const Block<T>& it, Size step, const T* query) {
  const decoder::Decoding<T>& p = it.decoding;
  const Size keys = it.shape.keys, hidden = it.shape.hidden, lanes = Vec<T>::kLanes;
  const Size padded_keys = rounded_up(keys, lanes), padded_hidden = rounded_up(hidden, lanes);
  const T* mask = static_cast<const T*>(p.attention.mask);
  if (mask != nullptr) mask += p.attention.direction < 0 ? step : it.shape.steps - 1 - step;
  for (Size r = 0; r < it.rows; ++r) {
    const Rows<T> encoded{it.encoded.data + r * it.encoded_window, it.encoded.stride};
    dots_of<1>(Rows<T>{query + r * it.width, it.width}, encoded, keys, padded_hidden, it.scratch.scores, padded_keys);
    const RowSums<T> sums =
        softmax_row(p.attention.mode, it.scratch.scores, it.scratch.key_bias, mask, padded_keys, T(1));
    T* const loss = p.loss + it.group * it.shape.batch + it.first + r;
    *loss = step == 0 ? sums.loss : *loss + sums.loss;
    const Weighted<T> term{it.scratch.scores, 0, 1, encoded, keys};
    combine_of<1>(&term, 1, it.row_of(p.context, r, step, hidden), hidden);
    if (p.alignment != nullptr) copy_row(it.scratch.scores, keys, it.row_of(p.alignment, r, step, keys));
  }
}

// The attentional layer (Eq. 9), from the decoded states and the contexts of this step.
template <class T, class W = T>
void fuse(const Block<T>& it, Size step, const T* decoded) {
  using V = Vec<T>;
  const Size hidden = it.shape.hidden;
  const T* const matrix = it.packed + it.shape.fusion_offset();
  T* const attentional = it.scratch.attentional;
  const T* const context = it.row_of(it.decoding.context, 0, step, hidden);
  const auto own = activations<W>(it.rows, hidden, decoded, it.width, it.scratch.own);
  const auto read = activations<W>(it.rows, hidden, context, it.shape.steps * hidden, it.scratch.below);
  multiply_matrix<W>(it.rows, hidden, hidden, own, matrix, it.width, 0, attentional, it.width, false);
  multiply_matrix<W>(it.rows, hidden, hidden, read, matrix + it.shape.square_size(), it.width, 0, attentional, it.width,
                     true);
  if (!it.decoding.tanh) return;
  for (Size r = 0; r < it.rows; ++r) {
    T* const row = attentional + r * it.width;
    for (Size i = 0; i < vectors_of<T>(hidden); ++i) store(row + i * V::kLanes, tanh_of(load(row + i * V::kLanes)));
  }
}

// The output layer (Eq. 10).
template <class T>
void predict(const Block<T>& it, Size step, const T* attentional) {
  const Size joints = it.shape.joints, hidden = it.shape.hidden;
  const T* bias = it.decoding.output_bias;
  for (Size r = 0; r < it.rows && bias != nullptr; ++r) {
    copy_row(bias + it.group * joints, joints, it.row_of(it.decoding.reconstruction, r, step, joints));
  }
  multiply(it.rows, joints, hidden, attentional, it.width, it.packed + it.shape.output_offset(),
           it.row_of(it.decoding.reconstruction, 0, step, joints), it.shape.steps * joints, bias != nullptr);
}

template <class T>
void keep_step(const Block<T>& it, Size step, const T* attentional) {
  const decoder::Shape& shape = it.shape;
  for (Size r = 0; r < it.rows; ++r) {
    copy_row(attentional + r * it.width, shape.hidden, it.row_of(it.decoding.attentional, r, step, shape.hidden));
    for (Size layer = 0; layer < shape.layers; ++layer) {
      const Size from = (layer * it.rows + r) * it.width, above = layer * shape.groups * shape.batch * shape.steps;
      copy_row(it.scratch.next_h + from, shape.hidden,
               it.row_of(it.decoding.h + above * shape.hidden, r, step, shape.hidden));
      copy_row(it.scratch.c + from, shape.hidden, it.row_of(it.decoding.c + above * shape.hidden, r, step, shape.hidden));
    }
  }
}

// The skeletons that step `step` reads, if they are known as such.
template <class T>
Factor<T> skeletons(const Block<T>& it, Size step) {
  const decoder::Decoding<T>& p = it.decoding;
  if (step == 0) return {nullptr, 0};
  if (p.teacher != nullptr) {
    return {p.teacher + it.group * p.teacher_strides[0] + it.first * p.teacher_strides[1] + (step - 1) * p.teacher_strides[2],
            p.teacher_strides[1]};
  }
  if (p.feedback && !it.shape.attends) {
    return {it.row_of(p.reconstruction, 0, step - 1, it.shape.joints), it.shape.steps * it.shape.joints};
  }
  return {nullptr, 0};
}

template <class T>
void prepare(const Block<T>& it) {
  const decoder::Decoding<T>& p = it.decoding;
  const decoder::Shape& shape = it.shape;
  const Size hidden = shape.hidden, gate_width = 4 * it.width;
  for (Size i = 0; i < it.scratch.zeros; ++i) it.scratch.h[i] = T(0);
  for (Size layer = 0; layer < shape.layers; ++layer) {
    permute_bias(hidden, p.biases[layer] + it.group * 4 * hidden, it.scratch.bias + layer * gate_width);
    const Size offset = ((layer * shape.groups + it.group) * shape.batch + it.first) * hidden;
    for (Size r = 0; r < it.rows; ++r) {
      const Size at = (layer * it.rows + r) * it.width;
      copy_row(p.h0 + offset + r * hidden, hidden, it.scratch.h + at);
      copy_row(p.c0 + offset + r * hidden, hidden, it.scratch.c + at);
    }
  }
  for (Size i = 0; i < vectors_of<T>(hidden) * kGates<T>; ++i) {
    it.scratch.fed_bias[i] = it.scratch.bias[i] + it.packed[shape.fed_bias_offset() + i];
  }
  fill_bias<T>(nullptr, 0, shape.keys, rounded_up(shape.keys, Vec<T>::kLanes), it.scratch.key_bias);
}

// The block's encoded states in whole vectors, and what lies between windows.
template <class T>
Rows<T> stage_encoded(const decoder::Decoding<T>& p, Size group, Size first, Size rows, T* staged, Size& window) {
  const decoder::Shape& shape = p.shape;
  const T* encoded = p.encoded + group * p.encoded_strides[0] + first * p.encoded_strides[1];
  window = p.encoded_strides[1];
  if (!is_staged<T>(shape.hidden)) return {encoded, p.encoded_strides[2]};
  const Size padded_hidden = rounded_up(shape.hidden, Vec<T>::kLanes);
  for (Size r = 0; r < rows; ++r) {
    stage(encoded + r * window, p.encoded_strides[2], shape.keys, shape.hidden, staged + r * shape.keys * padded_hidden);
  }
  window = shape.keys * padded_hidden;
  return {staged, padded_hidden};
}

template <class T>
Size decode_workspace(const decoder::Shape& shape, Size rows) {
  return DecodeScratch<T>(shape, rows, nullptr).size;
}

template <class T, class W = T>
void decode_block(const decoder::Decoding<T>& decoding, Size group, Size first, Size rows, T* workspace) {
  const decoder::Shape& shape = decoding.shape;
  DecodeScratch<T> scratch(shape, rows, workspace);
  Block<T> it{decoding, shape, group, first, rows, decoder::padded(shape.hidden), decoding.packed + group * shape.group_size(),
              scratch, {nullptr, 0}, 0};
  if (shape.attends) it.encoded = stage_encoded(decoding, group, first, rows, scratch.staged, it.encoded_window);
  prepare(it);
  const bool everything = decoding.reconstruction != nullptr;
  for (Size step = 0; step < shape.steps; ++step) {
    // Before the first step the attentional vector is zero, and so is the skeleton: neither has a share of the gates.
    const bool fed = step > 0 && shape.attends;
    const bool folded = fed && decoding.feedback;
    run_cells<T, W>(it, 0, folded ? scratch.fed_bias : scratch.bias,
                    {fed ? scratch.attentional : nullptr, it.width}, skeletons(it, step));
    for (Size layer = 1; layer < shape.layers; ++layer) {
      run_cells<T, W>(it, layer, scratch.bias + layer * 4 * it.width,
                      {scratch.next_h + (layer - 1) * rows * it.width, it.width}, {nullptr, 0});
    }
    const T* decoded = scratch.next_h + (shape.layers - 1) * rows * it.width;
    const T* attentional = decoded;
    if (shape.attends) {
      const T* query = decoded;
      if (shape.projects_keys) {
        const auto own = activations<W>(rows, shape.hidden, decoded, it.width, scratch.own);
        multiply_matrix<W>(rows, shape.hidden, shape.hidden, own, it.packed + shape.key_offset(), it.width, 0,
                           scratch.query, it.width, false);
        query = scratch.query;
      }
      attend(it, step, query);
      // Nobody reads the last attentional vector but the output layer.
      if (everything || step + 1 < shape.steps) fuse<T, W>(it, step, decoded);
      attentional = scratch.attentional;
    } else {
      for (Size r = 0; r < rows; ++r) decoding.loss[group * shape.batch + first + r] = T(0);
    }
    if (everything) {
      predict(it, step, attentional);
      keep_step(it, step, attentional);
    }
    T* const before = scratch.h;
    scratch.h = scratch.next_h;
    scratch.next_h = before;
  }
}

template <class T>
void decode_stored(const decoder::Decoding<T>& decoding, Size group, Size first, Size rows, T* workspace) {
  const Stored stored = decoding.shape.stored;
  if constexpr (sizeof(T) == 4) {
    if (stored == Stored::kInt8) return decode_block<T, Int8>(decoding, group, first, rows, workspace);
    if (stored == Stored::kBFloat16) return decode_block<T, BFloat16>(decoding, group, first, rows, workspace);
  }
  decode_block<T, T>(decoding, group, first, rows, workspace);
}

}  // namespace sgela::SGELA_ISA
