// The kernels of batched_lstm, compiled for: avx2.

#define SGELA_ISA avx2
#include "batched_lstm/kernels.h"

namespace sgela::lstm {

template <>
const Kernels<float>& kernels_avx2<float>() {
  return avx2::kLstmKernels<float>;
}

template <>
const Kernels<double>& kernels_avx2<double>() {
  return avx2::kLstmKernels<double>;
}

}  // namespace sgela::lstm
