// The CUDA ops lstm_gates_forward and lstm_gates_backward: checks that guard the kernels' memory, the tensors' device
// and its current stream, one launch. They write into tensors of the caller and allocate nothing.
// Never run on a GPU yet: compiled only.

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <optional>
#include <vector>

#include "batched_lstm/gates.h"

namespace sgela::lstm {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using OptionalTensor = std::optional<Tensor>;

constexpr int64_t kTapeRows = 6;

Storage storage_of(ScalarType type) {
  STD_TORCH_CHECK(type == ScalarType::Float || type == ScalarType::BFloat16 || type == ScalarType::Half,
                  "lstm_gates: gates are float32, bfloat16 or float16");
  return type == ScalarType::Float      ? Storage::kFloat
         : type == ScalarType::BFloat16 ? Storage::kBFloat16
                                        : Storage::kHalf;
}

// Sizes, type and device that the tensors of a call share.
struct Expected {
  int64_t groups, batch, hidden;
  ScalarType storage;
  int32_t device;

  void check(const Tensor& tensor, const std::vector<int64_t>& sizes, ScalarType type, const char* name) const {
    bool fits = tensor.dim() == static_cast<int64_t>(sizes.size());
    for (size_t i = 0; fits && i < sizes.size(); ++i) fits = tensor.size(i) == sizes[i];
    STD_TORCH_CHECK(fits, "lstm_gates: ", name, " has another shape than the gates say");
    STD_TORCH_CHECK(tensor.is_cuda() && tensor.get_device_index() == device, "lstm_gates: ", name,
                    " is not on the gates' device");
    STD_TORCH_CHECK(tensor.scalar_type() == type, "lstm_gates: ", name, " has the wrong dtype");
    const int64_t last = tensor.dim() - 1;
    STD_TORCH_CHECK(type == ScalarType::Long || tensor.size(last) <= 1 || tensor.stride(last) == 1, "lstm_gates: ",
                    name, " needs a stride of 1 in its last dimension");
  }
  void check_rows(const Tensor& tensor, int64_t columns, ScalarType type, const char* name) const {
    check(tensor, {groups, batch, columns}, type, name);
  }
  void check_tape(const Tensor& tape) const {
    check(tape, {groups, batch, kTapeRows, hidden}, ScalarType::Float, "tape");
    STD_TORCH_CHECK(tape.stride(2) == hidden, "lstm_gates: the rows of the tape must lie one behind the other");
  }
};

GroupRow strides_of(const Tensor& tensor) { return {tensor.stride(0), tensor.stride(1)}; }

template <class T>
void read(const OptionalTensor& tensor, const T*& data, GroupRow& strides) {
  if (!tensor.has_value()) return;
  data = static_cast<const T*>(tensor->const_data_ptr());
  strides = strides_of(*tensor);
}

template <class T>
void write(const OptionalTensor& tensor, T*& data, GroupRow& strides) {
  if (!tensor.has_value()) return;
  data = static_cast<T*>(tensor->mutable_data_ptr());
  strides = strides_of(*tensor);
}

Expected expected_of(const Tensor& gates) {
  STD_TORCH_CHECK(gates.is_cuda() && gates.dim() == 3 && gates.size(2) % 4 == 0,
                  "lstm_gates takes gates (G, B, 4K) on a CUDA device");
  const Expected expected{gates.size(0), gates.size(1), gates.size(2) / 4, gates.scalar_type(),
                          gates.get_device_index()};
  expected.check_rows(gates, 4 * expected.hidden, expected.storage, "gates");
  return expected;
}

GateProblem problem_of(const Expected& expected, const OptionalTensor& lengths, int64_t step) {
  GateProblem problem{expected.groups, expected.batch, expected.hidden, step, nullptr, {}};
  if (!lengths.has_value()) return problem;
  const bool shared = lengths->dim() == 1;
  expected.check(*lengths, shared ? std::vector<int64_t>{expected.batch} : std::vector{expected.groups, expected.batch},
                 ScalarType::Long, "lengths");
  problem.lengths = static_cast<const int64_t*>(lengths->const_data_ptr());
  problem.length_strides = {shared ? 0 : lengths->stride(0), lengths->stride(shared ? 0 : 1)};
  return problem;
}

template <class Arguments, class Launch>
void launch_on_current_stream(const Arguments& arguments, const Expected& expected, const Launch& launch) {
  const torch::stable::accelerator::DeviceGuard guard(expected.device);
  void* stream = nullptr;
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(expected.device, &stream));
  const cudaError_t error = launch(arguments, storage_of(expected.storage), static_cast<cudaStream_t>(stream));
  STD_TORCH_CHECK(error == cudaSuccess, "lstm_gates: the launch failed: ", cudaGetErrorString(error));
}

void check_optional(const Expected& expected, const OptionalTensor& tensor, ScalarType type, const char* name) {
  if (tensor.has_value()) expected.check_rows(*tensor, expected.hidden, type, name);
}

void gates_forward(Tensor gates, OptionalTensor previous_h, OptionalTensor previous_c, OptionalTensor lengths,
                   int64_t step, Tensor h, Tensor c, OptionalTensor output, OptionalTensor tape) {
  const Expected expected = expected_of(gates);
  check_optional(expected, previous_h, expected.storage, "previous_h");
  check_optional(expected, previous_c, ScalarType::Float, "previous_c");
  check_optional(expected, h, expected.storage, "h");
  check_optional(expected, c, ScalarType::Float, "c");
  check_optional(expected, output, expected.storage, "output");
  if (tape.has_value()) expected.check_tape(*tape);
  GatesForward arguments{};
  arguments.problem = problem_of(expected, lengths, step);
  read(OptionalTensor(gates), arguments.gates, arguments.gates_strides);
  read(previous_h, arguments.previous_h, arguments.previous_h_strides);
  read(previous_c, arguments.previous_c, arguments.previous_c_strides);
  write(OptionalTensor(h), arguments.h, arguments.h_strides);
  write(OptionalTensor(c), arguments.c, arguments.c_strides);
  write(output, arguments.output, arguments.output_strides);
  write(tape, arguments.tape, arguments.tape_strides);
  launch_on_current_stream(arguments, expected, launch_gates_forward);
}

void gates_backward(Tensor tape, OptionalTensor previous_c, OptionalTensor grad_output, OptionalTensor grad_h,
                    OptionalTensor grad_c, OptionalTensor lengths, int64_t step, Tensor grad_gates,
                    OptionalTensor grad_previous_h, Tensor grad_previous_c) {
  const Expected expected = expected_of(grad_gates);
  expected.check_tape(tape);
  check_optional(expected, previous_c, ScalarType::Float, "previous_c");
  check_optional(expected, grad_output, expected.storage, "grad_output");
  check_optional(expected, grad_h, ScalarType::Float, "grad_h");
  check_optional(expected, grad_c, ScalarType::Float, "grad_c");
  check_optional(expected, grad_previous_h, ScalarType::Float, "grad_previous_h");
  check_optional(expected, grad_previous_c, ScalarType::Float, "grad_previous_c");
  GatesBackward arguments{};
  arguments.problem = problem_of(expected, lengths, step);
  read(OptionalTensor(tape), arguments.tape, arguments.tape_strides);
  read(previous_c, arguments.previous_c, arguments.previous_c_strides);
  read(grad_output, arguments.grad_output, arguments.grad_output_strides);
  read(grad_h, arguments.grad_h, arguments.grad_h_strides);
  read(grad_c, arguments.grad_c, arguments.grad_c_strides);
  write(OptionalTensor(grad_gates), arguments.grad_gates, arguments.grad_gates_strides);
  write(grad_previous_h, arguments.grad_previous_h, arguments.grad_previous_h_strides);
  write(OptionalTensor(grad_previous_c), arguments.grad_previous_c, arguments.grad_previous_c_strides);
  launch_on_current_stream(arguments, expected, launch_gates_backward);
}

}  // namespace
}  // namespace sgela::lstm

STABLE_TORCH_LIBRARY_IMPL(sgela_fast, CUDA, m) {
  m.impl("lstm_gates_forward", TORCH_BOX(&sgela::lstm::gates_forward));
  m.impl("lstm_gates_backward", TORCH_BOX(&sgela::lstm::gates_backward));
}
