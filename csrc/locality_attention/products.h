// Register-blocked products of a few rows: dot products of rows with rows, and sums of rows with weights.
//
// Rows are padded with zeros to whole vectors, in place if they already are whole, else in scratch; so the loops have
// no tails, and only stores do. A block of kBlock rows by kColumns vectors stays in registers.
#pragma once

#include "locality_attention/mask.h"

namespace sgela::SGELA_ISA {

inline constexpr int kBlock = 6;
#if defined(__AVX512F__)
inline constexpr int kColumns = 4;  // 32 registers
#else
inline constexpr int kColumns = 2;  // 16 registers
#endif

template <typename A>
struct Rows {
  const A* data;
  int64_t stride;
};

template <typename A>
SGELA_INLINE Rows<A> from_row(Rows<A> rows, int64_t first) {
  return {rows.data + first * rows.stride, rows.stride};
}

template <typename S>
constexpr bool is_staged(int64_t columns) {
  using A = typename AccumulationOf<S>::Type;
  return sizeof(S) != sizeof(A) || columns % Vec<A>::kLanes != 0;
}

// Scratch that stage() needs.
template <typename S>
constexpr int64_t staging_size(int64_t rows, int64_t columns) {
  return is_staged<S>(columns) ? rows * rounded_up(columns, Vec<typename AccumulationOf<S>::Type>::kLanes) : 0;
}

// Rows as A, padded with zeros to whole vectors: where they lie if that is what they are, else copied to `scratch`.
template <typename S, typename A>
SGELA_INLINE Rows<A> stage(const S* from, int64_t stride, int64_t rows, int64_t columns, A* scratch) {
  constexpr int kLanes = Vec<A>::kLanes;
  if constexpr (sizeof(S) == sizeof(A)) {
    if (!is_staged<S>(columns)) return {from, stride};
  }
  const int64_t padded = rounded_up(columns, kLanes), whole = columns - columns % kLanes;
  for (int64_t row = 0; row < rows; ++row) {
    const S* source = from + row * stride;
    A* target = scratch + row * padded;
    for (int64_t i = 0; i < whole; i += kLanes) store(target + i, load(source + i));
    if (whole < columns) store(target + whole, load_first(source + whole, static_cast<int>(columns - whole)));
  }
  return {scratch, padded};
}

template <int kRows, int kOthers, typename A>
SGELA_INLINE void dot_block(Rows<A> a, Rows<A> b, int64_t padded, A* out, int64_t out_stride) {
  Vec<A> sums[kRows][kOthers];
#pragma GCC unroll 8
  for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 4
    for (int n = 0; n < kOthers; ++n) sums[m][n] = zero<A>();
  }
  for (int64_t i = 0; i < padded; i += Vec<A>::kLanes) {
    Vec<A> others[kOthers];
#pragma GCC unroll 4
    for (int n = 0; n < kOthers; ++n) others[n] = load(b.data + n * b.stride + i);
#pragma GCC unroll 8
    for (int m = 0; m < kRows; ++m) {
      const Vec<A> x = held(load(a.data + m * a.stride + i));
#pragma GCC unroll 4
      for (int n = 0; n < kOthers; ++n) sums[m][n] = fma(x, others[n], sums[m][n]);
    }
  }
  int m = 0;
  if constexpr (kOthers == 2) {
    for (; m + 2 <= kRows; m += 2) {
      A four[4];
      reduce_add(sums[m][0], sums[m][1], sums[m + 1][0], sums[m + 1][1], four);
      for (int i = 0; i < 4; ++i) out[(m + i / 2) * out_stride + i % 2] = four[i];
    }
  }
  for (; m < kRows; ++m) {
    for (int n = 0; n < kOthers; ++n) out[m * out_stride + n] = reduce_add(sums[m][n]);
  }
}

template <int kRows, typename A>
void dots_of(Rows<A> a, Rows<A> b, int64_t others, int64_t padded, A* out, int64_t out_stride) {
  int64_t n = 0;
  for (; n + 2 <= others; n += 2) {
    dot_block<kRows, 2>(a, from_row(b, n), padded, out + n, out_stride);
  }
  if (n < others) dot_block<kRows, 1>(a, from_row(b, n), padded, out + n, out_stride);
}

// out[m][n] = a_m . b_n for m < rows <= kBlock.
template <typename A>
SGELA_INLINE void dots(Rows<A> a, int rows, Rows<A> b, int64_t others, int64_t padded, A* out, int64_t out_stride) {
  switch (rows) {
    case 1:
      return dots_of<1>(a, b, others, padded, out, out_stride);
    case 2:
      return dots_of<2>(a, b, others, padded, out, out_stride);
    case 3:
      return dots_of<3>(a, b, others, padded, out, out_stride);
    case 4:
      return dots_of<4>(a, b, others, padded, out, out_stride);
    case 5:
      return dots_of<5>(a, b, others, padded, out, out_stride);
    default:
      return dots_of<6>(a, b, others, padded, out, out_stride);
  }
}

// Rows to add up, `count` of them; row m of the result takes row n with the weight at m * by_result + n * by_row.
template <typename A>
struct Weighted {
  const A* weights;
  int64_t by_result, by_row;
  Rows<A> rows;
  int64_t count;
};

// Sums of kVectors vectors of columns from `column` on; the last may reach beyond the last column if not kWhole.
template <int kRows, int kVectors, bool kWhole, bool kPastCache, typename S, typename A>
SGELA_INLINE void combine_block(const Weighted<A>* terms, int count, int64_t column, S* out, int64_t columns) {
  constexpr int kLanes = Vec<A>::kLanes;
  Vec<A> sums[kRows][kVectors];
#pragma GCC unroll 8
  for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 4
    for (int c = 0; c < kVectors; ++c) sums[m][c] = zero<A>();
  }
  for (const Weighted<A>* term = terms; term < terms + count; ++term) {
    const A* weights = term->weights;
    const A* row = term->rows.data + column;
    for (int64_t n = 0; n < term->count; ++n, weights += term->by_row, row += term->rows.stride) {
      Vec<A> x[kVectors];
#pragma GCC unroll 4
      for (int c = 0; c < kVectors; ++c) x[c] = load(row + c * kLanes);
#pragma GCC unroll 8
      for (int m = 0; m < kRows; ++m) {
        const Vec<A> weight = broadcast(weights[m * term->by_result]);
#pragma GCC unroll 4
        for (int c = 0; c < kVectors; ++c) sums[m][c] = fma(weight, x[c], sums[m][c]);
      }
    }
  }
#pragma GCC unroll 8
  for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 4
    for (int c = 0; c < kVectors; ++c) {
      S* target = out + m * columns + column + c * kLanes;
      if constexpr (kPastCache) {
        store_past_cache(target, sums[m][c]);
      } else if constexpr (kWhole) {
        store(target, sums[m][c]);
      } else {
        store_first(target, sums[m][c], static_cast<int>(columns - column - c * kLanes));
      }
    }
  }
}

template <int kRows, bool kPastCache = false, typename S, typename A>
void combine_of(const Weighted<A>* terms, int count, S* out, int64_t columns) {
  constexpr int64_t kLanes = Vec<A>::kLanes;
  int64_t column = 0;
  for (; column + kColumns * kLanes <= columns; column += kColumns * kLanes) {
    combine_block<kRows, kColumns, true, kPastCache>(terms, count, column, out, columns);
  }
  for (; column + kLanes <= columns; column += kLanes) {
    combine_block<kRows, 1, true, false>(terms, count, column, out, columns);
  }
  if (column < columns) combine_block<kRows, 1, false, false>(terms, count, column, out, columns);
}

// Results of this many bytes and more do not stay in a cache, and may as well be written past it.
inline constexpr int64_t kLargerThanCaches = 16 << 20;

// Whether combine() may write `rows` rows of `columns` past the caches: whole lines only.
template <typename S>
SGELA_INLINE bool goes_past_caches(const void* out, int64_t rows, int64_t columns) {
  constexpr int64_t kBlockBytes = kColumns * kVectorBytes;
  const int64_t row_bytes = columns * static_cast<int64_t>(sizeof(S));
  const bool whole_lines = kBlockBytes % 64 == 0 && row_bytes % kBlockBytes == 0;
  return whole_lines && rows * row_bytes >= kLargerThanCaches && reinterpret_cast<uintptr_t>(out) % 64 == 0;
}

template <bool kPastCache, typename S, typename A>
SGELA_INLINE void combine_to(const Weighted<A>* terms, int count, int rows, S* out, int64_t columns) {
  switch (rows) {
    case 1:
      return combine_of<1, kPastCache>(terms, count, out, columns);
    case 2:
      return combine_of<2, kPastCache>(terms, count, out, columns);
    case 3:
      return combine_of<3, kPastCache>(terms, count, out, columns);
    case 4:
      return combine_of<4, kPastCache>(terms, count, out, columns);
    case 5:
      return combine_of<5, kPastCache>(terms, count, out, columns);
    default:
      return combine_of<6, kPastCache>(terms, count, out, columns);
  }
}

// Rows of the result, contiguous: the sum of one or two weighted sums of rows; for m < rows <= kBlock.
template <typename S, typename A>
SGELA_INLINE void combine(const Weighted<A>* terms, int count, int rows, S* out, int64_t columns, bool past_cache) {
  if constexpr (sizeof(S) == 4) {
    if (past_cache) return combine_to<true>(terms, count, rows, out, columns);
  }
  combine_to<false>(terms, count, rows, out, columns);
}

// Rows of a block when `rows` are cut into blocks of at most kBlock, as even as can be.
SGELA_INLINE int even_block(int64_t rows) {
  const int64_t blocks = (rows + kBlock - 1) / kBlock;
  return blocks == 0 ? 1 : static_cast<int>((rows + blocks - 1) / blocks);
}

}  // namespace sgela::SGELA_ISA
