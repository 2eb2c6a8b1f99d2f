// The table of gated_temporal_pooling's kernels for the instruction set of the including file.
#pragma once

#include "gated_temporal_pooling/backward.h"
#include "gated_temporal_pooling/forward.h"

namespace sgela::SGELA_ISA {

template <class T>
inline constexpr pooling::Kernels<T> kPoolingKernels{
    forward_panels_size<T>, forward_pack<T>,       forward_workspace<T>, forward_block<T>,  backward_panels_size<T>,
    backward_pack<T>,       backward_workspace<T>, partial_size<T>,      backward_chunk<T>, reduce_chunks<T>,
};

}  // namespace sgela::SGELA_ISA
