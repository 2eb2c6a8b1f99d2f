// Compiled for the baseline. The choice is one atomic integer: the first kernel that asks settles it.

#include "isa.h"

#include <atomic>
#include <cstdlib>
#include <stdexcept>
#include <string>

namespace sgela {
namespace {

constexpr Isa kAll[] = {Isa::kBaseline, Isa::kAvx2, Isa::kAvx512};

Isa best_isa() {
  Isa best = Isa::kBaseline;
  for (Isa isa : kAll) {
    if (runs_here(isa)) best = isa;
  }
  return best;
}

Isa isa_called(const std::string& name) {
  if (name.empty()) return best_isa();
  for (Isa isa : kAll) {
    if (name != name_of(isa)) continue;
    if (!runs_here(isa)) {
      throw std::invalid_argument("instruction set " + name + " does not run on this processor; give a lesser one");
    }
    return isa;
  }
  throw std::invalid_argument("instruction set '" + name + "' is unknown; give baseline, avx2 or avx512");
}

std::atomic<int> current{-1};

}  // namespace

const char* name_of(Isa isa) {
  switch (isa) {
    case Isa::kAvx512:
      return "avx512";
    case Isa::kAvx2:
      return "avx2";
    default:
      return "baseline";
  }
}

bool runs_here(Isa isa) {
#if defined(__x86_64__) && defined(__GNUC__)
  switch (isa) {
    case Isa::kAvx512:
      return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") && runs_here(Isa::kAvx2);
    case Isa::kAvx2:
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
    default:
      return true;
  }
#else
  return isa == Isa::kBaseline;
#endif
}

bool runs_vnni() {
#if defined(__x86_64__) && defined(__GNUC__)
  static const bool runs = __builtin_cpu_supports("avx512vnni");
  return runs;
#else
  return false;
#endif
}

Isa chosen_isa() {
  int isa = current.load(std::memory_order_relaxed);
  if (isa < 0) {
    const char* wanted = std::getenv("SGELA_FAST_ISA");
    try {
      isa = static_cast<int>(isa_called(wanted == nullptr ? "" : wanted));
    } catch (const std::invalid_argument& error) {
      throw std::invalid_argument(std::string("SGELA_FAST_ISA: ") + error.what());
    }
    current.store(isa, std::memory_order_relaxed);
  }
  return static_cast<Isa>(isa);
}

void force_isa(const char* name) { current.store(static_cast<int>(isa_called(name))); }

}  // namespace sgela
