// The locality mask (Eq. 5): l = exp(-(j - p)^2 / (2 sigma^2)), or 1 - l by expm1 where the loss needs it.
//
// Without a tensor of centers the mask depends on j + t or j - t alone: one table serves all sequences and rows, and
// row t reads it from an offset of its own. With centers every row is computed where it is used.
#pragma once

#include "common/vec_exp.h"
#include "common/vec_memory.h"
#include "locality_attention/params.h"

namespace sgela::SGELA_ISA {

using locality_attention::Attention;
using locality_attention::Backward;
using locality_attention::Forward;
using locality_attention::Mode;
using locality_attention::Strided;

template <typename S>
struct AccumulationOf {
  using Type = float;
};

template <>
struct AccumulationOf<double> {
  using Type = double;
};

template <typename A>
constexpr A kInfinity = static_cast<A>(__builtin_inf());

constexpr int64_t rounded_up(int64_t x, int64_t step) { return (x + step - 1) / step * step; }

template <typename T>
SGELA_INLINE const T* sequence_of(const Strided& tensor, int64_t inner, int64_t sequence) {
  return static_cast<const T*>(tensor.data) + sequence / inner * tensor.outer + sequence % inner * tensor.inner;
}

// l, or 1 - l for the modes with a loss, at distances `offset` from the centre.
template <typename T>
SGELA_INLINE Vec<T> mask_at(Vec<T> offset, T precision, T window, bool complement) {
  const Vec<T> exponent = -(offset * offset) * broadcast(precision);
  const Vec<T> inside = complement ? -expm1(exponent) : exp(exponent);
  return select(abs(offset) > broadcast(window), broadcast(T(complement)), inside);
}

SGELA_INLINE double mask_precision(const Attention& p) { return 1 / (2 * p.sigma * p.sigma); }
SGELA_INLINE bool mask_is_complement(const Attention& p) { return p.mode >= Mode::kLas; }

template <typename A>
void fill_mask_from(const Attention& p, int64_t first, A* table, int64_t entries) {
  constexpr int kLanes = Vec<double>::kLanes;
  const double precision = mask_precision(p);
  for (int64_t i = 0; i < entries; i += kLanes) {
    const Vec<double> offset = iota<double>() + broadcast(static_cast<double>(first + i));
    double mask[kLanes];
    store(mask, mask_at(offset, precision, p.window, mask_is_complement(p)));
    for (int lane = 0; lane < kLanes && i + lane < entries; ++lane) table[i + lane] = static_cast<A>(mask[lane]);
  }
}

// Entry i belongs to key j and row t with i = j + t (reverse) or i = j + Tq - 1 - t (identity).
template <typename A>
void fill_mask(const Attention& p, void* table, int64_t entries) {
  const int64_t first = p.direction < 0 ? p.first_step - (p.keys - 1) : -(p.queries - 1) - p.first_step;
  fill_mask_from(p, first, static_cast<A*>(table), entries);
}

// The same where a key reads it for consecutive rows: i = j + t (reverse) or i = t + Tk - 1 - j (identity).
template <typename A>
void fill_mask_of_key(const Attention& p, void* table, int64_t entries) {
  fill_mask_from(p, p.first_step - (p.keys - 1), static_cast<A*>(table), entries);
}

// Mask of one query row from key `first` on, for `count` keys and up to one vector more. Points into the table, or to
// `scratch` where the row's centre is its own.
template <typename A>
SGELA_INLINE const A* mask_row(const Attention& p, int64_t row, A center, int64_t first, int64_t count, A* scratch) {
  if (p.mode == Mode::kBas) return nullptr;
  if (p.direction != 0) {
    return static_cast<const A*>(p.mask) + first + (p.direction < 0 ? row : p.queries - 1 - row);
  }
  const A precision = static_cast<A>(mask_precision(p)), window = static_cast<A>(p.window);
  for (int64_t j = 0; j < count; j += Vec<A>::kLanes) {
    const Vec<A> offset = iota<A>() + broadcast(static_cast<A>(first + j)) - broadcast(center);
    store(scratch + j, mask_at(offset, precision, window, mask_is_complement(p)));
  }
  return scratch;
}

}  // namespace sgela::SGELA_ISA
