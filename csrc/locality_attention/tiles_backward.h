// Long sequences, backward, in two passes that each compute the scores again: the first owns tiles of query rows and
// walks over the keys (grad_query, grad_centers, and delta of every row), the second owns tiles of keys and walks over
// the query rows (grad_key, grad_value). No sum is shared, so nothing depends on the number of threads.
//
// Memory: the first pass reads query, key, value, context and grad_context, the second all but context; the gradients
// are written once. Nothing larger than two tiles of scores is kept.
#pragma once

#include "locality_attention/tiles.h"

namespace sgela::SGELA_ISA {

// delta = sum_j a_j D_j = dC . context + 2 g moment.
template <typename S, typename A>
SGELA_INLINE A delta_of(const S* upstream, const S* context, int64_t width, A from_loss) {
  constexpr int64_t kLanes = Vec<A>::kLanes;
  Vec<A> sum = zero<A>();
  int64_t i = 0;
  for (; i + kLanes <= width; i += kLanes) sum = fma(load(upstream + i), load(context + i), sum);
  if (i < width) {
    const int left = static_cast<int>(width - i);
    sum = fma(load_first(upstream + i, left), load_first(context + i, left), sum);
  }
  return reduce_add(sum) + from_loss;
}

// Scores to scaled gradients of the scores, `gradients` = dC . v to the weights of dC in grad_value, for the pairs of
// one vector: of a query row with keys, or of a key with query rows.
template <Mode kMode, typename A>
SGELA_INLINE void pair_backward(A* scores, A* gradients, Vec<A> bias, const A* mask, Vec<A> log_sum, Vec<A> delta,
                                A scale, A twice_grad_loss) {
  const Vec<A> exponent = load(scores) * broadcast(scale) - log_sum;
  const Vec<A> weight = exp(select(bias < zero<A>(), bias, exponent));
  Vec<A> gradient = load(gradients), passed = weight;
  if constexpr (kMode == Mode::kMbas) {
    gradient = gradient * load(mask);
    passed = weight * load(mask);
  }
  if constexpr (kMode >= Mode::kLas) {
    const Vec<A> complement = load(mask);
    const Vec<A> factor = kMode == Mode::kLas ? complement * complement : complement;
    gradient = fma(broadcast(twice_grad_loss) * weight, factor, gradient);
  }
  store(scores, weight * (gradient - delta) * broadcast(scale));
  store(gradients, passed);
}

template <Mode kMode, typename A>
SGELA_INLINE void query_row_backward(A* scores, A* gradients, const A* bias, const A* mask, int64_t padded, A log_sum,
                                     A delta, A scale, A twice_grad_loss) {
  for (int64_t j = 0; j < padded; j += Vec<A>::kLanes) {
    pair_backward<kMode>(scores + j, gradients + j, load(bias + j), mask + j, broadcast(log_sum), broadcast(delta),
                         scale, twice_grad_loss);
  }
}

template <Mode kMode, typename A>
SGELA_INLINE void key_row_backward(A* scores, A* gradients, A bias, const A* mask, int64_t padded, const A* log_sum,
                                   const A* delta, A scale, A twice_grad_loss) {
  for (int64_t t = 0; t < padded; t += Vec<A>::kLanes) {
    pair_backward<kMode>(scores + t, gradients + t, broadcast(bias), mask + t, load(log_sum + t), load(delta + t),
                         scale, twice_grad_loss);
  }
}

// Calls `body` with the mode as a constant.
template <typename Body>
SGELA_INLINE void with_mode(Mode mode, const Body& body) {
  switch (mode) {
    case Mode::kBas:
      return body.template operator()<Mode::kBas>();
    case Mode::kMbas:
      return body.template operator()<Mode::kMbas>();
    case Mode::kLas:
      return body.template operator()<Mode::kLas>();
    default:
      return body.template operator()<Mode::kLasDetached>();
  }
}

template <typename A>
SGELA_INLINE A twice_grad_loss_of(const Backward& p, int64_t sequence) {
  const bool with_loss = p.mode >= Mode::kLas && p.grad_loss.data != nullptr;
  return with_loss ? 2 * *sequence_of<A>(p.grad_loss, p.inner, sequence) : A(0);
}

template <typename S>
void tiles_grad_query(const Backward& p, int64_t tile_rows, int64_t begin, int64_t end) {
  using A = typename AccumulationOf<S>::Type;
  const int64_t tile_keys = at_most(in_panels<A>(p.keys), kTileKeys), features = in_panels<A>(p.features);
  const int64_t query_size = left_operand_size<S>(tile_rows, p.features);
  const int64_t upstream_size = left_operand_size<S>(tile_rows, p.width);
  Scratch<A> scratch(query_size + upstream_size + tile_keys * (p.features + p.width + features + 2) +
                         tile_rows * (2 * tile_keys + features),
                     10);
  A* staged_query = scratch.take(query_size);
  A* staged_upstream = scratch.take(upstream_size);
  A* key_columns = scratch.take(tile_keys * p.features);
  A* value_columns = scratch.take(tile_keys * p.width);
  A* key_rows = scratch.take(tile_keys * features);
  A* bias = scratch.take(tile_keys);
  A* mask_scratch = scratch.take(tile_keys);
  A* scores = scratch.take(tile_rows * tile_keys);
  A* gradients = scratch.take(tile_rows * tile_keys);
  A* sums = scratch.take(tile_rows * features);
  const A scale = static_cast<A>(p.scale);
  for (int64_t item = begin; item < end; ++item) {
    const Tile tile = tile_of(item, p.queries, tile_rows);
    const int64_t out = tile.sequence * p.queries + tile.first;
    const Rows<A> query = left_operand(sequence_of<S>(p.query, p.inner, tile.sequence) + tile.first * p.query.row,
                                       p.query.row, tile.rows, p.features, staged_query);
    const S* grad_context = sequence_of<S>(p.grad_context, p.inner, tile.sequence) + tile.first * p.grad_context.row;
    const Rows<A> upstream = left_operand(grad_context, p.grad_context.row, tile.rows, p.width, staged_upstream);
    const S* context = sequence_of<S>(p.context, p.inner, tile.sequence) + tile.first * p.context.row;
    const S* key = sequence_of<S>(p.key, p.inner, tile.sequence);
    const S* value = sequence_of<S>(p.value, p.inner, tile.sequence);
    const A* log_sum = sequence_of<A>(p.log_sum, p.inner, tile.sequence) + tile.first * p.log_sum.row;
    const A* moment = sequence_of<A>(p.moment, p.inner, tile.sequence) + tile.first * p.moment.row;
    const A* centers =
        p.direction == 0 ? sequence_of<A>(p.centers, p.inner, tile.sequence) + tile.first * p.centers.row : nullptr;
    const A twice_grad_loss = twice_grad_loss_of<A>(p, tile.sequence);
    A* delta = static_cast<A*>(p.delta) + out;
    A* grad_centers = p.grad_centers == nullptr ? nullptr : static_cast<A*>(p.grad_centers) + out;
    for (int64_t m = 0; m < tile.rows; ++m) {
      delta[m] = delta_of(grad_context + m * p.grad_context.row, context + m * p.context.row, p.width,
                          twice_grad_loss * moment[m * p.moment.row]);
      if (grad_centers != nullptr) grad_centers[m] = 0;
    }
    bool any = false;
    for (int64_t first = 0; first < p.keys; first += kTileKeys) {
      const int64_t count = at_most(p.keys - first, kTileKeys), padded = in_panels<A>(count);
      const uint8_t* padding = nullptr;
      if (p.padding.data != nullptr) {
        padding = sequence_of<uint8_t>(p.padding, p.inner, tile.sequence) + first * p.padding.row;
      }
      if (!fill_bias(padding, p.padding.row, count, padded, bias)) continue;
      pack_as_columns(key + first * p.key.row, p.key.row, count, p.features, key_columns);
      multiply(tile.rows, padded, p.features, query.data, query.stride, key_columns, scores, tile_keys, false);
      const A* columns = key_columns;
      if (!p.value_is_key) {
        pack_as_columns(value + first * p.value.row, p.value.row, count, p.width, value_columns);
        columns = value_columns;
      }
      multiply(tile.rows, padded, p.width, upstream.data, upstream.stride, columns, gradients, tile_keys, false);
      for (int64_t m = 0; m < tile.rows; ++m) {
        const A center = centers == nullptr ? A(0) : centers[m * p.centers.row];
        const A normaliser = log_sum[m * p.log_sum.row];
        A *row = scores + m * tile_keys, *row_gradients = gradients + m * tile_keys;
        if (grad_centers != nullptr) {
          grad_centers[m] += center_gradient(p, row, row_gradients, bias, center, first, padded, normaliser,
                                             twice_grad_loss);
        }
        const A* mask = mask_row(p, tile.first + m, center, first, padded, mask_scratch);
        with_mode(p.mode, [&]<Mode kMode>() {
          query_row_backward<kMode>(row, row_gradients, bias, mask, padded, normaliser, delta[m], scale,
                                    twice_grad_loss);
        });
      }
      pack_as_rows(key + first * p.key.row, p.key.row, count, p.features, key_rows);
      multiply(tile.rows, features, count, scores, tile_keys, key_rows, sums, features, any);
      any = true;
    }
    for (int64_t m = 0; m < tile.rows; ++m) {
      if (!any) __builtin_memset(sums + m * features, 0, static_cast<uint64_t>(features) * sizeof(A));
      store_row(sums + m * features, A(1), p.features, static_cast<S*>(p.grad_query) + (out + m) * p.features);
    }
  }
}

// Mask of one key against `count` query rows from `first` on, and up to one panel more.
template <typename A>
SGELA_INLINE const A* mask_column(const Attention& p, int64_t key, const A* centers, int64_t first, int64_t count,
                                  A* scratch) {
  if (p.mode == Mode::kBas) return nullptr;
  if (p.direction != 0) {
    return static_cast<const A*>(p.mask_of_key) + first + (p.direction < 0 ? key : p.keys - 1 - key);
  }
  const A precision = static_cast<A>(mask_precision(p)), window = static_cast<A>(p.window);
  for (int64_t t = 0; t < count; t += Vec<A>::kLanes) {
    const Vec<A> offset = broadcast(static_cast<A>(key)) - load(centers + t);
    store(scratch + t, mask_at(offset, precision, window, mask_is_complement(p)));
  }
  return scratch;
}

template <typename S>
void tiles_grad_key(const Backward& p, int64_t tile_rows, int64_t begin, int64_t end) {
  using A = typename AccumulationOf<S>::Type;
  const int64_t tile_queries = at_most(in_panels<A>(p.queries), kTileKeys);
  const int64_t features = in_panels<A>(p.features), width = in_panels<A>(p.width);
  const int64_t key_size = left_operand_size<S>(tile_rows, p.features);
  const int64_t value_size = p.value_is_key ? 0 : left_operand_size<S>(tile_rows, p.width);
  const int64_t grad_value_size = p.value_is_key ? 0 : tile_rows * width;
  Scratch<A> scratch(key_size + value_size + tile_queries * (p.features + p.width + features + width + 4) +
                         tile_rows * (2 * tile_queries + features) + grad_value_size,
                     14);
  A* staged_key = scratch.take(key_size);
  A* staged_value = scratch.take(value_size);
  A* query_columns = scratch.take(tile_queries * p.features);
  A* upstream_columns = scratch.take(tile_queries * p.width);
  A* query_rows = scratch.take(tile_queries * features);
  A* upstream_rows = scratch.take(tile_queries * width);
  A* log_sums = scratch.take(tile_queries);
  A* deltas = scratch.take(tile_queries);
  A* some_centers = scratch.take(tile_queries);
  A* mask_scratch = scratch.take(tile_queries);
  A* scores = scratch.take(tile_rows * tile_queries);
  A* gradients = scratch.take(tile_rows * tile_queries);
  A* key_sums = scratch.take(tile_rows * features);
  A* value_sums = p.value_is_key ? key_sums : scratch.take(grad_value_size);
  const A scale = static_cast<A>(p.scale);
  for (int64_t item = begin; item < end; ++item) {
    const Tile tile = tile_of(item, p.keys, tile_rows);
    const Rows<A> key = left_operand(sequence_of<S>(p.key, p.inner, tile.sequence) + tile.first * p.key.row, p.key.row,
                                     tile.rows, p.features, staged_key);
    const Rows<A> value =
        p.value_is_key ? key
                       : left_operand(sequence_of<S>(p.value, p.inner, tile.sequence) + tile.first * p.value.row,
                                      p.value.row, tile.rows, p.width, staged_value);
    const S* query = sequence_of<S>(p.query, p.inner, tile.sequence);
    const S* grad_context = sequence_of<S>(p.grad_context, p.inner, tile.sequence);
    const A* log_sum = sequence_of<A>(p.log_sum, p.inner, tile.sequence);
    const A* centers = p.direction == 0 ? sequence_of<A>(p.centers, p.inner, tile.sequence) : nullptr;
    const A* delta = static_cast<const A*>(p.delta) + tile.sequence * p.queries;
    const uint8_t* padding =
        p.padding.data == nullptr ? nullptr : sequence_of<uint8_t>(p.padding, p.inner, tile.sequence);
    const A twice_grad_loss = twice_grad_loss_of<A>(p, tile.sequence);
    for (int64_t first = 0; first < p.queries; first += kTileKeys) {
      const int64_t count = at_most(p.queries - first, kTileKeys), padded = in_panels<A>(count);
      for (int64_t t = 0; t < padded; ++t) {
        const int64_t row = first + t;
        log_sums[t] = t < count ? log_sum[row * p.log_sum.row] : kInfinity<A>;
        deltas[t] = t < count ? delta[row] : A(0);
        some_centers[t] = t < count && centers != nullptr ? centers[row * p.centers.row] : A(0);
      }
      const S* some_queries = query + first * p.query.row;
      const S* some_upstream = grad_context + first * p.grad_context.row;
      pack_as_columns(some_queries, p.query.row, count, p.features, query_columns);
      pack_as_columns(some_upstream, p.grad_context.row, count, p.width, upstream_columns);
      pack_as_rows(some_queries, p.query.row, count, p.features, query_rows);
      pack_as_rows(some_upstream, p.grad_context.row, count, p.width, upstream_rows);
      multiply(tile.rows, padded, p.features, key.data, key.stride, query_columns, scores, tile_queries, false);
      multiply(tile.rows, padded, p.width, value.data, value.stride, upstream_columns, gradients, tile_queries, false);
      for (int64_t m = 0; m < tile.rows; ++m) {
        const int64_t row = tile.first + m;
        const A bias = padding != nullptr && padding[row * p.padding.row] != 0 ? -kInfinity<A> : A(0);
        const A* mask = mask_column(p, row, some_centers, first, padded, mask_scratch);
        with_mode(p.mode, [&]<Mode kMode>() {
          key_row_backward<kMode>(scores + m * tile_queries, gradients + m * tile_queries, bias, mask, padded, log_sums,
                                  deltas, scale, twice_grad_loss);
        });
      }
      const bool later = first > 0;
      multiply(tile.rows, features, count, scores, tile_queries, query_rows, key_sums, features, later);
      multiply(tile.rows, width, count, gradients, tile_queries, upstream_rows, value_sums, width,
               later || p.value_is_key);
    }
    const int64_t out = tile.sequence * p.keys + tile.first;
    for (int64_t m = 0; m < tile.rows; ++m) {
      store_row(key_sums + m * features, A(1), p.features, static_cast<S*>(p.grad_key) + (out + m) * p.features);
      if (p.value_is_key) continue;
      store_row(value_sums + m * width, A(1), p.width, static_cast<S*>(p.grad_value) + (out + m) * p.width);
    }
  }
}

}  // namespace sgela::SGELA_ISA
