// Vectors as wide as the instruction set of the translation unit: 16 bytes (baseline), 32 (AVX2) or 64 (AVX-512).
//
// Vec<float> also loads and stores bfloat16 and float16, rounding to nearest even. Loads and stores need no alignment;
// those of `count` lanes touch `count` elements and no byte beyond. The translation unit defines SGELA_ISA, the name of
// its namespace, before it includes this file: each instruction set then has functions of its own, and the linker
// cannot take one set's copy for another's.
#pragma once

#ifndef SGELA_ISA
#error "define SGELA_ISA, the namespace of the instruction set, before including vec.h"
#endif

#include <cstdint>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace sgela::SGELA_ISA {

struct BFloat16 {
  uint16_t bits;
};

struct Float16 {
  uint16_t bits;
};

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

// For instruction sets without a conversion of their own.
inline float to_float(Float16 x) {
  const uint32_t exponent = x.bits >> 10 & 0x1f, significand = x.bits & 0x3ff;
  float size = static_cast<float>(significand) * 0x1p-24f;
  if (exponent != 0) {
    const uint32_t bits = ((exponent == 0x1f ? 0xff : exponent + 112) << 23) | significand << 13;
    __builtin_memcpy(&size, &bits, sizeof(size));
  }
  return x.bits & 0x8000 ? -size : size;
}

inline Float16 to_float16(float x) {
  uint32_t bits;
  __builtin_memcpy(&bits, &x, sizeof(bits));
  const uint32_t sign = bits >> 16 & 0x8000, size = bits & 0x7fffffff, exponent = size >> 23;
  uint32_t half;
  if (size > 0x7f800000) {
    half = 0x7e00 | (size >> 13 & 0x3ff);
  } else if (size >= 0x477ff000) {  // 65520 and more round to infinity
    half = 0x7c00;
  } else if (exponent >= 113) {
    half = (size - (112u << 23) + 0xfff + (size >> 13 & 1)) >> 13;
  } else if (exponent >= 102) {  // denormal, in units of 2^-24
    const uint32_t significand = (size & 0x7fffff) | 0x800000, shift = 126 - exponent;
    const uint32_t rest = significand & ((1u << shift) - 1), middle = 1u << (shift - 1);
    half = significand >> shift;
    half += rest > middle || (rest == middle && (half & 1));
  } else {
    half = 0;
  }
  return {static_cast<uint16_t>(sign | half)};
}

SGELA_INLINE Vec<float> load(const float* from) {
  Vec<float> x;
  __builtin_memcpy(&x.lanes, from, sizeof(x.lanes));
  return x;
}

SGELA_INLINE Vec<double> load(const double* from) {
  Vec<double> x;
  __builtin_memcpy(&x.lanes, from, sizeof(x.lanes));
  return x;
}

SGELA_INLINE Vec<float> load(const BFloat16* from) {
#if defined(__AVX512F__)
  const __m256i halves = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
  return {(Native<float>::Type)_mm512_maskz_slli_epi32(0xffff, _mm512_maskz_cvtepu16_epi32(0xffff, halves), 16)};
#elif defined(__AVX2__)
  const __m128i halves = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
  return {(Native<float>::Type)_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16)};
#else
  Native<float>::Halves halves;
  __builtin_memcpy(&halves, from, sizeof(halves));
  return {(Native<float>::Type)(__builtin_convertvector(halves, Native<float>::Integers) << 16)};
#endif
}

SGELA_INLINE Vec<float> load(const Float16* from) {
#if defined(__AVX512F__)
  return {_mm512_maskz_cvtph_ps(0xffff, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)))};
#elif defined(__F16C__)
  return {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)))};
#else
  Vec<float> x{};
  for (int i = 0; i < Vec<float>::kLanes; ++i) x.lanes[i] = to_float(from[i]);
  return x;
#endif
}

template <typename T>
SGELA_INLINE void store(T* to, Vec<T> x) {
  __builtin_memcpy(to, &x.lanes, sizeof(x.lanes));
}

// Past the caches, for results that do not fit them; `to` is aligned to the vector. fence() ends them.
SGELA_INLINE void store_past_cache(float* to, Vec<float> x) {
#if defined(__AVX512F__)
  _mm512_stream_ps(to, x.lanes);
#elif defined(__AVX2__)
  _mm256_stream_ps(to, x.lanes);
#else
  store(to, x);
#endif
}

// Makes what store_past_cache() wrote visible to other threads.
SGELA_INLINE void fence() {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

SGELA_INLINE void store(BFloat16* to, Vec<float> x) {
  using Integers = Native<float>::Integers;
  const Integers bits = (Integers)x.lanes;
  const Integers rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  const Integers quiet_nan = (bits >> 16) | 0x40;
  const Integers kept = x.lanes != x.lanes ? quiet_nan : rounded;
  const auto halves = __builtin_convertvector(kept, Native<float>::Halves);
  __builtin_memcpy(to, &halves, sizeof(halves));
}

SGELA_INLINE void store(Float16* to, Vec<float> x) {
#if defined(__AVX512F__)
  const __m256i halves = _mm512_maskz_cvtps_ph(0xffff, x.lanes, _MM_FROUND_TO_NEAREST_INT);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), halves);
#elif defined(__F16C__)
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm256_cvtps_ph(x.lanes, _MM_FROUND_TO_NEAREST_INT));
#else
  for (int i = 0; i < Vec<float>::kLanes; ++i) to[i] = to_float16(x.lanes[i]);
#endif
}

// The first `count` lanes, zeros behind. S is float, double, BFloat16 or Float16.
template <typename S>
SGELA_INLINE auto load_first(const S* from, int count) {
  S filled[kVectorBytes / sizeof(float)] = {};
  for (int i = 0; i < count; ++i) filled[i] = from[i];
  return load(filled);
}

template <typename S, typename T>
SGELA_INLINE void store_first(S* to, Vec<T> x, int count) {
  S filled[kVectorBytes / sizeof(float)];
  store(filled, x);
  for (int i = 0; i < count; ++i) to[i] = filled[i];
}

template <typename T>
struct ExpConstants;

template <>
struct ExpConstants<float> {
  static constexpr float kLog2E = 0x1.715476p+0f, kLn2High = 0x1.62e400p-1f, kLn2Low = 0x1.7f7d1cp-20f;
  // Adding it leaves an integer in the low bits of the significand.
  static constexpr float kRound = 0x1.8p+23f;
  static constexpr float kLowest = -105.0f, kHighest = 89.0f;
  static constexpr int kSignificand = 23, kBias = 127;
  // exp(r) = 1 + r + r^2 (c0 + c1 r + ...): relative error 3e-9 for |r| <= ln(2)/2.
  static constexpr float kPolynomial[] = {0x1.000000p-1f, 0x1.55548ep-3f, 0x1.55545cp-5f, 0x1.123c84p-7f,
                                          0x1.6db5ccp-10f};
};

template <>
struct ExpConstants<double> {
  static constexpr double kLog2E = 0x1.71547652b82fep+0;
  static constexpr double kLn2High = 0x1.62e42fefa0000p-1, kLn2Low = 0x1.cf79abc9e3b3ap-40;
  static constexpr double kRound = 0x1.8p+52;
  static constexpr double kLowest = -746.0, kHighest = 710.0;
  static constexpr int kSignificand = 52, kBias = 1023;
  static constexpr double kPolynomial[] = {1.0 / 2,       1.0 / 6,        1.0 / 24,        1.0 / 120,
                                           1.0 / 720,     1.0 / 5040,     1.0 / 40320,     1.0 / 362880,
                                           1.0 / 3628800, 1.0 / 39916800, 1.0 / 479001600, 1.0 / 6227020800};
};

// 2^n for integral n within the range of normal numbers.
template <typename T>
SGELA_INLINE Vec<T> power_of_two(Vec<T> n) {
  using Constants = ExpConstants<T>;
  using Integers = typename Native<T>::Integers;
  const Vec<T> shifted = n + broadcast(Constants::kRound);
  const Integers bits = ((Integers)shifted.lanes + Constants::kBias) << Constants::kSignificand;
  return {(typename Native<T>::Type)bits};
}

template <typename T>
SGELA_INLINE Vec<T> round_to_integer(Vec<T> x) {
  const Vec<T> magic = broadcast(ExpConstants<T>::kRound);
  return (x + magic) - magic;
}

// x = n ln 2 + r with |r| <= ln(2)/2; returns exp(r) - 1.
template <typename T>
SGELA_INLINE Vec<T> reduced_expm1(Vec<T> x, Vec<T>& n) {
  using Constants = ExpConstants<T>;
  n = round_to_integer(x * broadcast(Constants::kLog2E));
  Vec<T> r = fma(n, broadcast(-Constants::kLn2High), x);
  r = fma(n, broadcast(-Constants::kLn2Low), r);
  constexpr int kDegree = sizeof(Constants::kPolynomial) / sizeof(T) - 1;
  Vec<T> q = broadcast(Constants::kPolynomial[kDegree]);
  for (int i = kDegree - 1; i >= 0; --i) q = fma(q, r, broadcast(Constants::kPolynomial[i]));
  return fma(r * r, q, r);
}

// Within 2 ulp everywhere: denormal results, 0 below, infinity above, NaN for NaN.
template <typename T>
SGELA_INLINE Vec<T> exp(Vec<T> x) {
  using Constants = ExpConstants<T>;
  x = min(broadcast(Constants::kHighest), max(broadcast(Constants::kLowest), x));
  Vec<T> n;
  const Vec<T> y = reduced_expm1(x, n) + broadcast(T(1));
  // In two steps: 2^n itself may lie outside the normal numbers.
  const Vec<T> half = round_to_integer(n * broadcast(T(0.5)));
  return y * power_of_two(half) * power_of_two(n - half);
}

// log(x) within 2 ulp for normal numbers x > 0; NaN for NaN.
template <typename T>
SGELA_INLINE Vec<T> log(Vec<T> x) {
  using Constants = ExpConstants<T>;
  using Integers = typename Native<T>::Integers;
  using Type = typename Native<T>::Type;
  // x = 2^n m with sqrt(1/2) <= m < sqrt(2), and log(m) = 2 atanh((m - 1) / (m + 1)).
  const Integers low = (Integers)broadcast(T(0.70710678118654752)).lanes, shifted = (Integers)x.lanes - low;
  const Integers significand = ((Integers{} + 1) << Constants::kSignificand) - 1;
  const Vec<T> m{(Type)((shifted & significand) + low)};
  const Vec<T> n{__builtin_convertvector(shifted >> Constants::kSignificand, Type)};
  const Vec<T> f = m - broadcast(T(1)), s = f / (m + broadcast(T(1))), s2 = s * s;
  constexpr int kTerms = sizeof(T) == 4 ? 5 : 11;
  Vec<T> q = broadcast(T(2) / (2 * kTerms + 1));
  for (int i = kTerms - 1; i >= 1; --i) q = fma(q, s2, broadcast(T(2) / (2 * i + 1)));
  // 2 s = f - s f, whose rounding errors are those of small terms.
  const Vec<T> tail = fma(n, broadcast(Constants::kLn2Low), s * (s2 * q - f));
  return fma(n, broadcast(Constants::kLn2High), f + tail) + x * broadcast(T(0));
}

// exp(x) - 1 within 2 ulp for x <= 0, and for positive x up to 80.
template <typename T>
SGELA_INLINE Vec<T> expm1(Vec<T> x) {
  // -1 to the last digit from here on.
  x = max(broadcast(T(-40)), x);
  Vec<T> n;
  const Vec<T> y = reduced_expm1(x, n);
  const Vec<T> power = power_of_two(n);
  return fma(power, y, power - broadcast(T(1)));
}

}  // namespace sgela::SGELA_ISA
