// Loads and stores of vectors. They need no alignment; those of `count` lanes touch `count` elements and no byte beyond.
//
// Vec<float> also loads and stores bfloat16 and float16, rounding to nearest even.
#pragma once

#include "common/vec.h"

namespace sgela::SGELA_ISA {

struct BFloat16 {
  uint16_t bits;
};

struct Float16 {
  uint16_t bits;
};

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

}  // namespace sgela::SGELA_ISA
