// The kernels for AVX-512 (F, BW, DQ, VL).
#define SGELA_ISA avx512
#include "locality_attention/kernels.h"

namespace sgela::locality_attention {

const Kernels& kernels_avx512(Storage storage) { return sgela::avx512::kernels_of(storage); }

}  // namespace sgela::locality_attention
