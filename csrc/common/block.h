// Small tools of kernels that work on blocks: pieces of a workspace, and vectors at the end of a row. No std:: templates
// (see isa.h).
#pragma once

#include <cstdint>

#include "common/vec_memory.h"

namespace sgela::SGELA_ISA {

SGELA_INLINE std::int64_t smaller(std::int64_t a, std::int64_t b) { return a < b ? a : b; }
SGELA_INLINE std::int64_t larger(std::int64_t a, std::int64_t b) { return a < b ? b : a; }
SGELA_INLINE std::int64_t divide_up(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

// Hands out pieces of a workspace; without memory it only counts.
template <class T>
struct Arena {
  T* memory;
  std::int64_t used = 0;

  T* take(std::int64_t elements) {
    T* piece = memory == nullptr ? nullptr : memory + used;
    used += divide_up(elements, 16) * 16;
    return piece;
  }
};

template <class T>
void copy(const T* from, std::int64_t count, T* to) {
  for (std::int64_t i = 0; i < count; ++i) to[i] = from[i];
}

template <class T>
void fill(T* to, std::int64_t count, T value) {
  for (std::int64_t i = 0; i < count; ++i) to[i] = value;
}

template <class T>
SGELA_INLINE Vec<T> load_up_to(const T* from, std::int64_t count) {
  return count < Vec<T>::kLanes ? load_first(from, static_cast<int>(count)) : load(from);
}

template <class T>
SGELA_INLINE void store_up_to(T* to, Vec<T> x, std::int64_t count) {
  if (count < Vec<T>::kLanes) {
    store_first(to, x, static_cast<int>(count));
  } else {
    store(to, x);
  }
}

}  // namespace sgela::SGELA_ISA
