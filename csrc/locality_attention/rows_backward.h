// Short sequences, backward: one thread owns whole sequences; scores are computed again, in scratch of Tq x Tk.
//
// Memory: query, key, value and grad_context are read once, the gradients are written once; the forward context is not
// read, since delta = sum_j a_j D_j is at hand.
#pragma once

#include "locality_attention/rows.h"

namespace sgela::SGELA_ISA {

// One row: scores to scaled gradients of the scores, `gradients` = dC . v to the weights that pass dC on to the values.
template <Mode kMode, typename A>
SGELA_INLINE void softmax_row_backward(A* scores, A* gradients, const A* bias, const A* mask, int64_t padded, A scale,
                                       A log_sum, A twice_grad_loss) {
  constexpr int kLanes = Vec<A>::kLanes;
  Vec<A> delta = zero<A>();
  for (int64_t j = 0; j < padded; j += kLanes) {
    const Vec<A> taken = load(bias + j);
    const Vec<A> exponent = load(scores + j) * broadcast(scale) - broadcast(log_sum);
    const Vec<A> weight = exp(select(taken < zero<A>(), taken, exponent));
    Vec<A> gradient = load(gradients + j);
    if constexpr (kMode == Mode::kMbas) gradient = gradient * load(mask + j);
    if constexpr (kMode >= Mode::kLas) {
      const Vec<A> complement = load(mask + j);
      const Vec<A> factor = kMode == Mode::kLas ? complement * complement : complement;
      gradient = fma(broadcast(twice_grad_loss) * weight, factor, gradient);
    }
    delta = fma(weight, gradient, delta);
    store(scores + j, weight);
    store(gradients + j, gradient);
  }
  const Vec<A> mean = broadcast(reduce_add(delta));
  for (int64_t j = 0; j < padded; j += kLanes) {
    const Vec<A> weight = load(scores + j);
    store(scores + j, weight * (load(gradients + j) - mean) * broadcast(scale));
    Vec<A> passed_on = weight;
    if constexpr (kMode == Mode::kMbas) {
      // Scratch behind the last key stays 0 whatever the mask is there: a centre may be NaN.
      passed_on = select(load(bias + j) < zero<A>(), weight, weight * load(mask + j));
    }
    store(gradients + j, passed_on);
  }
}

template <typename A>
SGELA_INLINE void softmax_row_backward(Mode mode, A* scores, A* gradients, const A* bias, const A* mask, int64_t padded,
                                       A scale, A log_sum, A twice_grad_loss) {
  switch (mode) {
    case Mode::kBas:
      return softmax_row_backward<Mode::kBas>(scores, gradients, bias, mask, padded, scale, log_sum, twice_grad_loss);
    case Mode::kMbas:
      return softmax_row_backward<Mode::kMbas>(scores, gradients, bias, mask, padded, scale, log_sum, twice_grad_loss);
    case Mode::kLas:
      return softmax_row_backward<Mode::kLas>(scores, gradients, bias, mask, padded, scale, log_sum, twice_grad_loss);
    default:
      return softmax_row_backward<Mode::kLasDetached>(scores, gradients, bias, mask, padded, scale, log_sum,
                                                      twice_grad_loss);
  }
}

// Gradient of one row's centre: sum_j dl_j l_j (j - p) / sigma^2, from scores and dC . v of the keys from `first` on.
template <typename A>
SGELA_INLINE A center_gradient(const Backward& p, const A* scores, const A* gradients, const A* bias, A center,
                               int64_t first, int64_t padded, A log_sum, A twice_grad_loss) {
  if (p.mode != Mode::kMbas && p.mode != Mode::kLas) return 0;
  const A precision = static_cast<A>(mask_precision(p)), window = static_cast<A>(p.window);
  Vec<A> sum = zero<A>();
  for (int64_t j = 0; j < padded; j += Vec<A>::kLanes) {
    const Vec<A> taken = load(bias + j);
    const Vec<A> exponent = load(scores + j) * broadcast(static_cast<A>(p.scale)) - broadcast(log_sum);
    const Vec<A> weight = exp(select(taken < zero<A>(), taken, exponent));
    const Vec<A> offset = iota<A>() + broadcast(static_cast<A>(first + j)) - broadcast(center);
    Vec<A> upstream = weight * load(gradients + j);
    if (p.mode == Mode::kLas) {
      upstream = -broadcast(twice_grad_loss) * weight * weight * mask_at(offset, precision, window, true);
    }
    sum = fma(upstream * mask_at(offset, precision, window, false), offset, sum);
  }
  return reduce_add(sum) * 2 * precision;
}

template <typename S>
void rows_backward(const Backward& p, int64_t begin, int64_t end) {
  using A = typename AccumulationOf<S>::Type;
  constexpr int64_t kLanes = Vec<A>::kLanes;
  const int64_t keys = rounded_up(p.keys, kLanes), features = rounded_up(p.features, kLanes);
  const int64_t width = rounded_up(p.width, kLanes);
  const int64_t query_size = staging_size<S>(p.queries, p.features);
  const int64_t upstream_size = staging_size<S>(p.queries, p.width);
  const int64_t key_size = staging_size<S>(p.keys, p.features);
  const int64_t value_size = p.value_is_key ? 0 : staging_size<S>(p.keys, p.width);
  Scratch<A> scratch(query_size + upstream_size + key_size + value_size + 2 * (p.queries + 1) * keys, 8);
  A* staged_query = scratch.take(query_size);
  A* staged_upstream = scratch.take(upstream_size);
  A* staged_key = scratch.take(key_size);
  A* staged_value = scratch.take(value_size);
  A* scores = scratch.take_zeros(p.queries * keys);
  A* gradients = scratch.take_zeros(p.queries * keys);
  A* bias = scratch.take(keys);
  A* mask_scratch = scratch.take(keys);
  const A scale = static_cast<A>(p.scale);
  fill_bias<A>(nullptr, 0, p.keys, keys, bias);
  const bool query_past_cache = goes_past_caches<S>(p.grad_query, p.sequences() * p.queries, p.features);
  const bool key_past_cache = goes_past_caches<S>(p.grad_key, p.sequences() * p.keys, p.features);
  const int query_block = even_block(p.queries), key_block = even_block(p.keys);
  for (int64_t sequence = begin; sequence < end; ++sequence) {
    if (p.padding.data != nullptr) {
      fill_bias(sequence_of<uint8_t>(p.padding, p.inner, sequence), p.padding.row, p.keys, keys, bias);
    }
    const Rows<A> query =
        stage(sequence_of<S>(p.query, p.inner, sequence), p.query.row, p.queries, p.features, staged_query);
    const Rows<A> upstream = stage(sequence_of<S>(p.grad_context, p.inner, sequence), p.grad_context.row, p.queries,
                                   p.width, staged_upstream);
    const Rows<A> key = stage(sequence_of<S>(p.key, p.inner, sequence), p.key.row, p.keys, p.features, staged_key);
    const Rows<A> value =
        p.value_is_key
            ? key
            : stage(sequence_of<S>(p.value, p.inner, sequence), p.value.row, p.keys, p.width, staged_value);
    const A* log_sum = sequence_of<A>(p.log_sum, p.inner, sequence);
    const A* centers = p.direction == 0 ? sequence_of<A>(p.centers, p.inner, sequence) : nullptr;
    const bool with_loss = p.mode >= Mode::kLas && p.grad_loss.data != nullptr;
    const A twice_grad_loss = with_loss ? 2 * *sequence_of<A>(p.grad_loss, p.inner, sequence) : A(0);

    S* grad_query = static_cast<S*>(p.grad_query) + sequence * p.queries * p.features;
    for (int64_t first = 0; first < p.queries; first += query_block) {
      const int rows = static_cast<int>(p.queries - first < query_block ? p.queries - first : query_block);
      dots(from_row(query, first), rows, key, p.keys, features, scores + first * keys, keys);
      dots(from_row(upstream, first), rows, value, p.keys, width, gradients + first * keys, keys);
      for (int64_t row = first; row < first + rows; ++row) {
        prefetch_next<S>(p.query, p.inner, sequence, end, row, p.features);
        prefetch_next<S>(p.grad_context, p.inner, sequence, end, row, p.width);
        if (row < p.keys) prefetch_next<S>(p.key, p.inner, sequence, end, row, p.features);
        const A center = centers == nullptr ? A(0) : centers[row * p.centers.row];
        const A normaliser = log_sum[row * p.log_sum.row];
        if (p.grad_centers != nullptr) {
          static_cast<A*>(p.grad_centers)[sequence * p.queries + row] =
              center_gradient(p, scores + row * keys, gradients + row * keys, bias, center, 0, keys, normaliser,
                              twice_grad_loss);
        }
        softmax_row_backward(p.mode, scores + row * keys, gradients + row * keys, bias,
                             mask_row(p, row, center, 0, keys, mask_scratch), keys, scale, normaliser, twice_grad_loss);
      }
      const Weighted<A> term{scores + first * keys, keys, 1, key, p.keys};
      combine(&term, 1, rows, grad_query + first * p.features, p.features, query_past_cache);
    }

    S* grad_key = static_cast<S*>(p.grad_key) + sequence * p.keys * p.features;
    S* grad_value = static_cast<S*>(p.grad_value) + (p.value_is_key ? 0 : sequence * p.keys * p.width);
    for (int64_t first = 0; first < p.keys; first += key_block) {
      const int rows = static_cast<int>(p.keys - first < key_block ? p.keys - first : key_block);
      const Weighted<A> terms[] = {{scores + first, 1, keys, query, p.queries},
                                   {gradients + first, 1, keys, upstream, p.queries}};
      combine(terms, p.value_is_key ? 2 : 1, rows, grad_key + first * p.features, p.features,
              key_past_cache);
      if (!p.value_is_key) combine(terms + 1, 1, rows, grad_value + first * p.width, p.width, false);
    }
  }
  if (query_past_cache || key_past_cache) fence();
}

}  // namespace sgela::SGELA_ISA
