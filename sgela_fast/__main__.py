"""``python -m sgela_fast`` is the command ``sgela-fast``."""

import sys

from sgela_fast.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
