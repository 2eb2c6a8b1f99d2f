// Gradients of gates, templates and second convolutions in gated_temporal_pooling's backward pass, for the instruction
// set of the including file: what backward.h's blocks read and write, and the two ways back from the output.
#pragma once

#include "gated_temporal_pooling/forward.h"

namespace sgela::SGELA_ISA {

// Where a gate's weights lie among the panels that the backward pass reads.
template <class T>
struct BackwardPanels {
  GatePanels<T> forward;
  T* conv1_back;  // panels of B(K1 Hp, C), taps in reverse
  T* conv2_rows;  // (K2, C, Hp), with maximum
  T* conv2_back;  // of each block of columns: panels of B(K2 columns, Hp), taps in reverse; without maximum

  BackwardPanels(const pooling::Shape& shape, const pooling::Gate& gate, Arena<T>& arena) : forward(shape, gate, arena) {
    const Size channels = to_lanes<T>(shape.channels), hidden = to_lanes<T>(gate.hidden);
    conv1_back = arena.take(panels_size<T>(gate.first * hidden, channels));
    conv2_rows = arena.take(gate.second * channels * hidden);
    conv2_back = arena.take(panels_size<T>(gate.second * channels, hidden));
  }
};

template <class T>
Size backward_panels_size(const pooling::Shape& shape) {
  Arena<T> arena{nullptr};
  for (Size g = 0; g < shape.gate_count; ++g) BackwardPanels<T>(shape, shape.gates[g], arena);
  return arena.used;
}

// As pack_convolution() with inputs and outputs, and the taps' order, exchanged: B(taps outputs, inputs) of the outputs
// from `first` on.
template <class T>
void pack_transposed(const T* weight, Size first, Size outputs, Size inputs, Size taps, Size padded, T* panels) {
  const Size width = to_lanes<T>(inputs);
  for (Size column = 0; column < width; column += kPanel<T>) {
    for (Size k = taps - 1; k >= 0; --k) {
      for (Size o = 0; o < padded; ++o, panels += kPanel<T>) {
        for (Size i = column; i < column + kPanel<T>; ++i) {
          const bool inside = o < outputs && i < inputs;
          panels[i - column] = inside ? weight[((first + o) * inputs + i) * taps + k] : T(0);
        }
      }
    }
  }
}

template <class T>
void backward_pack(const pooling::Backward<T>& in, Size strip) {
  const Size channels = in.shape.channels, padded = to_lanes<T>(channels);
  Arena<T> arena{in.panels + strip * backward_panels_size<T>(in.shape)};
  for (Size g = 0; g < in.shape.gate_count; ++g) {
    const pooling::Gate& gate = in.shape.gates[g];
    const BackwardPanels<T> to(in.shape, gate, arena);
    const Size width = to_lanes<T>(gate.hidden);
    if (!in.maximum || in.hidden == nullptr) pack_gate(in, strip, g, to.forward);
    pack_transposed(in.weights[g].conv1 + strip * gate.hidden * channels * gate.first, Size(0), gate.hidden, channels,
                    gate.first, width, to.conv1_back);
    const T* const conv2 = in.weights[g].conv2 + strip * channels * gate.hidden * gate.second;
    if (!in.maximum) {
      for (Size from = 0; from < channels; from += kGateColumns<T>) {
        const Size columns = smaller(kGateColumns<T>, padded - from);
        pack_transposed(conv2, from, smaller(columns, channels - from), gate.hidden, gate.second, columns,
                        to.conv2_back + gate.second * from * panels_size<T>(1, width));
      }
      continue;
    }
    fill(to.conv2_rows, gate.second * padded * width, T(0));
    for (Size c = 0; c < channels; ++c) {
      for (Size h = 0; h < gate.hidden; ++h) {
        const T* const from = conv2 + (c * gate.hidden + h) * gate.second;
        for (Size k = 0; k < gate.second; ++k) to.conv2_rows[(k * padded + c) * width + h] = from[k];
      }
    }
  }
}

// Sums of the gradients of one gate's weights.
template <class T>
struct Partial {
  T* conv1;  // (K1, Cp, Hp)
  T* bias1;  // (Hp)
  T* conv2;  // (K2, Cp, Hp)
  T* bias2;  // (Cp)

  Partial(const pooling::Shape& shape, const pooling::Gate& gate, Arena<T>& arena) {
    const Size channels = to_lanes<T>(shape.channels), hidden = to_lanes<T>(gate.hidden);
    conv1 = arena.take(gate.first * channels * hidden);
    bias1 = arena.take(hidden);
    conv2 = arena.take(gate.second * channels * hidden);
    bias2 = arena.take(channels);
  }
};

template <class T>
Size partial_size(const pooling::Shape& shape) {
  Arena<T> arena{nullptr};
  for (Size g = 0; g < shape.gate_count; ++g) Partial<T>(shape, shape.gates[g], arena);
  return arena.used;
}

template <class T>
struct BackwardScratch {
  T *rows, *grad_rows;      // (rows, Cp)
  T *hidden, *grad_hidden;  // of each gate (rows, Hp), one behind the other
  T* gates;                 // of each gate (rows, kGateColumns), without maximum
  T *tiles, *panels;        // of one stretch of rows, packed
  Size size;

  BackwardScratch(const pooling::Shape& shape, Size count, T* memory) {
    const Block block{0, 0, count, shape.frames, shape.pad()};
    const Size channels = to_lanes<T>(shape.channels), all = hidden_width(shape, shape.gate_count);
    Arena<T> arena{memory};
    rows = arena.take(block.rows() * channels);
    grad_rows = arena.take(block.rows() * channels);
    hidden = arena.take(block.rows() * all);
    grad_hidden = arena.take(block.rows() * all);
    gates = arena.take(block.rows() * kGateColumns<T> * shape.gate_count);
    const Size depth = smaller(kDepthBlock, block.rows());
    tiles = arena.take((depth + 2 * block.pad) * divide_up(channels, kTileRows) * kTileRows);
    panels = arena.take(panels_size<T>(depth, all));
    size = arena.used;
  }
  static Size hidden_width(const pooling::Shape& shape, Size gate) {
    return ForwardScratch<T>::hidden_width(shape, gate);
  }
  T* hidden_of(const pooling::Shape& shape, const Block& block, Size gate) const {
    return hidden + block.rows() * hidden_width(shape, gate);
  }
  T* grad_hidden_of(const pooling::Shape& shape, const Block& block, Size gate) const {
    return grad_hidden + block.rows() * hidden_width(shape, gate);
  }
};

// sums(k, x, y) += over rows r of a(r + k - taps / 2, x) b(r, y), or with reversed taps a(r - k + taps / 2, x) b(r, y).
// a is (rows, a_width), b (rows, b_width) and zero where a is not to count. Sums are `b_width` wide; `first_x` says
// which row of them a's first column belongs to, of `x_count` rows a tap.
template <class T>
void add_weight_gradient(const Block& block, const BackwardScratch<T>& scratch, const T* a, Size a_width, const T* b,
                         Size b_width, Size taps, bool reversed, T* sums, Size x_count) {
  const Size radius = taps / 2;
  for (Size begin = 0; begin < block.inner(); begin += kDepthBlock) {
    const Size depth = smaller(kDepthBlock, block.inner() - begin), a_depth = depth + 2 * radius;
    const T* const a_rows = a + (block.pad + begin - radius) * a_width;
    const T* const b_rows = b + (block.pad + begin) * b_width;
    pack_rows<kTileRows>([&](Size k) { return a_rows + k * a_width; }, a_depth, a_width, scratch.tiles);
    pack_rows<kPanel<T>>([&](Size k) { return b_rows + k * b_width; }, depth, b_width, scratch.panels);
    for (Size k = 0; k < taps; ++k) {
      T* const to = sums + (reversed ? taps - 1 - k : k) * x_count * b_width;
      multiply_block<T, true>(a_width, b_width, depth, scratch.tiles + k * kTileRows, a_depth, scratch.panels, depth, to,
                              b_width, true);
    }
  }
}

// With maximum over time: one frame of each sequence and channel has a gradient.
template <class T>
void go_back_sparse(const pooling::Backward<T>& backward, const Block& block, const BackwardScratch<T>& scratch,
                    const T* strip_panels, T* partial) {
  using V = Vec<T>;
  const pooling::Shape& shape = backward.shape;
  const Size channels = shape.channels, padded = to_lanes<T>(channels), all = shape.strips * shape.count * channels;
  Arena<T> panels_arena{const_cast<T*>(strip_panels)}, partial_arena{partial};
  for (Size g = 0; g < shape.gate_count; ++g) {
    const pooling::Gate& gate = shape.gates[g];
    const BackwardPanels<T> panels(shape, gate, panels_arena);
    const Partial<T> sums(shape, gate, partial_arena);
    const Size width = to_lanes<T>(gate.hidden), radius = gate.window / 2, before = gate.second / 2;
    const T part = static_cast<T>(gate.part);
    for (Size i = 0; i < block.count; ++i) {
      const Size length = length_of(backward, block.first + i), row = block.row(i);
      const Size at = (block.strip * shape.count + block.first + i) * channels;
      const T* const hidden = scratch.hidden_of(shape, block, g) + (row - before) * width;
      T* const grad_hidden = scratch.grad_hidden_of(shape, block, g) + (row - before) * width;
      for (Size c = 0; c < channels && length > 0; ++c) {
        const Size frame = smaller(larger(backward.chosen[at + c], 0), length - 1);
        const Size begin = larger(frame - radius, 0), end = smaller(frame + radius + 1, length);
        const T* const x = scratch.rows + row * padded + c;
        T sum = T(0);
        Size first = begin;
        for (Size t = begin; t < end; ++t) {
          sum += x[t * padded];
          if (x[t * padded] > x[first * padded]) first = t;
        }
        const T grad = backward.grad_output[at + c], open = backward.gates[g * all + at + c];
        const T grad_template = grad * open;
        T* const grad_x = scratch.grad_rows + row * padded + c;
        for (Size t = begin; t < end; ++t) grad_x[t * padded] += grad_template * part;
        grad_x[first * padded] += grad_template;
        const T grad_logit = grad_template * (sum * part + x[first * padded]) * (T(1) - open);
        sums.bias2[c] += grad_logit;
        const V factor = broadcast(grad_logit);
        for (Size k = 0; k < gate.second; ++k) {
          const T* const weight = panels.conv2_rows + (k * padded + c) * width;
          T* const grad_weight = sums.conv2 + (k * padded + c) * width;
          const T* const h = hidden + (frame + k) * width;
          T* const grad_h = grad_hidden + (frame + k) * width;
          for (Size v = 0; v < width; v += V::kLanes) {
            store(grad_weight + v, fma(factor, load(h + v), load(grad_weight + v)));
            store(grad_h + v, fma(factor, load(weight + v), load(grad_h + v)));
          }
        }
      }
    }
  }
}

// Of one sequence in one vector of channels: gates become the gradients of their logits, and the features get what the
// templates had from them.
template <class T>
void go_back_through_gates(const pooling::Backward<T>& backward, const Block& block, const BackwardScratch<T>& scratch,
                           Size gate, Size i, Size from, Size columns, T* gates, T* grad_bias) {
  using V = Vec<T>;
  const pooling::Shape& shape = backward.shape;
  const Size padded = to_lanes<T>(shape.channels), radius = shape.gates[gate].window / 2;
  const Size length = length_of(backward, block.first + i), row = block.row(i);
  const Size sequence = block.strip * shape.count + block.first + i;
  const V one = broadcast(T(1)), part = broadcast(static_cast<T>(shape.gates[gate].part));
  for (Size c = 0; c < columns && from + c < shape.channels; c += V::kLanes) {
    const T* const x = scratch.rows + row * padded + from + c;
    T* const grad_x = scratch.grad_rows + row * padded + from + c;
    for (Size t = 0; t < length; ++t) {
      const T* const upstream = backward.grad_output + (sequence * shape.frames + t) * shape.channels + from + c;
      T* const at = gates + (row + t) * columns + c;
      const V grad = load_up_to(upstream, shape.channels - from - c), open = load(at), grad_template = grad * open;
      Local<T> local(x, padded, length, t);
      const V whole = local.grown(shape.gates[gate]);
      const V grad_logit = grad_template * whole * (one - open);
      store(at, grad_logit);
      store(grad_bias + from + c, load(grad_bias + from + c) + grad_logit);
      V waiting = grad_template;  // for the first of the window's largest frames
      for (Size u = larger(t - radius, 0); u <= smaller(t + radius, length - 1); ++u) {
        const Mask<T> largest{load(x + u * padded).lanes == local.top.lanes};
        const V all = fma(grad_template, part, load(grad_x + u * padded));
        store(grad_x + u * padded, all + select(largest, waiting, zero<T>()));
        waiting = select(largest, zero<T>(), waiting);
      }
    }
  }
}

// Without maximum: gates anew, then everything through all frames.
template <class T>
void go_back_dense(const pooling::Backward<T>& backward, const Block& block, const BackwardScratch<T>& scratch,
                   const T* strip_panels, T* partial) {
  const pooling::Shape& shape = backward.shape;
  const Size padded = to_lanes<T>(shape.channels);
  Arena<T> panels_arena{const_cast<T*>(strip_panels)}, partial_arena{partial};
  for (Size g = 0; g < shape.gate_count; ++g) {
    const pooling::Gate& gate = shape.gates[g];
    const BackwardPanels<T> panels(shape, gate, panels_arena);
    const Partial<T> sums(shape, gate, partial_arena);
    const Size width = to_lanes<T>(gate.hidden);
    const T* const hidden = scratch.hidden_of(shape, block, g);
    for (Size from = 0; from < padded; from += kGateColumns<T>) {
      const Size columns = smaller(kGateColumns<T>, padded - from);
      open_gate(block, gate, panels.forward, hidden, from, columns, scratch.gates);
      for (Size i = 0; i < block.count; ++i) {
        go_back_through_gates(backward, block, scratch, g, i, from, columns, scratch.gates, sums.bias2);
      }
      clear_pads(backward, block, columns, scratch.gates);
      add_weight_gradient(block, scratch, scratch.gates, columns, hidden, width, gate.second, true,
                          sums.conv2 + from * width, padded);
      convolve(block, scratch.gates, columns, gate.second,
               panels.conv2_back + gate.second * from * panels_size<T>(1, width), width,
               scratch.grad_hidden_of(shape, block, g), true);
    }
  }
}

}  // namespace sgela::SGELA_ISA
