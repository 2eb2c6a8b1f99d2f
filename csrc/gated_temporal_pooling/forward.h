// Forward pass of gated_temporal_pooling for the instruction set of the including file.
//
// One thread owns a block of sequences of one strip. It convolves all their frames to the hidden channels of each gate,
// then takes two panels of output channels at a time: both gates' logits of all frames, sigmoid, local means and
// maxima of the frames beside, and the maximum over time in registers. Nothing of length T is written to memory, but
// for the hidden channels when a backward pass will read them.
#pragma once

#include "gated_temporal_pooling/block.h"

namespace sgela::SGELA_ISA {

template <class T>
struct ForwardScratch {
  T* rows;    // (rows, Cp)
  T* hidden;  // of each gate (rows, Hp), one behind the other
  T* gates;   // of each gate (rows, kGateColumns)
  Size size;

  ForwardScratch(const pooling::Shape& shape, Size count, T* memory) {
    const Block block{0, 0, count, shape.frames, shape.pad()};
    Arena<T> arena{memory};
    rows = arena.take(block.rows() * to_lanes<T>(shape.channels));
    hidden = arena.take(block.rows() * hidden_width(shape, shape.gate_count));
    gates = arena.take(block.rows() * kGateColumns<T> * shape.gate_count);
    size = arena.used;
  }
  // Columns of the hidden rows of all gates before one.
  static Size hidden_width(const pooling::Shape& shape, Size gate) {
    Size sum = 0;
    for (Size g = 0; g < gate; ++g) sum += to_lanes<T>(shape.gates[g].hidden);
    return sum;
  }
  T* hidden_of(const pooling::Shape& shape, const Block& block, Size gate) const {
    return hidden + block.rows() * hidden_width(shape, gate);
  }
};

template <class T>
Size forward_workspace(const pooling::Shape& shape, Size count) {
  return ForwardScratch<T>(shape, count, nullptr).size;
}

template <class T>
void forward_pack(const pooling::Inputs<T>& in, Size strip) {
  Arena<T> arena{in.panels + strip * forward_panels_size<T>(in.shape)};
  for (Size g = 0; g < in.shape.gate_count; ++g) {
    pack_gate(in, strip, g, GatePanels<T>(in.shape, in.shape.gates[g], arena));
  }
}

// (S, N, T, H of all gates) from or to the rows of one gate.
template <class T, class Move>
void for_each_hidden_row(const pooling::Inputs<T>& in, const Block& block, Size gate, const Move& move) {
  const Size total = in.shape.hidden(), before = in.shape.hidden_before(gate);
  for (Size i = 0; i < block.count; ++i) {
    const Size sequence = block.strip * in.shape.count + block.first + i;
    for (Size t = 0; t < in.shape.frames; ++t) {
      move(block.row(i) + t, (sequence * in.shape.frames + t) * total + before);
    }
  }
}

// Larger than the maximum so far, or the first NaN.
template <class T>
SGELA_INLINE Mask<T> exceeds(Vec<T> x, Vec<T> best) {
  return {(x.lanes > best.lanes) | ((x.lanes != x.lanes) & (best.lanes == best.lanes))};
}

// Templates times gates of one sequence in the channels of one block of columns.
template <class T>
void pool_sequence(const pooling::Forward<T>& forward, const Block& block, const ForwardScratch<T>& scratch, Size i,
                   Size from, Size columns) {
  using V = Vec<T>;
  const pooling::Shape& shape = forward.shape;
  const Size padded = to_lanes<T>(shape.channels), gate_stride = block.rows() * columns;
  const Size length = length_of(forward, block.first + i), first = block.row(i);
  const Size sequence = block.strip * shape.count + block.first + i;
  for (Size c = 0; c < columns && from + c < shape.channels; c += V::kLanes) {
    const Size lanes = smaller(V::kLanes, shape.channels - from - c);
    T* const output = forward.output + sequence * (forward.maximum ? 1 : shape.frames) * shape.channels + from + c;
    V best = zero<T>(), frame = broadcast(T(-1));
    for (Size t = 0; t < length; ++t) {
      Local<T> local(scratch.rows + first * padded + from + c, padded, length, t);
      V total = zero<T>();
      for (Size g = 0; g < shape.gate_count; ++g) {
        const V gate = load(scratch.gates + g * gate_stride + (first + t) * columns + c);
        total = fma(local.grown(shape.gates[g]), gate, total);
      }
      if (!forward.maximum) {
        store_up_to(output + t * shape.channels, total, lanes);
      } else {
        const Mask<T> better = exceeds(total, best);
        best = t == 0 ? total : select(better, total, best);
        frame = t == 0 ? zero<T>() : select(better, broadcast(static_cast<T>(t)), frame);
      }
    }
    if (!forward.maximum) {
      for (Size t = length; t < shape.frames; ++t) store_up_to(output + t * shape.channels, zero<T>(), lanes);
      continue;
    }
    store_up_to(output, best, lanes);
    for (Size lane = 0; lane < lanes; ++lane) {
      const Size t = static_cast<Size>(frame.lanes[lane]), at = sequence * shape.channels + from + c + lane;
      forward.chosen[at] = static_cast<std::int32_t>(t);
      for (Size g = 0; g < shape.gate_count; ++g) {
        const T* const gates = scratch.gates + g * gate_stride + first * columns + c + lane;
        forward.gates[g * shape.strips * shape.count * shape.channels + at] = t < 0 ? T(0) : gates[t * columns];
      }
    }
  }
}

template <class T>
void forward_block(const pooling::Forward<T>& forward, Size strip, Size first, Size count, T* workspace) {
  const pooling::Shape& shape = forward.shape;
  const Block block = block_of(forward, strip, first, count);
  const ForwardScratch<T> scratch(shape, count, workspace);
  T* const strip_panels = forward.panels + strip * forward_panels_size<T>(shape);
  load_rows(forward, block, scratch.rows);
  Arena<T> arena{strip_panels};
  for (Size g = 0; g < shape.gate_count; ++g) {
    const pooling::Gate& gate = shape.gates[g];
    T* const hidden = scratch.hidden_of(shape, block, g);
    hide(forward, block, gate, GatePanels<T>(shape, gate, arena), scratch.rows, hidden);
    if (forward.hidden == nullptr) continue;
    for_each_hidden_row(forward, block, g, [&](Size row, Size saved) {
      copy(hidden + row * to_lanes<T>(gate.hidden), gate.hidden, forward.hidden + saved);
    });
  }
  const Size padded = to_lanes<T>(shape.channels);
  for (Size from = 0; from < padded; from += kGateColumns<T>) {
    const Size columns = smaller(kGateColumns<T>, padded - from);
    Arena<T> again{strip_panels};
    for (Size g = 0; g < shape.gate_count; ++g) {
      const GatePanels<T> panels(shape, shape.gates[g], again);
      open_gate(block, shape.gates[g], panels, scratch.hidden_of(shape, block, g), from, columns,
                scratch.gates + g * block.rows() * columns);
    }
    for (Size i = 0; i < count; ++i) pool_sequence(forward, block, scratch, i, from, columns);
  }
}

}  // namespace sgela::SGELA_ISA
