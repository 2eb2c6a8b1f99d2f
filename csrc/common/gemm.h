// Matrix products for the instruction set of the including file: C(rows, columns) (+)= A(rows, depth) B(depth,
// columns).
//
// B is packed once into panels, each two vectors wide and stored row after row, [columns / kPanel][depth][kPanel],
// zeros beyond the last column. A is row-major with a leading dimension, or packed into tiles [rows / kTileRows][depth]
// [kTileRows] when it must be read transposed. One register tile holds kTileRows x kPanel sums; a panel's 256 rows (16
// KB at 32-byte vectors) stay in L1 while the tiles of a block of A rows (in L2) pass by. With one to three rows two
// panels are read at once, and every element of B is loaded once: the product then runs at the speed of the memory B
// lies in.
//
// Each element of C is the fused sum over increasing depth whatever the shape, the blocking or the position in C, so a
// row's result never depends on the rows beside it. The caller's thread does all of it.
#pragma once

#include <cstdint>

#include "common/vec_memory.h"

namespace sgela::SGELA_ISA {

#if defined(__AVX512F__)
inline constexpr int kTileRows = 12;
#elif defined(__AVX2__)
inline constexpr int kTileRows = 6;
#else
inline constexpr int kTileRows = 4;
#endif

template <class T>
inline constexpr int kPanel = 2 * Vec<T>::kLanes;
// B may be stored as bfloat16 and is widened as it is read.
template <>
inline constexpr int kPanel<BFloat16> = kPanel<float>;

// Rows of a panel that stay in L1, and rows of A that stay in L2 beside them.
inline constexpr std::int64_t kDepthBlock = 256;
inline constexpr std::int64_t kRowBlock = 192;
// Up to this many rows a product is bound by reading B, and two panels are read at once.
inline constexpr std::int64_t kFewRows = 3;

// Elements of B's panels.
template <class T>
constexpr std::int64_t panels_size(std::int64_t depth, std::int64_t columns) {
  return (columns + kPanel<T> - 1) / kPanel<T> * kPanel<T> * depth;
}

// Packs columns of B: `column_of(n)` points to column n, whose elements lie `stride` apart, or is null for zeros. Fills
// whole panels; `columns` counts what column_of() knows.
template <class T, class ColumnOf>
void pack_columns(const ColumnOf& column_of, std::int64_t stride, std::int64_t depth, std::int64_t columns, T* panels) {
  for (std::int64_t n = 0; n < columns || n % kPanel<T> != 0; ++n) {
    T* to = panels + n / kPanel<T> * kPanel<T> * depth + n % kPanel<T>;
    const T* from = n < columns ? column_of(n) : nullptr;
    for (std::int64_t k = 0; k < depth; ++k) to[k * kPanel<T>] = from == nullptr ? T{} : from[k * stride];
  }
}

// Packs rows of B (or of A transposed, with Width = kTileRows): `row_of(k)` points to row k, of contiguous elements.
template <int Width, class T, class RowOf>
void pack_rows(const RowOf& row_of, std::int64_t depth, std::int64_t columns, T* panels) {
  constexpr std::int64_t kRows = 16;  // few enough that their pages and cache lines serve one panel after the other
  const std::int64_t whole = columns / Width * Width;
  for (std::int64_t begin = 0; begin < depth; begin += kRows) {
    const std::int64_t count = depth - begin < kRows ? depth - begin : kRows;
    const T* rows[kRows];
    for (std::int64_t k = 0; k < count; ++k) rows[k] = row_of(begin + k);
    T* to = panels + begin * Width;
    for (std::int64_t n = 0; n < whole; n += Width, to += Width * depth) {
      for (std::int64_t k = 0; k < count; ++k) __builtin_memcpy(to + k * Width, rows[k] + n, Width * sizeof(T));
    }
    for (std::int64_t i = 0; whole < columns && i < count * Width; ++i) {
      const std::int64_t n = whole + i % Width;
      to[i] = n < columns ? rows[i / Width][n] : T(0);
    }
  }
}

// One register tile of R rows and P panels. Row r of A is at a + r * lda; packed A has its R = kTileRows rows side by
// side.
template <class T, int R, int P, bool kPackedA, class W>
SGELA_INLINE void multiply_tile(std::int64_t depth, const T* a, std::int64_t lda, const W* panels,
                                std::int64_t panel_stride, T* c, std::int64_t ldc, bool accumulate) {
  using V = Vec<T>;
  V sums[R][2 * P];
#pragma GCC unroll 12
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < 2 * P; ++v) sums[r][v] = accumulate ? load(c + r * ldc + v * V::kLanes) : zero<T>();
  }
  for (std::int64_t k = 0; k < depth; ++k) {
    V b[2 * P];
#pragma GCC unroll 8
    for (int v = 0; v < 2 * P; ++v) b[v] = load(panels + (v / 2) * panel_stride + (v % 2) * V::kLanes);
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r) {
      const V x = broadcast(kPackedA ? a[r] : a[r * lda]);
#pragma GCC unroll 8
      for (int v = 0; v < 2 * P; ++v) sums[r][v] = fma(x, b[v], sums[r][v]);
    }
    a += kPackedA ? kTileRows : 1;
    panels += kPanel<T>;
  }
#pragma GCC unroll 12
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < 2 * P; ++v) store(c + r * ldc + v * V::kLanes, sums[r][v]);
  }
}

// As multiply_tile(), for 1 <= rows <= R.
template <class T, int R, int P, bool kPackedA, class W>
void multiply_rows(std::int64_t rows, std::int64_t depth, const T* a, std::int64_t lda, const W* panels,
                   std::int64_t panel_stride, T* c, std::int64_t ldc, bool accumulate) {
  if (rows == R) {
    multiply_tile<T, R, P, kPackedA>(depth, a, lda, panels, panel_stride, c, ldc, accumulate);
  } else if constexpr (R > 1) {
    multiply_rows<T, R - 1, P, kPackedA>(rows, depth, a, lda, panels, panel_stride, c, ldc, accumulate);
  }
}

// The last panel, of which only `columns` belong to C: through a tile of its own.
template <class T, bool kPackedA, class W>
void multiply_edge(std::int64_t rows, std::int64_t columns, std::int64_t depth, const T* a, std::int64_t lda,
                   const W* panel, T* c, std::int64_t ldc, bool accumulate) {
  T edge[kTileRows * kPanel<T>];
  for (std::int64_t i = 0; i < rows * kPanel<T>; ++i) {
    const std::int64_t n = i % kPanel<T>;
    edge[i] = accumulate && n < columns ? c[i / kPanel<T> * ldc + n] : T(0);
  }
  multiply_rows<T, kTileRows, 1, kPackedA>(rows, depth, a, lda, panel, 0, edge, kPanel<T>, true);
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t n = 0; n < columns; ++n) c[r * ldc + n] = edge[r * kPanel<T> + n];
  }
}

// C(rows, columns) (+)= A B of a depth that is part of the packed `panel_depth`. Packed A is lda = its own depth long.
template <class T, bool kPackedA, class W>
void multiply_block(std::int64_t rows, std::int64_t columns, std::int64_t depth, const T* a, std::int64_t lda,
                    const W* panels, std::int64_t panel_depth, T* c, std::int64_t ldc, bool accumulate) {
  const std::int64_t panel_stride = panel_depth * kPanel<T>;
  std::int64_t n = 0;
  if (!kPackedA && rows == 1) {  // eight sums under way: four wait for one another longer than for the panels
    for (; n + 4 * kPanel<T> <= columns; n += 4 * kPanel<T>, panels += 4 * panel_stride) {
      multiply_rows<T, 1, 4, false>(rows, depth, a, lda, panels, panel_stride, c + n, ldc, accumulate);
    }
  }
  if (!kPackedA && rows <= kFewRows) {
    for (; n + 2 * kPanel<T> <= columns; n += 2 * kPanel<T>, panels += 2 * panel_stride) {
      multiply_rows<T, kFewRows, 2, false>(rows, depth, a, lda, panels, panel_stride, c + n, ldc, accumulate);
    }
  }
  for (; n < columns; n += kPanel<T>, panels += panel_stride) {
    std::int64_t tile_rows = kTileRows;
    for (std::int64_t m = 0, tiles = (rows + kTileRows - 1) / kTileRows; tiles > 0; m += tile_rows, --tiles) {
      // Packed tiles are whole but for the last; others are as even as can be, for a low tile hides no latency.
      tile_rows = !kPackedA ? (rows - m + tiles - 1) / tiles : tiles > 1 ? kTileRows : rows - m;
      const T* tile = a + m * lda;
      T* to = c + m * ldc + n;
      if (columns - n < kPanel<T>) {
        multiply_edge<T, kPackedA>(tile_rows, columns - n, depth, tile, lda, panels, to, ldc, accumulate);
      } else {
        multiply_rows<T, kTileRows, 1, kPackedA>(tile_rows, depth, tile, lda, panels, 0, to, ldc, accumulate);
      }
    }
  }
}

// C(rows, columns) (+)= A(rows, depth) B, with A row-major or, if kPackedA, packed by pack_rows<kTileRows>(). Nothing
// beyond C's columns is written. With depth 0, C becomes 0 unless accumulated to.
template <class T, bool kPackedA = false, class W = T>
void multiply(std::int64_t rows, std::int64_t columns, std::int64_t depth, const T* a, std::int64_t lda,
              const W* panels, T* c, std::int64_t ldc, bool accumulate) {
  if (depth == 0 && !accumulate) {
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t n = 0; n < columns; ++n) c[r * ldc + n] = T(0);
    }
  }
  const std::int64_t a_depth = kPackedA ? depth : lda;
  const std::int64_t step = rows <= kFewRows ? depth : kDepthBlock;
  for (std::int64_t m = 0; m < rows; m += kRowBlock) {
    const std::int64_t block_rows = rows - m < kRowBlock ? rows - m : kRowBlock;
    for (std::int64_t k = 0; k < depth; k += step) {
      const std::int64_t block_depth = depth - k < step ? depth - k : step;
      const T* from = a + m * a_depth + k * (kPackedA ? kTileRows : 1);
      multiply_block<T, kPackedA>(block_rows, columns, block_depth, from, a_depth, panels + k * kPanel<T>, depth,
                                  c + m * ldc, ldc, accumulate || k > 0);
    }
  }
}

}  // namespace sgela::SGELA_ISA
