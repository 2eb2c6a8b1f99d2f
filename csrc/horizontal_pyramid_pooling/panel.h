// What the kernels share: the dtypes, columns of strips that move between memory and a panel, one map a lane.
#pragma once

#include "common/vec_memory.h"
#include "horizontal_pyramid_pooling/params.h"

namespace sgela::SGELA_ISA {

namespace hpp = sgela::horizontal_pyramid_pooling;
using hpp::kPanel;

template <typename S>
struct PoolingOf {
  using Exact = float;
};
template <>
struct PoolingOf<double> {
  using Exact = double;
};

// A position in a lane beside values of A.
template <typename A>
struct PositionOf;
template <>
struct PositionOf<float> {
  using Type = int32_t;
};
template <>
struct PositionOf<double> {
  using Type = int64_t;
};

template <typename A>
using Integers = typename Native<A>::Integers;

template <typename A>
SGELA_INLINE Integers<A> load_integers(const typename PositionOf<A>::Type* from) {
  Integers<A> x;
  __builtin_memcpy(&x, from, sizeof(x));
  return x;
}

template <typename A>
SGELA_INLINE void store_integers(typename PositionOf<A>::Type* to, Integers<A> x) {
  __builtin_memcpy(to, &x, sizeof(x));
}

template <typename A>
SGELA_INLINE Integers<A> select_integers(Mask<A> where, Integers<A> yes, Integers<A> no) {
  return where.bits ? yes : no;
}

// One value, widened as vectors are.
template <typename A, typename S>
SGELA_INLINE A widened(S x) {
  return load_first(&x, 1).lanes[0];
}

template <typename A, typename S>
SGELA_INLINE void convert(S* to, const A* from, int64_t count) {
  constexpr int kLanes = Vec<A>::kLanes;
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) store(to + i, load(from + i));
  if (i < count) store_first(to + i, load_first(from + i, static_cast<int>(count - i)), static_cast<int>(count - i));
}

template <typename I>
SGELA_INLINE void convert(int32_t* to, const I* from, int64_t count) {
  for (int64_t i = 0; i < count; ++i) to[i] = static_cast<int32_t>(from[i]);
}

template <typename A, typename S>
SGELA_INLINE void widen(A* to, const S* from, int64_t count) {
  constexpr int kLanes = Vec<A>::kLanes;
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) store(to + i, load(from + i));
  for (; i < count; ++i) to[i] = widened<A>(from[i]);
}

SGELA_INLINE void widen(int32_t* to, const int32_t* from, int64_t count) {
  for (int64_t i = 0; i < count; ++i) to[i] = from[i];
}

// The strips of as many maps as A has lanes, from map `j` of a panel of nodes on, to rows of strips. I is A or as wide.
template <typename A, typename I>
SGELA_INLINE void turn_strips(const hpp::Pyramid& p, const I* nodes, int64_t j, I* rows) {
  constexpr int kLanes = Vec<A>::kLanes;
  static_assert(sizeof(A) == sizeof(I));
  for (int64_t l = 0; l < p.level_count; ++l) {
    const hpp::Level& level = p.levels[l];
    const I* from = nodes + level.node * kPanel + j;
    I* to = rows + level.place;
    int64_t strip = 0;
    for (; strip + kLanes <= level.strips; strip += kLanes) {
      Vec<A> square[kLanes];
      for (int i = 0; i < kLanes; ++i) __builtin_memcpy(&square[i], from + (strip + i) * kPanel, sizeof(square[i]));
      transpose(square);
      for (int i = 0; i < kLanes; ++i) __builtin_memcpy(to + i * p.strips + strip, &square[i], sizeof(square[i]));
    }
    for (; strip < level.strips; ++strip) {
      for (int i = 0; i < kLanes; ++i) to[i * p.strips + strip] = from[strip * kPanel + i];
    }
  }
}

// Columns of a panel, by nodes, to the memory of strips. `rows` holds the strips of a vector of maps.
template <typename S, typename A, typename I>
SGELA_INLINE void write_panel(const hpp::Pyramid& p, const hpp::Strips& to, int64_t first_map, int64_t maps,
                              const I* nodes, I* rows) {
  S* data = static_cast<S*>(to.data) + first_map * to.map;
  if (to.map == 1) {
    for (int64_t l = 0; l < p.level_count; ++l) {
      const hpp::Level& level = p.levels[l];
      for (int64_t strip = 0; strip < level.strips; ++strip) {
        convert(data + (level.place + strip) * to.strip, nodes + (level.node + strip) * kPanel, maps);
      }
    }
    return;
  }
  for (int64_t j = 0; j < maps; j += Vec<A>::kLanes) {
    turn_strips<A>(p, nodes, j, rows);
    for (int64_t i = 0; i < Vec<A>::kLanes && j + i < maps; ++i) {
      convert(data + (j + i) * to.map, rows + i * p.strips, p.strips);
    }
  }
}

// The memory of strips to columns of a panel, in the order of the strips.
template <typename S, typename A>
SGELA_INLINE void read_panel(const hpp::Pyramid& p, const hpp::Strips& from, int64_t first_map, int64_t maps,
                             A* strips, A* row) {
  const S* data = static_cast<const S*>(from.data) + first_map * from.map;
  if (from.map == 1) {
    for (int64_t s = 0; s < p.strips; ++s) widen(strips + s * kPanel, data + s * from.strip, maps);
    return;
  }
  for (int64_t j = 0; j < maps; ++j) {
    widen(row, data + j * from.map, p.strips);
    for (int64_t s = 0; s < p.strips; ++s) strips[s * kPanel + j] = row[s];
  }
}

}  // namespace sgela::SGELA_ISA
