// Strips of a panel of maps, one map a lane. Each pixel is read once: sums and maxima of blocks go to the scratch, a few KB, and are
// combined there, all maps of the panel in step. One thread owns a panel.
//
// Sums decide about NaN: a NaN in a strip makes its sum NaN and so its value, whatever the comparisons made of it. Only
// the maximum's position is then looked for again, pixel by pixel.
#pragma once

#include "horizontal_pyramid_pooling/panel.h"

namespace sgela::SGELA_ISA {

// Vectors of maps whose sums grow side by side: one addition need not wait for the one before.
constexpr int kVectors = 2;
// Pixels that are turned around at a time.
constexpr int64_t kTransposed = 128;

// Nodes of a panel: (nodes, kPanel) each, positions only if they are wanted.
template <typename A, bool kWithPositions>
struct Nodes {
  using Exact = A;
  static constexpr bool kPositions = kWithPositions;

  A *sums, *maxima;
  typename PositionOf<A>::Type* positions;

  Nodes(const hpp::Forward& p, void* scratch)
      : sums(static_cast<A*>(scratch)),
        maxima(sums + p.nodes * kPanel),
        positions(reinterpret_cast<typename PositionOf<A>::Type*>(maxima + p.nodes * kPanel)) {}
};

template <typename S>
int64_t forward_scratch(const hpp::Forward& p) {
  using A = typename PoolingOf<S>::Exact;
  // Sums, maxima, positions, pixels that are turned around and the results of a vector of maps.
  const int64_t turned = kTransposed * kVectors * Vec<A>::kLanes;
  return (3 * p.nodes * kPanel + turned + Vec<A>::kLanes * p.strips) * static_cast<int64_t>(sizeof(A));
}

template <typename S>
SGELA_INLINE const S* map_at(const hpp::Forward& p, int64_t map) {
  return static_cast<const S*>(p.features) + map / p.channels * p.stride_n + map % p.channels * p.stride_c;
}

// Each kind of maps calls `pixel(load)` for the pixels of some rows in the order of memory; `load(v)` is vector v of the
// maps there.

// Maps whose pixels lie side by side, read as vectors along the pixels and turned around in the scratch. Rows are asked for in
// the order of memory.
template <typename S>
struct Planar {
  using A = typename PoolingOf<S>::Exact;
  static constexpr int kLanes = Vec<A>::kLanes, kWidth = kVectors * kLanes;

  const S* maps[kWidth];
  A* turned;  // (kTransposed, kWidth)
  int64_t pixels, begin, end;

  template <typename F>
  SGELA_INLINE void visit(const hpp::Forward& p, int64_t row, int64_t rows, F pixel) {
    const int64_t stop = (row + rows) * p.width;
    for (int64_t at = row * p.width; at < stop;) {
      if (at >= end) turn(at);
      const int64_t until = end < stop ? end : stop;
      const A* from = turned + (at - begin) * kWidth;
      for (; at < until; ++at, from += kWidth) pixel([from](int v) { return load(from + v * kLanes); });
    }
  }

  __attribute__((noinline)) void turn(int64_t pixel) {
    // At least a vector of pixels, and none beyond the map: the last ones may be turned again.
    begin = pixel + kLanes <= pixels ? pixel : pixels - kLanes;
    end = begin + kTransposed < pixels ? begin + kTransposed : pixels;
    for (int64_t x = begin; x < end; x += kLanes) {
      const int64_t at = x + kLanes <= pixels ? x : pixels - kLanes;
      A* to = turned + (at - begin) * kWidth;
      for (int v = 0; v < kVectors; ++v) {
        Vec<A> rows[kLanes];
        for (int i = 0; i < kLanes; ++i) {
          // Many short maps are too many streams for the processor to foresee: ask for those of the next call. Past
          // the last one nothing is read by this.
          __builtin_prefetch(maps[v * kLanes + i] + at + kWidth * pixels);
          rows[i] = load(maps[v * kLanes + i] + at);
        }
        transpose(rows);
        for (int i = 0; i < kLanes; ++i) store(to + i * kWidth + v * kLanes, rows[i]);
      }
    }
  }
};

// Consecutive channels, which lie side by side.
template <typename S>
struct Interleaved {
  const S* maps;

  template <typename F>
  SGELA_INLINE void visit(const hpp::Forward& p, int64_t row, int64_t rows, F pixel) const {
    for (int64_t h = row; h < row + rows; ++h) {
      for (int64_t w = 0; w < p.width; ++w) {
        const S* from = maps + h * p.stride_h + w * p.stride_w;
        __builtin_prefetch(from + kPanel);  // what the next panel reads, of the same pixel
        pixel([from](int v) { return load(from + v * Vec<typename PoolingOf<S>::Exact>::kLanes); });
      }
    }
  }
};

// Maps that lie anywhere, one vector of them.
template <typename S>
struct Gathered {
  static constexpr int kLanes = Vec<typename PoolingOf<S>::Exact>::kLanes;
  const S* maps[kLanes];

  template <typename F>
  SGELA_INLINE void visit(const hpp::Forward& p, int64_t row, int64_t rows, F pixel) const {
    for (int64_t h = row; h < row + rows; ++h) {
      for (int64_t w = 0; w < p.width; ++w) {
        S pixels[kLanes];
        for (int i = 0; i < kLanes; ++i) pixels[i] = maps[i][h * p.stride_h + w * p.stride_w];
        pixel([&pixels](int) { return load(pixels); });
      }
    }
  }
};

// Blocks of `kCount` vectors of maps, from the panel's map `j` on: one map a lane, pixel after pixel.
template <int kCount, typename N, typename Maps>
SGELA_INLINE void reduce_lanes(const hpp::Forward& p, Maps maps, int64_t j, const N& nodes) {
  using A = typename N::Exact;
  constexpr int kLanes = Vec<A>::kLanes;
  const int64_t rows = p.height / p.blocks;
  for (int64_t block = 0; block < p.blocks; ++block) {
    Vec<A> sum[kCount], largest[kCount];
    Integers<A> position[kCount];
    // Where nothing exceeds minus infinity the first pixel's position stays; where something is NaN it is looked for again.
    for (int v = 0; v < kCount; ++v) {
      sum[v] = zero<A>(), largest[v] = broadcast(-static_cast<A>(__builtin_huge_val()));
      position[v] = Integers<A>{} + static_cast<typename PositionOf<A>::Type>(block * rows * p.width);
    }
    Integers<A> here = position[0];
    maps.visit(p, block * rows, rows, [&](auto load_vector) {
      for (int v = 0; v < kCount; ++v) {
        const Vec<A> pixel = load_vector(v);
        sum[v] = sum[v] + pixel;
        if constexpr (N::kPositions) position[v] = select_integers(pixel > largest[v], here, position[v]);
        largest[v] = max(pixel, largest[v]);
      }
      if constexpr (N::kPositions) here += 1;
    });
    for (int v = 0; v < kCount; ++v) {
      const int64_t to = block * kPanel + j + v * kLanes;
      store(nodes.sums + to, sum[v]);
      store(nodes.maxima + to, largest[v]);
      if constexpr (N::kPositions) store_integers<A>(nodes.positions + to, position[v]);
    }
  }
}

// The maps of a vector of lanes; those beyond the panel's end are its last.
template <typename S>
SGELA_INLINE void point_to(const hpp::Forward& p, int64_t first_map, int64_t j, int64_t maps, int64_t lanes,
                           const S** pointers) {
  for (int64_t i = 0; i < lanes; ++i) pointers[i] = map_at<S>(p, first_map + (j + i < maps ? j + i : maps - 1));
}

template <typename S, typename N>
SGELA_INLINE void reduce_blocks(const hpp::Forward& p, int64_t first_map, int64_t maps, const N& nodes,
                                typename N::Exact* turned) {
  constexpr int kLanes = Vec<typename N::Exact>::kLanes;
  int64_t j = 0;
  if (p.layout == hpp::Layout::kPlanar) {
    for (; j < maps; j += kVectors * kLanes) {
      Planar<S> planar{{}, turned, p.pixels(), 0, 0};
      point_to(p, first_map, j, maps, kVectors * kLanes, planar.maps);
      reduce_lanes<kVectors>(p, planar, j, nodes);
    }
  } else if (p.layout == hpp::Layout::kInterleaved) {
    for (; j + kVectors * kLanes <= maps; j += kVectors * kLanes) {
      reduce_lanes<kVectors>(p, Interleaved<S>{map_at<S>(p, first_map + j)}, j, nodes);
    }
  }
  for (; j < maps; j += kLanes) {
    Gathered<S> gathered;
    point_to(p, first_map, j, maps, kLanes, gathered.maps);
    reduce_lanes<1>(p, gathered, j, nodes);
  }
}

// Nodes of all bins from those of the blocks. Of equal maxima the first child's position stays.
template <typename N>
SGELA_INLINE void combine(const hpp::Forward& p, const N& nodes) {
  using A = typename N::Exact;
  for (int64_t l = 0; l < p.level_count; ++l) {
    const hpp::Level& level = p.levels[l];
    if (level.children == 0) continue;
    for (int64_t strip = 0; strip < level.strips; ++strip) {
      for (int64_t j = 0; j < kPanel; j += Vec<A>::kLanes) {
        int64_t child = (level.source + strip * level.children) * kPanel + j;
        Vec<A> sum = load(nodes.sums + child), largest = load(nodes.maxima + child);
        Integers<A> position{};
        if constexpr (N::kPositions) position = load_integers<A>(nodes.positions + child);
        for (int64_t i = 1; i < level.children; ++i) {
          child += kPanel;
          const Vec<A> other = load(nodes.maxima + child);
          sum = sum + load(nodes.sums + child);
          if constexpr (N::kPositions) {
            position = select_integers(other > largest, load_integers<A>(nodes.positions + child), position);
          }
          largest = max(other, largest);
        }
        const int64_t to = (level.node + strip) * kPanel + j;
        store(nodes.sums + to, sum);
        store(nodes.maxima + to, largest);
        if constexpr (N::kPositions) store_integers<A>(nodes.positions + to, position);
      }
    }
  }
}

// The first NaN of a strip, else its first maximum.
template <typename S, typename A>
int64_t position_with_nan(const hpp::Forward& p, const S* map, int64_t first_row, int64_t rows) {
  int64_t position = first_row * p.width;
  A largest = -static_cast<A>(__builtin_huge_val());
  for (int64_t row = first_row; row < first_row + rows; ++row) {
    for (int64_t column = 0; column < p.width; ++column) {
      const A pixel = widened<A>(map[row * p.stride_h + column * p.stride_w]);
      if (pixel != pixel) return row * p.width + column;
      if (pixel > largest) largest = pixel, position = row * p.width + column;
    }
  }
  return position;
}

// Values take the place of the sums. Returns whether one of them is NaN.
template <typename N>
SGELA_INLINE bool sums_to_values(const hpp::Forward& p, const N& nodes) {
  using A = typename N::Exact;
  Integers<A> nan{};
  for (int64_t l = 0; l < p.level_count; ++l) {
    const hpp::Level& level = p.levels[l];
    const Vec<A> share = broadcast(static_cast<A>(level.share));
    for (int64_t node = level.node * kPanel; node < (level.node + level.strips) * kPanel; node += Vec<A>::kLanes) {
      const Vec<A> value = fma(load(nodes.sums + node), share, load(nodes.maxima + node));
      nan |= value.lanes != value.lanes;
      store(nodes.sums + node, value);
    }
  }
  return bits_of(Mask<A>{nan}) != 0;
}

template <typename S, typename N>
void mend_positions(const hpp::Forward& p, int64_t first_map, int64_t maps, const N& nodes) {
  for (int64_t l = 0; l < p.level_count; ++l) {
    const hpp::Level& level = p.levels[l];
    const int64_t rows = p.height / level.strips;
    for (int64_t strip = 0; strip < level.strips; ++strip) {
      for (int64_t j = 0; j < maps; ++j) {
        const int64_t node = (level.node + strip) * kPanel + j;
        if (nodes.sums[node] == nodes.sums[node]) continue;
        nodes.positions[node] = static_cast<typename PositionOf<typename N::Exact>::Type>(
            position_with_nan<S, typename N::Exact>(p, map_at<S>(p, first_map + j), strip * rows, rows));
      }
    }
  }
}

template <typename S, bool kPositions>
void pool(const hpp::Forward& p, void* scratch, int64_t begin, int64_t end) {
  using A = typename PoolingOf<S>::Exact;
  const Nodes<A, kPositions> nodes(p, scratch);
  A* turned = nodes.maxima + 2 * p.nodes * kPanel;
  A* rows = turned + kTransposed * kVectors * Vec<A>::kLanes;
  for (int64_t panel = begin; panel < end; ++panel) {
    const int64_t first_map = p.panels.first_map(p, panel), maps = p.panels.size(p, panel);
    reduce_blocks<S>(p, first_map, maps, nodes, turned);
    combine(p, nodes);
    const bool nan = sums_to_values(p, nodes);
    write_panel<S, A>(p, p.results, first_map, maps, nodes.sums, rows);
    if constexpr (kPositions) {
      if (nan) mend_positions<S>(p, first_map, maps, nodes);
      auto* position_rows = reinterpret_cast<typename PositionOf<A>::Type*>(rows);
      write_panel<int32_t, A>(p, p.positions, first_map, maps, nodes.positions, position_rows);
    }
  }
}

template <typename S>
void forward(const hpp::Forward& p, void* scratch, int64_t begin, int64_t end) {
  if (p.positions.data == nullptr) return pool<S, false>(p, scratch, begin, end);
  pool<S, true>(p, scratch, begin, end);
}

}  // namespace sgela::SGELA_ISA
