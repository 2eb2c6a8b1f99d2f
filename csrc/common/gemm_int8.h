// Products of int8 for the instruction set of the including file: C(rows, columns) (+)= scale_r scale_n sum_k a_rk b_kn.
//
// Activations are quantised row by row, symmetric, to -127..127; weights came that way, a scale for each column. The sums
// are int32 and exact, so all instruction sets find the same integers. What differs is how four neighbours of the depth
// meet: without VNNI weights are widened to int16 as they are read (the even ones, then the odd ones) and multiplied in
// pairs (pmaddwd), which cannot saturate; with it, activations are stored as a + 128 in a byte, vpdpbusd multiplies all
// four, and the sums start at -128 sum_k b_kn.
//
// B's panels are [columns / kPanel][depth / 4][kPanel][4] bytes, zeros beyond the last row and column; then come the
// columns' scales (float) and starts of the sums (int32). A panel of 256 rows (4 KB at 32-byte vectors) stays in L1 while
// the rows pass by from L2. The caller's thread does all of it.
#pragma once

#include "common/gemm.h"
#include "common/isa.h"
#include "common/vec_exp.h"

namespace sgela::SGELA_ISA {

using Int32s = Native<float>::Integers;
typedef int16_t Int16s __attribute__((vector_size(kVectorBytes)));

// Rows without an entry above this count as zeros: 127 divided by a smaller one may overflow.
inline constexpr float kSmallest = 0x1p-100f;
inline constexpr float kLevels = 127.0f;

SGELA_INLINE bool uses_vnni() {
#if defined(__AVX512F__)
  return sgela::runs_vnni();
#else
  return false;
#endif
}

// Activations as they meet the weights: groups of four, in bytes (VNNI) or as int16 in the order 0, 2, 1, 3.
struct QuantisedRows {
  char* values;
  float* scales;
  std::int64_t stride;  // bytes of a row
};

SGELA_INLINE std::int64_t groups_of_four(std::int64_t depth) { return (depth + 3) / 4; }
// Rows are whole vectors long.
SGELA_INLINE std::int64_t quantised_stride(std::int64_t depth) {
  constexpr std::int64_t kLanes = Vec<float>::kLanes;
  return (depth + kLanes - 1) / kLanes * kLanes * 2;
}
// Elements of float32.
SGELA_INLINE std::int64_t quantised_size(std::int64_t rows, std::int64_t depth) {
  return rows * quantised_stride(depth) / 4 + rows;
}

SGELA_INLINE QuantisedRows quantised_in(float* memory, std::int64_t rows, std::int64_t depth) {
  const std::int64_t stride = quantised_stride(depth);
  return {reinterpret_cast<char*>(memory), memory + rows * stride / 4, stride};
}

// 0, 2, 1, 3 of every four lanes.
SGELA_INLINE Int32s even_before_odd(Int32s x) {
#if defined(__AVX512F__)
  return (Int32s)_mm512_maskz_shuffle_epi32(0xffff, (__m512i)x, static_cast<_MM_PERM_ENUM>(0xd8));
#elif defined(__AVX2__)
  return (Int32s)_mm256_shuffle_epi32((__m256i)x, 0xd8);
#elif defined(__SSE2__)
  return (Int32s)_mm_shuffle_epi32((__m128i)x, 0xd8);
#else
  return Int32s{x[0], x[2], x[1], x[3]};
#endif
}

SGELA_INLINE void store_as_int16(Int32s q, char* to) {
  typedef int16_t Shorts __attribute__((vector_size(kVectorBytes / 2)));
#if defined(__AVX2__) && !defined(__AVX512F__)
  const Shorts narrow = (Shorts)_mm_packs_epi32(_mm256_castsi256_si128((__m256i)q), _mm256_extracti128_si256((__m256i)q, 1));
#else
  const Shorts narrow = __builtin_convertvector(q, Shorts);
#endif
  __builtin_memcpy(to, &narrow, sizeof(narrow));
}

// One row: the scale, and integers round(127 x / max|x|), halves to even. A row of zeros has the scale 0; one with NaN or
// infinity the scale NaN and zeros for integers.
inline void quantise_row(const float* from, std::int64_t depth, bool bytes, char* to, float* scale) {
  using V = Vec<float>;
  constexpr std::int64_t kLanes = V::kLanes;
  const auto load_at = [&](std::int64_t i) {
    return depth - i < kLanes ? load_first(from + i, static_cast<int>(depth - i)) : load(from + i);
  };
  // As integers, sizes are ordered as numbers are, infinity and NaN above all.
  Int32s bits{};
  for (std::int64_t i = 0; i < depth; i += kLanes) {
    const Int32s size = (Int32s)load_at(i).lanes & 0x7fffffff;
    bits = size > bits ? size : bits;
  }
  std::int32_t largest_bits = 0;
  for (int i = 0; i < kLanes; ++i) largest_bits = bits[i] > largest_bits ? bits[i] : largest_bits;
  float largest;
  __builtin_memcpy(&largest, &largest_bits, sizeof(largest));
  const bool finite = largest_bits < 0x7f800000, usable = finite && largest >= kSmallest;
  *scale = usable ? largest / kLevels : finite ? 0.0f : __builtin_nanf("");
  const V factor = broadcast(usable ? kLevels / largest : 0.0f), magic = broadcast(ExpConstants<float>::kRound);
  for (std::int64_t i = 0; i < depth; i += kLanes) {
    Int32s q{};
    // Rounded after the multiplication, not fused with it.
    if (usable) q = (Int32s)(held(load_at(i) * factor) + magic).lanes - (Int32s)magic.lanes;
    if (bytes) {
      typedef uint8_t Bytes __attribute__((vector_size(kVectorBytes / 4)));
      const Bytes narrow = __builtin_convertvector(q + 128, Bytes);
      __builtin_memcpy(to + i, &narrow, sizeof(narrow));
    } else {
      store_as_int16(even_before_odd(q), to + 2 * i);
    }
  }
}

inline void quantise_rows(std::int64_t rows, std::int64_t depth, const float* from, std::int64_t stride,
                          const QuantisedRows& to) {
  const bool bytes = uses_vnni();
  for (std::int64_t r = 0; r < rows; ++r) {
    quantise_row(from + r * stride, depth, bytes, to.values + r * to.stride, to.scales + r);
  }
}

// Packs columns of B: column n is row `row_of(n)` of `values` (., depth) and `scales`, zeros if that is negative. Fills
// `total` columns, a multiple of kPanel, of which `columns` are known to row_of().
template <class RowOf>
void pack_int8(const RowOf& row_of, const std::int8_t* values, const float* scales, std::int64_t depth,
               std::int64_t columns, std::int64_t total, float* matrix) {
  constexpr std::int64_t kWide = kPanel<float>;
  const std::int64_t groups = groups_of_four(depth);
  std::int8_t* const panels = reinterpret_cast<std::int8_t*>(matrix);
  float* const column_scales = matrix + groups * total;
  std::int32_t* const starts = reinterpret_cast<std::int32_t*>(column_scales + total);
  for (std::int64_t n = 0; n < total; ++n) {
    const std::int64_t row = n < columns ? row_of(n) : -1;
    std::int8_t* to = panels + (n / kWide * kWide * groups + n % kWide) * 4;
    std::int32_t sum = 0;
    for (std::int64_t k = 0; k < 4 * groups; ++k) {
      const std::int8_t value = row < 0 || k >= depth ? std::int8_t(0) : values[row * depth + k];
      to[k / 4 * kWide * 4 + k % 4] = value;
      sum += value;
    }
    column_scales[n] = row < 0 ? 0.0f : scales[row];
    starts[n] = -128 * sum;
  }
}

// Sums of neighbouring products of int16.
SGELA_INLINE Int32s multiply_pairs(Int16s a, Int16s b) {
#if defined(__AVX512F__)
  return (Int32s)_mm512_madd_epi16((__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
  return (Int32s)_mm256_madd_epi16((__m256i)a, (__m256i)b);
#elif defined(__SSE2__)
  return (Int32s)_mm_madd_epi16((__m128i)a, (__m128i)b);
#else
  const Int32s x = (Int32s)a, y = (Int32s)b;
  return ((x << 16) >> 16) * ((y << 16) >> 16) + (x >> 16) * (y >> 16);
#endif
}

SGELA_INLINE Int16s broadcast_pair(const char* pair) {
  std::int32_t bits;
  __builtin_memcpy(&bits, pair, sizeof(bits));
  return (Int16s)(bits - Int32s{});
}

SGELA_INLINE Int16s load_bytes(const std::int8_t* from) {
  Int16s x;
  __builtin_memcpy(&x, from, sizeof(x));
  return x;
}

// sum + x, in this order: a compiler may else add up products first and push sums out of registers.
SGELA_INLINE Int32s add_in_order(Int32s sum, Int32s x) {
  sum += x;
#if defined(__AVX512F__)
  asm("" : "+v"(sum));
#elif defined(__SSE2__)
  asm("" : "+x"(sum));
#endif
  return sum;
}

// What a tile of sums becomes: its place in C, the scales, and whether C is added to.
struct Int8Tile {
  const char* a;                 // of the tile's first row
  std::int64_t a_stride;         // bytes
  const float* row_scales;
  const std::int8_t* panels;     // of the tile's first column
  std::int64_t panel_stride;     // bytes
  const float* column_scales;
  const std::int32_t* starts;
  float* c;
  std::int64_t ldc;
  bool accumulate;
};

template <int R, int P>
SGELA_INLINE void store_sums(const Int8Tile& it, const Int32s (&sums)[R][2 * P]) {
  using V = Vec<float>;
#pragma GCC unroll 12
  for (int r = 0; r < R; ++r) {
    const V row_scale = broadcast(it.row_scales[r]);
#pragma GCC unroll 4
    for (int v = 0; v < 2 * P; ++v) {
      float* const c = it.c + r * it.ldc + v * V::kLanes;
      const V sum{__builtin_convertvector(sums[r][v], Native<float>::Type)};
      const V scale = row_scale * load(it.column_scales + v * V::kLanes);
      store(c, fma(sum, scale, it.accumulate ? load(c) : zero<float>()));
    }
  }
}

// One register tile of R rows and P panels.
template <int R, int P>
SGELA_INLINE void multiply_int8_tile(std::int64_t groups, const Int8Tile& it) {
  constexpr int kVectors = 2 * P;
  const char* a = it.a;
  const std::int8_t* panels = it.panels;
  Int32s sums[R][kVectors] = {};
  for (std::int64_t k = 0; k < groups; ++k) {
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
      Int16s b[kVectors];
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        const Int16s four = load_bytes(panels + (v / 2) * it.panel_stride + (v % 2) * kVectorBytes);
        b[v] = half == 0 ? (four << 8) >> 8 : four >> 8;
      }
#pragma GCC unroll 12
      for (int r = 0; r < R; ++r) {
        const Int16s x = broadcast_pair(a + r * it.a_stride + 4 * half);
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) sums[r][v] = add_in_order(sums[r][v], multiply_pairs(x, b[v]));
      }
    }
    a += 8;
    panels += 2 * kVectorBytes;
  }
  store_sums<R, P>(it, sums);
}

#if defined(__AVX512F__)
// The same with VNNI. Called only where the processor has it.
template <int R, int P>
[[gnu::target("avx512vnni")]] void multiply_vnni_tile(std::int64_t groups, const Int8Tile& it) {
  constexpr int kVectors = 2 * P;
  const char* a = it.a;
  const std::int8_t* panels = it.panels;
  Int32s sums[R][kVectors];
#pragma GCC unroll 12
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) __builtin_memcpy(&sums[r][v], it.starts + v * (kVectorBytes / 4), kVectorBytes);
  }
  for (std::int64_t k = 0; k < groups; ++k) {
    Int16s b[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      b[v] = load_bytes(panels + (v / 2) * it.panel_stride + (v % 2) * kVectorBytes);
    }
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r) {
      const Int16s x = broadcast_pair(a + r * it.a_stride);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        sums[r][v] = (Int32s)_mm512_dpbusd_epi32((__m512i)sums[r][v], (__m512i)x, (__m512i)b[v]);
      }
    }
    a += 4;
    panels += 2 * kVectorBytes;
  }
  store_sums<R, P>(it, sums);
}
#endif

// As multiply_int8_tile(), for 1 <= rows <= R.
template <int R, int P>
void multiply_int8_rows(std::int64_t rows, std::int64_t groups, [[maybe_unused]] bool vnni, const Int8Tile& it) {
  if (rows == R) {
#if defined(__AVX512F__)
    if (vnni) return multiply_vnni_tile<R, P>(groups, it);
#endif
    multiply_int8_tile<R, P>(groups, it);
  } else if constexpr (R > 1) {
    multiply_int8_rows<R - 1, P>(rows, groups, vnni, it);
  }
}

// C(rows, columns) (+)= A B for columns first .. first + columns of a packed matrix of `total`. Writes whole panels.
inline void multiply_int8(std::int64_t rows, std::int64_t columns, std::int64_t depth, const QuantisedRows& a,
                          const float* matrix, std::int64_t total, std::int64_t first, float* c, std::int64_t ldc,
                          bool accumulate) {
  constexpr std::int64_t kWide = kPanel<float>;
  const std::int64_t groups = groups_of_four(depth), panel_stride = groups * kWide * 4;
  const std::int8_t* const panels = reinterpret_cast<const std::int8_t*>(matrix);
  const float* const scales = matrix + groups * total;
  const std::int32_t* const starts = reinterpret_cast<const std::int32_t*>(scales + total);
  const bool vnni = uses_vnni();
  const auto tile = [&](std::int64_t m, std::int64_t n) {
    return Int8Tile{a.values + m * a.stride,
                    a.stride,
                    a.scales + m,
                    panels + (first + n) * groups * 4,
                    panel_stride,
                    scales + first + n,
                    starts + first + n,
                    c + m * ldc + n,
                    ldc,
                    accumulate};
  };
  std::int64_t n = 0;
  if (rows <= kFewRows) {
    for (; n + 2 * kWide <= columns; n += 2 * kWide) multiply_int8_rows<kFewRows, 2>(rows, groups, vnni, tile(0, n));
  }
  for (; n < columns; n += kWide) {
    std::int64_t tile_rows = 0;
    for (std::int64_t m = 0, tiles = (rows + kTileRows - 1) / kTileRows; tiles > 0; m += tile_rows, --tiles) {
      tile_rows = (rows - m + tiles - 1) / tiles;  // as even as can be
      multiply_int8_rows<kTileRows, 1>(tile_rows, groups, vnni, tile(m, n));
    }
  }
}

}  // namespace sgela::SGELA_ISA
