// What the op file and the kernels of gated_temporal_pooling agree on: sizes, arguments, and the kernels' table per
// instruction set. No torch here, and no kernel.
//
// Panels: one strip's weights as the kernels read them, made anew in each call; their layout is the kernels' own.
#pragma once

#include <cstdint>

namespace sgela::pooling {

using Size = std::int64_t;

// Hidden channels, taps of the two convolutions, and frames of the template's window; the last three are odd.
struct Gate {
  Size hidden, first, second, window;
  double part = 1.0 / static_cast<double>(window);  // of a frame in the window's mean
};

struct Shape {
  Size strips, count, frames, channels;
  const Gate* gates;
  Size gate_count;

  // Hidden channels of all gates, and of those before one.
  [[gnu::always_inline]] Size hidden() const { return hidden_before(gate_count); }
  [[gnu::always_inline]] Size hidden_before(Size gate) const {
    Size sum = 0;
    for (Size g = 0; g < gate; ++g) sum += gates[g].hidden;
    return sum;
  }
  // Frames of zeros that the convolutions read before and behind a sequence; neighbours share them.
  [[gnu::always_inline]] Size pad() const {
    Size most = 0;
    for (Size g = 0; g < gate_count; ++g) {
      const Size taps = gates[g].first < gates[g].second ? gates[g].second : gates[g].first;
      most = taps / 2 > most ? taps / 2 : most;
    }
    return most;
  }
};

// One gate's weights of all strips: (S, H, C, K1), (S, H), (S, C, H, K2), (S, C).
template <class T>
struct GateWeights {
  const T *conv1, *bias1, *conv2, *bias2;
};

template <class T>
struct GateGradients {
  T *conv1, *bias1, *conv2, *bias2;
};

template <class T>
struct Inputs {
  Shape shape;
  const GateWeights<T>* weights;  // of each gate
  T slope;                        // of the activation for negative values
  bool maximum;                   // over time
  const T* features;              // (S, N, T, C), unit stride last
  Size strides[3];
  const Size* lengths;  // (N) or null
  T* panels;            // of every strip
};

template <class T>
struct Forward : Inputs<T> {
  T* output;             // (S, N, C), or (S, N, T, C) without maximum
  T* hidden;             // (S, N, T, H of all gates) or null
  std::int32_t* chosen;  // (S, N, C): frame of the maximum, -1 in a sequence without frames; null without maximum
  T* gates;              // (gates, S, N, C): gates at that frame
};

template <class T>
struct Backward : Inputs<T> {
  const T* grad_output;        // as the output, contiguous
  const T* hidden;             // as saved, or null to compute it anew
  const std::int32_t* chosen;  // as the forward pass gave them
  const T* gates;
  T* grad_features;                      // (S, N, T, C)
  const GateGradients<T>* grad_weights;  // of each gate
  Size block, chunk;                     // sequences of a block, blocks of a chunk
  T* partial;                            // gradients of the weights by strip and chunk, in the kernels' layout
};

// One instruction set's kernels. Sizes are elements. A block is `count` sequences of a strip from `first` on.
template <class T>
struct Kernels {
  Size (*panels_size)(const Shape&);  // of one strip
  void (*pack)(const Inputs<T>&, Size strip);
  Size (*workspace)(const Shape&, Size count);
  void (*forward)(const Forward<T>&, Size strip, Size first, Size count, T* workspace);
  Size (*backward_panels_size)(const Shape&);
  void (*backward_pack)(const Backward<T>&, Size strip);
  Size (*backward_workspace)(const Shape&, Size count);
  Size (*partial_size)(const Shape&);
  void (*backward)(const Backward<T>&, Size strip, Size chunk, Size chunks, T* workspace);
  void (*reduce)(const Backward<T>&, Size strip, Size chunks);  // the chunks' gradients to grad_weights
};

template <class T>
const Kernels<T>& kernels_baseline();
template <class T>
const Kernels<T>& kernels_avx2();
template <class T>
const Kernels<T>& kernels_avx512();

}  // namespace sgela::pooling
