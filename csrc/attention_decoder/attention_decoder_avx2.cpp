// The kernels of attention_decoder, compiled for: avx2.

#define SGELA_ISA avx2
#include "attention_decoder/kernels.h"

namespace sgela::decoder {

template <>
const Kernels<float>& kernels_avx2<float>() {
  return avx2::kDecoderKernels<float>;
}

template <>
const Kernels<double>& kernels_avx2<double>() {
  return avx2::kDecoderKernels<double>;
}

}  // namespace sgela::decoder
