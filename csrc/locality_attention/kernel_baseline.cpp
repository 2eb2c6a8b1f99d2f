// The kernels for processors without the instruction sets below: x86-64's baseline, or another architecture.
#define SGELA_ISA baseline
#include "locality_attention/kernels.h"

namespace sgela::locality_attention {

const Kernels& kernels_baseline(Storage storage) { return sgela::baseline::kernels_of(storage); }

}  // namespace sgela::locality_attention
