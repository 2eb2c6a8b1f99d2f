// For op files: the storage dtype of a tensor, and the table of kernels of the instruction set that is used.
#pragma once

#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include "common/isa.h"

namespace sgela {

// `Storage` is the op's own list of the dtypes that it has kernels for.
template <typename Storage>
Storage storage_of(torch::headeronly::ScalarType type, const char* op) {
  using torch::headeronly::ScalarType;
  switch (type) {
    case ScalarType::Float:
      return Storage::kFloat32;
    case ScalarType::Double:
      return Storage::kFloat64;
    case ScalarType::BFloat16:
      return Storage::kBFloat16;
    case ScalarType::Half:
      return Storage::kFloat16;
    default:
      STD_TORCH_CHECK(false, op, ": the dtype must be float32, float64, bfloat16 or float16");
  }
}

// The table of kernels that one of three functions has for a storage dtype. Where an instruction set is not compiled,
// another one's function stands in its place.
template <typename Kernels, typename Storage>
const Kernels& choose_kernels(Storage storage, const Kernels& (*baseline)(Storage), const Kernels& (*avx2)(Storage),
                              const Kernels& (*avx512)(Storage)) {
  switch (chosen_isa()) {
    case Isa::kAvx512:
      return avx512(storage);
    case Isa::kAvx2:
      return avx2(storage);
    default:
      return baseline(storage);
  }
}

}  // namespace sgela
