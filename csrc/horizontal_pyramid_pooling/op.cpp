// The op `sgela_fast::horizontal_pyramid_pooling` and its backward on the CPU: checks of what would be read or written
// out of bounds, outputs, the plan of the pyramid, and the choice of kernels by storage dtype and instruction set. The
// schemas are defined in Python.

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <limits>
#include <memory>
#include <new>
#include <numeric>
#include <tuple>
#include <vector>

#include "common/choose_kernels.h"
#include "common/huge_pages.h"
#include "horizontal_pyramid_pooling/params.h"

namespace sgela::horizontal_pyramid_pooling {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// Pixels that are worth handing to another thread.
constexpr int64_t kPixelsOfAThread = 1 << 16;
// Gradients of this many bytes are written past the caches: the next reader would not find them there anyway.
constexpr int64_t kMoreThanCaches = 16 << 20;
constexpr int64_t kHuge = 4 << 20;

const Kernels& chosen_kernels(ScalarType type) {
  const Storage storage = storage_of<Storage>(type, "horizontal_pyramid_pooling");
#if defined(__x86_64__)
  return choose_kernels(storage, &kernels_baseline, &kernels_avx2, &kernels_avx512);
#else
  return choose_kernels(storage, &kernels_baseline, &kernels_baseline, &kernels_baseline);
#endif
}

template <size_t kRank>
struct Shape {
  std::array<int64_t, kRank> sizes, strides;

  // Dense, with the dimensions in memory in this order, the slowest first.
  Shape(std::array<int64_t, kRank> given, std::array<size_t, kRank> order) : sizes(given) {
    int64_t stride = 1;
    for (size_t i = kRank; i-- > 0;) {
      strides[order[i]] = stride;
      stride *= std::max<int64_t>(sizes[order[i]], 1);
    }
  }

  Tensor empty(ScalarType type) const {
    const int32_t dtype = torch::stable::detail::to<int32_t>(torch::stable::detail::from(type));
    AtenTensorHandle handle = nullptr;
    STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(static_cast<int64_t>(kRank), sizes.data(), strides.data(),
                                                           dtype, aoti_torch_device_type_cpu(), 0, &handle));
    return Tensor(handle);
  }
};

// Strips in memory: for each map, or first of all.
Shape<3> shape_of_strips(int64_t images, const Pyramid& p, bool strips_first) {
  using Order = std::array<size_t, 3>;
  return {{images, p.channels, p.strips}, strips_first ? Order{2, 0, 1} : Order{0, 1, 2}};
}

// The plan of `bins`, finest first; each is combined from the coarsest nodes before it that it can be made of.
std::vector<Level> plan(Pyramid& p, const std::vector<int64_t>& bins) {
  STD_TORCH_CHECK(!bins.empty(), "horizontal_pyramid_pooling: there must be one bin or more");
  STD_TORCH_CHECK(p.height > 0 && p.width > 0 && p.width <= std::numeric_limits<int32_t>::max() / p.height,
                  "horizontal_pyramid_pooling: maps must have from 1 to 2147483647 pixels");
  std::vector<Level> levels;
  p.blocks = 1;
  for (const int64_t strips : bins) {
    STD_TORCH_CHECK(strips > 0 && p.height % strips == 0, "horizontal_pyramid_pooling: each bin must divide the height");
    p.blocks = std::lcm(p.blocks, strips);
    levels.push_back({.strips = strips, .place = p.strips, .share = static_cast<double>(strips) / p.pixels()});
    p.strips += strips;
  }
  std::stable_sort(levels.begin(), levels.end(), [](const Level& a, const Level& b) { return a.strips > b.strips; });
  p.nodes = p.blocks;
  for (size_t l = 0; l < levels.size(); ++l) {
    Level& level = levels[l];
    if (l == 0 && level.strips == p.blocks) continue;  // the blocks are its strips
    int64_t nodes = p.blocks;
    for (size_t finer = 0; finer < l; ++finer) {
      if (levels[finer].strips % level.strips != 0) continue;
      nodes = levels[finer].strips, level.source = levels[finer].node;
    }
    level.children = nodes / level.strips;
    level.node = p.nodes;
    p.nodes += level.strips;
  }
  p.levels = levels.data(), p.level_count = static_cast<int64_t>(levels.size());
  return levels;
}

Panels panels_of(const Pyramid& p, bool of_images) {
  const auto panels_in = [](int64_t maps) { return (maps + kPanel - 1) / kPanel; };
  if (!of_images) return {false, 0, panels_in(p.maps)};
  return {true, panels_in(p.channels), p.maps / p.channels * panels_in(p.channels)};
}

// Calls run(scratch, begin, end) for all panels, in several threads if there is enough to do.
template <typename Run>
void over_panels(const Pyramid& p, const Panels& panels, int64_t scratch_bytes, const Run& run) {
  const int64_t grain = kPixelsOfAThread / (p.pixels() * kPanel) + 1;
  torch::stable::parallel_for(0, panels.count, grain, [&](int64_t begin, int64_t end) {
    struct Delete {
      void operator()(char* memory) const { ::operator delete[](memory, std::align_val_t(64)); }
    };
    const std::unique_ptr<char[], Delete> scratch(new (std::align_val_t(64)) char[scratch_bytes]());
    run(scratch.get(), begin, end);
  });
}

std::tuple<Tensor, Tensor> forward(const Tensor& features, std::vector<int64_t> bins, bool strips_first,
                                   bool with_positions) {
  STD_TORCH_CHECK(features.is_cpu() && features.dim() == 4,
                  "horizontal_pyramid_pooling: features must have four dimensions and be on the CPU");
  Forward p;
  p.channels = features.size(1), p.height = features.size(2), p.width = features.size(3);
  p.maps = features.size(0) * p.channels;
  const std::vector<Level> levels = plan(p, bins);
  const ScalarType type = features.scalar_type();
  const Kernels& kernels = chosen_kernels(type);
  const Shape<3> shape = shape_of_strips(features.size(0), p, strips_first);
  const Tensor strips = shape.empty(type);
  const Tensor positions = with_positions ? shape.empty(ScalarType::Int) : Shape<1>({0}, {0}).empty(ScalarType::Int);
  if (p.maps == 0) return {strips, positions};
  const int64_t map_stride = strips_first ? 1 : p.strips, strip_stride = strips_first ? p.maps : 1;
  p.results = {strips.mutable_data_ptr(), map_stride, strip_stride};
  if (with_positions) p.positions = {positions.mutable_data_ptr(), map_stride, strip_stride};
  p.features = features.const_data_ptr();
  p.stride_n = features.stride(0), p.stride_c = features.stride(1);
  p.stride_w = p.width > 1 ? features.stride(3) : 1;
  p.stride_h = p.height > 1 ? features.stride(2) : p.stride_w * p.width;
  if (p.stride_w == 1 && p.stride_h == p.width && p.pixels() >= kernels.lanes) {
    p.layout = Layout::kPlanar;
  } else if (p.stride_c == 1) {
    p.layout = Layout::kInterleaved;
  }
  p.panels = panels_of(p, p.layout == Layout::kInterleaved);
  over_panels(p, p.panels, kernels.forward_scratch(p),
              [&](void* scratch, int64_t begin, int64_t end) { kernels.forward(p, scratch, begin, end); });
  return {strips, positions};
}

// Whether the kernels can read strips where they lie: images and channels as one dimension, and it or the strips dense.
bool is_readable(const Tensor& tensor) {
  const int64_t images = tensor.size(0), channels = tensor.size(1);
  const bool merged = images == 1 || channels == 1 || tensor.stride(0) == channels * tensor.stride(1);
  const int64_t map_stride = channels > 1 ? tensor.stride(1) : tensor.stride(0);
  return merged && (map_stride == 1 || tensor.size(2) == 1 || tensor.stride(2) == 1);
}

Strips take_strips(const Tensor& tensor) {
  return {const_cast<void*>(tensor.const_data_ptr()), tensor.size(1) > 1 ? tensor.stride(1) : tensor.stride(0),
          tensor.stride(2)};
}

Tensor backward(const Tensor& grad_strips, const Tensor& positions, int64_t height, int64_t width,
                std::vector<int64_t> bins, bool channels_last) {
  STD_TORCH_CHECK(grad_strips.is_cpu() && positions.is_cpu() && grad_strips.dim() == 3 && positions.dim() == 3,
                  "horizontal_pyramid_pooling: gradients and positions must have three dimensions and be on the CPU");
  Backward p;
  p.channels = grad_strips.size(1), p.height = height, p.width = width;
  p.maps = grad_strips.size(0) * p.channels;
  const std::vector<Level> levels = plan(p, bins);
  bool fits = grad_strips.size(2) == p.strips && positions.scalar_type() == ScalarType::Int;
  for (int64_t d = 0; d < 3; ++d) fits = fits && positions.size(d) == grad_strips.size(d);
  STD_TORCH_CHECK(fits, "horizontal_pyramid_pooling: gradients and positions have another shape or dtype than the bins say");
  const ScalarType type = grad_strips.scalar_type();
  const Kernels& kernels = chosen_kernels(type);
  using Order = std::array<size_t, 4>;
  const Shape<4> shape({grad_strips.size(0), p.channels, height, width},
                       channels_last ? Order{0, 2, 3, 1} : Order{0, 1, 2, 3});
  const Tensor grad_features = shape.empty(type);
  if (p.maps == 0) return grad_features;
  const int64_t bytes = grad_features.numel() * static_cast<int64_t>(grad_features.element_size());
  if (bytes >= kHuge) prefer_huge_pages(grad_features.mutable_data_ptr(), static_cast<size_t>(bytes));
  // Kept here: their memory must live as long as the kernels run.
  const Tensor gradients = is_readable(grad_strips) ? grad_strips : torch::stable::contiguous(grad_strips);
  const Tensor places = is_readable(positions) ? positions : torch::stable::contiguous(positions);
  p.gradients = take_strips(gradients), p.positions = take_strips(places);
  p.grad_features = grad_features.mutable_data_ptr();
  p.past_cache = bytes >= kMoreThanCaches;
  p.panels = panels_of(p, channels_last);
  std::atomic<bool> inside{true};
  over_panels(p, p.panels, kernels.backward_scratch(p), [&](void* scratch, int64_t begin, int64_t end) {
    if (!kernels.backward(p, scratch, begin, end)) inside.store(false, std::memory_order_relaxed);
  });
  STD_TORCH_CHECK(inside.load(), "horizontal_pyramid_pooling: a position lies outside of its map");
  return grad_features;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(sgela_fast, CPU, m) {
  m.impl("horizontal_pyramid_pooling", TORCH_BOX(&forward));
  m.impl("horizontal_pyramid_pooling_backward", TORCH_BOX(&backward));
}

}  // namespace sgela::horizontal_pyramid_pooling
