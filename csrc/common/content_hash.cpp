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
// Factors of the lower and the upper half of a word: 32 x 32 bits is the one product that the baseline's vectors have.
constexpr std::uint64_t kLower = 0xFFFFDA61, kUpper = 0xFFFE9817;
constexpr std::uint64_t kWideFactor = 0x9E3779B97F4A7C15;

// For the few words that are not contents: all bits of one reach all bits of the other.
inline std::uint64_t join(std::uint64_t hash, std::uint64_t word) {
  hash = (hash ^ word) * kWideFactor;
  hash = (hash ^ (hash >> 32)) * kWideFactor;
  return hash ^ (hash >> 29);
}

// All lanes one step on, with kLanes words from `bytes`. Both halves are multiplied, so that a change of one bit spreads over
// the lane, and a change of a few others (numbers exchanged, signs turned) does not take it back.
inline void mix_block(std::uint64_t* lanes, const char* bytes) {
#ifdef __SSE2__
  const __m128i lower = _mm_set1_epi64x(kLower), upper = _mm_set1_epi64x(kUpper);
  for (int i = 0; i < kLanes; i += 2) {
    __m128i* const lane = reinterpret_cast<__m128i*>(lanes + i);
    const __m128i words = _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes + i * sizeof(*lanes)));
    const __m128i both = _mm_xor_si128(_mm_load_si128(lane), words);
    const __m128i product = _mm_mul_epu32(_mm_srli_epi64(both, 32), upper);
    _mm_store_si128(lane, _mm_add_epi64(_mm_mul_epu32(both, lower), product));
  }
#else
  for (int i = 0; i < kLanes; ++i) {
    std::uint64_t word;
    std::memcpy(&word, bytes + i * sizeof(word), sizeof(word));
    const std::uint64_t both = lanes[i] ^ word;
    lanes[i] = (both & 0xFFFFFFFF) * kLower + (both >> 32) * kUpper;
  }
#endif
}

std::uint64_t hash_bytes(const char* bytes, std::size_t size, std::uint64_t hash) {
  alignas(16) std::uint64_t lanes[kLanes];
  for (int i = 0; i < kLanes; ++i) lanes[i] = join(hash, i + 1);
  const std::size_t rest = size % sizeof(lanes);
  for (const char* const end = bytes + (size - rest); bytes != end; bytes += sizeof(lanes)) mix_block(lanes, bytes);
  if (rest > 0) {
    char last[sizeof(lanes)] = {};
    std::memcpy(last, bytes, rest);
    mix_block(lanes, last);
  }
  for (const std::uint64_t lane : lanes) hash = join(hash, lane);
  return hash;
}

int64_t content_hash(std::vector<Tensor> tensors) {
  std::uint64_t hash = tensors.size();
  for (const Tensor& tensor : tensors) {
    STD_TORCH_CHECK(tensor.is_cpu() && tensor.is_contiguous(), "content_hash takes contiguous tensors on the CPU");
    hash = join(hash, static_cast<std::uint64_t>(tensor.scalar_type()));
    for (int64_t i = 0; i < tensor.dim(); ++i) hash = join(hash, tensor.size(i));
    const std::size_t size = static_cast<std::size_t>(tensor.numel()) * tensor.element_size();
    if (size > 0) hash = hash_bytes(static_cast<const char*>(tensor.const_data_ptr()), size, hash);
  }
  return static_cast<int64_t>(hash);
}

}  // namespace
}  // namespace sgela

STABLE_TORCH_LIBRARY_IMPL(sgela_fast, CPU, m) { m.impl("content_hash", TORCH_BOX(&sgela::content_hash)); }
