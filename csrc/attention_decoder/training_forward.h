// The decoding loop as it is run for training: that of decode.h, with activated gates and queries kept for the way back.
//
// One thread owns a block of windows of one group. What it writes beyond the results is 4 K elements a layer, window and
// step for the gates, in stretches of whole cache lines, and K for the query where keys are projected.
#pragma once

#include "attention_decoder/decode.h"
#include "attention_decoder/training.h"

namespace sgela::SGELA_ISA {

template <class T>
SGELA_INLINE Vec<T> load_units(const T* from, Size units) {
  return units < Vec<T>::kLanes ? load_first(from, static_cast<int>(units)) : load(from);
}

template <class T>
SGELA_INLINE void store_units(T* to, Vec<T> x, Size units) {
  if (units < Vec<T>::kLanes) {
    store_first(to, x, static_cast<int>(units));
  } else {
    store(to, x);
  }
}

// As update_cells(), with the gates of `units` units also going to the tape, if there is one; its windows lie 4
// `tape_units` apart.
template <class T>
void update_taped_cells(Size rows, T* gates, Size stride, T* c, T* h, Size width, Size units, T* tape, Size tape_units) {
  using V = Vec<T>;
  constexpr Size kLanes = V::kLanes;
  for (Size r = 0; r < rows; ++r) {
    T* const z = gates + r * stride;
    T* const cell = c + r * width;
    T* const kept = tape == nullptr ? nullptr : tape + r * 4 * tape_units;
    const Gates<V> out = activate(Gates<V>{load(z), load(z + kLanes), load(z + 2 * kLanes), load(z + 3 * kLanes)});
    if (tape != nullptr) {
      store_units(kept, out.i, units);
      store_units(kept + tape_units, out.f, units);
      store_units(kept + 2 * tape_units, out.g, units);
      store_units(kept + 3 * tape_units, out.o, units);
    }
    store(cell, next_c(out, load(cell)));
    store(z + 3 * kLanes, out.o);
  }
  for (Size r = 0; r < rows; ++r) {
    store(h + r * width, next_h(load(gates + r * stride + 3 * kLanes), load(c + r * width)));
  }
}

// One layer's step, as run_cells() with a tape.
template <class T>
void run_taped_cells(const Block<T>& it, const decoder::Tape<T>& tape, Size step, Size layer, Factor<T> below,
                     Factor<T> skeleton) {
  constexpr Size kLanes = Vec<T>::kLanes;
  const decoder::Shape& shape = it.shape;
  const Size hidden = shape.hidden, depth = shape.below(layer), at = layer * it.rows * it.width;
  const Size vectors = vectors_of<T>(hidden), joints = shape.joints, slice = slice_of(it.rows);
  const T* bias = it.scratch.bias + layer * 4 * it.width;
  const T* below_panels = it.packed + shape.layer_offset(layer);
  const T* state_panels = below_panels + 4 * it.width * depth;
  const T* skeleton_panels = it.packed + shape.skeleton_offset();
  T* const gates = it.scratch.gates;
  for (Size vector = 0; vector < vectors; vector += slice) {
    const Size count = vectors - vector < slice ? vectors - vector : slice;
    const Size first = vector * kGates<T>, columns = count * kGates<T>;
    for (Size r = 0; r < it.rows; ++r) copy_row(bias + first, columns, gates + r * columns);
    if (below.rows != nullptr) {
      multiply(it.rows, columns, depth, below.rows, below.stride, below_panels + first * depth, gates, columns, true);
    }
    if (skeleton.rows != nullptr) {
      multiply(it.rows, columns, joints, skeleton.rows, skeleton.stride, skeleton_panels + first * joints, gates, columns,
               true);
    }
    multiply(it.rows, columns, hidden, it.scratch.h + at, it.width, state_panels + first * hidden, gates, columns, true);
    for (Size v = 0; v < count; ++v) {
      const Size unit = (vector + v) * kLanes;
      T* kept = tape.gates;
      if (kept != nullptr) kept += decoder::tape_gates(shape, tape.windows, layer, it.group, it.first, step, unit);
      update_taped_cells(it.rows, gates + v * kGates<T>, columns, it.scratch.c + at + unit, it.scratch.next_h + at + unit,
                         it.width, hidden - unit, kept, decoder::units_of_block(hidden, unit));
    }
  }
}

// The decoding's batch is the tape's, and both count windows from the tape's first one.
template <class T>
void training_forward(const decoder::Decoding<T>& decoding, const decoder::Tape<T>& tape, Size group, Size first,
                      Size rows, T* workspace) {
  const decoder::Shape& shape = decoding.shape;
  DecodeScratch<T> scratch(shape, rows, workspace);
  Block<T> it{decoding, shape, group, first, rows, decoder::padded(shape.hidden),
              decoding.packed + group * shape.group_size(), scratch, {nullptr, 0}, 0};
  if (shape.attends) it.encoded = stage_encoded(decoding, group, first, rows, scratch.staged, it.encoded_window);
  prepare(it);
  for (Size step = 0; step < shape.steps; ++step) {
    Factor<T> skeleton = skeletons(it, step);
    if (step > 0 && decoding.feedback) {
      skeleton = {it.row_of(decoding.reconstruction, 0, step - 1, shape.joints), shape.steps * shape.joints};
    }
    const bool fed = step > 0 && shape.attends;
    run_taped_cells<T>(it, tape, step, 0, {fed ? scratch.attentional : nullptr, it.width}, skeleton);
    for (Size layer = 1; layer < shape.layers; ++layer) {
      run_taped_cells<T>(it, tape, step, layer, {scratch.next_h + (layer - 1) * rows * it.width, it.width}, {nullptr, 0});
    }
    const T* decoded = scratch.next_h + (shape.layers - 1) * rows * it.width;
    const T* attentional = decoded;
    if (shape.attends) {
      const T* query = decoded;
      if (shape.projects_keys) {
        multiply(rows, shape.hidden, shape.hidden, decoded, it.width, it.packed + shape.key_offset(), scratch.query,
                 it.width, false);
        query = scratch.query;
        for (Size r = 0; r < rows && tape.query != nullptr; ++r) {
          copy_row(query + r * it.width, shape.hidden, it.row_of(tape.query, r, step, shape.hidden));
        }
      }
      attend(it, step, query);
      fuse(it, step, decoded);
      attentional = scratch.attentional;
    } else {
      for (Size r = 0; r < rows; ++r) decoding.loss[group * shape.batch + first + r] = T(0);
    }
    predict(it, step, attentional);
    keep_step(it, step, attentional);
    T* const before = scratch.h;
    scratch.h = scratch.next_h;
    scratch.next_h = before;
  }
}

}  // namespace sgela::SGELA_ISA
