// The op `sgela_fast::locality_attention` and its backward on the CPU: checks of what would be read out of bounds,
// outputs, the mask's table, and the choice of kernels by storage dtype, instruction set and size. The schemas are
// defined in Python.

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <algorithm>
#include <limits>
#include <memory>
#include <optional>
#include <tuple>

#include "common/choose_kernels.h"
#include "locality_attention/params.h"

namespace sgela::locality_attention {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using Results = std::tuple<Tensor, Tensor, Tensor, Tensor>;

// Multiplications and additions that are worth handing to another thread.
constexpr int64_t kWorkOfAThread = 1 << 20;
// Sequences of up to this many scores, or with this few query rows, are worked on as a whole in L1 and L2: tiles pack
// their keys first, which pays for more.
constexpr int64_t kScoresOfRows = 96 * 96, kFewQueries = 4;
constexpr int64_t kTileRows = 192, kSmallestTile = 24;

const Kernels& chosen_kernels(ScalarType type) {
  const Storage storage = storage_of<Storage>(type, "locality_attention");
#if defined(__x86_64__)
  return choose_kernels(storage, &kernels_baseline, &kernels_avx2, &kernels_avx512);
#else
  return choose_kernels(storage, &kernels_baseline, &kernels_baseline, &kernels_baseline);
#endif
}

// The dimensions before those of one sequence: N0 and N1, or N1 alone, which saves the caller two views.
struct Leading {
  bool has_outer;
  int64_t outer, inner;

  size_t rank() const { return has_outer ? 2 : 1; }
  int64_t size(size_t i) const { return has_outer && i == 0 ? outer : inner; }
};

Tensor empty(const int64_t* sizes, size_t rank, ScalarType type) {
  int64_t strides[4], stride = 1;
  for (size_t i = rank; i-- > 0;) {
    strides[i] = stride;
    stride *= sizes[i] > 1 ? sizes[i] : 1;
  }
  const int32_t dtype = torch::stable::detail::to<int32_t>(torch::stable::detail::from(type));
  AtenTensorHandle handle = nullptr;
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(static_cast<int64_t>(rank), sizes, strides, dtype,
                                                         aoti_torch_device_type_cpu(), 0, &handle));
  return Tensor(handle);
}

// A tensor of `sizes` for every sequence.
Tensor empty(const Leading& leading, std::initializer_list<int64_t> sizes, ScalarType type) {
  int64_t all[4];
  for (size_t i = 0; i < leading.rank(); ++i) all[i] = leading.size(i);
  std::copy(sizes.begin(), sizes.end(), all + leading.rank());
  return empty(all, leading.rank() + sizes.size(), type);
}

// Stands for "no gradient".
Tensor nothing(ScalarType type) {
  const int64_t size = 0;
  return empty(&size, 1, type);
}

// Checks shape and dtype and takes the strides; a tensor without elements is never read.
Strided view(const char* name, const Tensor& tensor, const Leading& leading, std::initializer_list<int64_t> sizes,
             ScalarType type) {
  static const char kNothing[64] = {};
  STD_TORCH_CHECK(tensor.is_cpu(), "locality_attention: ", name, " must be on the CPU");
  STD_TORCH_CHECK(tensor.scalar_type() == type, "locality_attention: ", name, " has the wrong dtype");
  const auto given = tensor.sizes();
  const size_t rank = leading.rank();
  bool fits = given.size() == rank + sizes.size(), any = true;
  for (size_t i = 0; fits && i < given.size(); ++i) {
    fits = given[i] == (i < rank ? leading.size(i) : sizes.begin()[i - rank]);
    any &= given[i] > 0;
  }
  STD_TORCH_CHECK(fits, "locality_attention: ", name, " has the wrong shape");
  if (!any) return {kNothing, 0, 0, 0};
  const auto strides = tensor.strides();
  STD_TORCH_CHECK(sizes.size() < 2 || strides[rank + 1] == 1 || given[rank + 1] == 1,
                  "locality_attention: the last dimension of ", name, " must have unit stride");
  return {tensor.const_data_ptr(), leading.has_outer ? strides[0] : 0, strides[rank - 1],
          sizes.size() > 0 ? strides[rank] : 0};
}

struct Settings {
  int64_t first_step, direction;
  double sigma;
  std::optional<double> window;
  double scale;
  int64_t mode;
  bool detach_target;
};

ScalarType accumulation_type(ScalarType type) { return type == ScalarType::Double ? type : ScalarType::Float; }

Leading take_inputs(Attention& p, const Tensor& query, const Tensor& key, const std::optional<Tensor>& value,
                    const std::optional<Tensor>& centers, const std::optional<Tensor>& padding,
                    const Settings& settings) {
  const int64_t rank = query.dim();
  STD_TORCH_CHECK((rank == 3 || rank == 4) && key.dim() == rank && (!value || value->dim() == rank),
                  "locality_attention: query, key and value must have the same three or four dimensions");
  STD_TORCH_CHECK(settings.mode >= 0 && settings.mode <= 2, "locality_attention: mode must be 0, 1 or 2");
  STD_TORCH_CHECK((settings.direction == 0) == centers.has_value(), "locality_attention: direction 0 takes centers");
  const ScalarType type = query.scalar_type();
  const Leading leading = {rank == 4, rank == 4 ? query.size(0) : 1, query.size(rank - 3)};
  p.outer = leading.outer, p.inner = leading.inner, p.queries = query.size(rank - 2), p.features = query.size(rank - 1);
  p.keys = key.size(rank - 2), p.width = value ? value->size(rank - 1) : p.features;
  p.query = view("query", query, leading, {p.queries, p.features}, type);
  p.key = view("key", key, leading, {p.keys, p.features}, type);
  p.value_is_key = !value;
  p.value = value ? view("value", *value, leading, {p.keys, p.width}, type) : p.key;
  p.direction = static_cast<int>(settings.direction);
  if (settings.direction == 0) p.centers = view("centers", *centers, leading, {p.queries}, accumulation_type(type));
  if (padding) p.padding = view("key_padding_mask", *padding, leading, {p.keys}, ScalarType::Bool);
  p.first_step = settings.first_step;
  p.sigma = settings.sigma;
  p.window = settings.window.value_or(std::numeric_limits<double>::infinity());
  p.scale = settings.scale;
  p.mode = settings.mode == 2 && settings.detach_target ? Mode::kLasDetached : static_cast<Mode>(settings.mode);
  return leading;
}

// Memory for one call; in place if it is little.
class Buffer {
 public:
  void* take(int64_t elements, ScalarType type) {
    const size_t bytes = static_cast<size_t>(elements) * (type == ScalarType::Double ? 8 : 4);
    if (bytes <= sizeof(small_)) return small_;
    large_ = std::make_unique_for_overwrite<char[]>(bytes);
    return large_.get();
  }

 private:
  alignas(64) char small_[1024];
  std::unique_ptr<char[]> large_;
};

void fill_mask(Attention& p, const Kernels& kernels, ScalarType exact, bool of_key, Buffer& table,
               Buffer& of_key_table) {
  if (p.mode == Mode::kBas || p.direction == 0) return;
  const int64_t entries = p.queries + p.keys + kernels.panel;
  void* mask = table.take(entries, exact);
  kernels.fill_mask(p, mask, entries);
  p.mask = p.mask_of_key = mask;
  if (p.direction < 0 || !of_key) return;
  mask = of_key_table.take(entries, exact);
  kernels.fill_mask_of_key(p, mask, entries);
  p.mask_of_key = mask;
}

bool is_short(const Attention& p) { return p.queries * p.keys <= kScoresOfRows || p.queries <= kFewQueries; }

int64_t tiles_of(int64_t rows, int64_t tile_rows) { return (rows + tile_rows - 1) / tile_rows; }

// Rows of a tile when the `rows` of each sequence are cut up. The results do not depend on it.
int64_t tile_rows_of(const Attention& p, int64_t rows) {
  const int64_t threads = torch::stable::get_num_threads();
  const int64_t for_threads = std::min(tiles_of(threads, p.sequences()), tiles_of(rows, kSmallestTile));
  const int64_t tiles = std::max(tiles_of(rows, kTileRows), for_threads);
  return tiles_of(tiles_of(rows, tiles), 12) * 12;
}

// Items that are worth a thread, if one has `rows` rows and `products` products with the other side.
int64_t grain_of(const Attention& p, int64_t rows, int64_t others, int64_t products) {
  const int64_t work = (products * rows * others + 4 * (rows + others)) * (p.features + p.width + 8);
  return kWorkOfAThread / (work + 1) + 1;
}

template <typename Run>
void over_tiles(const Attention& p, int64_t rows, int64_t others, int64_t products, const Run& run) {
  const int64_t tile_rows = tile_rows_of(p, rows);
  torch::stable::parallel_for(0, p.sequences() * tiles_of(rows, tile_rows), grain_of(p, tile_rows, others, products),
                              [&](int64_t begin, int64_t end) { run(tile_rows, begin, end); });
}

void run(Forward& p, const Kernels& kernels, ScalarType exact) {
  Buffer table, row_loss;
  fill_mask(p, kernels, exact, false, table, table);
  if (is_short(p)) {
    torch::stable::parallel_for(0, p.sequences(), grain_of(p, p.queries, p.keys, 1),
                                [&](int64_t begin, int64_t end) { kernels.rows_forward(p, begin, end); });
    return;
  }
  p.row_loss = p.mode == Mode::kLasDetached ? row_loss.take(p.sequences() * p.queries, exact) : p.moment;
  over_tiles(p, p.queries, p.keys, 1, [&](int64_t tile_rows, int64_t begin, int64_t end) {
    kernels.tiles_forward(p, tile_rows, begin, end);
  });
  kernels.add_row_losses(p);
}

void run(Backward& p, const Kernels& kernels, ScalarType exact) {
  Buffer table, of_key_table, delta;
  fill_mask(p, kernels, exact, !is_short(p), table, of_key_table);
  if (is_short(p)) {
    torch::stable::parallel_for(0, p.sequences(), grain_of(p, p.queries, p.keys, 3),
                                [&](int64_t begin, int64_t end) { kernels.rows_backward(p, begin, end); });
    return;
  }
  // With a thread for every sequence the scores are computed once, else tiles are shared out; to the same digits.
  if (p.sequences() >= static_cast<int64_t>(torch::stable::get_num_threads())) {
    torch::stable::parallel_for(0, p.sequences(), 1,
                                [&](int64_t begin, int64_t end) { kernels.tiles_backward(p, begin, end); });
    return;
  }
  p.delta = delta.take(p.sequences() * p.queries, exact);
  over_tiles(p, p.queries, p.keys, 2, [&](int64_t tile_rows, int64_t begin, int64_t end) {
    kernels.tiles_grad_query(p, tile_rows, begin, end);
  });
  over_tiles(p, p.keys, p.queries, 2, [&](int64_t tile_rows, int64_t begin, int64_t end) {
    kernels.tiles_grad_key(p, tile_rows, begin, end);
  });
}

Results forward(const Tensor& query, const Tensor& key, std::optional<Tensor> value, std::optional<Tensor> centers,
                std::optional<Tensor> padding, int64_t first_step, int64_t direction, double sigma,
                std::optional<double> window, double scale, int64_t mode, bool detach_target) {
  Forward p;
  const Leading leading = take_inputs(p, query, key, value, centers, padding,
                                      {first_step, direction, sigma, window, scale, mode, detach_target});
  const ScalarType type = query.scalar_type(), exact = accumulation_type(type);
  Tensor context = empty(leading, {p.queries, p.width}, type);
  Tensor loss = empty(leading, {}, exact);
  Tensor log_sum = empty(leading, {p.queries}, exact);
  Tensor moment = empty(leading, {p.queries}, exact);
  p.context = context.mutable_data_ptr();
  p.loss = loss.mutable_data_ptr();
  p.log_sum = log_sum.mutable_data_ptr();
  p.moment = moment.mutable_data_ptr();
  const Kernels& kernels = chosen_kernels(type);
  if (p.sequences() > 0) run(p, kernels, exact);
  return {context, loss, log_sum, moment};
}

Results backward(const Tensor& grad_context, std::optional<Tensor> grad_loss, const Tensor& query, const Tensor& key,
                 std::optional<Tensor> value, std::optional<Tensor> centers, std::optional<Tensor> padding,
                 const Tensor& context, const Tensor& log_sum, const Tensor& moment, int64_t first_step,
                 int64_t direction, double sigma, std::optional<double> window, double scale, int64_t mode,
                 bool detach_target) {
  Backward p;
  const Leading leading = take_inputs(p, query, key, value, centers, padding,
                                      {first_step, direction, sigma, window, scale, mode, detach_target});
  const ScalarType type = query.scalar_type(), exact = accumulation_type(type);
  // Kept here: its memory must live as long as the kernels run.
  const int64_t last = grad_context.dim() - 1;
  const bool readable = last < 0 || grad_context.stride(last) == 1;
  const Tensor upstream = readable ? grad_context : torch::stable::contiguous(grad_context);
  p.grad_context = view("grad_context", upstream, leading, {p.queries, p.width}, type);
  if (grad_loss) p.grad_loss = view("grad_loss", *grad_loss, leading, {}, exact);
  p.context = view("context", context, leading, {p.queries, p.width}, type);
  p.log_sum = view("log_sum", log_sum, leading, {p.queries}, exact);
  p.moment = view("moment", moment, leading, {p.queries}, exact);
  Tensor grad_query = empty(leading, {p.queries, p.features}, type);
  Tensor grad_key = empty(leading, {p.keys, p.features}, type);
  Tensor grad_value = value ? empty(leading, {p.keys, p.width}, type) : nothing(type);
  Tensor grad_centers = centers ? empty(leading, {p.queries}, exact) : nothing(exact);
  p.grad_query = grad_query.mutable_data_ptr();
  p.grad_key = grad_key.mutable_data_ptr();
  p.grad_value = value ? grad_value.mutable_data_ptr() : nullptr;
  p.grad_centers = centers ? grad_centers.mutable_data_ptr() : nullptr;
  const Kernels& kernels = chosen_kernels(type);
  if (p.sequences() > 0) run(p, kernels, exact);
  return {grad_query, grad_key, grad_value, grad_centers};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(sgela_fast, CPU, m) {
  m.impl("locality_attention", TORCH_BOX(&forward));
  m.impl("locality_attention_backward", TORCH_BOX(&backward));
}

}  // namespace sgela::locality_attention
