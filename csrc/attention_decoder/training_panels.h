// One group's weights as the backward pass reads them, for the instruction set of the including file: panels (as in
// common/gemm.h) of
//   per layer     W_hh (4K x K), then what leads to the attentional vector or the layer below (4K x K; none in the bottom
//                 layer without attention),
//   skeleton      the skeleton's columns of the bottom layer's W_ih (4K x J),
//   fusion        W_att (K x K) to the decoded state, then to the context,
//   key           the transposed key matrix (K x K),
//   output        W_F (J x K).
// One thread reads every weight once and writes the panels once.
#pragma once

#include "attention_decoder/pack.h"
#include "attention_decoder/training.h"

namespace sgela::SGELA_ISA {

template <class T>
struct BackwardPanels {
  Size layer_size, below_offset, skeleton, fusion, fusion_half, key, output, size;

  explicit BackwardPanels(const decoder::Shape& shape) {
    const Size hidden = shape.hidden, square = panels_size<T>(hidden, hidden);
    below_offset = panels_size<T>(4 * hidden, hidden);
    layer_size = 2 * below_offset;
    skeleton = shape.layers * layer_size;
    fusion = skeleton + panels_size<T>(4 * hidden, shape.joints);
    fusion_half = square;
    key = fusion + (shape.attends ? 2 * square : 0);
    output = key + (shape.projects_keys ? square : 0);
    size = output + panels_size<T>(shape.joints, hidden);
  }
};

template <class T>
Size backward_panels_size(const decoder::Shape& shape) {
  return BackwardPanels<T>(shape).size;
}

template <class T>
void pack_decoder_backward(const decoder::Shape& shape, const decoder::Weights<T>& weights, T* panels) {
  const BackwardPanels<T> layout(shape);
  const auto row_of = [](const T* weight, Size length) { return [=](Size k) { return weight + k * length; }; };
  const Size hidden = shape.hidden, joints = shape.joints, bottom = joints + shape.below(0);
  for (Size layer = 0; layer < shape.layers; ++layer) {
    const T* ih = layer == 0 ? weights.bottom_ih + joints : weights.upper[2 * (layer - 1)];
    const T* hh = layer == 0 ? weights.bottom_hh : weights.upper[2 * (layer - 1) + 1];
    T* const to = panels + layer * layout.layer_size;
    pack_rows<kPanel<T>>(row_of(hh, hidden), 4 * hidden, hidden, to);
    if (shape.below(layer) == 0) continue;
    pack_rows<kPanel<T>>(row_of(ih, layer == 0 ? bottom : hidden), 4 * hidden, hidden, to + layout.below_offset);
  }
  pack_rows<kPanel<T>>(row_of(weights.bottom_ih, bottom), 4 * hidden, joints, panels + layout.skeleton);
  for (Size half = 0; shape.attends && half < 2; ++half) {
    pack_rows<kPanel<T>>(row_of(weights.fusion + half * hidden, 2 * hidden), hidden, hidden,
                         panels + layout.fusion + half * layout.fusion_half);
  }
  if (shape.projects_keys) {
    pack_columns([&](Size n) { return weights.key + n * hidden; }, 1, hidden, hidden, panels + layout.key);
  }
  pack_rows<kPanel<T>>(row_of(weights.output, hidden), joints, hidden, panels + layout.output);
}

}  // namespace sgela::SGELA_ISA
