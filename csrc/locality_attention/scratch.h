// Memory of one thread for one call, aligned to cache lines and taken piece by piece.
#pragma once

#include <cstdint>
#include <new>

#include "locality_attention/mask.h"

namespace sgela::SGELA_ISA {

template <typename A>
class Scratch {
 public:
  // Room for `pieces` of `elements` altogether.
  Scratch(int64_t elements, int pieces) {
    const int64_t rounded = rounded_up(elements, kLine) + pieces * kLine;
    memory_ = static_cast<A*>(::operator new(static_cast<uint64_t>(rounded) * sizeof(A), std::align_val_t{64}));
    next_ = memory_;
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() { ::operator delete(memory_, std::align_val_t{64}); }

  A* take(int64_t elements) {
    A* piece = next_;
    next_ += rounded_up(elements, kLine);
    return piece;
  }

  A* take_zeros(int64_t elements) {
    A* piece = take(elements);
    __builtin_memset(piece, 0, static_cast<uint64_t>(elements) * sizeof(A));
    return piece;
  }

 private:
  static constexpr int64_t kLine = 64 / sizeof(A);
  A* memory_;
  A* next_;
};

template <typename A>
SGELA_INLINE A log_of(A x) {
  return log(broadcast(x)).lanes[0];
}

}  // namespace sgela::SGELA_ISA
