// What the kernels for long sequences share: sizes of tiles, packing of rows into panels, rows as the left operand.
//
// A tile is up to tile_rows rows of one sequence, which one thread owns, against up to kTileKeys rows of the other
// side. Products run through common/gemm.h: a row's result depends neither on the rows beside it nor on the tiling of
// its side, so threads may share the tiles in any way.
#pragma once

#include "common/gemm.h"
#include "locality_attention/rows_backward.h"

namespace sgela::SGELA_ISA {

inline constexpr int64_t kTileKeys = 128;

template <typename A>
constexpr int64_t in_panels(int64_t columns) {
  return rounded_up(columns, kPanel<A>);
}

SGELA_INLINE int64_t at_most(int64_t x, int64_t limit) { return x < limit ? x : limit; }

// Which rows of which sequence an item of work is; items run through a sequence's tiles first.
struct Tile {
  int64_t sequence, first, rows;
};

SGELA_INLINE Tile tile_of(int64_t item, int64_t rows, int64_t tile_rows) {
  const int64_t tiles = (rows + tile_rows - 1) / tile_rows, first = item % tiles * tile_rows;
  return {item / tiles, first, at_most(rows - first, tile_rows)};
}

// Rows as the left operand of a product: where they lie, or as A in `scratch`.
template <typename S, typename A>
SGELA_INLINE Rows<A> left_operand(const S* from, int64_t stride, int64_t rows, int64_t columns, A* scratch) {
  if constexpr (sizeof(S) == sizeof(A)) {
    return {from, stride};
  } else {
    return stage(from, stride, rows, columns, scratch);
  }
}

template <typename S>
constexpr int64_t left_operand_size(int64_t rows, int64_t columns) {
  using A = typename AccumulationOf<S>::Type;
  return sizeof(S) == sizeof(A) ? 0 : rows * rounded_up(columns, Vec<A>::kLanes);
}

// Panels of the right operand whose row k is row k of `from`: [columns / kPanel][rows][kPanel].
template <typename S, typename A>
void pack_as_rows(const S* from, int64_t stride, int64_t rows, int64_t columns, A* panels) {
  constexpr int64_t kLanes = Vec<A>::kLanes, kWide = kPanel<A>;
  const int64_t whole = columns / kWide * kWide;
  for (int64_t k = 0; k < rows; ++k) {
    const S* row = from + k * stride;
    A* to = panels + k * kWide;
    for (int64_t n = 0; n < whole; n += kWide, to += kWide * rows) {
      store(to, load(row + n));
      store(to + kLanes, load(row + n + kLanes));
    }
    for (int64_t n = whole; n < in_panels<A>(columns); n += kLanes, to += kLanes) {
      const int64_t left = columns - n;
      store(to, left >= kLanes ? load(row + n) : load_first(row + n, static_cast<int>(left > 0 ? left : 0)));
    }
  }
}

// Panels of the right operand whose column n is row n of `from`: [rows / kPanel][columns][kPanel], zeros behind.
template <typename S, typename A>
void pack_as_columns(const S* from, int64_t stride, int64_t rows, int64_t columns, A* panels) {
  constexpr int64_t kLanes = Vec<A>::kLanes, kWide = kPanel<A>;
  A block[kWide][kLanes];
  for (int64_t first = 0; first < rows; first += kWide, panels += kWide * columns) {
    for (int64_t k = 0; k < columns; k += kLanes) {
      const int depth = static_cast<int>(at_most(columns - k, kLanes));
      for (int64_t n = 0; n < kWide; ++n) {
        const S* row = from + (first + n) * stride + k;
        const bool inside = first + n < rows;
        store(block[n], !inside ? zero<A>() : depth == kLanes ? load(row) : load_first(row, depth));
      }
      for (int i = 0; i < depth; ++i) {
        A* to = panels + (k + i) * kWide;
        for (int64_t n = 0; n < kWide; ++n) to[n] = block[n][i];
      }
    }
  }
}

// Rows of sums, divided by or multiplied with a factor each, into rows of the result.
template <typename S, typename A>
SGELA_INLINE void store_row(const A* sums, A factor, int64_t columns, S* to) {
  constexpr int64_t kLanes = Vec<A>::kLanes;
  int64_t i = 0;
  for (; i + kLanes <= columns; i += kLanes) store(to + i, load(sums + i) * broadcast(factor));
  if (i < columns) store_first(to + i, load(sums + i) * broadcast(factor), static_cast<int>(columns - i));
}

}  // namespace sgela::SGELA_ISA
