// What the forward and the backward pass of gated_temporal_pooling do with a block of sequences: lay their frames out as
// rows, convolve them, and open the gates.
//
// Rows of a block: pads of zeros, then each sequence's T frames and pads again, which the next sequence shares. One
// frame is a row, dense; so the K rows around a frame are K dense rows, and a convolution over time is one matrix
// product whose rows of A overlap: nothing is unfolded. Rows of pads come out of it as rubbish and are cleared.
//
// From memory come the features, once, and the panels (L2 or L3); the rows of a block stay in L2.
#pragma once

#include "common/block.h"
#include "common/cell.h"
#include "common/gemm.h"
#include "gated_temporal_pooling/pooling.h"

namespace sgela::SGELA_ISA {

using pooling::Size;

template <class T>
SGELA_INLINE Size to_lanes(Size columns) {
  return divide_up(columns, Vec<T>::kLanes) * Vec<T>::kLanes;
}

// Channels whose gates are computed at once: their logits stay in L1, or near it.
template <class T>
inline constexpr Size kGateColumns = 2 * kPanel<T>;

struct Block {
  Size strip, first, count, frames, pad;

  Size rows() const { return pad + count * (frames + pad); }
  Size row(Size sequence) const { return pad + sequence * (frames + pad); }
  // Rows from the first frame to the last one, pads between included.
  Size inner() const { return larger(rows() - 2 * pad, 0); }
};

template <class T>
Block block_of(const pooling::Inputs<T>& in, Size strip, Size first, Size count) {
  return {strip, first, count, in.shape.frames, in.shape.pad()};
}

template <class T>
SGELA_INLINE Size length_of(const pooling::Inputs<T>& in, Size sequence) {
  return in.lengths == nullptr ? in.shape.frames : smaller(larger(in.lengths[sequence], 0), in.shape.frames);
}

// Where a gate's weights lie among the panels of a strip.
template <class T>
struct GatePanels {
  T* conv1;  // panels of B(K1 Cp, H)
  T* bias1;  // (Hp)
  T* conv2;  // panels of B(K2 Hp, C)
  T* bias2;  // (Cp)

  GatePanels(const pooling::Shape& shape, const pooling::Gate& gate, Arena<T>& arena) {
    const Size channels = to_lanes<T>(shape.channels), hidden = to_lanes<T>(gate.hidden);
    conv1 = arena.take(panels_size<T>(gate.first * channels, hidden));
    bias1 = arena.take(hidden);
    conv2 = arena.take(panels_size<T>(gate.second * hidden, channels));
    bias2 = arena.take(channels);
  }
};

template <class T>
Size forward_panels_size(const pooling::Shape& shape) {
  Arena<T> arena{nullptr};
  for (Size g = 0; g < shape.gate_count; ++g) GatePanels<T>(shape, shape.gates[g], arena);
  return arena.used;
}

// Panels of B(taps inputs, outputs) from a convolution's weights (outputs, inputs, taps), with rows of `padded` inputs.
template <class T>
void pack_convolution(const T* weight, Size outputs, Size inputs, Size taps, Size padded, T* panels) {
  const Size width = to_lanes<T>(outputs);
  for (Size first = 0; first < width; first += kPanel<T>) {
    for (Size k = 0; k < taps; ++k) {
      for (Size i = 0; i < padded; ++i, panels += kPanel<T>) {
        for (Size o = 0; o < kPanel<T>; ++o) {
          const bool inside = i < inputs && first + o < outputs;
          panels[o] = inside ? weight[((first + o) * inputs + i) * taps + k] : T(0);
        }
      }
    }
  }
}

template <class T>
void pack_bias(const T* bias, Size outputs, T* to) {
  fill(to, to_lanes<T>(outputs), T(0));
  copy(bias, outputs, to);
}

template <class T>
void pack_gate(const pooling::Inputs<T>& in, Size strip, Size index, const GatePanels<T>& to) {
  const pooling::Gate& gate = in.shape.gates[index];
  const pooling::GateWeights<T>& weights = in.weights[index];
  const Size channels = in.shape.channels;
  pack_convolution(weights.conv1 + strip * gate.hidden * channels * gate.first, gate.hidden, channels, gate.first,
                   to_lanes<T>(channels), to.conv1);
  pack_bias(weights.bias1 + strip * gate.hidden, gate.hidden, to.bias1);
  pack_convolution(weights.conv2 + strip * channels * gate.hidden * gate.second, channels, gate.hidden, gate.second,
                   to_lanes<T>(gate.hidden), to.conv2);
  pack_bias(weights.bias2 + strip * channels, channels, to.bias2);
}

// Rows of a matrix that are not frames become zeros: the pads, and what lies behind a sequence's end.
template <class T>
void clear_pads(const pooling::Inputs<T>& in, const Block& block, Size width, T* rows) {
  fill(rows, block.pad * width, T(0));
  for (Size i = 0; i < block.count; ++i) {
    const Size end = block.row(i) + length_of(in, block.first + i);
    fill(rows + end * width, (block.row(i + 1) - end) * width, T(0));
  }
}

// The block's features, (rows, Cp).
template <class T>
void load_rows(const pooling::Inputs<T>& in, const Block& block, T* rows) {
  const Size channels = in.shape.channels, padded = to_lanes<T>(channels);
  clear_pads(in, block, padded, rows);
  for (Size i = 0; i < block.count; ++i) {
    const Size length = length_of(in, block.first + i);
    const T* from = in.features + block.strip * in.strides[0] + (block.first + i) * in.strides[1];
    T* to = rows + block.row(i) * padded;
    for (Size t = 0; t < length; ++t, from += in.strides[2], to += padded) {
      copy(from, channels, to);
      fill(to + channels, padded - channels, T(0));
    }
  }
}

// C(inner rows, columns) (+)= the convolution of rows (all, width) with panels of B(taps width, columns).
template <class T>
void convolve(const Block& block, const T* rows, Size width, Size taps, const T* panels, Size columns, T* c,
              bool accumulate) {
  multiply(block.inner(), columns, taps * width, rows + (block.pad - taps / 2) * width, width, panels,
           c + block.pad * columns, columns, accumulate);
}

// One gate's activated hidden channels, (rows, Hp), zeros in the pads.
template <class T>
void hide(const pooling::Inputs<T>& in, const Block& block, const pooling::Gate& gate, const GatePanels<T>& panels,
          const T* rows, T* hidden) {
  using V = Vec<T>;
  const Size width = to_lanes<T>(gate.hidden);
  convolve(block, rows, to_lanes<T>(in.shape.channels), gate.first, panels.conv1, width, hidden, false);
  const bool leaks = in.slope != T(0);
  const V slope = broadcast(in.slope);
  for (Size row = block.pad; row < block.pad + block.inner(); ++row) {
    for (Size h = 0; h < width; h += V::kLanes) {
      T* const at = hidden + row * width + h;
      const V z = load(at) + load(panels.bias1 + h);
      store(at, leaks ? select(z > zero<T>(), z, slope * z) : max(zero<T>(), z));
    }
  }
  clear_pads(in, block, width, hidden);
}

// One gate of the channels from `from` on, (rows, columns): rubbish in the pads.
template <class T>
void open_gate(const Block& block, const pooling::Gate& gate, const GatePanels<T>& panels, const T* hidden, Size from,
               Size columns, T* gates) {
  using V = Vec<T>;
  const Size width = to_lanes<T>(gate.hidden), depth = gate.second * width;
  convolve(block, hidden, width, gate.second, panels.conv2 + from * depth, columns, gates, false);
  for (Size row = block.pad; row < block.pad + block.inner(); ++row) {
    for (Size c = 0; c < columns; c += V::kLanes) {
      T* const at = gates + row * columns + c;
      store(at, sigmoid(load(at) + load(panels.bias2 + from + c)));
    }
  }
}

// Sum and maximum over the window around frame t of a sequence, grown from one window to the next.
template <class T>
struct Local {
  using V = Vec<T>;
  const T* x;  // frame 0, in one vector of channels
  Size stride, length, t;
  V sum, top;
  Size reach = 0;

  SGELA_INLINE Local(const T* frames, Size row_stride, Size frame_count, Size frame)
      : x(frames), stride(row_stride), length(frame_count), t(frame) {
    restart();
  }
  SGELA_INLINE void restart() { sum = top = load(x + t * stride), reach = 0; }
  SGELA_INLINE void add(Size frame) {
    const V y = load(x + frame * stride);
    sum = sum + y, top = max(top, y);
  }
  // The template of a gate: mean with zeros for pads, plus the maximum without them.
  SGELA_INLINE V grown(const pooling::Gate& gate) {
    const Size radius = gate.window / 2;
    if (radius < reach) restart();
    for (; reach < radius;) {
      ++reach;
      if (t >= reach) add(t - reach);
      if (t + reach < length) add(t + reach);
    }
    return fma(sum, broadcast(static_cast<T>(gate.part)), top);
  }
};

}  // namespace sgela::SGELA_ISA
