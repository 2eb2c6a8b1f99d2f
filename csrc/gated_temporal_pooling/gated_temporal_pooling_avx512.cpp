// The kernels of gated_temporal_pooling, compiled for: avx512.

#define SGELA_ISA avx512
#include "gated_temporal_pooling/kernels.h"

namespace sgela::pooling {

template <>
const Kernels<float>& kernels_avx512<float>() {
  return avx512::kPoolingKernels<float>;
}

template <>
const Kernels<double>& kernels_avx512<double>() {
  return avx512::kPoolingKernels<double>;
}

}  // namespace sgela::pooling
