"""Write the Markdown report, and plots if asked for, of results files.

python -m benchmarks.report benchmarks/results/locality_attention_amd_epyc.json --plot png
"""

from __future__ import annotations

import sys

from sgela_fast.benchmarks.harness.command import main

if __name__ == "__main__":
    raise SystemExit(main(arguments=lambda: ["--report", *sys.argv[1:]]))
