// The kernels for AVX-512 (F, BW, DQ, VL).
#define SGELA_ISA avx512
#include "horizontal_pyramid_pooling/kernels.h"

namespace sgela::horizontal_pyramid_pooling {

const Kernels& kernels_avx512(Storage storage) { return sgela::avx512::pooling_of(storage); }

}  // namespace sgela::horizontal_pyramid_pooling
