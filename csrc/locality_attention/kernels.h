// The table of kernels of one instruction set. SGELA_ISA names it; each file that includes this is compiled for it.
#pragma once

#include "locality_attention/tiles_backward_sequence.h"
#include "locality_attention/tiles_forward.h"

namespace sgela::SGELA_ISA {

using locality_attention::Kernels;
using locality_attention::Storage;

template <typename S>
constexpr Kernels kKernelsOf = {
    kPanel<typename AccumulationOf<S>::Type>,
    &fill_mask<typename AccumulationOf<S>::Type>,
    &fill_mask_of_key<typename AccumulationOf<S>::Type>,
    &rows_forward<S>,
    &rows_backward<S>,
    &tiles_forward<S>,
    &add_row_losses<typename AccumulationOf<S>::Type>,
    &tiles_backward<S>,
    &tiles_grad_query<S>,
    &tiles_grad_key<S>,
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
