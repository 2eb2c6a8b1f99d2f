// Which instruction set the CPU kernels use: the best one that this processor runs, or the one that was asked for by
// the environment variable SGELA_FAST_ISA or by force_isa().
//
// Kernels compiled for a wider instruction set may include this header: nothing of the standard library stands in it,
// whose inline functions the linker could otherwise keep in their AVX form for everybody.
#pragma once

namespace sgela {

enum class Isa { kBaseline = 0, kAvx2 = 1, kAvx512 = 2 };

const char* name_of(Isa isa);
bool runs_here(Isa isa);
// Whether products of bytes (AVX-512 VNNI) run here. Cheap enough to ask in every product.
bool runs_vnni();
// Cheap enough to ask at every call. Throws like force_isa() if SGELA_FAST_ISA names none that runs here.
Isa chosen_isa();
// Empty for the best one. Throws std::invalid_argument (ValueError in Python) for a name that is unknown or does not
// run here.
void force_isa(const char* name);

}  // namespace sgela
