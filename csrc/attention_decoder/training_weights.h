// Gradients of the decoder's weights for the instruction set of the including file: per matrix one product over all rows
// (windows x steps) at work, (left rows)^T (right rows).
//
// One thread owns some rows of one matrix's gradient. It packs 256 rows of both sides at a time, the left ones once for all
// the matrices that share them, and adds their product. Every element is summed by one thread in an order that only the
// shape decides, so the result does not depend on the number of threads.
#pragma once

#include "attention_decoder/training_backward.h"

namespace sgela::SGELA_ISA {

// Rows of the right side and the columns of a gradient that they make.
template <class T>
struct RightSide {
  Size columns;
  T* gradient;  // its first row and column
  Size stride;
  T* panels;
  const T* rows[kDepthBlock];
};

template <class T>
struct ProductSum {
  static constexpr int kMostSides = 3;
  Size count;  // columns of the left side: rows of the gradients
  T* tiles;
  T* panels;
  int sides = 0;
  Size depth = 0;
  const T* left[kDepthBlock];
  RightSide<T> right[kMostSides];

  ProductSum(Size rows, T* workspace)
      : count(rows), tiles(workspace), panels(workspace + (rows + kTileRows) * kDepthBlock) {}

  void add_side(Size columns, T* gradient, Size stride) {
    RightSide<T>& side = right[sides++];
    side.columns = columns, side.gradient = gradient, side.stride = stride, side.panels = panels;
    panels += panels_size<T>(kDepthBlock, columns);
  }
  // The rows of all sides have been set at `depth`.
  void add(const T* row) {
    left[depth++] = row;
    if (depth == kDepthBlock) flush();
  }
  void flush() {
    if (depth == 0) return;
    pack_rows<kTileRows>([this](Size k) { return left[k]; }, depth, count, tiles);
    for (int i = 0; i < sides; ++i) {
      const RightSide<T>& side = right[i];
      pack_rows<kPanel<T>>([&side](Size k) { return side.rows[k]; }, depth, side.columns, side.panels);
      multiply<T, true>(count, side.columns, depth, tiles, 0, side.panels, side.gradient, side.stride, true);
    }
    depth = 0;
  }
};

template <class T>
Size training_weights_workspace(const decoder::Shape& shape, Size stripe) {
  return (stripe + kTileRows) * kDepthBlock + panels_size<T>(kDepthBlock, shape.joints) +
         2 * panels_size<T>(kDepthBlock, shape.hidden) + 64;
}

template <class T>
void clear_rows(Size rows, Size columns, T* gradient) {
  for (Size i = 0; i < rows * columns; ++i) gradient[i] = T(0);
}

// Rows of the group, windows counted from the first one at work.
template <class T>
struct GroupRows {
  const decoder::Backward<T>& p;
  const decoder::Shape& shape;
  Size group;

  SGELA_INLINE const T* of_tape(const T* tensor, Size window, Size step, Size columns, Size layer = 0) const {
    const Size row = p.rows.first_window + window - p.tape.first;
    return tensor + (((layer * shape.groups + group) * p.tape.windows + row) * shape.steps + step) * columns;
  }
  SGELA_INLINE const T* initial_h(Size window, Size layer) const {
    return p.h0 + ((layer * shape.groups + group) * shape.batch + p.rows.first_window + window) * shape.hidden;
  }
  SGELA_INLINE const T* decoded(Size window, Size step) const {
    return of_tape(p.tape.h, window, step, shape.hidden, shape.layers - 1);
  }
  SGELA_INLINE const T* h_before(Size window, Size step, Size layer) const {
    return step > 0 ? of_tape(p.tape.h, window, step - 1, shape.hidden, layer) : initial_h(window, layer);
  }
  // What the bottom layer read at a step > 0.
  SGELA_INLINE const T* skeleton(Size window, Size step) const {
    if (p.feedback) return of_tape(p.tape.reconstruction, window, step - 1, shape.joints);
    return p.teacher + group * p.teacher_strides[0] + (p.rows.first_window + window) * p.teacher_strides[1] +
           (step - 1) * p.teacher_strides[2];
  }
};

template <class T>
void bottom_layer_gradient(const GroupRows<T>& at, Size first, Size count, T* workspace) {
  const decoder::Backward<T>& p = at.p;
  const decoder::Shape& shape = at.shape;
  const Size hidden = shape.hidden, joints = shape.joints, columns = joints + shape.below(0);
  T* const ih = p.weights.layers[0] + (at.group * 4 * hidden + first) * columns;
  T* const hh = p.weights.layers[1] + (at.group * 4 * hidden + first) * hidden;
  T* const bias = p.weights.biases[0] + at.group * 4 * hidden + first;
  if (p.rows.first_window == 0) clear_rows(count, columns, ih), clear_rows(count, hidden, hh), clear_rows(1, count, bias);
  const bool sees = p.feedback || p.teacher != nullptr;
  ProductSum<T> sum(count, workspace);
  sum.add_side(hidden, hh, hidden);
  if (shape.attends) sum.add_side(hidden, ih + joints, columns);
  if (sees) sum.add_side(joints, ih, columns);
  for (Size window = 0; window < p.rows.windows; ++window) {
    for (Size step = 1; step < shape.steps; ++step) {
      int side = 0;
      sum.right[side++].rows[sum.depth] = at.h_before(window, step, 0);
      if (shape.attends) sum.right[side++].rows[sum.depth] = at.of_tape(p.tape.attentional, window, step - 1, hidden);
      if (sees) sum.right[side].rows[sum.depth] = at.skeleton(window, step);
      const T* gates = gates_row(p, at.group, 0, window, step) + first;
      add_row(gates, count, bias);
      sum.add(gates);
    }
  }
  sum.flush();
  // At the first step the layer read its state alone.
  ProductSum<T> of_first(count, workspace);
  of_first.add_side(hidden, hh, hidden);
  for (Size window = 0; window < p.rows.windows; ++window) {
    of_first.right[0].rows[of_first.depth] = at.initial_h(window, 0);
    const T* gates = gates_row(p, at.group, 0, window, 0) + first;
    add_row(gates, count, bias);
    of_first.add(gates);
  }
  of_first.flush();
}

template <class T>
void upper_layer_gradient(const GroupRows<T>& at, Size layer, Size first, Size count, T* workspace) {
  const decoder::Backward<T>& p = at.p;
  const decoder::Shape& shape = at.shape;
  const Size hidden = shape.hidden;
  T* const ih = p.weights.layers[2 * layer] + (at.group * 4 * hidden + first) * hidden;
  T* const hh = p.weights.layers[2 * layer + 1] + (at.group * 4 * hidden + first) * hidden;
  T* const bias = p.weights.biases[layer] + at.group * 4 * hidden + first;
  if (p.rows.first_window == 0) clear_rows(count, hidden, ih), clear_rows(count, hidden, hh), clear_rows(1, count, bias);
  ProductSum<T> sum(count, workspace);
  sum.add_side(hidden, ih, hidden);
  sum.add_side(hidden, hh, hidden);
  for (Size window = 0; window < p.rows.windows; ++window) {
    for (Size step = 0; step < shape.steps; ++step) {
      sum.right[0].rows[sum.depth] = at.of_tape(p.tape.h, window, step, hidden, layer - 1);
      sum.right[1].rows[sum.depth] = at.h_before(window, step, layer);
      const T* gates = gates_row(p, at.group, layer, window, step) + first;
      add_row(gates, count, bias);
      sum.add(gates);
    }
  }
  sum.flush();
}

template <class T>
void fusion_gradient(const GroupRows<T>& at, Size first, Size count, T* workspace) {
  const decoder::Backward<T>& p = at.p;
  const Size hidden = at.shape.hidden;
  T* const gradient = p.weights.fusion + (at.group * hidden + first) * 2 * hidden;
  if (p.rows.first_window == 0) clear_rows(count, 2 * hidden, gradient);
  ProductSum<T> sum(count, workspace);
  sum.add_side(hidden, gradient, 2 * hidden);
  sum.add_side(hidden, gradient + hidden, 2 * hidden);
  for (Size window = 0; window < p.rows.windows; ++window) {
    for (Size step = 0; step < at.shape.steps; ++step) {
      sum.right[0].rows[sum.depth] = at.decoded(window, step);
      sum.right[1].rows[sum.depth] = at.of_tape(p.tape.context, window, step, hidden);
      sum.add(gradient_row(p, p.rows.fused, hidden, at.group, 0, 1, window, step) + first);
    }
  }
  sum.flush();
}

template <class T>
void key_gradient(const GroupRows<T>& at, Size first, Size count, T* workspace) {
  const decoder::Backward<T>& p = at.p;
  const Size hidden = at.shape.hidden;
  T* const gradient = p.weights.key + (at.group * hidden + first) * hidden;
  if (p.rows.first_window == 0) clear_rows(count, hidden, gradient);
  ProductSum<T> sum(count, workspace);
  sum.add_side(hidden, gradient, hidden);
  for (Size window = 0; window < p.rows.windows; ++window) {
    for (Size step = 0; step < at.shape.steps; ++step) {
      sum.right[0].rows[sum.depth] = gradient_row(p, p.rows.query, hidden, at.group, 0, 1, window, step);
      sum.add(at.decoded(window, step) + first);
    }
  }
  sum.flush();
}

template <class T>
void output_gradient(const GroupRows<T>& at, Size first, Size count, T* workspace) {
  const decoder::Backward<T>& p = at.p;
  const Size hidden = at.shape.hidden, joints = at.shape.joints;
  T* const gradient = p.weights.output + (at.group * joints + first) * hidden;
  T* const bias = p.weights.output_bias == nullptr ? nullptr : p.weights.output_bias + at.group * joints + first;
  if (p.rows.first_window == 0) {
    clear_rows(count, hidden, gradient);
    if (bias != nullptr) clear_rows(1, count, bias);
  }
  ProductSum<T> sum(count, workspace);
  sum.add_side(hidden, gradient, hidden);
  for (Size window = 0; window < p.rows.windows; ++window) {
    for (Size step = 0; step < at.shape.steps; ++step) {
      sum.right[0].rows[sum.depth] = at.of_tape(p.tape.attentional, window, step, hidden);
      const T* row = gradient_row(p, p.rows.prediction, joints, at.group, 0, 1, window, step) + first;
      if (bias != nullptr) add_row(row, count, bias);
      sum.add(row);
    }
  }
  sum.flush();
}

template <class T>
void training_weights(const decoder::Backward<T>& p, Size group, Size matrix, Size first, Size count, T* workspace) {
  const GroupRows<T> at{p, p.shape, group};
  if (matrix == 0) return bottom_layer_gradient(at, first, count, workspace);
  if (matrix < p.shape.layers) return upper_layer_gradient(at, matrix, first, count, workspace);
  switch (static_cast<decoder::Matrix>(matrix - p.shape.layers)) {
    case decoder::Matrix::kFusion:
      return fusion_gradient(at, first, count, workspace);
    case decoder::Matrix::kKey:
      return key_gradient(at, first, count, workspace);
    default:
      return output_gradient(at, first, count, workspace);
  }
}

template <class T>
inline constexpr decoder::TrainingKernels<T> kTrainingKernels{
    decode_workspace<T>,        training_forward<T>,  backward_panels_size<T>,       pack_decoder_backward<T>,
    training_backward_workspace<T>, training_backward<T>, training_weights_workspace<T>, training_weights<T>,
};

}  // namespace sgela::SGELA_ISA
