// The kernels of gated_temporal_pooling, compiled for: avx2.

#define SGELA_ISA avx2
#include "gated_temporal_pooling/kernels.h"

namespace sgela::pooling {

template <>
const Kernels<float>& kernels_avx2<float>() {
  return avx2::kPoolingKernels<float>;
}

template <>
const Kernels<double>& kernels_avx2<double>() {
  return avx2::kPoolingKernels<double>;
}

}  // namespace sgela::pooling
