"""``python -m benchmarks``: verify, then measure; ``--help`` lists the arguments, ``--list`` the suites."""

from __future__ import annotations

from sgela_fast.benchmarks.harness.command import main

if __name__ == "__main__":
    raise SystemExit(main())
