// The kernels of batched_lstm, compiled for: avx512.

#define SGELA_ISA avx512
#include "batched_lstm/kernels.h"

namespace sgela::lstm {

template <>
const Kernels<float>& kernels_avx512<float>() {
  return avx512::kLstmKernels<float>;
}

template <>
const Kernels<double>& kernels_avx512<double>() {
  return avx512::kLstmKernels<double>;
}

}  // namespace sgela::lstm
