// The kernels for AVX2 with FMA and F16C.
#define SGELA_ISA avx2
#include "locality_attention/kernels.h"

namespace sgela::locality_attention {

const Kernels& kernels_avx2(Storage storage) { return sgela::avx2::kernels_of(storage); }

}  // namespace sgela::locality_attention
