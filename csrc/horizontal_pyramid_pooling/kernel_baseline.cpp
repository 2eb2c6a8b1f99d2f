// The kernels for the baseline.
#define SGELA_ISA baseline
#include "horizontal_pyramid_pooling/kernels.h"

namespace sgela::horizontal_pyramid_pooling {

const Kernels& kernels_baseline(Storage storage) { return sgela::baseline::pooling_of(storage); }

}  // namespace sgela::horizontal_pyramid_pooling
