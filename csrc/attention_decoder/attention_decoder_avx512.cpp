// The kernels of attention_decoder, compiled for: avx512.

#define SGELA_ISA avx512
#include "attention_decoder/kernels.h"

namespace sgela::decoder {

template <>
const Kernels<float>& kernels_avx512<float>() {
  return avx512::kDecoderKernels<float>;
}

template <>
const Kernels<double>& kernels_avx512<double>() {
  return avx512::kDecoderKernels<double>;
}

}  // namespace sgela::decoder
