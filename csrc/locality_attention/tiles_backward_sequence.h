// Long sequences, backward in one pass: one thread owns whole sequences and computes the scores once, not twice as the
// two passes over tiles do. For as many sequences as there are threads, or more.
//
// Memory: as the two passes, and sums of grad_key and grad_value of one sequence in scratch. Every sum is taken in the
// order of the two passes, so that the results are the same bit for bit.
#pragma once

#include "locality_attention/tiles_backward.h"

namespace sgela::SGELA_ISA {

template <typename S>
void tiles_backward(const Backward& p, int64_t begin, int64_t end) {
  using A = typename AccumulationOf<S>::Type;
  const int64_t tile_keys = at_most(in_panels<A>(p.keys), kTileKeys), tile_rows = at_most(p.queries, kTileKeys);
  const int64_t features = in_panels<A>(p.features), width = in_panels<A>(p.width);
  const int64_t query_size = left_operand_size<S>(tile_rows, p.features);
  const int64_t upstream_size = left_operand_size<S>(tile_rows, p.width);
  const int64_t value_sums_size = p.value_is_key ? 0 : p.keys * width;
  const int64_t transposed_size = rounded_up(tile_keys, kTileRows) * tile_rows;
  Scratch<A> scratch(query_size + upstream_size + tile_keys * (p.features + p.width + features + 2) +
                         tile_rows * (2 * tile_keys + 2 * features + width) + transposed_size + p.keys * features +
                         value_sums_size,
                     16);
  A* staged_query = scratch.take(query_size);
  A* staged_upstream = scratch.take(upstream_size);
  A* key_columns = scratch.take(tile_keys * p.features);
  A* value_columns = scratch.take(tile_keys * p.width);
  A* key_rows = scratch.take(tile_keys * features);
  A* bias = scratch.take(tile_keys);
  A* mask_scratch = scratch.take(tile_keys);
  A* scores = scratch.take(tile_rows * tile_keys);
  A* gradients = scratch.take(tile_rows * tile_keys);
  A* query_sums = scratch.take(tile_rows * features);
  A* query_rows = scratch.take(tile_rows * features);
  A* upstream_rows = scratch.take(tile_rows * width);
  A* transposed = scratch.take(transposed_size);
  A* key_sums = scratch.take(p.keys * features);
  A* value_sums = p.value_is_key ? key_sums : scratch.take(value_sums_size);
  const A scale = static_cast<A>(p.scale);
  for (int64_t sequence = begin; sequence < end; ++sequence) {
    const S* all_queries = sequence_of<S>(p.query, p.inner, sequence);
    const S* all_upstream = sequence_of<S>(p.grad_context, p.inner, sequence);
    const S* context = sequence_of<S>(p.context, p.inner, sequence);
    const S* key = sequence_of<S>(p.key, p.inner, sequence);
    const S* value = sequence_of<S>(p.value, p.inner, sequence);
    const A* log_sum = sequence_of<A>(p.log_sum, p.inner, sequence);
    const A* moment = sequence_of<A>(p.moment, p.inner, sequence);
    const A* centers = p.direction == 0 ? sequence_of<A>(p.centers, p.inner, sequence) : nullptr;
    const A twice_grad_loss = twice_grad_loss_of<A>(p, sequence);
    A* grad_centers = p.grad_centers == nullptr ? nullptr : static_cast<A*>(p.grad_centers) + sequence * p.queries;
    S* grad_query = static_cast<S*>(p.grad_query) + sequence * p.queries * p.features;
    __builtin_memset(key_sums, 0, static_cast<uint64_t>(p.keys * features) * sizeof(A));
    __builtin_memset(value_sums, 0, static_cast<uint64_t>(value_sums_size) * sizeof(A));
    for (int64_t start = 0; start < p.queries; start += tile_rows) {
      const int64_t rows = at_most(p.queries - start, tile_rows);
      const S* some_queries = all_queries + start * p.query.row;
      const S* some_upstream = all_upstream + start * p.grad_context.row;
      const Rows<A> query = left_operand(some_queries, p.query.row, rows, p.features, staged_query);
      const Rows<A> upstream = left_operand(some_upstream, p.grad_context.row, rows, p.width, staged_upstream);
      pack_as_rows(some_queries, p.query.row, rows, p.features, query_rows);
      pack_as_rows(some_upstream, p.grad_context.row, rows, p.width, upstream_rows);
      __builtin_memset(query_sums, 0, static_cast<uint64_t>(rows * features) * sizeof(A));
      for (int64_t m = 0; grad_centers != nullptr && m < rows; ++m) grad_centers[start + m] = 0;
      for (int64_t first = 0; first < p.keys; first += kTileKeys) {
        const int64_t count = at_most(p.keys - first, kTileKeys), padded = in_panels<A>(count);
        const uint8_t* padding = nullptr;
        if (p.padding.data != nullptr) {
          padding = sequence_of<uint8_t>(p.padding, p.inner, sequence) + first * p.padding.row;
        }
        if (!fill_bias(padding, p.padding.row, count, padded, bias)) continue;
        pack_as_columns(key + first * p.key.row, p.key.row, count, p.features, key_columns);
        const A* columns = key_columns;
        if (!p.value_is_key) {
          pack_as_columns(value + first * p.value.row, p.value.row, count, p.width, value_columns);
          columns = value_columns;
        }
        multiply(rows, padded, p.features, query.data, query.stride, key_columns, scores, tile_keys, false);
        multiply(rows, padded, p.width, upstream.data, upstream.stride, columns, gradients, tile_keys, false);
        for (int64_t m = 0; m < rows; ++m) {
          const int64_t row = start + m;
          const A center = centers == nullptr ? A(0) : centers[row * p.centers.row];
          const A normaliser = log_sum[row * p.log_sum.row];
          const A delta = delta_of(some_upstream + m * p.grad_context.row, context + row * p.context.row, p.width,
                                   twice_grad_loss * moment[row * p.moment.row]);
          A *row_scores = scores + m * tile_keys, *row_gradients = gradients + m * tile_keys;
          if (grad_centers != nullptr) {
            grad_centers[row] += center_gradient(p, row_scores, row_gradients, bias, center, first, padded, normaliser,
                                                 twice_grad_loss);
          }
          const A* mask = mask_row(p, row, center, first, padded, mask_scratch);
          with_mode(p.mode, [&]<Mode kMode>() {
            query_row_backward<kMode>(row_scores, row_gradients, bias, mask, padded, normaliser, delta, scale,
                                      twice_grad_loss);
          });
        }
        pack_as_rows(key + first * p.key.row, p.key.row, count, p.features, key_rows);
        multiply(rows, features, count, scores, tile_keys, key_rows, query_sums, features, true);
        pack_rows<kTileRows>([&](int64_t m) { return scores + m * tile_keys; }, rows, count, transposed);
        multiply<A, true>(count, features, rows, transposed, 0, query_rows, key_sums + first * features, features,
                          true);
        pack_rows<kTileRows>([&](int64_t m) { return gradients + m * tile_keys; }, rows, count, transposed);
        multiply<A, true>(count, width, rows, transposed, 0, upstream_rows, value_sums + first * width, width, true);
      }
      for (int64_t m = 0; m < rows; ++m) {
        store_row(query_sums + m * features, A(1), p.features, grad_query + (start + m) * p.features);
      }
    }
    for (int64_t j = 0; j < p.keys; ++j) {
      const int64_t out = sequence * p.keys + j;
      store_row(key_sums + j * features, A(1), p.features, static_cast<S*>(p.grad_key) + out * p.features);
      if (p.value_is_key) continue;
      store_row(value_sums + j * width, A(1), p.width, static_cast<S*>(p.grad_value) + out * p.width);
    }
  }
}

}  // namespace sgela::SGELA_ISA
