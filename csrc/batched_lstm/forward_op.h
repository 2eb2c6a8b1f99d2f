// The forward pass as the backward op calls it, to compute a tape that was not kept.
#pragma once

#include <vector>

#include "batched_lstm/arguments.h"

namespace sgela::lstm {

struct ForwardResult {
  Tensor output, h_n, c_n, tape;
};

ForwardResult run_forward(const Tensor& input, const std::vector<Tensor>& weights, const OptionalTensor& packed,
                          const OptionalTensor& h0, const OptionalTensor& c0, const OptionalTensor& lengths,
                          const OptionalTensor& masks, bool save_tape);

}  // namespace sgela::lstm
