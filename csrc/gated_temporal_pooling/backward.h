// Backward pass of gated_temporal_pooling for the instruction set of the including file.
//
// One thread owns a chunk of blocks of sequences of one strip. Behind the maximum over time one frame of each sequence
// and channel has a gradient: the gates, their logits and the second convolution go back through C entries instead of
// T x C (go_back_sparse()). Without the maximum all frames do, two panels of channels at a time (go_back_dense()). Both
// end in the gradient of the hidden channels, which is dense; two products a gate then give the gradient of the
// features and of the first convolution.
//
// Gradients of the weights are summed in the chunk's own memory, (taps, inputs, outputs) each, and the chunks' sums are
// added in their order: neither depends on the number of threads.
#pragma once

#include "gated_temporal_pooling/gradients.h"

namespace sgela::SGELA_ISA {

// From the gradient of the hidden channels, activated, to that of their pre-activations and of the bias; zeros in pads.
template <class T>
void deactivate(const pooling::Backward<T>& backward, const Block& block, Size width, const T* hidden, T* grad_hidden,
                T* grad_bias) {
  using V = Vec<T>;
  clear_pads(backward, block, width, grad_hidden);
  const V slope = broadcast(backward.slope);
  for (Size row = block.pad; row < block.pad + block.inner(); ++row) {
    for (Size h = 0; h < width; h += V::kLanes) {
      T* const at = grad_hidden + row * width + h;
      const V grad = load(at);
      const V kept = select(load(hidden + row * width + h) > zero<T>(), grad, slope * grad);
      store(at, kept);
      store(grad_bias + h, load(grad_bias + h) + kept);
    }
  }
}

template <class T>
void backward_block(const pooling::Backward<T>& backward, Size strip, Size first, Size count, const T* strip_panels,
                    T* partial, T* workspace) {
  const pooling::Shape& shape = backward.shape;
  const Block block = block_of(backward, strip, first, count);
  const BackwardScratch<T> scratch(shape, count, workspace);
  const Size padded = to_lanes<T>(shape.channels);
  load_rows(backward, block, scratch.rows);
  fill(scratch.grad_rows, block.rows() * padded, T(0));
  Arena<T> panels_arena{const_cast<T*>(strip_panels)};
  for (Size g = 0; g < shape.gate_count; ++g) {
    const pooling::Gate& gate = shape.gates[g];
    const BackwardPanels<T> panels(shape, gate, panels_arena);
    const Size width = to_lanes<T>(gate.hidden);
    T* const hidden = scratch.hidden_of(shape, block, g);
    fill(scratch.grad_hidden_of(shape, block, g), block.rows() * width, T(0));
    if (backward.hidden == nullptr) {
      hide(backward, block, gate, panels.forward, scratch.rows, hidden);
      continue;
    }
    for_each_hidden_row(backward, block, g, [&](Size row, Size saved) {
      copy(backward.hidden + saved, gate.hidden, hidden + row * width);
      fill(hidden + row * width + gate.hidden, width - gate.hidden, T(0));
    });
    clear_pads(backward, block, width, hidden);
  }
  if (backward.maximum) {
    go_back_sparse(backward, block, scratch, strip_panels, partial);
  } else {
    go_back_dense(backward, block, scratch, strip_panels, partial);
  }
  Arena<T> again{const_cast<T*>(strip_panels)}, partial_arena{partial};
  for (Size g = 0; g < shape.gate_count; ++g) {
    const pooling::Gate& gate = shape.gates[g];
    const BackwardPanels<T> panels(shape, gate, again);
    const Partial<T> sums(shape, gate, partial_arena);
    const Size width = to_lanes<T>(gate.hidden);
    T* const grad_hidden = scratch.grad_hidden_of(shape, block, g);
    deactivate(backward, block, width, scratch.hidden_of(shape, block, g), grad_hidden, sums.bias1);
    add_weight_gradient(block, scratch, scratch.rows, padded, grad_hidden, width, gate.first, false, sums.conv1,
                        padded);
    convolve(block, grad_hidden, width, gate.first, panels.conv1_back, padded, scratch.grad_rows, true);
  }
  for (Size i = 0; i < count; ++i) {
    const Size length = length_of(backward, first + i);
    T* to = backward.grad_features + (strip * shape.count + first + i) * shape.frames * shape.channels;
    for (Size t = 0; t < shape.frames; ++t, to += shape.channels) {
      if (t < length) {
        copy(scratch.grad_rows + (block.row(i) + t) * padded, shape.channels, to);
      } else {
        fill(to, shape.channels, T(0));
      }
    }
  }
}

template <class T>
Size backward_workspace(const pooling::Shape& shape, Size count) {
  return BackwardScratch<T>(shape, count, nullptr).size;
}

template <class T>
void backward_chunk(const pooling::Backward<T>& backward, Size strip, Size chunk, Size chunks, T* workspace) {
  const pooling::Shape& shape = backward.shape;
  T* const partial = backward.partial + (strip * chunks + chunk) * partial_size<T>(shape);
  fill(partial, partial_size<T>(shape), T(0));
  const T* const panels = backward.panels + strip * backward_panels_size<T>(shape);
  const Size begin = chunk * backward.chunk * backward.block;
  const Size end = smaller(begin + backward.chunk * backward.block, shape.count);
  for (Size first = begin; first < end; first += backward.block) {
    backward_block(backward, strip, first, smaller(backward.block, end - first), panels, partial, workspace);
  }
}

// One convolution's gradient, (taps, Cp, Hp) in each of the chunks, to `to`, whose element for channel c, hidden channel
// h and tap k is at c * by_channel + h * by_hidden + k. The chunks lie `stride` apart.
template <class T>
void add_chunks(const T* from, Size chunks, Size stride, Size taps, Size channels, Size hidden, T* to, Size by_channel,
                Size by_hidden) {
  const Size padded = to_lanes<T>(channels), width = to_lanes<T>(hidden);
  for (Size c = 0; c < channels; ++c) {
    for (Size h = 0; h < hidden; ++h) {
      for (Size k = 0; k < taps; ++k) {
        const T* at = from + (k * padded + c) * width + h;
        T sum = T(0);
        for (Size chunk = 0; chunk < chunks; ++chunk, at += stride) sum += *at;
        to[c * by_channel + h * by_hidden + k] = sum;
      }
    }
  }
}

template <class T>
void reduce_chunks(const pooling::Backward<T>& backward, Size strip, Size chunks) {
  const pooling::Shape& shape = backward.shape;
  const Size size = partial_size<T>(shape), channels = shape.channels;
  Arena<T> arena{backward.partial + strip * chunks * size};
  for (Size g = 0; g < shape.gate_count; ++g) {
    const Size hidden = shape.gates[g].hidden, first = shape.gates[g].first, second = shape.gates[g].second;
    const Partial<T> sums(shape, shape.gates[g], arena);
    const pooling::GateGradients<T>& to = backward.grad_weights[g];
    const Size both = strip * channels * hidden;
    add_chunks(sums.conv1, chunks, size, first, channels, hidden, to.conv1 + both * first, first, channels * first);
    add_chunks(sums.bias1, chunks, size, Size(1), Size(1), hidden, to.bias1 + strip * hidden, Size(0), Size(1));
    add_chunks(sums.conv2, chunks, size, second, channels, hidden, to.conv2 + both * second, hidden * second, second);
    add_chunks(sums.bias2, chunks, size, Size(1), Size(1), channels, to.bias2 + strip * channels, Size(0), Size(1));
  }
}

}  // namespace sgela::SGELA_ISA
