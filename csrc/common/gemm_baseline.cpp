// Whole matrix products, compiled for: baseline.

#define SGELA_ISA baseline
#include "common/gemm_product.h"

namespace sgela {

template <>
const ProductKernels<float>& product_baseline<float>() {
  return baseline::kProductKernels<float>;
}

template <>
const ProductKernels<double>& product_baseline<double>() {
  return baseline::kProductKernels<double>;
}

}  // namespace sgela
