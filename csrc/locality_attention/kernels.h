// The table of kernels of one instruction set. SGELA_ISA names it; each file that includes this is compiled for it.
#pragma once

#include "locality_attention/rows.h"
#include "locality_attention/rows_backward.h"

namespace sgela::SGELA_ISA {

using locality_attention::Kernels;
using locality_attention::Storage;

template <typename S>
constexpr Kernels kKernelsOf = {
    Vec<typename AccumulationOf<S>::Type>::kLanes,
    &fill_mask<typename AccumulationOf<S>::Type>,
    &rows_forward<S>,
    &rows_backward<S>,
};

SGELA_INLINE const Kernels& kernels_of(Storage storage) {
  switch (storage) {
    case Storage::kFloat64:
      return kKernelsOf<double>;
    case Storage::kBFloat16:
      return kKernelsOf<BFloat16>;
    case Storage::kFloat16:
      return kKernelsOf<Float16>;
    default:
      return kKernelsOf<float>;
  }
}

}  // namespace sgela::SGELA_ISA
