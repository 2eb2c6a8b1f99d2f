"""What ``torchrun`` says of this process. Imports no torch: the command line asks before anything else."""

from __future__ import annotations

import os
from typing import NamedTuple


class Launch(NamedTuple):
    """This process among those that train together.

    Attributes:
        rank: 0 is the process that writes and speaks.
        size: number of processes.
        local_rank: number of this process on its machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0


def this_process() -> Launch:
    """As the environment says; a single process where it says nothing."""
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        return Launch()
    rank = int(os.environ["RANK"])
    return Launch(rank, int(os.environ["WORLD_SIZE"]), int(os.environ.get("LOCAL_RANK", rank)))
