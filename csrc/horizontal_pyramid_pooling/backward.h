// Gradient of a panel of maps: the means' shares, the same for all pixels of a block, and on top of them the maxima's, at
// the positions that the forward pass kept. A map is made in the scratch, where the maxima's parts are added one strip
// after another, and then written once, past the caches if the gradient is larger than they are. One thread owns a panel.
#pragma once

#include "horizontal_pyramid_pooling/panel.h"

namespace sgela::SGELA_ISA {

// Numbers of a panel's maps side by side, or of two maps one after the other.
template <typename A>
SGELA_INLINE int64_t map_scratch(const hpp::Backward& p) {
  return p.panels.of_images ? p.pixels() * kPanel : 2 * (p.pixels() + Vec<A>::kLanes);
}

template <typename S>
int64_t backward_scratch(const hpp::Backward& p) {
  using A = typename PoolingOf<S>::Exact;
  // Shares of nodes, gradients of strips, the map and one map's strips; positions.
  const int64_t values = (p.nodes + p.strips) * kPanel + map_scratch<A>(p) + p.strips;
  return values * static_cast<int64_t>(sizeof(A)) + p.strips * (kPanel + 1) * static_cast<int64_t>(sizeof(int32_t));
}

// What every pixel of a block gets from the means of all strips around it: the coarsest bins hand theirs down.
template <typename A>
SGELA_INLINE void share_out(const hpp::Backward& p, const A* gradients, A* nodes) {
  constexpr int kLanes = Vec<A>::kLanes;
  for (int64_t i = 0; i < p.nodes * kPanel; i += kLanes) store(nodes + i, zero<A>());
  for (int64_t l = p.level_count; l-- > 0;) {
    const hpp::Level& level = p.levels[l];
    const Vec<A> share = broadcast(static_cast<A>(level.share));
    for (int64_t strip = 0; strip < level.strips; ++strip) {
      for (int64_t j = 0; j < kPanel; j += kLanes) {
        A* node = nodes + (level.node + strip) * kPanel + j;
        const Vec<A> sum = fma(load(gradients + (level.place + strip) * kPanel + j), share, load(node));
        store(node, sum);
        A* child = nodes + (level.source + strip * level.children) * kPanel + j;
        for (int64_t i = 0; i < level.children; ++i, child += kPanel) store(child, load(child) + sum);
      }
    }
  }
}

template <typename S, typename A>
SGELA_INLINE void write_row(S* to, const A* from, int64_t count, bool past_cache) {
  if constexpr (sizeof(S) == sizeof(float) && sizeof(A) == sizeof(float)) {
    constexpr int kLanes = Vec<A>::kLanes;
    if (past_cache && count % kLanes == 0 && reinterpret_cast<uintptr_t>(to) % kVectorBytes == 0) {
      for (int64_t i = 0; i < count; i += kLanes) store_past_cache(to + i, load(from + i));
      return;
    }
  }
  convert(to, from, count);
}

template <typename S, typename A>
SGELA_INLINE void write_planar(const hpp::Backward& p, int64_t first_map, int64_t maps, const A* nodes,
                               const A* gradients, const int32_t* positions, A* maps_of_two) {
  constexpr int kLanes = Vec<A>::kLanes;
  const int64_t count = p.block_pixels(), pixels = p.pixels();
  S* to = static_cast<S*>(p.grad_features) + first_map * pixels;
  // A map is written out while the next one is made in the other half: vectors that were just touched one number at a
  // time would have to wait.
  A *made = maps_of_two, *other = maps_of_two + pixels + kLanes;
  for (int64_t j = 0; j < maps; ++j) {
    for (int64_t block = 0; block < p.blocks; ++block) {
      const Vec<A> share = broadcast(nodes[block * kPanel + j]);
      // The last vector may reach into the next block, which is filled after this one.
      for (int64_t x = 0; x < count; x += kLanes) store(made + block * count + x, share);
    }
    for (int64_t s = 0; s < p.strips; ++s) made[positions[s * kPanel + j]] += gradients[s * kPanel + j];
    if (j > 0) write_row(to + (j - 1) * pixels, other, pixels, p.past_cache);
    A* made_before = other;
    other = made, made = made_before;
  }
  write_row(to + (maps - 1) * pixels, other, pixels, p.past_cache);
}

template <typename S, typename A>
SGELA_INLINE void write_interleaved(const hpp::Backward& p, int64_t first_map, int64_t maps, const A* nodes,
                                    const A* gradients, const int32_t* positions, A* map) {
  constexpr int kLanes = Vec<A>::kLanes;
  const int64_t count = p.block_pixels(), pixels = p.pixels();
  for (int64_t block = 0; block < p.blocks; ++block) {
    for (int64_t j = 0; j < kPanel; j += kLanes) {
      const Vec<A> share = load(nodes + block * kPanel + j);
      for (int64_t x = block * count; x < (block + 1) * count; ++x) store(map + x * kPanel + j, share);
    }
  }
  for (int64_t s = 0; s < p.strips; ++s) {
    for (int64_t j = 0; j < maps; ++j) map[positions[s * kPanel + j] * kPanel + j] += gradients[s * kPanel + j];
  }
  const int64_t image = first_map / p.channels, channel = first_map % p.channels;
  S* to = static_cast<S*>(p.grad_features) + image * pixels * p.channels + channel;
  for (int64_t x = 0; x < pixels; ++x) write_row(to + x * p.channels, map + x * kPanel, maps, p.past_cache);
}

// Whether all positions lie within their maps.
SGELA_INLINE bool are_inside(const hpp::Backward& p, int64_t maps, const int32_t* positions) {
  uint32_t outside = 0;
  for (int64_t s = 0; s < p.strips; ++s) {
    for (int64_t j = 0; j < maps; ++j) {
      outside |= static_cast<uint32_t>(positions[s * kPanel + j]) >= static_cast<uint32_t>(p.pixels());
    }
  }
  return outside == 0;
}

// Returns false, and leaves out the panel, if a position lies outside of its map.
template <typename S>
bool backward(const hpp::Backward& p, void* scratch, int64_t begin, int64_t end) {
  using A = typename PoolingOf<S>::Exact;
  A* nodes = static_cast<A*>(scratch);
  A* gradients = nodes + p.nodes * kPanel;
  A* row = gradients + p.strips * kPanel;
  A* map = row + p.strips;
  int32_t* positions = reinterpret_cast<int32_t*>(map + map_scratch<A>(p));
  int32_t* position_row = positions + p.strips * kPanel;
  bool all_inside = true;
  for (int64_t panel = begin; panel < end; ++panel) {
    const int64_t first_map = p.panels.first_map(p, panel), maps = p.panels.size(p, panel);
    read_panel<S>(p, p.gradients, first_map, maps, gradients, row);
    read_panel<int32_t>(p, p.positions, first_map, maps, positions, position_row);
    if (!are_inside(p, maps, positions)) {
      all_inside = false;
      continue;
    }
    share_out(p, gradients, nodes);
    if (p.panels.of_images) {
      write_interleaved<S>(p, first_map, maps, nodes, gradients, positions, map);
    } else {
      write_planar<S>(p, first_map, maps, nodes, gradients, positions, map);
    }
  }
  if (p.past_cache) fence();
  return all_inside;
}

}  // namespace sgela::SGELA_ISA
