// The kernels of batched_lstm, compiled for: baseline.

#define SGELA_ISA baseline
#include "batched_lstm/kernels.h"

namespace sgela::lstm {

template <>
const Kernels<float>& kernels_baseline<float>() {
  return baseline::kLstmKernels<float>;
}

template <>
const Kernels<double>& kernels_baseline<double>() {
  return baseline::kLstmKernels<double>;
}

}  // namespace sgela::lstm
