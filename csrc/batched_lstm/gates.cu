// The LSTM's gates on CUDA devices, forward and backward: one launch for all groups at one step, between the products.
//
// One thread owns kWidth neighbouring hidden units of one row: 16 bytes of pre-activations a gate (4 float, 8 half), so
// that neighbouring threads read neighbouring vectors; one unit where a size, stride or pointer does not allow it.
// Bytes moved, per row and unit in float32: forward 16 + 4 in, 8 out, 24 for the tape; backward 20 + 4 + 8 in, 20 out.
// No shared memory, no atomics. Never run on a GPU yet: compiled only.
#include "batched_lstm/gates.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstring>

#include "common/cell.h"

namespace sgela::lstm {
namespace {

using Size = std::int64_t;

constexpr int kThreads = 256;
constexpr Size kMostGridYZ = 65535;
constexpr int kC = 4, kH = 5;  // rows of the tape behind the four gates

__device__ inline float widen(float x) { return x; }
__device__ inline float widen(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ inline float widen(__half x) { return __half2float(x); }
__device__ inline void narrow(float x, float& out) { out = x; }
__device__ inline void narrow(float x, __nv_bfloat16& out) { out = __float2bfloat16_rn(x); }
__device__ inline void narrow(float x, __half& out) { out = __float2half_rn(x); }

template <class T>
__device__ inline float rounded(float x) {
  T stored;
  narrow(x, stored);
  return widen(stored);
}

// What one access moves: at most 16 bytes, as a type whose copy is a single instruction.
template <int kBytes>
struct Access;
template <>
struct Access<16> {
  using Type = uint4;
};
template <>
struct Access<8> {
  using Type = uint2;
};
template <>
struct Access<4> {
  using Type = unsigned;
};
template <>
struct Access<2> {
  using Type = unsigned short;
};

template <class T, int kWidth>
struct Pieces {
  static constexpr int kElements = sizeof(T) * kWidth < 16 ? kWidth : 16 / static_cast<int>(sizeof(T));
  using Type = typename Access<static_cast<int>(sizeof(T)) * kElements>::Type;
};

template <int kWidth>
struct Floats {
  float values[kWidth];
  __device__ float& operator[](int i) { return values[i]; }
  __device__ const float& operator[](int i) const { return values[i]; }
};

template <int kWidth, class T>
__device__ inline Floats<kWidth> load(const T* from) {
  using P = Pieces<T, kWidth>;
  Floats<kWidth> out;
#pragma unroll
  for (int i = 0; i < kWidth; i += P::kElements) {
    const auto piece = *reinterpret_cast<const typename P::Type*>(from + i);
    T elements[P::kElements];
    memcpy(elements, &piece, sizeof(piece));
#pragma unroll
    for (int j = 0; j < P::kElements; ++j) out[i + j] = widen(elements[j]);
  }
  return out;
}

template <int kWidth, class T>
__device__ inline Floats<kWidth> load_or_zeros(const T* from, Size offset) {
  return from == nullptr ? Floats<kWidth>{} : load<kWidth>(from + offset);
}

template <int kWidth, class T>
__device__ inline void store(T* to, const Floats<kWidth>& values) {
  using P = Pieces<T, kWidth>;
#pragma unroll
  for (int i = 0; i < kWidth; i += P::kElements) {
    T elements[P::kElements];
#pragma unroll
    for (int j = 0; j < P::kElements; ++j) narrow(values[i + j], elements[j]);
    typename P::Type piece;
    memcpy(&piece, elements, sizeof(piece));
    __stcg(reinterpret_cast<typename P::Type*>(to + i), piece);  // an assignment is split into its elements
  }
}

// Where a thread works: threads of a block lie along the units first, then along the rows.
struct Place {
  Size group, row, unit;
  __device__ Size in(const GroupRow& strides) const { return group * strides.group + row * strides.row + unit; }
};

template <int kWidth>
__device__ inline bool find_place(const GateProblem& problem, Place& place) {
  place.group = blockIdx.z;
  place.row = static_cast<Size>(blockIdx.x) * blockDim.y + threadIdx.y;
  place.unit = (static_cast<Size>(blockIdx.y) * blockDim.x + threadIdx.x) * kWidth;
  return place.row < problem.batch && place.unit < problem.hidden;
}

__device__ inline bool is_alive(const GateProblem& problem, const Place& place) {
  if (problem.lengths == nullptr) return true;
  const GroupRow& strides = problem.length_strides;
  return problem.step < problem.lengths[place.group * strides.group + place.row * strides.row];
}

template <class T, int kWidth>
__global__ void __launch_bounds__(kThreads) gates_forward(const GatesForward a) {
  Place place;
  if (!find_place<kWidth>(a.problem, place)) return;
  const bool alive = is_alive(a.problem, place);
  const Size hidden = a.problem.hidden;
  const T* const gates = static_cast<const T*>(a.gates) + place.in(a.gates_strides);
  const Floats<kWidth> previous_c = load_or_zeros<kWidth>(a.previous_c, place.in(a.previous_c_strides));
  Floats<kWidth> i = load<kWidth>(gates), f = load<kWidth>(gates + hidden);
  Floats<kWidth> g = load<kWidth>(gates + 2 * hidden), o = load<kWidth>(gates + 3 * hidden);
  Floats<kWidth> c, h;
#pragma unroll
  for (int n = 0; n < kWidth; ++n) {
    const auto cell = cuda::cell(i[n], f[n], g[n], o[n], previous_c[n]);
    i[n] = cell.i, f[n] = cell.f, g[n] = cell.g, o[n] = cell.o;
    c[n] = alive ? cell.c : previous_c[n];
    h[n] = rounded<T>(cell.h);  // so that the tape holds what the products take
  }
  if (!alive) {
    h = load_or_zeros<kWidth>(static_cast<const T*>(a.previous_h), place.in(a.previous_h_strides));
  }
  store<kWidth>(static_cast<T*>(a.h) + place.in(a.h_strides), h);
  store<kWidth>(a.c + place.in(a.c_strides), c);
  if (a.output != nullptr) {
    store<kWidth>(static_cast<T*>(a.output) + place.in(a.output_strides), alive ? h : Floats<kWidth>{});
  }
  if (a.tape != nullptr) {
    float* const tape = a.tape + place.in(a.tape_strides);
    store<kWidth>(tape, i);
    store<kWidth>(tape + hidden, f);
    store<kWidth>(tape + 2 * hidden, g);
    store<kWidth>(tape + 3 * hidden, o);
    store<kWidth>(tape + kC * hidden, c);
    store<kWidth>(tape + kH * hidden, h);
  }
}

template <class T, int kWidth>
__global__ void __launch_bounds__(kThreads) gates_backward(const GatesBackward a) {
  Place place;
  if (!find_place<kWidth>(a.problem, place)) return;
  const bool alive = is_alive(a.problem, place);
  const Size hidden = a.problem.hidden;
  T* const grad_gates = static_cast<T*>(a.grad_gates) + place.in(a.grad_gates_strides);
  const Floats<kWidth> grad_h = load_or_zeros<kWidth>(a.grad_h, place.in(a.grad_h_strides));
  const Floats<kWidth> grad_c = load_or_zeros<kWidth>(a.grad_c, place.in(a.grad_c_strides));
  if (!alive) {  // the state passed this step unchanged, and so do its gradients
#pragma unroll
    for (int gate = 0; gate < 4; ++gate) store<kWidth>(grad_gates + gate * hidden, Floats<kWidth>{});
    if (a.grad_previous_h != nullptr) {
      store<kWidth>(a.grad_previous_h + place.in(a.grad_previous_h_strides), grad_h);
    }
    store<kWidth>(a.grad_previous_c + place.in(a.grad_previous_c_strides), grad_c);
    return;
  }
  const Floats<kWidth> grad_output =
      load_or_zeros<kWidth>(static_cast<const T*>(a.grad_output), place.in(a.grad_output_strides));
  const Floats<kWidth> previous_c = load_or_zeros<kWidth>(a.previous_c, place.in(a.previous_c_strides));
  const float* const tape = a.tape + place.in(a.tape_strides);
  Floats<kWidth> i = load<kWidth>(tape), f = load<kWidth>(tape + hidden);
  Floats<kWidth> g = load<kWidth>(tape + 2 * hidden), o = load<kWidth>(tape + 3 * hidden);
  Floats<kWidth> c = load<kWidth>(tape + kC * hidden);
#pragma unroll
  for (int n = 0; n < kWidth; ++n) {
    const float c_before = previous_c[n], dh = grad_h[n] + grad_output[n], dc = grad_c[n];
    const auto gradient = cuda::cell_gradient(cuda::Gates<float>{i[n], f[n], g[n], o[n]}, c[n], c_before, dh, dc);
    i[n] = gradient.gates.i, f[n] = gradient.gates.f, g[n] = gradient.gates.g, o[n] = gradient.gates.o;
    c[n] = gradient.c;
  }
  store<kWidth>(grad_gates, i);
  store<kWidth>(grad_gates + hidden, f);
  store<kWidth>(grad_gates + 2 * hidden, g);
  store<kWidth>(grad_gates + 3 * hidden, o);
  if (a.grad_previous_h != nullptr) {
    store<kWidth>(a.grad_previous_h + place.in(a.grad_previous_h_strides), Floats<kWidth>{});
  }
  store<kWidth>(a.grad_previous_c + place.in(a.grad_previous_c_strides), c);
}

// Whether every vector of `width` elements of a tensor starts at a multiple of its accesses' size.
bool aligned(const void* pointer, const GroupRow& strides, int width, int element_bytes) {
  const Size bytes = width * element_bytes < 16 ? width * element_bytes : 16;
  const auto whole = [&](Size offset) { return offset * element_bytes % bytes == 0; };
  return pointer == nullptr ||
         (reinterpret_cast<std::uintptr_t>(pointer) % bytes == 0 && whole(strides.group) && whole(strides.row));
}

bool fits(const GatesForward& a, int width, int bytes) {
  return a.problem.hidden % width == 0 && aligned(a.gates, a.gates_strides, width, bytes) &&
         aligned(a.previous_h, a.previous_h_strides, width, bytes) && aligned(a.h, a.h_strides, width, bytes) &&
         aligned(a.output, a.output_strides, width, bytes) && aligned(a.previous_c, a.previous_c_strides, width, 4) &&
         aligned(a.c, a.c_strides, width, 4) && aligned(a.tape, a.tape_strides, width, 4);
}

bool fits(const GatesBackward& a, int width, int bytes) {
  return a.problem.hidden % width == 0 && aligned(a.grad_gates, a.grad_gates_strides, width, bytes) &&
         aligned(a.grad_output, a.grad_output_strides, width, bytes) && aligned(a.tape, a.tape_strides, width, 4) &&
         aligned(a.previous_c, a.previous_c_strides, width, 4) && aligned(a.grad_h, a.grad_h_strides, width, 4) &&
         aligned(a.grad_c, a.grad_c_strides, width, 4) &&
         aligned(a.grad_previous_h, a.grad_previous_h_strides, width, 4) &&
         aligned(a.grad_previous_c, a.grad_previous_c_strides, width, 4);
}

template <class T, int kWidth>
void start(const GatesForward& a, dim3 grid, dim3 block, cudaStream_t stream) {
  gates_forward<T, kWidth><<<grid, block, 0, stream>>>(a);
}

template <class T, int kWidth>
void start(const GatesBackward& a, dim3 grid, dim3 block, cudaStream_t stream) {
  gates_backward<T, kWidth><<<grid, block, 0, stream>>>(a);
}

template <class T, int kWidth, class Arguments>
cudaError_t launch_width(const Arguments& a, cudaStream_t stream) {
  const GateProblem& problem = a.problem;
  const Size vectors = problem.hidden / kWidth;
  int across = 1;
  while (across < vectors && across < 64) across *= 2;
  const int down = kThreads / across;
  const Size rows = (problem.batch + down - 1) / down, columns = (vectors + across - 1) / across;
  if (rows > INT32_MAX || columns > kMostGridYZ || problem.groups > kMostGridYZ) return cudaErrorInvalidValue;
  const dim3 grid(static_cast<unsigned>(rows), static_cast<unsigned>(columns), static_cast<unsigned>(problem.groups));
  start<T, kWidth>(a, grid, dim3(across, down), stream);
  return cudaGetLastError();
}

template <class T, class Arguments>
cudaError_t launch_storage(const Arguments& a, cudaStream_t stream) {
  constexpr int kWidest = 16 / sizeof(T);
  if (fits(a, kWidest, sizeof(T))) return launch_width<T, kWidest>(a, stream);
  if (kWidest > 4 && fits(a, 4, sizeof(T))) return launch_width<T, 4>(a, stream);
  return launch_width<T, 1>(a, stream);
}

template <class Arguments>
cudaError_t launch(const Arguments& a, Storage storage, cudaStream_t stream) {
  if (a.problem.groups <= 0 || a.problem.batch <= 0 || a.problem.hidden <= 0) return cudaSuccess;
  switch (storage) {
    case Storage::kFloat:
      return launch_storage<float>(a, stream);
    case Storage::kBFloat16:
      return launch_storage<__nv_bfloat16>(a, stream);
    case Storage::kHalf:
      return launch_storage<__half>(a, stream);
  }
  return cudaErrorInvalidValue;
}

}  // namespace

cudaError_t launch_gates_forward(const GatesForward& arguments, Storage storage, cudaStream_t stream) {
  return launch(arguments, storage, stream);
}

cudaError_t launch_gates_backward(const GatesBackward& arguments, Storage storage, cudaStream_t stream) {
  return launch(arguments, storage, stream);
}

}  // namespace sgela::lstm
