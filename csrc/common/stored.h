// How packed weights are stored, and what a matrix of them takes. No torch here, and no kernel.
//
//   full      panels of the computing type, as in common/gemm.h
//   bfloat16  the same panels of half as many bytes, widened as they are read
//   int8      panels as in common/gemm_int8.h, then a scale and a sum for each column
#pragma once

#include <cstdint>

namespace sgela {

enum class Stored : int { kFull = 0, kBFloat16 = 1, kInt8 = 2 };

// Elements of the computing type (4 bytes unless full) that `depth` rows of `columns`, a multiple of 16, take.
[[gnu::always_inline]] inline std::int64_t stored_size(Stored stored, std::int64_t depth, std::int64_t columns) {
  if (stored == Stored::kInt8) return (depth + 3) / 4 * columns + 2 * columns;
  return depth * columns / (stored == Stored::kBFloat16 ? 2 : 1);
}

}  // namespace sgela
