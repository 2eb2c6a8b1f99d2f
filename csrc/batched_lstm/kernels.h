// The table of batched_lstm's kernels for the instruction set of the including file.
#pragma once

#include "batched_lstm/backward.h"
#include "batched_lstm/forward.h"

namespace sgela::SGELA_ISA {

template <class T>
inline constexpr lstm::Kernels<T> kLstmKernels{
    kPanel<T>,        pack_layer<T>,         sizeof(T) == 4 ? pack_reduced<T> : nullptr,
    forward_workspace<T>, forward_block<T>,  pack_backward<T>,
    backward_workspace<T>, backward_block<T>, weights_workspace<T>,
    backward_weights<T>,
};

}  // namespace sgela::SGELA_ISA
