// Products of rows of activations with packed weights of any storage (common/stored.h), for the instruction set of the
// including file. A weight type says how they are stored: T itself, BFloat16, or Int8.
//
// Activations are prepared once for all products that read them: float rows are passed on as they are, for Int8 they are
// quantised into a piece of the workspace.
#pragma once

#include "common/gemm_int8.h"
#include "common/stored.h"

namespace sgela::SGELA_ISA {

struct Int8;  // weights of 8 bits

template <class T, class W>
inline constexpr Stored kStored = Stored::kFull;
template <class T>
inline constexpr Stored kStored<T, BFloat16> = Stored::kBFloat16;
template <class T>
inline constexpr Stored kStored<T, Int8> = Stored::kInt8;

template <class W>
inline constexpr bool kIsInt8 = false;
template <>
inline constexpr bool kIsInt8<Int8> = true;

// Rows of the computing type.
template <class T>
struct DenseRows {
  const T* rows;
  std::int64_t stride;
};

template <class T, class W>
struct ActivationsOf {
  using Type = DenseRows<T>;
};
template <class T>
struct ActivationsOf<T, Int8> {
  using Type = QuantisedRows;
};

// Elements of workspace that the activations of `rows` rows take.
template <class T>
SGELA_INLINE std::int64_t activations_size(Stored stored, std::int64_t rows, std::int64_t depth) {
  return stored == Stored::kInt8 ? quantised_size(rows, depth) : 0;
}

template <class W, class T>
SGELA_INLINE typename ActivationsOf<T, W>::Type activations(std::int64_t rows, std::int64_t depth, const T* from,
                                                            std::int64_t stride, [[maybe_unused]] T* workspace) {
  if constexpr (kIsInt8<W>) {
    const QuantisedRows quantised = quantised_in(workspace, rows, depth);
    quantise_rows(rows, depth, from, stride, quantised);
    return quantised;
  } else {
    return {from, stride};
  }
}

// C(rows, columns) (+)= A B for the columns from `first` on of a matrix of `total`. Int8 writes whole panels of C.
template <class W, class T>
SGELA_INLINE void multiply_matrix(std::int64_t rows, std::int64_t columns, std::int64_t depth,
                                  const typename ActivationsOf<T, W>::Type& a, const T* matrix,
                                  [[maybe_unused]] std::int64_t total, std::int64_t first, T* c, std::int64_t ldc,
                                  bool accumulate) {
  if constexpr (kIsInt8<W>) {
    multiply_int8(rows, columns, depth, a, matrix, total, first, c, ldc, accumulate);
  } else {
    multiply(rows, columns, depth, a.rows, a.stride, reinterpret_cast<const W*>(matrix) + first * depth, c, ldc,
             accumulate);
  }
}

// A matrix of weights as it is given: output channels first, contiguous; scales for Int8.
struct GivenMatrix {
  const void* values;
  const float* scales;
};

// Packs columns of B: column n is row `row_of(n)` of `weight`, `row_size` apart, zeros if that is negative.
template <class W, class T, class RowOf>
void pack_matrix(const RowOf& row_of, const GivenMatrix& weight, [[maybe_unused]] std::int64_t row_size,
                 std::int64_t depth, std::int64_t columns, [[maybe_unused]] std::int64_t total, T* matrix) {
  if constexpr (kIsInt8<W>) {
    pack_int8(row_of, static_cast<const std::int8_t*>(weight.values), weight.scales, depth, columns, total, matrix);
  } else {
    const W* const values = static_cast<const W*>(weight.values);
    const auto column_of = [&](std::int64_t n) {
      const std::int64_t row = row_of(n);
      return row < 0 ? nullptr : values + row * row_size;
    };
    pack_columns(column_of, 1, depth, columns, reinterpret_cast<W*>(matrix));
  }
}

}  // namespace sgela::SGELA_ISA
