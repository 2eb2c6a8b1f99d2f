// The LSTM cell's equations and their derivatives, written once: for the vectors of common/vec.h (one lane is one
// hidden unit) and, compiled by nvcc, for float in device code (namespace sgela::cuda). Registers only, no memory.
//
//   c = sigmoid(f) c' + sigmoid(i) tanh(g),  h = sigmoid(o) tanh(c),  gates in torch.nn.LSTM's order i, f, g, o.
#pragma once

#ifdef __CUDACC__

#define SGELA_CELL __host__ __device__ inline
namespace sgela::cuda {

SGELA_CELL float one_like(float) { return 1.0f; }

SGELA_CELL float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

// (1 - e) / (1 + e) with e = exp(-2|x|), without cancellation near 0.
SGELA_CELL float tanh_of(float x) {
  const float e = expm1f(-2.0f * fabsf(x));
  return copysignf(e / (2.0f + e), x);
}

#else

#include "common/vec_exp.h"
#include "common/vec_memory.h"

#define SGELA_CELL SGELA_INLINE
namespace sgela::SGELA_ISA {

template <class T>
SGELA_CELL Vec<T> one_like(Vec<T>) {
  return broadcast(T(1));
}

// Within 3 ulp down to 1e-38, where it stops to fall; 1 above, NaN for NaN.
template <class T>
SGELA_CELL Vec<T> sigmoid(Vec<T> x) {
  constexpr T kLimit = sizeof(T) == 8 ? T(700) : T(87);  // 2^n stays a normal number
  Vec<T> n;
  const Vec<T> one = broadcast(T(1));
  const Vec<T> y = reduced_expm1(min(broadcast(kLimit), max(broadcast(-kLimit), -x)), n) + one;
  return one / fma(y, power_of_two(n), one);
}

// Within 4 ulp: (1 - e) / (1 + e) with e = exp(-2|x|), without cancellation near 0.
template <class T>
SGELA_CELL Vec<T> tanh_of(Vec<T> x) {
  const Vec<T> e = expm1(broadcast(T(-2)) * abs(x));
  const Vec<T> negative = e / (broadcast(T(2)) + e);
  return select(x > zero<T>(), -negative, negative);
}

#endif

template <class V>
struct Gates {
  V i, f, g, o;
};

// From pre-activations.
template <class V>
SGELA_CELL Gates<V> activate(Gates<V> z) {
  return {sigmoid(z.i), sigmoid(z.f), tanh_of(z.g), sigmoid(z.o)};
}

// From activated gates.
template <class V>
SGELA_CELL V next_c(Gates<V> gates, V c) {
  return fma(gates.f, c, gates.i * gates.g);
}

template <class V>
SGELA_CELL V next_h(V o, V c) {
  return o * tanh_of(c);
}

template <class V>
struct Cell {
  V i, f, g, o;  // after sigmoid and tanh
  V c, h;
};

// All of a step, from the four pre-activations and the previous cell state.
template <class V>
SGELA_CELL Cell<V> cell(V i, V f, V g, V o, V previous_c) {
  const Gates<V> gates = activate(Gates<V>{i, f, g, o});
  const V c = next_c(gates, previous_c);
  return {gates.i, gates.f, gates.g, gates.o, c, next_h(gates.o, c)};
}

template <class V>
struct CellGradient {
  Gates<V> gates;  // of the pre-activations
  V c;             // of the previous cell state
};

// From the activated gates, both cell states and the gradients of h and c.
template <class V>
SGELA_CELL CellGradient<V> cell_gradient(Gates<V> gates, V c, V previous_c, V grad_h, V grad_c) {
  const auto [i, f, g, o] = gates;
  const V one = one_like(c);
  const V tanh_c = tanh_of(c);
  grad_c = fma(grad_h * o, one - tanh_c * tanh_c, grad_c);
  return {{grad_c * g * i * (one - i), grad_c * previous_c * f * (one - f), grad_c * i * (one - g * g),
           grad_h * tanh_c * o * (one - o)},
          grad_c * f};
}

}  // namespace
