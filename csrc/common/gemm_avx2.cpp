// Whole matrix products, compiled for: avx2.

#define SGELA_ISA avx2
#include "common/gemm_product.h"

namespace sgela {

template <>
const ProductKernels<float>& product_avx2<float>() {
  return avx2::kProductKernels<float>;
}

template <>
const ProductKernels<double>& product_avx2<double>() {
  return avx2::kProductKernels<double>;
}

}  // namespace sgela
