// The gate kernels of gates.cu as their callers see them: parameters and launchers, plain pointers, sizes and strides.
//
// Strides are elements between neighbours of a dimension; the last dimension of every tensor has unit stride. The tape
// of a row and step holds i, f, g, o (after sigmoid and tanh), c and h, K elements each, one behind the other.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace sgela::lstm {

enum class Storage { kFloat, kBFloat16, kHalf };

struct GroupRow {
  std::int64_t group = 0, row = 0;
};

// What both directions share.
struct GateProblem {
  std::int64_t groups, batch, hidden;
  std::int64_t step;
  const std::int64_t* lengths;  // (G, B), strides below, or null: no row has an end
  GroupRow length_strides;
};

struct GatesForward {
  GateProblem problem;
  // inputs
  const void* gates;          // (G, B, 4K) pre-activations, storage dtype
  const void* previous_h;     // (G, B, K), storage dtype, or null for zeros; read behind a row's end alone
  const float* previous_c;    // (G, B, K), or null for zeros
  GroupRow gates_strides, previous_h_strides, previous_c_strides;
  // outputs
  void* h;                    // (G, B, K), storage dtype: behind a row's end the previous one
  float* c;                   // (G, B, K): likewise
  void* output;               // (G, B, K), storage dtype, or null: h, and 0 behind a row's end
  float* tape;                // (G, B, 6, K) or null
  GroupRow h_strides, c_strides, output_strides, tape_strides;
};

struct GatesBackward {
  GateProblem problem;
  // inputs
  const float* tape;          // (G, B, 6, K)
  const float* previous_c;    // (G, B, K), or null for zeros
  const void* grad_output;    // (G, B, K), storage dtype, or null: nothing of it counts behind a row's end
  const float* grad_h;        // (G, B, K), or null: gradient of the state h
  const float* grad_c;        // (G, B, K), or null
  GroupRow tape_strides, previous_c_strides, grad_output_strides, grad_h_strides, grad_c_strides;
  // outputs
  void* grad_gates;           // (G, B, 4K), storage dtype; 0 behind a row's end
  float* grad_previous_h;     // (G, B, K), or null: what passes by the gates, 0 but behind a row's end
  float* grad_previous_c;     // (G, B, K)
  GroupRow grad_gates_strides, grad_previous_h_strides, grad_previous_c_strides;
};

// Both return what the launch itself said; nothing waits for the device. Sizes of 0 launch nothing.
cudaError_t launch_gates_forward(const GatesForward& arguments, Storage storage, cudaStream_t stream);
cudaError_t launch_gates_backward(const GatesBackward& arguments, Storage storage, cudaStream_t stream);

}  // namespace sgela::lstm
