// The kernels for AVX2 with FMA and F16C.
#define SGELA_ISA avx2
#include "horizontal_pyramid_pooling/kernels.h"

namespace sgela::horizontal_pyramid_pooling {

const Kernels& kernels_avx2(Storage storage) { return sgela::avx2::pooling_of(storage); }

}  // namespace sgela::horizontal_pyramid_pooling
