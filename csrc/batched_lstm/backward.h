// Backward pass of batched_lstm for the instruction set of the including file: two kernels per stretch of windows.
//
// backward_block(): one thread owns a block of windows of one group and goes back through all layers and steps, from
// the tape, and writes the gradients of the gates' pre-activations; the products with W_hh (per step) and W_ih (per
// layer) read that block's gates from L2. backward_weights(): one thread owns a stripe of gate columns of one layer and
// group, whose weight gradients are products over all rows (steps x windows) of the stretch, and adds them in the order
// of the stretches. Every element of a gradient is summed by one thread in an order that only the shape decides, so the
// result does not depend on the number of threads.
//
// Gradients of the gates: per group and layer, (rows of the stretch, gate_stride()), row blocks as the windows' blocks,
// each (T, windows of the block); columns i, f, g, o as in the weights.
#pragma once

#include "batched_lstm/forward.h"

namespace sgela::SGELA_ISA {

template <class T>
void pack_backward(const lstm::Shape& shape, Size layer, const lstm::LayerWeights<T>& weights, T* panels) {
  const auto row_of = [](const T* weight, Size length) { return [=](Size k) { return weight + k * length; }; };
  const Size hidden = shape.hidden, inputs = shape.layer_input(layer);
  pack_rows<kPanel<T>>(row_of(weights.weight_hh, hidden), 4 * hidden, hidden, panels);
  panels += panels_size<T>(4 * hidden, hidden);
  pack_rows<kPanel<T>>(row_of(weights.weight_ih, inputs), 4 * hidden, inputs, panels);
}

template <class T>
struct BackwardScratch {
  T* h;            // (rows, Kp): gradient of the state behind the step
  T* c;            // (rows, Kp)
  T* sequence;     // (T, rows, Kp): gradient of the output of the layer below
  Size size;

  BackwardScratch(const lstm::Shape& shape, Size rows, T* memory) {
    Arena<T> arena{memory};
    h = arena.take(rows * shape.padded_hidden());
    c = arena.take(rows * shape.padded_hidden());
    sequence = arena.take(shape.layers > 1 ? shape.steps * rows * shape.padded_hidden() : 0);
    size = arena.used;
  }
};

// Where the gradients of the gates of (window, step) lie, windows counted from the stretch's first one.
template <class T>
SGELA_INLINE T* gate_row(const lstm::Backward<T>& backward, Size group, Size layer, Size window, Size step) {
  const lstm::Shape& shape = backward.shape;
  const Size first = window / backward.block * backward.block;
  const Size rows = smaller(backward.block, backward.windows - first);
  const Size row = first * shape.steps + step * rows + window - first;
  const Size block = (group * shape.layers + layer) * backward.windows * shape.steps;
  return backward.grad_gates + (block + row) * shape.gate_stride();
}

// One step of one layer: from the gradients of h and c behind it to those of the gates and of c before it. The gradient
// of h stays with the windows that have ended and is cleared for the others, to which the recurrent product adds.
template <class T>
void backward_cells(const lstm::Backward<T>& backward, Size group, Size layer, Size first, Size rows, Size step,
                    const BackwardScratch<T>& scratch) {
  using V = Vec<T>;
  const lstm::Shape& shape = backward.shape;
  const Size hidden = shape.hidden, padded = shape.padded_hidden();
  const bool top = layer + 1 == shape.layers;
  for (Size r = 0; r < rows; ++r) {
    const Size window = first + r;
    T* grad_gates = gate_row(backward, group, layer, window - backward.first_window, step);
    if (backward.lengths != nullptr && step >= backward.lengths[window]) {
      fill(grad_gates, 4 * hidden, T(0));
      continue;
    }
    const T* grad_output = scratch.sequence + (step * rows + r) * padded;
    if (top) {
      grad_output = backward.grad_output;
      if (grad_output != nullptr) grad_output += ((group * shape.batch + window) * shape.steps + step) * hidden;
    }
    const Size state = shape.state_offset(layer, group, window);
    for (Size unit = 0; unit < hidden; unit += V::kLanes) {
      const Size units = hidden - unit, at = r * padded + unit;
      V grad_h = load(scratch.h + at);
      if (grad_output != nullptr) grad_h = grad_h + load_up_to(grad_output + unit, units);
      const Size row = shape.tape_row(unit);
      const T* tape = backward.tape + shape.tape_gates(layer, group, window, step, unit);
      const auto saved = [&](int i) { return load_up_to(tape + i * row, units); };
      V before = zero<T>();
      if (step > 0) {
        before = load_up_to(backward.tape + shape.tape_gates(layer, group, window, step - 1, unit) + 4 * row, units);
      } else if (backward.c0 != nullptr) {
        before = load_up_to(backward.c0 + state + unit, units);
      }
      const CellGradient<V> out = cell_gradient(Gates<V>{saved(0), saved(1), saved(2), saved(3)}, saved(4), before,
                                                grad_h, load(scratch.c + at));
      store_up_to(grad_gates + unit, out.gates.i, units);
      store_up_to(grad_gates + hidden + unit, out.gates.f, units);
      store_up_to(grad_gates + 2 * hidden + unit, out.gates.g, units);
      store_up_to(grad_gates + 3 * hidden + unit, out.gates.o, units);
      store(scratch.c + at, out.c);
      store(scratch.h + at, zero<T>());
    }
  }
}

// (L, G, B, K) to and from the padded rows of a block; null is zero, or nothing to write.
template <class T>
void load_states(const lstm::Shape& shape, Size layer, Size group, Size first, Size rows, const T* from, T* to) {
  const Size padded = shape.padded_hidden();
  fill(to, rows * padded, T(0));
  for (Size r = 0; r < rows && from != nullptr; ++r) {
    copy(from + shape.state_offset(layer, group, first + r), shape.hidden, to + r * padded);
  }
}

template <class T>
void store_states(const lstm::Shape& shape, Size layer, Size group, Size first, Size rows, const T* from, T* to) {
  for (Size r = 0; r < rows && to != nullptr; ++r) {
    copy(from + r * shape.padded_hidden(), shape.hidden, to + shape.state_offset(layer, group, first + r));
  }
}

template <class T>
Size backward_workspace(const lstm::Shape& shape, Size rows) {
  return BackwardScratch<T>(shape, rows, nullptr).size;
}

template <class T>
void backward_block(const lstm::Backward<T>& backward, Size group, Size first, Size rows, T* workspace) {
  const lstm::Shape& shape = backward.shape;
  const Size hidden = shape.hidden, padded = shape.padded_hidden(), stride = shape.gate_stride();
  const BackwardScratch<T> scratch(shape, rows, workspace);
  for (Size layer = shape.layers - 1; layer >= 0; --layer) {
    const T* state_panels = backward.panels + shape.panels_offset(group, layer, kPanel<T>);
    const T* input_panels = state_panels + panels_size<T>(4 * hidden, hidden);
    load_states(shape, layer, group, first, rows, backward.grad_h_n, scratch.h);
    load_states(shape, layer, group, first, rows, backward.grad_c_n, scratch.c);
    for (Size step = shape.steps - 1; step >= 0; --step) {
      backward_cells(backward, group, layer, first, rows, step, scratch);
      if (step == 0 && backward.h0 == nullptr) continue;
      const T* gates = gate_row(backward, group, layer, first - backward.first_window, step);
      multiply(rows, hidden, 4 * hidden, gates, stride, state_panels, scratch.h, padded, true);
    }
    store_states(shape, layer, group, first, rows, scratch.h, backward.grad_h0);
    store_states(shape, layer, group, first, rows, scratch.c, backward.grad_c0);

    const T* gates = gate_row(backward, group, layer, first - backward.first_window, 0);
    if (layer > 0) {
      multiply(shape.steps * rows, hidden, 4 * hidden, gates, stride, input_panels, scratch.sequence, padded, false);
      for (Size i = 0; i < shape.steps * rows && backward.masks != nullptr; ++i) {
        const T* mask = backward.masks + shape.state_offset(layer - 1, group, first + i % rows) * shape.steps +
                        i / rows * hidden;
        for (Size k = 0; k < hidden; ++k) scratch.sequence[i * padded + k] *= mask[k];
      }
      continue;
    }
    for (Size step = 0; step < shape.steps; ++step) {
      T* to = backward.grad_input + ((group * shape.batch + first) * shape.steps + step) * shape.input_size;
      multiply(rows, shape.input_size, 4 * hidden, gates + step * rows * stride, stride, input_panels, to,
               shape.steps * shape.input_size, false);
    }
  }
}

template <class T>
struct WeightsScratch {
  T* gates;   // (stripe, depth) packed tiles
  T* inputs;  // (depth, columns) packed panels
  T* masked;  // (depth, K): inputs of a layer behind dropout
  Size size;

  WeightsScratch(const lstm::Shape& shape, T* memory) {
    Arena<T> arena{memory};
    gates = arena.take(divide_up(lstm::kStripe, kTileRows) * kTileRows * kDepthBlock);
    inputs = arena.take(panels_size<T>(kDepthBlock, larger(shape.input_size, shape.hidden)));
    masked = arena.take(kDepthBlock * shape.hidden);
    size = arena.used;
  }
};

// Adds up rows (window, step) of a stretch until a depth block of them is there, then adds their product to a gradient.
template <class T>
struct WeightsSum {
  WeightsScratch<T>& scratch;
  Size stripe_rows, columns;
  T* gradient;  // (stripe_rows, columns)
  const T* gates[kDepthBlock];
  const T* inputs[kDepthBlock];
  Size depth = 0;

  void add(const T* gate, const T* input) {
    gates[depth] = gate;
    inputs[depth] = input;
    if (++depth == kDepthBlock) flush();
  }
  void flush() {
    pack_rows<kTileRows>([this](Size k) { return gates[k]; }, depth, stripe_rows, scratch.gates);
    pack_rows<kPanel<T>>([this](Size k) { return inputs[k]; }, depth, columns, scratch.inputs);
    multiply<T, true>(stripe_rows, columns, depth, scratch.gates, 0, scratch.inputs, gradient, columns, true);
    depth = 0;
  }
};

template <class T>
Size weights_workspace(const lstm::Shape& shape) {
  return WeightsScratch<T>(shape, nullptr).size;
}

template <class T>
void backward_weights(const lstm::Backward<T>& backward, Size group, Size layer, Size stripe, T* workspace) {
  const lstm::Shape& shape = backward.shape;
  const Size hidden = shape.hidden, inputs = shape.layer_input(layer);
  const Size from = stripe * lstm::kStripe, count = smaller(lstm::kStripe, 4 * hidden - from);
  WeightsScratch<T> scratch(shape, workspace);
  T* const* gradients = backward.grad_weights + 3 * layer;
  T* bias = gradients[2] + group * 4 * hidden + from;
  if (backward.first_window == 0) {
    fill(gradients[0] + (group * 4 * hidden + from) * inputs, count * inputs, T(0));
    fill(gradients[1] + (group * 4 * hidden + from) * hidden, count * hidden, T(0));
    fill(bias, count, T(0));
  }
  const auto alive = [&](Size window, Size step) {
    return backward.lengths == nullptr || step < backward.lengths[backward.first_window + window];
  };
  const auto tape_h = [&](Size l, Size window, Size step) {
    return backward.tape + shape.tape_h(l, group, backward.first_window + window, step);
  };

  WeightsSum<T> of_input{scratch, count, inputs, gradients[0] + (group * 4 * hidden + from) * inputs, {}, {}};
  for (Size window = 0; window < backward.windows; ++window) {
    for (Size step = 0; step < shape.steps && alive(window, step); ++step) {
      const T* gates = gate_row(backward, group, layer, window, step) + from;
      for (Size m = 0; m < count; ++m) bias[m] += gates[m];
      const T* x = nullptr;
      if (layer == 0) {
        x = backward.input + group * backward.input_strides[0] +
            (backward.first_window + window) * backward.input_strides[1] + step * backward.input_strides[2];
      } else {
        x = tape_h(layer - 1, window, step);
        if (backward.masks != nullptr) {
          const Size offset = shape.state_offset(layer - 1, group, backward.first_window + window) * shape.steps;
          const T* mask = backward.masks + offset + step * hidden;
          T* masked = scratch.masked + of_input.depth * hidden;
          for (Size k = 0; k < hidden; ++k) masked[k] = x[k] * mask[k];
          x = masked;
        }
      }
      of_input.add(gates, x);
    }
  }
  of_input.flush();

  WeightsSum<T> of_state{scratch, count, hidden, gradients[1] + (group * 4 * hidden + from) * hidden, {}, {}};
  for (Size window = 0; window < backward.windows; ++window) {
    for (Size step = 0; step < shape.steps && alive(window, step); ++step) {
      if (step == 0 && backward.h0 == nullptr) continue;
      const T* h = step > 0 ? tape_h(layer, window, step - 1)
                            : backward.h0 + shape.state_offset(layer, group, backward.first_window + window);
      of_state.add(gate_row(backward, group, layer, window, step) + from, h);
    }
  }
  of_state.flush();
}

}  // namespace sgela::SGELA_ISA
