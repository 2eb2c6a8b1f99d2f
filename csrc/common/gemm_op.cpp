// The CPU ops by which tests and benchmarks reach the matrix products of the other ops' kernels:
//   packed_product(Tensor a, Tensor b, Tensor? c, bool a_transposed, bool b_transposed) -> Tensor
// a (M, D) or (D, M), b (D, N) or (N, D), both float32 or float64, plus c (M, N).
//   int8_product(Tensor a, Tensor b, Tensor scales) -> Tensor
// a (M, D) float32, quantised row by row; b (N, D) int8 with scales (N). One thread.

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <optional>

#include "common/gemm_product.h"
#include "common/isa.h"

namespace sgela {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

template <class T>
const ProductKernels<T>& chosen_product() {
#if defined(__x86_64__)
  if (chosen_isa() == Isa::kAvx512) return product_avx512<T>();
  if (chosen_isa() == Isa::kAvx2) return product_avx2<T>();
#endif
  return product_baseline<T>();
}

template <class T>
Tensor product_as(const Tensor& a, const Tensor& b, const std::optional<Tensor>& c, bool a_transposed,
                  bool b_transposed) {
  const int64_t rows = a.size(a_transposed ? 1 : 0), depth = a.size(a_transposed ? 0 : 1);
  const int64_t columns = b.size(b_transposed ? 0 : 1);
  STD_TORCH_CHECK(b.size(b_transposed ? 1 : 0) == depth, "packed_product: the depths of a and b differ");
  const Tensor out = c.has_value() ? torch::stable::clone(*c) : torch::stable::new_empty(a, {rows, columns});
  STD_TORCH_CHECK(out.dim() == 2 && out.size(0) == rows && out.size(1) == columns && out.is_contiguous() &&
                      out.scalar_type() == a.scalar_type(),
                  "packed_product: c is not a dense (M, N) of a's dtype");
  Product<T> product{rows,
                     columns,
                     depth,
                     static_cast<const T*>(a.const_data_ptr()),
                     static_cast<const T*>(b.const_data_ptr()),
                     a_transposed,
                     b_transposed,
                     static_cast<T*>(out.mutable_data_ptr()),
                     c.has_value(),
                     nullptr};
  const ProductKernels<T>& kernels = chosen_product<T>();
  const Tensor workspace = torch::stable::new_empty(a, {kernels.workspace(product)});
  product.workspace = static_cast<T*>(workspace.mutable_data_ptr());
  kernels.run(product);
  return out;
}

Tensor packed_product(Tensor a, Tensor b, std::optional<Tensor> c, bool a_transposed, bool b_transposed) {
  STD_TORCH_CHECK(a.dim() == 2 && b.dim() == 2 && a.is_cpu() && b.is_cpu() && a.scalar_type() == b.scalar_type(),
                  "packed_product takes two matrices of one dtype on the CPU");
  a = torch::stable::contiguous(a);
  b = torch::stable::contiguous(b);
  if (a.scalar_type() == ScalarType::Double) return product_as<double>(a, b, c, a_transposed, b_transposed);
  STD_TORCH_CHECK(a.scalar_type() == ScalarType::Float, "packed_product takes float32 and float64");
  return product_as<float>(a, b, c, a_transposed, b_transposed);
}

Tensor int8_product(Tensor a, Tensor b, Tensor scales) {
  STD_TORCH_CHECK(a.dim() == 2 && b.dim() == 2 && scales.dim() == 1 && a.is_cpu() && b.is_cpu() && scales.is_cpu() &&
                      a.size(1) == b.size(1) && b.size(0) == scales.size(0),
                  "int8_product takes a (M, D), b (N, D) and scales (N) on the CPU");
  STD_TORCH_CHECK(a.scalar_type() == ScalarType::Float && b.scalar_type() == ScalarType::Char &&
                      scales.scalar_type() == ScalarType::Float,
                  "int8_product takes float32, int8 and float32");
  a = torch::stable::contiguous(a);
  b = torch::stable::contiguous(b);
  scales = torch::stable::contiguous(scales);
  Int8Product product{a.size(0),
                      b.size(0),
                      a.size(1),
                      static_cast<const float*>(a.const_data_ptr()),
                      static_cast<const std::int8_t*>(b.const_data_ptr()),
                      static_cast<const float*>(scales.const_data_ptr()),
                      nullptr,
                      nullptr};
  const ProductKernels<float>& kernels = chosen_product<float>();
  const Tensor out = torch::stable::new_empty(a, {product.rows, kernels.int8_columns(product)});
  const Tensor workspace = torch::stable::new_empty(a, {kernels.int8_workspace(product)});
  product.c = static_cast<float*>(out.mutable_data_ptr());
  product.workspace = static_cast<float*>(workspace.mutable_data_ptr());
  kernels.run_int8(product);
  return torch::stable::contiguous(torch::stable::narrow(const_cast<Tensor&>(out), 1, 0, product.columns));
}

}  // namespace
}  // namespace sgela

STABLE_TORCH_LIBRARY_IMPL(sgela_fast, CPU, m) {
  m.impl("packed_product", TORCH_BOX(&sgela::packed_product));
  m.impl("int8_product", TORCH_BOX(&sgela::int8_product));
}
