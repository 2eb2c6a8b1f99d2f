// The table of attention_decoder's kernels for the instruction set of the including file.
#pragma once

#include "attention_decoder/decode.h"
#include "attention_decoder/pack.h"

namespace sgela::SGELA_ISA {

template <class T>
inline constexpr decoder::Kernels<T> kDecoderKernels{
    Vec<T>::kLanes,       pack_workspace<T>,
    pack_decoder<T>,      sizeof(T) == 4 ? pack_reduced_decoder<T> : nullptr,
    fill_decoder_mask<T>, decode_workspace<T>,
    decode_stored<T>,
};

}  // namespace sgela::SGELA_ISA
