// Exponentials and logarithms of vectors, to 2 units in the last place, without a table.
#pragma once

#include "common/vec.h"

namespace sgela::SGELA_ISA {

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
