"""Build hooks. All metadata stands in pyproject.toml.

The C++/CUDA extension is optional by design: without a compiler the package is pure Python and runs on the reference
backend. There is no extension yet, so there is nothing to hook in.
"""

from setuptools import setup

setup()
