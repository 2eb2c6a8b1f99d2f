// The CPU op content_hash: 64 bits that depend on every byte of the given tensors and on its place, to see whether weights
// are still the ones that were packed. Reads each tensor once, on the calling thread, and writes nothing.

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/tensor.h>

#include <cstdint>
#include <cstring>
#include <vector>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

namespace sgela {
namespace {

using torch::stable::Tensor;

constexpr int kLanes = 16;  // hides the latency of the multiplication
// A step of Marsaglia's multiply-with-carry generator: arithmetic modulo the prime kFactor 2^32 - 1, with each word brought
// in by xor. 32 x 32 bits is the one product that the baseline's vectors have.
constexpr std::uint64_t kFactor = 0xFFFFDA61;

inline std::uint64_t mix(std::uint64_t hash, std::uint64_t word) {
  const std::uint64_t both = hash ^ word;
  return (both & 0xFFFFFFFF) * kFactor + (both >> 32);
}

// All lanes one step on, with kLanes words from `bytes`.
inline void mix_block(std::uint64_t* lanes, const char* bytes) {
#ifdef __SSE2__
  const __m128i factor = _mm_set1_epi64x(kFactor);
  for (int i = 0; i < kLanes; i += 2) {
    __m128i* const lane = reinterpret_cast<__m128i*>(lanes + i);
    const __m128i words = _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes + i * sizeof(*lanes)));
    const __m128i both = _mm_xor_si128(_mm_load_si128(lane), words);
    _mm_store_si128(lane, _mm_add_epi64(_mm_mul_epu32(both, factor), _mm_srli_epi64(both, 32)));
  }
#else
  for (int i = 0; i < kLanes; ++i) {
    std::uint64_t word;
    std::memcpy(&word, bytes + i * sizeof(word), sizeof(word));
    lanes[i] = mix(lanes[i], word);
  }
#endif
}

std::uint64_t hash_bytes(const char* bytes, std::size_t size, std::uint64_t hash) {
  alignas(16) std::uint64_t lanes[kLanes];
  for (int i = 0; i < kLanes; ++i) lanes[i] = mix(hash, i + 1);
  const std::size_t rest = size % sizeof(lanes);
  for (const char* const end = bytes + (size - rest); bytes != end; bytes += sizeof(lanes)) mix_block(lanes, bytes);
  if (rest > 0) {
    char last[sizeof(lanes)] = {};
    std::memcpy(last, bytes, rest);
    mix_block(lanes, last);
  }
  for (const std::uint64_t lane : lanes) hash = mix(hash, lane);
  return hash;
}

int64_t content_hash(std::vector<Tensor> tensors) {
  std::uint64_t hash = tensors.size();
  for (const Tensor& tensor : tensors) {
    STD_TORCH_CHECK(tensor.is_cpu() && tensor.is_contiguous(), "content_hash takes contiguous tensors on the CPU");
    hash = mix(hash, static_cast<std::uint64_t>(tensor.scalar_type()));
    for (int64_t i = 0; i < tensor.dim(); ++i) hash = mix(hash, tensor.size(i));
    const std::size_t size = static_cast<std::size_t>(tensor.numel()) * tensor.element_size();
    if (size > 0) hash = hash_bytes(static_cast<const char*>(tensor.const_data_ptr()), size, hash);
  }
  return static_cast<int64_t>(hash);
}

}  // namespace
}  // namespace sgela

STABLE_TORCH_LIBRARY_IMPL(sgela_fast, CPU, m) { m.impl("content_hash", TORCH_BOX(&sgela::content_hash)); }
