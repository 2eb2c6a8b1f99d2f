// The Python module `sgela_fast._C`: importing it loads the library, and with it the registered ops.
// pybind11 is used for build_info() alone; the ops go through torch's stable ABI.

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>
#include <vector>

#include "common/isa.h"

namespace py = pybind11;

namespace {

std::vector<std::string> usable_isas() {
  std::vector<std::string> names;
  for (sgela::Isa isa : {sgela::Isa::kBaseline, sgela::Isa::kAvx2, sgela::Isa::kAvx512}) {
    if (sgela::runs_here(isa)) names.emplace_back(sgela::name_of(isa));
  }
  return names;
}

py::dict build_info() {
  py::dict info;
#ifdef __clang__
  info["compiler"] = __VERSION__;
#else
  info["compiler"] = "GCC " __VERSION__;
#endif
  info["torch"] = SGELA_BUILT_WITH_TORCH;
#ifdef SGELA_WITH_CUDA
  info["cuda"] = SGELA_WITH_CUDA;
#else
  info["cuda"] = py::none();
#endif
#ifdef __SANITIZE_ADDRESS__
  info["sanitized"] = true;
#else
  info["sanitized"] = false;
#endif
  info["isas"] = usable_isas();
  return info;
}

}  // namespace

PYBIND11_MODULE(_C, module) {
  module.doc() = "Compiled kernels of sgela_fast; importing it registers them.";
  module.def("build_info", &build_info, "How this extension was built, and which instruction sets run here.");
  module.def("isa", [] { return std::string(sgela::name_of(sgela::chosen_isa())); }, "The instruction set in use.");
  module.def("force_isa", [](const std::string& name) { sgela::force_isa(name.c_str()); }, py::arg("name"),
             "Use `name` (baseline, avx2, avx512; empty for the best one). ValueError if it does not run here.");
}
