// The kernels of gated_temporal_pooling, compiled for: baseline.

#define SGELA_ISA baseline
#include "gated_temporal_pooling/kernels.h"

namespace sgela::pooling {

template <>
const Kernels<float>& kernels_baseline<float>() {
  return baseline::kPoolingKernels<float>;
}

template <>
const Kernels<double>& kernels_baseline<double>() {
  return baseline::kPoolingKernels<double>;
}

}  // namespace sgela::pooling
