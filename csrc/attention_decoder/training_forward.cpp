// The CPU op attention_decoder_forward_tape: the decoding loop with all results, and the tape if it is wanted.

#include <tuple>

#include "attention_decoder/training_op.h"

namespace sgela::decoder {
namespace {

using Results = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

Results forward(Tensor encoded, Tensor h0, Tensor c0, std::vector<Tensor> layers, std::vector<Tensor> biases,
                OptionalTensor key, OptionalTensor fusion, Tensor output, OptionalTensor output_bias,
                OptionalTensor teacher, int64_t steps, bool feedback, int64_t mode, int64_t direction, double sigma,
                std::optional<double> window, bool tanh, bool save_tape) {
  const Given given{layers, key, fusion, output, output_bias};
  const Settings settings{feedback, mode, direction, sigma, window, tanh, true};
  const auto run = [&]<class T>(T) {
    const Arguments<T> arguments(given, biases, settings, encoded, h0, c0, teacher, steps);
    return decode_taped(arguments, pack_weights(given, false), 0, arguments.shape.batch, save_tape);
  };
  const Decoded out = given.type() == ScalarType::Double ? run(double{}) : run(float{});
  return {out.context, out.loss, out.alignment, out.reconstruction, out.attentional, out.h, out.c, out.tape};
}

}  // namespace
}  // namespace sgela::decoder

STABLE_TORCH_LIBRARY_IMPL(sgela_fast, CPU, m) {
  m.impl("attention_decoder_forward_tape", TORCH_BOX(&sgela::decoder::forward));
}
