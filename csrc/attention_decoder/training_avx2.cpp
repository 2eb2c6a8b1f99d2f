// The training kernels of attention_decoder, compiled for: avx2.

#define SGELA_ISA avx2
#include "attention_decoder/training_weights.h"

namespace sgela::decoder {

template <>
const TrainingKernels<float>& training_kernels_avx2<float>() {
  return avx2::kTrainingKernels<float>;
}

template <>
const TrainingKernels<double>& training_kernels_avx2<double>() {
  return avx2::kTrainingKernels<double>;
}

}  // namespace sgela::decoder
