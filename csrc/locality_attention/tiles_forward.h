// Long sequences, forward: one thread owns a tile of query rows and walks over the keys, tile by tile, with an online
// softmax.
//
// Beside the sum Z of exp(s - m), with m the largest score so far, a row keeps sum exp(2 (s - m)) (1 - l)^2 for the
// loss and, for a detached target, sum exp(2 (s - m)) (1 - l): all are rescaled when m moves, and the loss is the
// former over Z^2. Memory: query, key and value are read, context is written; keys and values are packed once for each
// tile of query rows, and nothing larger than a tile of scores is kept.
#pragma once

#include "locality_attention/tiles.h"

namespace sgela::SGELA_ISA {

template <typename A>
struct OnlineRow {
  A largest, sum, squares, products;
};

// Scores to weights relative to the largest score so far; returns the factor for what was summed up before.
template <Mode kMode, typename A>
SGELA_INLINE A online_softmax(OnlineRow<A>& row, A* scores, const A* bias, const A* mask, int64_t padded, A scale) {
  constexpr int kLanes = Vec<A>::kLanes;
  Vec<A> largest = broadcast(row.largest);
  for (int64_t j = 0; j < padded; j += kLanes) {
    const Vec<A> taken = load(bias + j);
    const Vec<A> score = select(taken < zero<A>(), taken, load(scores + j) * broadcast(scale));
    store(scores + j, score);
    largest = max(score, largest);
  }
  const Vec<A> shift = broadcast(reduce_max(largest));
  Vec<A> sum = zero<A>(), squares = zero<A>(), products = zero<A>();
  for (int64_t j = 0; j < padded; j += kLanes) {
    Vec<A> weight = exp(load(scores + j) - shift);
    sum = sum + weight;
    if constexpr (kMode >= Mode::kLas) {
      const Vec<A> residual = weight * load(mask + j);
      squares = fma(residual, residual, squares);
      if constexpr (kMode == Mode::kLasDetached) products = fma(weight, residual, products);
    }
    if constexpr (kMode == Mode::kMbas) weight = weight * load(mask + j);
    store(scores + j, weight);
  }
  const A largest_now = shift.lanes[0];
  const A factor = row.largest == largest_now ? A(1) : exp(broadcast(row.largest) - shift).lanes[0];
  row.largest = largest_now;
  row.sum = row.sum * factor + reduce_add(sum);
  row.squares = row.squares * factor * factor + reduce_add(squares);
  row.products = row.products * factor * factor + reduce_add(products);
  return factor;
}

template <typename A>
SGELA_INLINE A online_softmax(Mode mode, OnlineRow<A>& row, A* scores, const A* bias, const A* mask, int64_t padded,
                              A scale) {
  switch (mode) {
    case Mode::kBas:
      return online_softmax<Mode::kBas>(row, scores, bias, mask, padded, scale);
    case Mode::kMbas:
      return online_softmax<Mode::kMbas>(row, scores, bias, mask, padded, scale);
    case Mode::kLas:
      return online_softmax<Mode::kLas>(row, scores, bias, mask, padded, scale);
    default:
      return online_softmax<Mode::kLasDetached>(row, scores, bias, mask, padded, scale);
  }
}

template <typename A>
SGELA_INLINE void scale_row(A* row, A factor, int64_t padded) {
  for (int64_t i = 0; i < padded; i += Vec<A>::kLanes) store(row + i, load(row + i) * broadcast(factor));
}

template <typename S>
void tiles_forward(const Forward& p, int64_t tile_rows, int64_t begin, int64_t end) {
  using A = typename AccumulationOf<S>::Type;
  const int64_t tile_keys = at_most(in_panels<A>(p.keys), kTileKeys), width = in_panels<A>(p.width);
  const int64_t query_size = left_operand_size<S>(tile_rows, p.features);
  const int64_t panels_size = tile_keys * (p.features + width);
  Scratch<A> scratch(query_size + panels_size + tile_rows * (tile_keys + width + 4) + 2 * tile_keys, 8);
  A* staged_query = scratch.take(query_size);
  A* key_panels = scratch.take(tile_keys * p.features);
  A* value_panels = scratch.take(tile_keys * width);
  A* scores = scratch.take(tile_rows * tile_keys);
  A* sums = scratch.take(tile_rows * width);
  A* bias = scratch.take(tile_keys);
  A* mask_scratch = scratch.take(tile_keys);
  auto* rows = reinterpret_cast<OnlineRow<A>*>(scratch.take(tile_rows * 4));
  const A scale = static_cast<A>(p.scale);
  for (int64_t item = begin; item < end; ++item) {
    const Tile tile = tile_of(item, p.queries, tile_rows);
    const Rows<A> query = left_operand(sequence_of<S>(p.query, p.inner, tile.sequence) + tile.first * p.query.row,
                                       p.query.row, tile.rows, p.features, staged_query);
    const S* key = sequence_of<S>(p.key, p.inner, tile.sequence);
    const S* value = sequence_of<S>(p.value, p.inner, tile.sequence);
    const A* centers = p.direction == 0 ? sequence_of<A>(p.centers, p.inner, tile.sequence) : nullptr;
    for (int64_t m = 0; m < tile.rows; ++m) rows[m] = {-kInfinity<A>, 0, 0, 0};
    bool any = false;
    for (int64_t first = 0; first < p.keys; first += kTileKeys) {
      const int64_t count = at_most(p.keys - first, kTileKeys), padded = in_panels<A>(count);
      const uint8_t* padding = nullptr;
      if (p.padding.data != nullptr) {
        padding = sequence_of<uint8_t>(p.padding, p.inner, tile.sequence) + first * p.padding.row;
      }
      if (!fill_bias(padding, p.padding.row, count, padded, bias)) continue;
      pack_as_columns(key + first * p.key.row, p.key.row, count, p.features, key_panels);
      pack_as_rows(value + first * p.value.row, p.value.row, count, p.width, value_panels);
      multiply(tile.rows, padded, p.features, query.data, query.stride, key_panels, scores, tile_keys, false);
      for (int64_t m = 0; m < tile.rows; ++m) {
        const int64_t row = tile.first + m;
        const A center = centers == nullptr ? A(0) : centers[row * p.centers.row];
        const A factor = online_softmax(p.mode, rows[m], scores + m * tile_keys, bias,
                                        mask_row(p, row, center, first, padded, mask_scratch), padded, scale);
        if (any && factor != A(1)) scale_row(sums + m * width, factor, width);
      }
      multiply(tile.rows, width, count, scores, tile_keys, value_panels, sums, width, any);
      any = true;
    }
    const int64_t out = tile.sequence * p.queries + tile.first;
    S* context = static_cast<S*>(p.context) + out * p.width;
    for (int64_t m = 0; m < tile.rows; ++m) {
      const A inverse = any ? 1 / rows[m].sum : A(0);
      if (!any) {
        for (int64_t i = 0; i < width; ++i) sums[m * width + i] = 0;
      }
      store_row(sums + m * width, inverse, p.width, context + m * p.width);
      const A loss = rows[m].squares * inverse * inverse;
      static_cast<A*>(p.log_sum)[out + m] = any ? rows[m].largest + log_of(rows[m].sum) : kInfinity<A>;
      static_cast<A*>(p.row_loss)[out + m] = loss;
      static_cast<A*>(p.moment)[out + m] =
          p.mode == Mode::kLasDetached ? rows[m].products * inverse * inverse : loss;
    }
  }
}

// Losses of the sequences from those of the rows, always in the same order.
template <typename A>
void add_row_losses(const Forward& p) {
  const A* row_loss = static_cast<const A*>(p.row_loss);
  for (int64_t sequence = 0; sequence < p.sequences(); ++sequence) {
    double loss = 0;
    for (int64_t row = 0; row < p.queries; ++row) loss += row_loss[sequence * p.queries + row];
    static_cast<A*>(p.loss)[sequence] = static_cast<A>(loss);
  }
}

}  // namespace sgela::SGELA_ISA
