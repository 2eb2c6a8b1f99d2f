// The table of kernels of one instruction set. SGELA_ISA names it; each file that includes this is compiled for it.
#pragma once

#include "horizontal_pyramid_pooling/backward.h"
#include "horizontal_pyramid_pooling/forward.h"

namespace sgela::SGELA_ISA {

template <typename S>
constexpr hpp::Kernels kPoolingOf = {
    kVectorBytes / static_cast<int64_t>(sizeof(typename PoolingOf<S>::Exact)),
    &forward_scratch<S>,
    &forward<S>,
    &backward_scratch<S>,
    &backward<S>,
};

SGELA_INLINE const hpp::Kernels& pooling_of(hpp::Storage storage) {
  switch (storage) {
    case hpp::Storage::kFloat64:
      return kPoolingOf<double>;
    case hpp::Storage::kBFloat16:
      return kPoolingOf<BFloat16>;
    case hpp::Storage::kFloat16:
      return kPoolingOf<Float16>;
    default:
      return kPoolingOf<float>;
  }
}

}  // namespace sgela::SGELA_ISA
