// A whole matrix product through common/gemm.h or gemm_int8.h, packing included: what tests and benchmarks of the kernels
// call.
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

// C(rows, columns) = A B with A quantised row by row and B (columns, depth) int8 with a scale for each column.
struct Int8Product {
  std::int64_t rows, columns, depth;
  const float* a;
  const std::int8_t* b;
  const float* scales;
  float* c;          // rows of int8_columns()
  float* workspace;  // int8_workspace() elements
};

template <class T>
struct ProductKernels {
  std::int64_t (*workspace)(const Product<T>&);
  void (*run)(const Product<T>&);
  std::int64_t (*int8_columns)(const Int8Product&);
  std::int64_t (*int8_workspace)(const Int8Product&);
  void (*run_int8)(const Int8Product&);
};

template <class T>
const ProductKernels<T>& product_baseline();
template <class T>
const ProductKernels<T>& product_avx2();
template <class T>
const ProductKernels<T>& product_avx512();

}  // namespace sgela

#ifdef SGELA_ISA

#include "common/gemm_int8.h"
#include "common/stored.h"

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

inline std::int64_t int8_columns(const Int8Product& p) {
  return (p.columns + kPanel<float> - 1) / kPanel<float> * kPanel<float>;
}

inline std::int64_t int8_workspace(const Int8Product& p) {
  return stored_size(Stored::kInt8, p.depth, int8_columns(p)) + quantised_size(p.rows, p.depth);
}

inline void int8_product(const Int8Product& p) {
  const std::int64_t total = int8_columns(p);
  const QuantisedRows a = quantised_in(p.workspace + stored_size(Stored::kInt8, p.depth, total), p.rows, p.depth);
  pack_int8([](std::int64_t n) { return n; }, p.b, p.scales, p.depth, p.columns, total, p.workspace);
  quantise_rows(p.rows, p.depth, p.a, p.depth, a);
  multiply_int8(p.rows, total, p.depth, a, p.workspace, total, 0, p.c, total, false);
}

template <class T>
inline constexpr ProductKernels<T> kProductKernels{product_workspace<T>, product<T>, int8_columns, int8_workspace,
                                                   int8_product};

}  // namespace sgela::SGELA_ISA

#endif
