// What the op hands to the kernels: pointers, sizes and strides, and one table of kernels for each instruction set and
// storage dtype. Strides are in elements; the last dimension of every matrix has unit stride.
//
// S is the storage dtype, A the accumulation dtype: float, or double where S is double.
#pragma once

#include <cstdint>

namespace sgela::locality_attention {

enum class Mode { kBas = 0, kMbas = 1, kLas = 2, kLasDetached = 3 };

struct Strided {
  const void* data = nullptr;  // null if the argument was not given
  int64_t outer = 0, inner = 0, row = 0;
};

struct Attention {
  Strided query;    // (N0, N1, Tq, K) of S
  Strided key;      // (N0, N1, Tk, K) of S
  Strided value;    // (N0, N1, Tk, Kv) of S; the key's fields if value_is_key
  Strided centers;  // (N0, N1, Tq) of A
  Strided padding;  // (N0, N1, Tk) of bytes, not 0 where a key is padding
  bool value_is_key = false;
  int64_t outer = 0, inner = 0;  // N0, N1
  int64_t queries = 0, keys = 0, features = 0, width = 0;  // Tq, Tk, K, Kv
  int64_t first_step = 0;
  int direction = 0;  // -1 reverse, +1 identity, 0 centers
  double sigma = 1;
  double window = 0;  // infinity for none
  double scale = 1;
  Mode mode = Mode::kLas;
  // (Tq + Tk - 1 and one panel) of A: l for mbas, 1 - l for las, by the distance of key and expected position. Null
  // for bas and for centers.
  const void* mask = nullptr;
  // The table for a key that reads it for consecutive query rows; may be the same.
  const void* mask_of_key = nullptr;

  int64_t sequences() const { return outer * inner; }
};

struct Forward : Attention {
  void* context = nullptr;  // (N, Tq, Kv) of S
  void* loss = nullptr;     // (N) of A
  void* log_sum = nullptr;  // (N, Tq) of A
  void* moment = nullptr;   // (N, Tq) of A
  void* row_loss = nullptr;  // (N, Tq) of A; may be moment where the two are equal
};

struct Backward : Attention {
  Strided grad_context;  // (N0, N1, Tq, Kv) of S
  Strided grad_loss;     // (N0, N1) of A, or null
  Strided context;       // (N0, N1, Tq, Kv) of S
  Strided log_sum;       // (N0, N1, Tq) of A
  Strided moment;        // (N0, N1, Tq) of A
  void* grad_query = nullptr;    // (N, Tq, K) of S
  void* grad_key = nullptr;      // (N, Tk, K) of S
  void* grad_value = nullptr;    // (N, Tk, Kv) of S, or null
  void* grad_centers = nullptr;  // (N, Tq) of A, or null
  void* delta = nullptr;         // (N, Tq) of A: from the first pass over tiles to the second
};

struct Kernels {
  int64_t panel;  // how far behind its last entry the mask's table is read
  void (*fill_mask)(const Attention&, void* table, int64_t entries);
  void (*fill_mask_of_key)(const Attention&, void* table, int64_t entries);
  // Whole sequences `begin` to `end`.
  void (*rows_forward)(const Forward&, int64_t begin, int64_t end);
  void (*rows_backward)(const Backward&, int64_t begin, int64_t end);
  // Tiles `begin` to `end`, of up to `tile_rows` query rows of one sequence, or keys in grad_key; tiles_backward takes
  // whole sequences.
  void (*tiles_forward)(const Forward&, int64_t tile_rows, int64_t begin, int64_t end);
  void (*add_row_losses)(const Forward&);
  void (*tiles_backward)(const Backward&, int64_t begin, int64_t end);
  void (*tiles_grad_query)(const Backward&, int64_t tile_rows, int64_t begin, int64_t end);
  void (*tiles_grad_key)(const Backward&, int64_t tile_rows, int64_t begin, int64_t end);
};

enum class Storage { kFloat32, kFloat64, kBFloat16, kFloat16 };

const Kernels& kernels_baseline(Storage storage);
const Kernels& kernels_avx2(Storage storage);
const Kernels& kernels_avx512(Storage storage);

}  // namespace sgela::locality_attention
