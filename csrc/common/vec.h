// Vectors as wide as the instruction set of the translation unit: 16 bytes (baseline), 32 (AVX2) or 64 (AVX-512).
//
// This file holds arithmetic, comparisons and sums over lanes; vec_memory.h loads and stores (bfloat16 and float16
// too), vec_exp.h exponentials and logarithms. The translation unit defines SGELA_ISA, the name of its namespace,
// before it includes any of them: each instruction set then has functions of its own, and the linker cannot take one
// set's copy for another's.
#pragma once

#ifndef SGELA_ISA
#error "define SGELA_ISA, the namespace of the instruction set, before including vec.h"
#endif

#include <cstdint>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace sgela::SGELA_ISA {

#if defined(__AVX512F__)
inline constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
inline constexpr int kVectorBytes = 32;
#else
inline constexpr int kVectorBytes = 16;
#endif

template <typename T>
struct Native;

template <>
struct Native<float> {
  typedef float Type __attribute__((vector_size(kVectorBytes)));
  typedef int32_t Integers __attribute__((vector_size(kVectorBytes)));
  typedef uint16_t Halves __attribute__((vector_size(kVectorBytes / 2)));
};

template <>
struct Native<double> {
  typedef double Type __attribute__((vector_size(kVectorBytes)));
  typedef int64_t Integers __attribute__((vector_size(kVectorBytes)));
};

// One comparison result a lane: all bits set, or none.
template <typename T>
struct Mask {
  typename Native<T>::Integers bits;
};

template <typename T>
struct Vec {
  static constexpr int kLanes = kVectorBytes / static_cast<int>(sizeof(T));
  typename Native<T>::Type lanes;
};

#define SGELA_INLINE inline __attribute__((always_inline))

template <typename T>
SGELA_INLINE Vec<T> broadcast(T x) {
  return {x - typename Native<T>::Type{}};  // keeps the sign of zero
}

template <typename T>
SGELA_INLINE Vec<T> zero() {
  return {typename Native<T>::Type{}};
}

// Keeps `x` in a register: a compiler may else load it again for every use.
template <typename T>
SGELA_INLINE Vec<T> held(Vec<T> x) {
#if defined(__SSE2__)
  asm("" : "+x"(x.lanes));
#endif
  return x;
}

// 0, 1, 2, ...
template <typename T>
SGELA_INLINE Vec<T> iota() {
  Vec<T> x{};
  for (int i = 0; i < Vec<T>::kLanes; ++i) x.lanes[i] = static_cast<T>(i);
  return x;
}

template <typename T>
SGELA_INLINE Vec<T> operator+(Vec<T> a, Vec<T> b) {
  return {a.lanes + b.lanes};
}

template <typename T>
SGELA_INLINE Vec<T> operator-(Vec<T> a, Vec<T> b) {
  return {a.lanes - b.lanes};
}

template <typename T>
SGELA_INLINE Vec<T> operator-(Vec<T> a) {
  return {-a.lanes};
}

template <typename T>
SGELA_INLINE Vec<T> operator*(Vec<T> a, Vec<T> b) {
  return {a.lanes * b.lanes};
}

template <typename T>
SGELA_INLINE Vec<T> operator/(Vec<T> a, Vec<T> b) {
  return {a.lanes / b.lanes};
}

template <typename T>
SGELA_INLINE Mask<T> operator<(Vec<T> a, Vec<T> b) {
  return {a.lanes < b.lanes};
}

template <typename T>
SGELA_INLINE Mask<T> operator>(Vec<T> a, Vec<T> b) {
  return {a.lanes > b.lanes};
}

// One bit a lane, the first lane's lowest.
template <typename T>
SGELA_INLINE uint32_t bits_of(Mask<T> mask) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) return _mm512_movepi32_mask((__m512i)mask.bits);
  if constexpr (sizeof(T) == 8) return _mm512_movepi64_mask((__m512i)mask.bits);
#elif defined(__AVX2__)
  if constexpr (sizeof(T) == 4) return static_cast<uint32_t>(_mm256_movemask_ps((__m256)mask.bits));
  if constexpr (sizeof(T) == 8) return static_cast<uint32_t>(_mm256_movemask_pd((__m256d)mask.bits));
#elif defined(__SSE2__)
  if constexpr (sizeof(T) == 4) return static_cast<uint32_t>(_mm_movemask_ps((__m128)mask.bits));
  if constexpr (sizeof(T) == 8) return static_cast<uint32_t>(_mm_movemask_pd((__m128d)mask.bits));
#else
  uint32_t bits = 0;
  for (int i = 0; i < Vec<T>::kLanes; ++i) bits |= static_cast<uint32_t>(mask.bits[i] & 1) << i;
  return bits;
#endif
}

template <typename T>
SGELA_INLINE Vec<T> select(Mask<T> where, Vec<T> yes, Vec<T> no) {
  return {where.bits ? yes.lanes : no.lanes};
}

// NaN in `b` is kept, NaN in `a` is not.
template <typename T>
SGELA_INLINE Vec<T> max(Vec<T> a, Vec<T> b) {
  return select(a > b, a, b);
}

template <typename T>
SGELA_INLINE Vec<T> min(Vec<T> a, Vec<T> b) {
  return select(a < b, a, b);
}

template <typename T>
SGELA_INLINE Vec<T> abs(Vec<T> x) {
  return max(x, -x);
}

// a * b + c, rounded once where the instruction set has it.
template <typename T>
SGELA_INLINE Vec<T> fma(Vec<T> a, Vec<T> b, Vec<T> c) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) return {_mm512_fmadd_ps(a.lanes, b.lanes, c.lanes)};
  if constexpr (sizeof(T) == 8) return {_mm512_fmadd_pd(a.lanes, b.lanes, c.lanes)};
#elif defined(__FMA__)
  if constexpr (sizeof(T) == 4) return {_mm256_fmadd_ps(a.lanes, b.lanes, c.lanes)};
  if constexpr (sizeof(T) == 8) return {_mm256_fmadd_pd(a.lanes, b.lanes, c.lanes)};
#else
  return {a.lanes * b.lanes + c.lanes};
#endif
}

// Lanes are added, or compared, in one fixed order: halves of the vector first.
template <typename T>
SGELA_INLINE T reduce_add(Vec<T> x) {
  for (int step = Vec<T>::kLanes / 2; step > 0; step /= 2) {
    for (int i = 0; i < step; ++i) x.lanes[i] += x.lanes[i + step];
  }
  return x.lanes[0];
}

template <typename T>
SGELA_INLINE T reduce_max(Vec<T> x) {
  for (int step = Vec<T>::kLanes / 2; step > 0; step /= 2) {
    for (int i = 0; i < step; ++i) x.lanes[i] = x.lanes[i] > x.lanes[i + step] ? x.lanes[i] : x.lanes[i + step];
  }
  return x.lanes[0];
}

#if defined(__SSE2__)
SGELA_INLINE __m128 sum_of_quarters(Vec<float> x) {
#if defined(__AVX512F__)
  const __m256 halves =
      _mm256_add_ps(_mm512_maskz_extractf32x8_ps(0xff, x.lanes, 0), _mm512_maskz_extractf32x8_ps(0xff, x.lanes, 1));
  return _mm_add_ps(_mm256_castps256_ps128(halves), _mm256_extractf128_ps(halves, 1));
#elif defined(__AVX2__)
  return _mm_add_ps(_mm256_castps256_ps128(x.lanes), _mm256_extractf128_ps(x.lanes, 1));
#else
  return x.lanes;
#endif
}

SGELA_INLINE float reduce_add(Vec<float> x) {
  __m128 sums = sum_of_quarters(x);
  sums = _mm_add_ps(sums, _mm_movehl_ps(sums, sums));
  return _mm_cvtss_f32(_mm_add_ss(sums, _mm_shuffle_ps(sums, sums, 1)));
}

SGELA_INLINE float reduce_max(Vec<float> x) {
#if defined(__AVX512F__)
  const __m256 halves =
      _mm256_max_ps(_mm512_maskz_extractf32x8_ps(0xff, x.lanes, 0), _mm512_maskz_extractf32x8_ps(0xff, x.lanes, 1));
  __m128 largest = _mm_max_ps(_mm256_castps256_ps128(halves), _mm256_extractf128_ps(halves, 1));
#elif defined(__AVX2__)
  __m128 largest = _mm_max_ps(_mm256_castps256_ps128(x.lanes), _mm256_extractf128_ps(x.lanes, 1));
#else
  __m128 largest = x.lanes;
#endif
  largest = _mm_max_ps(largest, _mm_movehl_ps(largest, largest));
  return _mm_cvtss_f32(_mm_max_ss(largest, _mm_shuffle_ps(largest, largest, 1)));
}

// reduce_add() of four vectors at once, to the same digits.
SGELA_INLINE void reduce_add(const Vec<float>& a, const Vec<float>& b, const Vec<float>& c, const Vec<float>& d,
                             float (&sums)[4]) {
  const __m128 x = sum_of_quarters(a), y = sum_of_quarters(b), z = sum_of_quarters(c), w = sum_of_quarters(d);
  const __m128 xy = _mm_add_ps(_mm_movelh_ps(x, y), _mm_movehl_ps(y, x));
  const __m128 zw = _mm_add_ps(_mm_movelh_ps(z, w), _mm_movehl_ps(w, z));
  _mm_storeu_ps(sums, _mm_add_ps(_mm_shuffle_ps(xy, zw, 0x88), _mm_shuffle_ps(xy, zw, 0xdd)));
}
#else
SGELA_INLINE void reduce_add(Vec<float> a, Vec<float> b, Vec<float> c, Vec<float> d, float (&sums)[4]) {
  sums[0] = reduce_add(a), sums[1] = reduce_add(b), sums[2] = reduce_add(c), sums[3] = reduce_add(d);
}
#endif

SGELA_INLINE void reduce_add(Vec<double> a, Vec<double> b, Vec<double> c, Vec<double> d, double (&sums)[4]) {
  sums[0] = reduce_add(a), sums[1] = reduce_add(b), sums[2] = reduce_add(c), sums[3] = reduce_add(d);
}

// Lane numbers 0, 1, 2, ... as a pack.
template <int... kNumbers>
struct LaneNumbers {};
template <int kCount, int... kNumbers>
struct LaneNumbersUpTo : LaneNumbersUpTo<kCount - 1, kCount - 1, kNumbers...> {};
template <int... kNumbers>
struct LaneNumbersUpTo<0, kNumbers...> {
  using Type = LaneNumbers<kNumbers...>;
};

// Exchanges the lanes of `a` that have kStep in their number with those of `b` that have not.
template <int kStep, typename T, int... kLane>
SGELA_INLINE void exchange(Vec<T>& a, Vec<T>& b, LaneNumbers<kLane...>) {
  constexpr int kLanes = Vec<T>::kLanes;
  const auto first = __builtin_shufflevector(a.lanes, b.lanes, (kLane & kStep ? kLanes + kLane - kStep : kLane)...);
  const auto second = __builtin_shufflevector(a.lanes, b.lanes, (kLane & kStep ? kLanes + kLane : kLane + kStep)...);
  a.lanes = first, b.lanes = second;
}

// The first halves of all quarters of 16 bytes lane by lane in turns, then the second halves.
template <typename T, int... kLane>
SGELA_INLINE void interleave(Vec<T>& a, Vec<T>& b, LaneNumbers<kLane...>) {
  constexpr int kLanes = Vec<T>::kLanes;
  const auto first = __builtin_shufflevector(a.lanes, b.lanes, (kLane / 4 * 4 + kLane % 4 / 2 + kLane % 2 * kLanes)...);
  const auto second =
      __builtin_shufflevector(a.lanes, b.lanes, (kLane / 4 * 4 + kLane % 4 / 2 + kLane % 2 * kLanes + 2)...);
  a.lanes = first, b.lanes = second;
}

// Rows become columns.
template <int kStep = 1, typename T>
SGELA_INLINE void transpose(Vec<T> (&rows)[Vec<T>::kLanes]) {
  constexpr int kLanes = Vec<T>::kLanes;
  constexpr typename LaneNumbersUpTo<kLanes>::Type kAll;
  if constexpr (kStep == 1 && sizeof(T) == 4) {
    // Steps 1 and 2 for four rows, in instructions that exist.
    for (int i = 0; i < kLanes; i += 4) {
      interleave(rows[i], rows[i + 1], kAll), interleave(rows[i + 2], rows[i + 3], kAll);
      exchange<2>(rows[i], rows[i + 2], kAll), exchange<2>(rows[i + 1], rows[i + 3], kAll);
      const Vec<T> third = rows[i + 1];
      rows[i + 1] = rows[i + 2], rows[i + 2] = third;
    }
    transpose<4>(rows);
  } else if constexpr (kStep < kLanes) {
    for (int i = 0; i < kLanes; ++i) {
      if ((i & kStep) == 0) exchange<kStep>(rows[i], rows[i + kStep], kAll);
    }
    transpose<2 * kStep>(rows);
  }
}

}  // namespace sgela::SGELA_ISA
