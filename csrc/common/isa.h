// Which instruction set the CPU kernels use: the best one that this processor runs, or the one that was asked for by
// the environment variable SGELA_FAST_ISA or by force_isa().
#pragma once

#include <string>

namespace sgela {

enum class Isa { kBaseline = 0, kAvx2 = 1, kAvx512 = 2 };

const char* name_of(Isa isa);
bool runs_here(Isa isa);
Isa chosen_isa();
// Empty for the best one. Throws std::invalid_argument (ValueError in Python) for a name that is unknown or does not
// run here.
void force_isa(const std::string& name);

}  // namespace sgela
