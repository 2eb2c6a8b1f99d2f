// The kernels of attention_decoder, compiled for: baseline.

#define SGELA_ISA baseline
#include "attention_decoder/kernels.h"

namespace sgela::decoder {

template <>
const Kernels<float>& kernels_baseline<float>() {
  return baseline::kDecoderKernels<float>;
}

template <>
const Kernels<double>& kernels_baseline<double>() {
  return baseline::kDecoderKernels<double>;
}

}  // namespace sgela::decoder
