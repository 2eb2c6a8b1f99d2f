// What the op hands to the kernels: pointers, sizes and strides, the plan of the pyramid, and one table of kernels for
// each instruction set and storage dtype. Strides are in elements. No torch here.
//
// H is cut into as many blocks of equal height as all bins have in common (their least common multiple). Nodes hold sum,
// maximum and position of the maximum: those of the blocks first, then those of each bin, combined from a finer one.
//
// S is the storage dtype, A the accumulation dtype: float, or double where S is double.
#pragma once

#include <cstdint>

namespace sgela::horizontal_pyramid_pooling {

// Maps that are worked on side by side, one a lane; a multiple of the lanes of every instruction set.
constexpr int64_t kPanel = 32;

// One bin of the pyramid.
struct Level {
  int64_t strips = 0;    // b
  int64_t node = 0;      // its first node
  int64_t source = 0;    // the first node that it is combined from
  int64_t children = 0;  // nodes of the source in a strip; 0 where the blocks themselves are the strips
  int64_t place = 0;     // its first strip in the result
  double share = 0;      // 1 / pixels of a strip
};

struct Pyramid {
  int64_t maps = 0, channels = 0, height = 0, width = 0;  // N * C, C, H, W
  int64_t blocks = 0, nodes = 0, strips = 0;
  const Level* levels = nullptr;  // the finest first
  int64_t level_count = 0;

  int64_t pixels() const { return height * width; }
  int64_t block_pixels() const { return pixels() / blocks; }
};

// How the kernels read a map.
enum class Layout {
  kPlanar,       // pixels are next to each other, and at least a vector of them
  kInterleaved,  // channels are next to each other
  kStrided,      // anything else
};

// Panels: consecutive maps; for interleaved maps of one image, so that its last panel may be short.
struct Panels {
  bool of_images = false;
  int64_t of_image = 0, count = 0;

  int64_t first_map(const Pyramid& p, int64_t panel) const {
    return of_images ? panel / of_image * p.channels + panel % of_image * kPanel : panel * kPanel;
  }
  // Its maps, at most kPanel.
  int64_t size(const Pyramid& p, int64_t panel) const {
    const int64_t first = first_map(p, panel);
    const int64_t end = of_images ? (first / p.channels + 1) * p.channels : p.maps;
    return end - first < kPanel ? end - first : kPanel;
  }
};

// A tensor of strips or positions, (N, C, S), in either order of memory.
struct Strips {
  void* data = nullptr;
  int64_t map = 0, strip = 0;  // strides
};

struct Forward : Pyramid {
  const void* features = nullptr;  // (N, C, H, W) of S
  int64_t stride_n = 0, stride_c = 0, stride_h = 0, stride_w = 0;
  Layout layout = Layout::kStrided;
  Panels panels;
  Strips results;    // of S
  Strips positions;  // of int32: pixel of the maximum in its map; null if they are not wanted
};

struct Backward : Pyramid {
  Strips gradients;  // of S
  Strips positions;  // of int32
  void* grad_features = nullptr;  // (N, C, H, W) of S; with interleaved panels (N, H, W, C)
  bool past_cache = false;        // more than the caches hold
  Panels panels;
};

// All work on the panels `begin` to `end` with `scratch` of the size, in bytes, that the function before them says.
struct Kernels {
  int64_t lanes;  // of A in a vector
  int64_t (*forward_scratch)(const Forward&);
  void (*forward)(const Forward&, void* scratch, int64_t begin, int64_t end);
  int64_t (*backward_scratch)(const Backward&);
  // False if a position lies outside of its map; the panel is then left out.
  bool (*backward)(const Backward&, void* scratch, int64_t begin, int64_t end);
};

enum class Storage { kFloat32, kFloat64, kBFloat16, kFloat16 };

const Kernels& kernels_baseline(Storage storage);
const Kernels& kernels_avx2(Storage storage);
const Kernels& kernels_avx512(Storage storage);

}  // namespace sgela::horizontal_pyramid_pooling
