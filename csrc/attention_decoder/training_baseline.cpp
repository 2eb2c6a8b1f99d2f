// The training kernels of attention_decoder, compiled for: baseline.

#define SGELA_ISA baseline
#include "attention_decoder/training_weights.h"

namespace sgela::decoder {

template <>
const TrainingKernels<float>& training_kernels_baseline<float>() {
  return baseline::kTrainingKernels<float>;
}

template <>
const TrainingKernels<double>& training_kernels_baseline<double>() {
  return baseline::kTrainingKernels<double>;
}

}  // namespace sgela::decoder
