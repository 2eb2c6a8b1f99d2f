// Short sequences, forward: one thread owns whole sequences, and everything of a sequence stays in its L1 cache.
//
// Memory: query, key and value are read once, context is written once; scores live in scratch of a few rows. For each
// block of query rows: scores, softmax with mask, loss and moment, then the context.
#pragma once

#include "locality_attention/products.h"
#include "locality_attention/scratch.h"

namespace sgela::SGELA_ISA {

// What one row of scores leaves behind.
template <typename A>
struct RowSums {
  A log_sum, loss, moment;
};

// Scores to weights, in place. `bias` is -inf at padding and behind the last key, else 0.
template <Mode kMode, typename A>
SGELA_INLINE RowSums<A> softmax_row(A* scores, const A* bias, const A* mask, int64_t padded, A scale) {
  constexpr int kLanes = Vec<A>::kLanes;
  Vec<A> largest = broadcast(-kInfinity<A>);
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
  const A total = reduce_add(sum), inverse = 1 / total;
  for (int64_t j = 0; j < padded; j += kLanes) store(scores + j, load(scores + j) * broadcast(inverse));
  RowSums<A> result{shift.lanes[0] + log_of(total), 0, 0};
  if constexpr (kMode >= Mode::kLas) result.loss = reduce_add(squares) * inverse * inverse;
  if constexpr (kMode == Mode::kLas) result.moment = result.loss;
  if constexpr (kMode == Mode::kLasDetached) result.moment = reduce_add(products) * inverse * inverse;
  return result;
}

template <typename A>
SGELA_INLINE RowSums<A> softmax_row(Mode mode, A* scores, const A* bias, const A* mask, int64_t padded, A scale) {
  switch (mode) {
    case Mode::kBas:
      return softmax_row<Mode::kBas>(scores, bias, mask, padded, scale);
    case Mode::kMbas:
      return softmax_row<Mode::kMbas>(scores, bias, mask, padded, scale);
    case Mode::kLas:
      return softmax_row<Mode::kLas>(scores, bias, mask, padded, scale);
    default:
      return softmax_row<Mode::kLasDetached>(scores, bias, mask, padded, scale);
  }
}

// -inf where a key is padding and behind the last one, else 0. Returns whether any key is left.
template <typename A>
SGELA_INLINE bool fill_bias(const uint8_t* padding, int64_t stride, int64_t keys, int64_t padded, A* bias) {
  bool any = false;
  for (int64_t j = 0; j < keys; ++j) {
    const bool taken = padding == nullptr || padding[j * stride] == 0;
    bias[j] = taken ? A(0) : -kInfinity<A>;
    any |= taken;
  }
  for (int64_t j = keys; j < padded; ++j) bias[j] = -kInfinity<A>;
  return any;
}

// Row `row` of the sequence after `sequence`, if there is one: short rows a stride apart are too little for the
// processor's own prefetching.
template <typename S>
SGELA_INLINE void prefetch_next(const Strided& tensor, int64_t inner, int64_t sequence, int64_t end, int64_t row,
                                int64_t columns) {
  if (sequence + 1 >= end) return;
  const S* next = sequence_of<S>(tensor, inner, sequence + 1) + row * tensor.row;
  for (int64_t i = 0; i < columns; i += 64 / static_cast<int64_t>(sizeof(S))) __builtin_prefetch(next + i);
}

template <typename S>
void rows_forward(const Forward& p, int64_t begin, int64_t end) {
  using A = typename AccumulationOf<S>::Type;
  constexpr int64_t kLanes = Vec<A>::kLanes;
  const int64_t keys = rounded_up(p.keys, kLanes), features = rounded_up(p.features, kLanes);
  const int64_t key_size = staging_size<S>(p.keys, p.features);
  const int64_t value_size = p.value_is_key ? 0 : staging_size<S>(p.keys, p.width);
  const int64_t query_size = staging_size<S>(kBlock, p.features);
  Scratch<A> scratch(query_size + key_size + value_size + (kBlock + 2) * keys, 6);
  A* staged_query = scratch.take(query_size);
  A* staged_key = scratch.take(key_size);
  A* staged_value = scratch.take(value_size);
  A* scores = scratch.take_zeros(kBlock * keys);
  A* bias = scratch.take(keys);
  A* mask_scratch = scratch.take(keys);
  const A scale = static_cast<A>(p.scale);
  bool any = fill_bias<A>(nullptr, 0, p.keys, keys, bias);
  const int block = even_block(p.queries);
  const bool past_cache = goes_past_caches<S>(p.context, p.sequences() * p.queries, p.width);
  for (int64_t sequence = begin; sequence < end; ++sequence) {
    if (p.padding.data != nullptr) {
      any = fill_bias(sequence_of<uint8_t>(p.padding, p.inner, sequence), p.padding.row, p.keys, keys, bias);
    }
    const S* query = sequence_of<S>(p.query, p.inner, sequence);
    const A* centers = p.direction == 0 ? sequence_of<A>(p.centers, p.inner, sequence) : nullptr;
    const Rows<A> key =
        stage(sequence_of<S>(p.key, p.inner, sequence), p.key.row, p.keys, p.features, staged_key);
    const Rows<A> value =
        p.value_is_key
            ? key
            : stage(sequence_of<S>(p.value, p.inner, sequence), p.value.row, p.keys, p.width, staged_value);
    S* context = static_cast<S*>(p.context) + sequence * p.queries * p.width;
    A* log_sum = static_cast<A*>(p.log_sum) + sequence * p.queries;
    A* moment = static_cast<A*>(p.moment) + sequence * p.queries;
    A loss = 0;
    for (int64_t first = 0; first < p.queries; first += block) {
      const int rows = static_cast<int>(p.queries - first < block ? p.queries - first : block);
      const Rows<A> some = stage(query + first * p.query.row, p.query.row, rows, p.features, staged_query);
      dots(some, rows, key, p.keys, features, scores, keys);
      for (int m = 0; m < rows; ++m) {
        const int64_t row = first + m;
        prefetch_next<S>(p.query, p.inner, sequence, end, row, p.features);
        if (row < p.keys) prefetch_next<S>(p.key, p.inner, sequence, end, row, p.features);
        const A center = centers == nullptr ? A(0) : centers[row * p.centers.row];
        const A* mask = mask_row(p, row, center, 0, keys, mask_scratch);
        RowSums<A> sums{kInfinity<A>, 0, 0};
        if (any) {
          sums = softmax_row(p.mode, scores + m * keys, bias, mask, keys, scale);
        } else {
          for (int64_t j = 0; j < keys; ++j) scores[m * keys + j] = 0;
        }
        log_sum[row] = sums.log_sum;
        moment[row] = sums.moment;
        loss += sums.loss;
      }
      const Weighted<A> term{scores, keys, 1, value, p.keys};
      combine(&term, 1, rows, context + first * p.width, p.width, past_cache);
    }
    static_cast<A*>(p.loss)[sequence] = loss;
  }
  if (past_cache) fence();
}

}  // namespace sgela::SGELA_ISA
