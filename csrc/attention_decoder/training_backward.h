// The way back through the decoding loop for the instruction set of the including file.
//
// One thread owns a block of windows of one group and goes back through all steps and layers, from the tape. It leaves the
// gradients of what the weights multiply (RowGradients), from which training_weights.h makes those of the weights, and
// finishes the gradients of its windows' encoded states, initial states and teacher. Each step reads the group's panels
// once (5 MB at K = 256 and two layers, L3) and the gates' gradients of the block from L2.
//
// Gradients of step t in the order in which they come about, dg the pre-activations' of the bottom layer at step t + 1:
//   dy = (given) + W_s^T dg if predictions are fed back                         prediction (Eq. 10)
//   da = (given) + W_a^T dg + W_F^T dy,   dz = da (1 - a^2) with tanh            attentional layer (Eq. 9)
//   dh = W_att^T dz + what attention returns for dc = (given) + W_att^T dz       decoded state, context (Eq. 8)
// and then down the layers, each handing W_hh^T to its step before and W_ih^T to the layer below.
#pragma once

#include "attention_decoder/training_forward.h"
#include "attention_decoder/training_panels.h"
#include "locality_attention/rows_backward.h"

namespace sgela::SGELA_ISA {

template <class T>
struct TrainingScratch {
  T *h, *c;        // (L, rows, Kp): gradients of the states behind the step
  T* attentional;  // (rows, Kp)
  T* context;      // (rows, Kp)
  T* query;        // (Kp): one window's query, and its gradient
  T* grad_query;   // (Kp)
  Size zeros;      // elements up to here start as zeros, padding included
  T* key_bias;     // (Tk): 0, and -inf up to a whole vector
  T* scores;       // (Tk)
  T* weights;      // (Tk)
  T* staged;       // (rows, Tk, K up to a whole vector), if K is not one
  Size size;

  // Enough for `rows` windows or fewer.
  TrainingScratch(const decoder::Shape& shape, Size rows, T* memory) {
    Pieces<T> pieces{memory};
    const Size width = decoder::padded(shape.hidden), keys = rounded_up(shape.keys, Vec<T>::kLanes);
    h = pieces.take(shape.layers * rows * width);
    c = pieces.take(shape.layers * rows * width);
    attentional = pieces.take(rows * width);
    context = pieces.take(rows * width);
    query = pieces.take(width);
    grad_query = pieces.take(width);
    zeros = pieces.used;
    key_bias = pieces.take(keys);
    scores = pieces.take(keys);
    weights = pieces.take(keys);
    staged = pieces.take(shape.attends ? staging_size<T>(rows * shape.keys, shape.hidden) : 0);
    size = pieces.used;
  }
};

template <class T>
struct BackwardBlock {
  const decoder::Backward<T>& p;
  const decoder::Shape& shape;
  Size group, first, rows, width;
  const T* panels;
  BackwardPanels<T> layout;
  TrainingScratch<T>& scratch;
  Rows<T> encoded;      // (rows, Tk, K), whole vectors
  Size encoded_window;  // between windows

  // Row of a dense (G, B, T, columns) tensor, `layer` of (L, G, B, T, columns).
  template <class U>
  SGELA_INLINE U* of_batch(U* tensor, Size row, Size step, Size columns, Size layer = 0) const {
    return tensor + (((layer * shape.groups + group) * shape.batch + first + row) * shape.steps + step) * columns;
  }
  // The same of a tensor of the tape.
  SGELA_INLINE const T* of_tape(const T* tensor, Size row, Size step, Size columns, Size layer = 0) const {
    const Size window = first + row - p.tape.first;
    return tensor + (((layer * shape.groups + group) * p.tape.windows + window) * shape.steps + step) * columns;
  }
};

// Where the gradients of a (window, step) lie, windows counted from the first one at work; `part` of `parts` a group.
template <class T>
SGELA_INLINE T* gradient_row(const decoder::Backward<T>& p, T* rows, Size columns, Size group, Size part, Size parts,
                             Size window, Size step) {
  const decoder::RowGradients<T>& work = p.rows;
  const Size block = window / work.block * work.block;
  const Size windows = work.windows - block < work.block ? work.windows - block : work.block;
  const Size row = block * p.shape.steps + step * windows + window - block;
  const Size before = ((group - work.first_group) * parts + part) * work.windows * p.shape.steps;
  return rows + (before + row) * decoder::gradient_stride(columns);
}

template <class T>
SGELA_INLINE T* gates_row(const decoder::Backward<T>& p, Size group, Size layer, Size window, Size step) {
  return gradient_row(p, p.rows.gates, 4 * p.shape.hidden, group, layer, p.shape.layers, window, step);
}

template <class T>
void add_row(const T* from, Size count, T* to) {
  for (Size i = 0; i < count; ++i) to[i] += from[i];
}

template <class T>
void add_rows(const BackwardBlock<T>& it, const T* given, Size step, Size columns, T* to, Size stride, Size layer = 0) {
  for (Size r = 0; r < it.rows && given != nullptr; ++r) {
    add_row(it.of_batch(given, r, step, columns, layer), columns, to + r * stride);
  }
}

// to = a x + b y + to for `count` elements.
template <class T>
SGELA_INLINE void add_two(T a, const T* x, T b, const T* y, Size count, T* to) {
  constexpr Size kLanes = Vec<T>::kLanes;
  const Vec<T> first = broadcast(a), second = broadcast(b);
  Size i = 0;
  for (; i + kLanes <= count; i += kLanes) store(to + i, fma(first, load(x + i), fma(second, load(y + i), load(to + i))));
  for (; i < count; ++i) to[i] = a * x[i] + (b * y[i] + to[i]);
}

// Attention of one step, back to the decoded states (`decoded`, (rows, Kp), added to) and the encoded ones.
template <class T>
void attend_backward(const BackwardBlock<T>& it, Size step, T* decoded) {
  const decoder::Backward<T>& p = it.p;
  const decoder::Shape& shape = it.shape;
  const TrainingScratch<T>& scratch = it.scratch;
  const Size keys = shape.keys, hidden = shape.hidden, lanes = Vec<T>::kLanes;
  const Size padded_keys = rounded_up(keys, lanes), padded_hidden = rounded_up(hidden, lanes);
  const T* mask = static_cast<const T*>(p.attention.mask);
  if (mask != nullptr) mask += p.attention.direction < 0 ? step : shape.steps - 1 - step;
  for (Size r = 0; r < it.rows; ++r) {
    const Rows<T> encoded{it.encoded.data + r * it.encoded_window, it.encoded.stride};
    const Size window = it.first + r, sequence = it.group * shape.batch + window;
    const T* taped = shape.projects_keys ? it.of_tape(p.tape.query, r, step, hidden)
                                         : it.of_tape(p.tape.h, r, step, hidden, shape.layers - 1);
    copy_row(taped, hidden, scratch.query);
    const T* grad_context = scratch.context + r * it.width;
    const Rows<T> query{scratch.query, it.width};
    dots_of<1>(query, encoded, keys, padded_hidden, scratch.scores, padded_keys);
    for (Size j = 0; j < keys; ++j) scratch.weights[j] = scratch.scores[j];
    const T log_sum = softmax_row<Mode::kBas>(scratch.weights, scratch.key_bias, scratch.key_bias, padded_keys, T(1)).log_sum;
    // From here on: the gradients of the weights, then what passes the context's gradient on.
    dots_of<1>(Rows<T>{grad_context, it.width}, encoded, keys, padded_hidden, scratch.weights, padded_keys);
    if (p.grad_alignment != nullptr) add_row(it.of_batch(p.grad_alignment, r, step, keys), keys, scratch.weights);
    const T twice_grad_loss = p.grad_loss == nullptr ? T(0) : 2 * p.grad_loss[sequence];
    softmax_row_backward(p.attention.mode, scratch.scores, scratch.weights, scratch.key_bias, mask, padded_keys, T(1),
                         log_sum, twice_grad_loss);
    const Weighted<T> term{scratch.scores, 0, 1, encoded, keys};
    T* const grad_query =
        shape.projects_keys ? gradient_row(p, p.rows.query, hidden, it.group, 0, 1, window - p.rows.first_window, step)
                            : scratch.grad_query;
    combine_of<1>(&term, 1, grad_query, hidden);
    if (!shape.projects_keys) add_row(grad_query, hidden, decoded + r * it.width);
    T* const grad_encoded = p.grad_encoded + sequence * keys * hidden;
    for (Size j = 0; j < keys; ++j) {
      add_two(scratch.scores[j], scratch.query, scratch.weights[j], grad_context, hidden, grad_encoded + j * hidden);
    }
  }
  if (!shape.projects_keys) return;
  multiply(it.rows, hidden, hidden, gradient_row(p, p.rows.query, hidden, it.group, 0, 1, it.first - p.rows.first_window, step),
           decoder::gradient_stride(hidden), it.panels + it.layout.key, decoded, it.width, true);
}

// From the gradients of the prediction and of the attentional vector (Kp a row) to those of the decoded state, added to.
template <class T>
void fuse_backward(const BackwardBlock<T>& it, Size step, T* decoded) {
  using V = Vec<T>;
  const decoder::Backward<T>& p = it.p;
  const Size hidden = it.shape.hidden, stride = decoder::gradient_stride(hidden);
  T* const fused = gradient_row(p, p.rows.fused, hidden, it.group, 0, 1, it.first - p.rows.first_window, step);
  for (Size r = 0; r < it.rows; ++r) {
    const T* attentional = it.of_tape(p.tape.attentional, r, step, hidden);
    const T* from = it.scratch.attentional + r * it.width;
    T* const to = fused + r * stride;
    for (Size unit = 0; unit < hidden; unit += V::kLanes) {
      const Size units = hidden - unit;
      V gradient = load_units(from + unit, units);
      if (p.tanh) {
        const V a = load_units(attentional + unit, units);
        gradient = gradient * (broadcast(T(1)) - a * a);
      }
      store_units(to + unit, gradient, units);
    }
  }
  const T* panels = it.panels + it.layout.fusion;
  multiply(it.rows, hidden, hidden, fused, stride, panels, decoded, it.width, true);
  multiply(it.rows, hidden, hidden, fused, stride, panels + it.layout.fusion_half, it.scratch.context, it.width, false);
  add_rows(it, p.grad_context, step, hidden, it.scratch.context, it.width);
  attend_backward(it, step, decoded);
}

// One layer's step: from the gradients of its states behind the step to those of its gates and of c before it.
template <class T>
void cells_backward(const BackwardBlock<T>& it, Size layer, Size step, const T* grad_h, T* grad_c) {
  using V = Vec<T>;
  const decoder::Backward<T>& p = it.p;
  const decoder::Shape& shape = it.shape;
  const Size hidden = shape.hidden;
  const T* c0 = p.c0 + ((layer * shape.groups + it.group) * shape.batch + it.first) * hidden;
  for (Size r = 0; r < it.rows; ++r) {
    T* const gates = gates_row(p, it.group, layer, it.first + r - p.rows.first_window, step);
    const T* c = it.of_tape(p.tape.c, r, step, hidden, layer);
    const T* before = step > 0 ? c - hidden : c0 + r * hidden;
    for (Size unit = 0; unit < hidden; unit += V::kLanes) {
      const Size units = hidden - unit, at = r * it.width + unit, kept = decoder::units_of_block(hidden, unit);
      const T* taped = p.tape.gates + decoder::tape_gates(shape, p.tape.windows, layer, it.group,
                                                          it.first + r - p.tape.first, step, unit);
      const auto gate = [&](Size i) { return load_units(taped + i * kept, units); };
      const CellGradient<V> out =
          cell_gradient(Gates<V>{gate(0), gate(1), gate(2), gate(3)}, load_units(c + unit, units),
                        load_units(before + unit, units), load(grad_h + at), load(grad_c + at));
      store_units(gates + unit, out.gates.i, units);
      store_units(gates + hidden + unit, out.gates.f, units);
      store_units(gates + 2 * hidden + unit, out.gates.g, units);
      store_units(gates + 3 * hidden + unit, out.gates.o, units);
      store(grad_c + at, out.c);
    }
  }
}

// Gradients of the skeletons that step `step` > 0 read: of the teacher's, or of the predictions before.
template <class T>
void skeletons_backward(const BackwardBlock<T>& it, Size step, const T* gates, Size stride) {
  const decoder::Backward<T>& p = it.p;
  const Size joints = it.shape.joints, depth = 4 * it.shape.hidden;
  const T* panels = it.panels + it.layout.skeleton;
  if (p.feedback) {
    T* const to = gradient_row(p, p.rows.prediction, joints, it.group, 0, 1, it.first - p.rows.first_window, step - 1);
    multiply(it.rows, joints, depth, gates, stride, panels, to, decoder::gradient_stride(joints), false);
  } else if (p.grad_teacher != nullptr) {
    multiply(it.rows, joints, depth, gates, stride, panels, it.of_batch(p.grad_teacher, 0, step - 1, joints),
             it.shape.steps * joints, false);
  }
}

// Gradient of the attentional vectors of a step, from that of the predictions and the given one.
template <class T>
void predict_backward(const BackwardBlock<T>& it, Size step) {
  const decoder::Backward<T>& p = it.p;
  const decoder::Shape& shape = it.shape;
  const Size joints = shape.joints, stride = decoder::gradient_stride(joints);
  const bool last = step + 1 == shape.steps;
  T* const prediction = gradient_row(p, p.rows.prediction, joints, it.group, 0, 1, it.first - p.rows.first_window, step);
  if (last || !p.feedback) {
    for (Size r = 0; r < it.rows; ++r) {
      for (Size j = 0; j < joints; ++j) prediction[r * stride + j] = T(0);
    }
  }
  add_rows(it, p.grad_reconstruction, step, joints, prediction, stride);
  T* const attentional = it.scratch.attentional;
  if (last || !shape.attends) {
    for (Size i = 0; i < it.rows * it.width; ++i) attentional[i] = T(0);
  }
  add_rows(it, p.grad_attentional, step, shape.hidden, attentional, it.width);
  multiply(it.rows, shape.hidden, joints, prediction, stride, it.panels + it.layout.output, attentional, it.width, true);
}

template <class T>
void store_block(const BackwardBlock<T>& it, Size layer, const T* from, T* to) {
  const Size hidden = it.shape.hidden;
  to += ((layer * it.shape.groups + it.group) * it.shape.batch + it.first) * hidden;
  for (Size r = 0; r < it.rows; ++r) copy_row(from + (layer * it.rows + r) * it.width, hidden, to + r * hidden);
}

template <class T>
Size training_backward_workspace(const decoder::Shape& shape, Size rows) {
  return TrainingScratch<T>(shape, rows, nullptr).size;
}

template <class T>
void training_backward(const decoder::Backward<T>& p, Size group, Size first, Size rows, T* workspace) {
  const decoder::Shape& shape = p.shape;
  const Size hidden = shape.hidden, stride = decoder::gradient_stride(4 * hidden);
  TrainingScratch<T> scratch(shape, rows, workspace);
  BackwardBlock<T> it{p, shape, group, first, rows, decoder::padded(hidden), p.panels + group * p.panels_size,
                      BackwardPanels<T>(shape), scratch, {nullptr, 0}, 0};
  for (Size i = 0; i < scratch.zeros; ++i) scratch.h[i] = T(0);
  if (shape.attends) {
    decoder::Decoding<T> source{};
    source.shape = shape, source.encoded = p.encoded;
    for (int i = 0; i < 3; ++i) source.encoded_strides[i] = p.encoded_strides[i];
    it.encoded = stage_encoded(source, group, first, rows, scratch.staged, it.encoded_window);
    fill_bias<T>(nullptr, 0, shape.keys, rounded_up(shape.keys, Vec<T>::kLanes), scratch.key_bias);
    for (Size j = 0; j < rounded_up(shape.keys, Vec<T>::kLanes); ++j) scratch.scores[j] = scratch.weights[j] = T(0);
  }
  T* const grad_encoded = p.grad_encoded + (group * shape.batch + first) * shape.keys * hidden;
  for (Size i = 0; i < rows * shape.keys * hidden; ++i) grad_encoded[i] = T(0);
  const Size layer_size = rows * it.width, top = shape.layers - 1;
  for (Size step = shape.steps - 1; step >= 0; --step) {
    predict_backward(it, step);
    T* const decoded = scratch.h + top * layer_size;
    if (shape.attends) {
      fuse_backward(it, step, decoded);
    } else {
      for (Size i = 0; i < layer_size; ++i) decoded[i] += scratch.attentional[i];
    }
    for (Size layer = top; layer >= 0; --layer) {
      T* const grad_h = scratch.h + layer * layer_size;
      T* const grad_c = scratch.c + layer * layer_size;
      add_rows(it, p.grad_h, step, hidden, grad_h, it.width, layer);
      add_rows(it, p.grad_c, step, hidden, grad_c, it.width, layer);
      cells_backward(it, layer, step, grad_h, grad_c);
      const T* gates = gates_row(p, group, layer, first - p.rows.first_window, step);
      const T* panels = it.panels + layer * it.layout.layer_size;
      multiply(rows, hidden, 4 * hidden, gates, stride, panels, grad_h, it.width, false);
      if (layer > 0) {
        multiply(rows, hidden, 4 * hidden, gates, stride, panels + it.layout.below_offset, grad_h - layer_size, it.width,
                 true);
      } else if (step > 0) {
        if (shape.attends) {
          multiply(rows, hidden, 4 * hidden, gates, stride, panels + it.layout.below_offset, scratch.attentional,
                   it.width, false);
        }
        skeletons_backward(it, step, gates, stride);
      }
    }
  }
  for (Size layer = 0; layer < shape.layers; ++layer) {
    store_block(it, layer, scratch.h, p.grad_h0);
    store_block(it, layer, scratch.c, p.grad_c0);
  }
  for (Size r = 0; r < rows && p.grad_teacher != nullptr; ++r) {
    T* const unread = it.of_batch(p.grad_teacher, r, shape.steps - 1, shape.joints);
    for (Size j = 0; j < shape.joints; ++j) unread[j] = T(0);
  }
}

}  // namespace sgela::SGELA_ISA
