// The training kernels of attention_decoder, compiled for: avx512.

#define SGELA_ISA avx512
#include "attention_decoder/training_weights.h"

namespace sgela::decoder {

template <>
const TrainingKernels<float>& training_kernels_avx512<float>() {
  return avx512::kTrainingKernels<float>;
}

template <>
const TrainingKernels<double>& training_kernels_avx512<double>() {
  return avx512::kTrainingKernels<double>;
}

}  // namespace sgela::decoder
