// Whole matrix products, compiled for: avx512.

#define SGELA_ISA avx512
#include "common/gemm_product.h"

namespace sgela {

template <>
const ProductKernels<float>& product_avx512<float>() {
  return avx512::kProductKernels<float>;
}

template <>
const ProductKernels<double>& product_avx512<double>() {
  return avx512::kProductKernels<double>;
}

}  // namespace sgela
