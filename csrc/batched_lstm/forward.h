// Forward pass of batched_lstm for the instruction set of the including file.
//
// One thread owns a block of windows of one group and takes it through all layers and steps. Per step and vector of
// hidden units it forms the four gates of all its windows in a buffer of rows x 4 vectors (8 KB, L1) and turns them
// into h and c at once, so pre-activations never leave L1. From memory come the packed weights, once per step (L3 to
// L2, 1 MB at K = 256), and the windows; to memory go the outputs and, for training, the tape.
//
// A block of few windows is bound by reading the weights: there the input's share of the gates of many steps is one
// product, so that W_ih is read once for all of them, and every other step reads the panels of W_hh backwards, so that
// the half which is still in L2 is used first.
#pragma once

#include "batched_lstm/lstm.h"
#include "common/block.h"
#include "common/cell.h"
#include "common/matrix.h"

namespace sgela::SGELA_ISA {

using lstm::Size;

// Up to this many windows the input's share of several steps is one product.
inline constexpr Size kFewWindows = 24;
// Rows (steps x windows) of a chunk of steps: of that product, and of a layer's output that the next layer reads.
inline constexpr Size kProjectedRows = 192;
inline constexpr Size kSequenceRows = 720;
// Vectors of hidden units whose gates one to three windows form at once: long reads of W_hh, and cells side by side.
inline constexpr Size kSliceVectors = 4;

// Gate columns of a layer, to whole vectors of hidden units.
template <class T>
SGELA_INLINE Size gate_columns(Size hidden) {
  return divide_up(hidden, Vec<T>::kLanes) * 4 * Vec<T>::kLanes;
}

// Column n holds gate n / kLanes % 4 of hidden unit n / (4 kLanes) kLanes + n % kLanes, or nothing (-1).
template <class T>
SGELA_INLINE Size row_of_column(Size hidden, Size n) {
  constexpr Size kLanes = Vec<T>::kLanes;
  const Size unit = n / (4 * kLanes) * kLanes + n % kLanes;
  return unit < hidden ? n / kLanes % 4 * hidden + unit : Size(-1);
}

// I and W are the weight types of what reads the layer's input and its state.
template <class T, class I, class W>
void pack_matrices(const lstm::Shape& shape, Size layer, const GivenMatrix& ih, const GivenMatrix& hh, const T* bias,
                   T* packed) {
  const Size hidden = shape.hidden, inputs = shape.layer_input(layer), total = 4 * shape.padded_hidden();
  const Size columns = gate_columns<T>(hidden);
  const auto row_of = [hidden](Size n) { return row_of_column<T>(hidden, n); };
  for (Size n = 0; n < columns; ++n) packed[n] = row_of(n) < 0 ? T(0) : bias[row_of(n)];
  pack_matrix<I>(row_of, ih, inputs, inputs, columns, total, packed + total);
  pack_matrix<W>(row_of, hh, hidden, hidden, columns, total, packed + total + shape.input_matrix_size(layer));
}

template <class T>
void pack_layer(const lstm::Shape& shape, Size layer, const lstm::LayerWeights<T>& weights, T* packed) {
  pack_matrices<T, T, T>(shape, layer, {weights.weight_ih, nullptr}, {weights.weight_hh, nullptr}, weights.bias, packed);
}

template <class T>
void pack_reduced(const lstm::Shape& shape, Size layer, const lstm::ReducedWeights& weights, T* packed) {
  if constexpr (sizeof(T) == 4) {
    const auto pack = shape.stored == Stored::kBFloat16 ? pack_matrices<T, BFloat16, BFloat16>
                      : layer == 0                      ? pack_matrices<T, T, Int8>
                                                        : pack_matrices<T, Int8, Int8>;
    pack(shape, layer, {weights.weight_ih, weights.scale_ih}, {weights.weight_hh, weights.scale_hh}, weights.bias, packed);
  }
}

template <class T>
struct ForwardScratch {
  T* h;             // (L, rows, Kp), carried between chunks of steps
  T* c;             // (L, rows, Kp)
  T* sequences[2];  // (steps of a chunk, rows, Kp): a layer's output, read by the next one
  T* gates;         // (rows, 4 vectors)
  T* inputs;        // (steps of a chunk, rows, I) of few windows
  T* projected;     // (steps of a chunk, rows, 4 Kp) of few windows
  T* read;          // the layer's input as int8 weights read it: one step of all rows, or a chunk of few
  T* state;         // the layer's state as int8 weights read it
  Size size;

  // Enough for `rows` windows or fewer.
  ForwardScratch(const lstm::Shape& shape, Size rows, T* memory) {
    Arena<T> arena{memory};
    const Size padded = shape.padded_hidden(), all = shape.steps * rows;
    const Size few = smaller(all, kProjectedRows), sequence = smaller(all, larger(kSequenceRows, rows));
    h = arena.take(shape.layers * rows * padded);
    c = arena.take(shape.layers * rows * padded);
    for (T*& it : sequences) it = arena.take(sequence * padded);
    gates = arena.take(rows * 4 * Vec<T>::kLanes);
    inputs = arena.take(few * shape.input_size);
    projected = arena.take(few * 4 * padded);
    read = arena.take(activations_size<T>(shape.stored, larger(few, rows), shape.hidden));
    state = arena.take(activations_size<T>(shape.stored, rows, shape.hidden));
    size = arena.used;
  }
};

// A chunk of steps of one layer of one block of windows.
template <class T>
struct LayerChunk {
  const lstm::Forward<T>& forward;
  Size layer, group, first_window, rows;
  Size first_step, steps;
  const T* packed;     // this layer's
  const T* x;          // (steps, rows, I_l) with these strides
  Size x_step, x_row;
  T *h, *c;            // (rows, Kp): state before and, afterwards, behind the chunk
  bool zero_state;     // h is zero before the chunk
  T* sequence;         // (steps, rows, Kp)
  ForwardScratch<T>& scratch;
};

// Gates to states for one vector of hidden units of all rows; pre-activations (rows, 4 vectors) with a leading
// dimension, activated in place. In two passes, because tanh(c) waits for c: each pass alone has many rows under way at
// once.
template <class T>
void update_cells(const LayerChunk<T>& it, Size step, Size vector, T* gates, Size stride, const T* previous_h, T* h) {
  using V = Vec<T>;
  constexpr Size kLanes = V::kLanes;
  const lstm::Shape& shape = it.forward.shape;
  const Size padded = shape.padded_hidden(), unit = vector * kLanes, units = shape.hidden - unit;
  const auto ended = [&](Size r) {
    return it.forward.lengths != nullptr && it.first_step + step >= it.forward.lengths[it.first_window + r];
  };
  for (Size r = 0; r < it.rows; ++r) {
    T* z = gates + r * stride;
    T* c = it.c + r * padded + unit;
    const Gates<V> out = activate(Gates<V>{load(z), load(z + kLanes), load(z + 2 * kLanes), load(z + 3 * kLanes)});
    store(z, out.i);
    store(z + kLanes, out.f);
    store(z + 2 * kLanes, out.g);
    store(z + 3 * kLanes, out.o);
    if (!ended(r)) store(c, next_c(out, load(c)));
  }
  for (Size r = 0; r < it.rows; ++r) {
    const T* z = gates + r * stride;
    const Size at = r * padded + unit;
    const V c = load(it.c + at);
    V new_h = next_h(load(z + 3 * kLanes), c);
    if (ended(r)) new_h = previous_h == nullptr ? zero<T>() : load(previous_h + at);
    store(h + at, new_h);
    if (it.forward.tape != nullptr) {
      const Size row = shape.tape_row(unit), window = it.first_window + r, now = it.first_step + step;
      T* tape = it.forward.tape + shape.tape_gates(it.layer, it.group, window, now, unit);
      for (int i = 0; i < 4; ++i) store_up_to(tape + i * row, load(z + i * kLanes), units);
      store_up_to(tape + 4 * row, c, units);
    }
  }
}

// I and W are the weight types of what reads the layer's input and its state.
template <class T, class I, class W>
void run_layer(const LayerChunk<T>& it) {
  constexpr Size kGates = 4 * Vec<T>::kLanes;
  const lstm::Shape& shape = it.forward.shape;
  const Size hidden = shape.hidden, padded = shape.padded_hidden(), inputs = shape.layer_input(it.layer);
  const Size vectors = divide_up(hidden, Vec<T>::kLanes), total = 4 * padded;
  const T* input_matrix = it.packed + total;
  const T* state_matrix = input_matrix + shape.input_matrix_size(it.layer);
  const bool few = it.rows <= kFewWindows;
  if (few) {
    const T* x = it.x;
    if (it.layer == 0) {
      for (Size i = 0; i < it.steps * it.rows; ++i) {
        copy(it.x + i / it.rows * it.x_step + i % it.rows * it.x_row, inputs, it.scratch.inputs + i * inputs);
      }
      x = it.scratch.inputs;
    }
    for (Size i = 0; i < it.steps * it.rows; ++i) copy(it.packed, vectors * kGates, it.scratch.projected + i * total);
    const auto all = activations<I>(it.steps * it.rows, inputs, x, it.layer == 0 ? inputs : padded, it.scratch.read);
    multiply_matrix<I>(it.steps * it.rows, vectors * kGates, inputs, all, input_matrix, total, 0, it.scratch.projected,
                       total, true);
  }
  const Size slice = it.rows <= kFewRows ? kSliceVectors : 1, stride = few ? total : kGates;
  const T* previous_h = it.zero_state ? nullptr : it.h;
  for (Size step = 0; step < it.steps; ++step) {
    T* h = it.sequence + step * it.rows * padded;
    typename ActivationsOf<T, I>::Type x{};
    typename ActivationsOf<T, W>::Type state{};
    if (!few) x = activations<I>(it.rows, inputs, it.x + step * it.x_step, it.x_row, it.scratch.read);
    if (previous_h != nullptr) state = activations<W>(it.rows, hidden, previous_h, padded, it.scratch.state);
    const Size slices = divide_up(vectors, slice);
    for (Size i = 0; i < slices; ++i) {
      const Size first = (step % 2 == 0 ? i : slices - 1 - i) * slice;
      const Size count = smaller(slice, vectors - first);
      T* gates = it.scratch.gates;
      if (few) {
        gates = it.scratch.projected + step * it.rows * total + first * kGates;
      } else {
        for (Size r = 0; r < it.rows; ++r) copy(it.packed + first * kGates, kGates, gates + r * kGates);
        multiply_matrix<I>(it.rows, kGates, inputs, x, input_matrix, total, first * kGates, gates, stride, true);
      }
      if (previous_h != nullptr) {
        multiply_matrix<W>(it.rows, count * kGates, hidden, state, state_matrix, total, first * kGates, gates, stride,
                           true);
      }
      for (Size v = 0; v < count; ++v) update_cells(it, step, first + v, gates + v * kGates, stride, previous_h, h);
    }
    previous_h = h;
    // As whole rows: single vectors of all windows, T K apart, would share a few sets of the cache.
    for (Size r = 0; r < it.rows && it.forward.tape != nullptr; ++r) {
      copy(h + r * padded, hidden,
           it.forward.tape + shape.tape_h(it.layer, it.group, it.first_window + r, it.first_step + step));
    }
  }
  copy(previous_h, it.rows * padded, it.h);
}

template <class T>
void run_stored_layer(const LayerChunk<T>& it) {
  if constexpr (sizeof(T) == 4) {
    const Stored stored = it.forward.shape.stored;
    if (stored == Stored::kBFloat16) return run_layer<T, BFloat16, BFloat16>(it);
    if (stored == Stored::kInt8) return it.layer == 0 ? run_layer<T, T, Int8>(it) : run_layer<T, Int8, Int8>(it);
  }
  run_layer<T, T, T>(it);
}

// The top layer's chunk to the output, 0 beyond a window's length.
template <class T>
void write_output(const LayerChunk<T>& it) {
  const lstm::Shape& shape = it.forward.shape;
  const Size hidden = shape.hidden, padded = shape.padded_hidden();
  for (Size r = 0; r < it.rows; ++r) {
    const Size window = it.first_window + r;
    T* to = it.forward.output + ((it.group * shape.batch + window) * shape.steps + it.first_step) * hidden;
    for (Size step = 0; step < it.steps; ++step, to += hidden) {
      if (it.forward.lengths != nullptr && it.first_step + step >= it.forward.lengths[window]) {
        fill(to, hidden, T(0));
      } else {
        copy(it.sequence + (step * it.rows + r) * padded, hidden, to);
      }
    }
  }
}

// Dropout between layers: the sequence times the multipliers, in place.
template <class T>
void apply_mask(const LayerChunk<T>& it) {
  const lstm::Shape& shape = it.forward.shape;
  const Size hidden = shape.hidden, padded = shape.padded_hidden();
  for (Size r = 0; r < it.rows; ++r) {
    const T* mask = it.forward.masks + (shape.state_offset(it.layer, it.group, it.first_window + r) * shape.steps +
                                        it.first_step * hidden);
    for (Size step = 0; step < it.steps; ++step, mask += hidden) {
      T* row = it.sequence + (step * it.rows + r) * padded;
      for (Size k = 0; k < hidden; ++k) row[k] *= mask[k];
    }
  }
}

template <class T>
Size forward_workspace(const lstm::Shape& shape, Size rows) {
  return ForwardScratch<T>(shape, rows, nullptr).size;
}

template <class T>
void forward_block(const lstm::Forward<T>& forward, Size group, Size first, Size rows, T* workspace) {
  const lstm::Shape& shape = forward.shape;
  const Size hidden = shape.hidden, padded = shape.padded_hidden(), all_rows = shape.layers * rows;
  ForwardScratch<T> scratch(shape, rows, workspace);
  fill(scratch.h, all_rows * padded, T(0));
  fill(scratch.c, all_rows * padded, T(0));
  for (Size i = 0; i < all_rows; ++i) {
    const Size offset = shape.state_offset(i / rows, group, first + i % rows);
    if (forward.h0 != nullptr) copy(forward.h0 + offset, hidden, scratch.h + i * padded);
    if (forward.c0 != nullptr) copy(forward.c0 + offset, hidden, scratch.c + i * padded);
  }
  const Size chunk = larger(1, (rows <= kFewWindows ? kProjectedRows : kSequenceRows) / rows);
  for (Size begin = 0; begin < shape.steps; begin += chunk) {
    const T* x = forward.input + group * forward.input_strides[0] + first * forward.input_strides[1] +
                 begin * forward.input_strides[2];
    Size x_row = forward.input_strides[1], x_step = forward.input_strides[2];
    for (Size layer = 0; layer < shape.layers; ++layer) {
      const LayerChunk<T> it{forward,
                             layer,
                             group,
                             first,
                             rows,
                             begin,
                             smaller(chunk, shape.steps - begin),
                             forward.packed + shape.packed_offset(group, layer),
                             x,
                             x_step,
                             x_row,
                             scratch.h + layer * rows * padded,
                             scratch.c + layer * rows * padded,
                             begin == 0 && forward.h0 == nullptr,
                             scratch.sequences[layer % 2],
                             scratch};
      run_stored_layer(it);
      if (layer + 1 == shape.layers) {
        write_output(it);
      } else if (forward.masks != nullptr) {
        apply_mask(it);
      }
      x = it.sequence, x_row = padded, x_step = rows * padded;
    }
  }
  for (Size i = 0; i < all_rows; ++i) {
    const Size offset = shape.state_offset(i / rows, group, first + i % rows);
    copy(scratch.h + i * padded, hidden, forward.h_n + offset);
    copy(scratch.c + i * padded, hidden, forward.c_n + offset);
  }
}

}  // namespace sgela::SGELA_ISA
