// A whole matrix product through common/gemm.h, packing included: what tests and benchmarks of the kernels call.
// One thread; moves A, B and C once and B's panels twice.
#pragma once

#include <cstdint>

namespace sgela {

// C(rows, columns) (+)= A B, all dense and row-major; A is stored as (depth, rows) if a_transposed, B as (columns,
// depth) if b_transposed.
template <class T>
struct Product {
  std::int64_t rows, columns, depth;
  const T *a, *b;
  bool a_transposed, b_transposed;
  T* c;
  bool accumulate;
  T* workspace;  // product_workspace() elements
};

template <class T>
struct ProductKernels {
  std::int64_t (*workspace)(const Product<T>&);
  void (*run)(const Product<T>&);
};

template <class T>
const ProductKernels<T>& product_baseline();
template <class T>
const ProductKernels<T>& product_avx2();
template <class T>
const ProductKernels<T>& product_avx512();

}  // namespace sgela

#ifdef SGELA_ISA

#include "common/gemm.h"

namespace sgela::SGELA_ISA {

template <class T>
std::int64_t product_workspace(const Product<T>& p) {
  return panels_size<T>(p.depth, p.columns) + (p.rows + kTileRows) * p.depth;
}

template <class T>
void product(const Product<T>& p) {
  T* const panels = p.workspace;
  T* const tiles = p.workspace + panels_size<T>(p.depth, p.columns);
  if (p.b_transposed) {
    pack_columns([&p](std::int64_t n) { return p.b + n * p.depth; }, 1, p.depth, p.columns, panels);
  } else {
    pack_rows<kPanel<T>>([&p](std::int64_t k) { return p.b + k * p.columns; }, p.depth, p.columns, panels);
  }
  if (p.a_transposed) {
    pack_rows<kTileRows>([&p](std::int64_t k) { return p.a + k * p.rows; }, p.depth, p.rows, tiles);
    multiply<T, true>(p.rows, p.columns, p.depth, tiles, 0, panels, p.c, p.columns, p.accumulate);
  } else {
    multiply(p.rows, p.columns, p.depth, p.a, p.depth, panels, p.c, p.columns, p.accumulate);
  }
}

template <class T>
inline constexpr ProductKernels<T> kProductKernels{product_workspace<T>, product<T>};

}  // namespace sgela::SGELA_ISA

#endif
