"""What each process of the tests of shared training does; started by ``torchrun``. No test itself.

Arguments: a JSON file with a list of jobs, each with ``archive``, ``out``, ``hidden``, ``preset``, ``training``,
``resume`` and, for a process that is to be killed, ``dies`` (its rank and the step behind which it dies).
Each process writes how the jobs ended to ``<file>.<rank>``.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch.distributed as dist

from sgela_fast.errors import SgelaError
from sgela_fast.models.config import SGELAConfig
from sgela_fast.skeletons.config import WindowConfig
from sgela_fast.training import step
from sgela_fast.training.config import TrainingConfig
from sgela_fast.training.trainer import train


def main(file: str) -> None:
    rank = int(os.environ["RANK"])
    jobs: list[dict[str, Any]] = json.loads(Path(file).read_text())
    dist.init_process_group("gloo")  # once for all jobs
    ended = []
    for job in jobs:
        if job.get("dies", [None])[0] == rank:
            die_behind(job["dies"][1])
        try:
            result = train(
                job["archive"],
                job["out"],
                SGELAConfig(variant=job["preset"], hidden=job["hidden"]),
                WindowConfig(trim=0),
                TrainingConfig(preset=job["preset"], **job["training"]),
                resume=job["resume"],
            )
            ended.append([result.state, result.step])
        except SgelaError as error:
            ended.append([type(error).__name__, str(error)])
        Path(f"{file}.{rank}").write_text(json.dumps(ended))


def die_behind(steps: int) -> None:
    """Let this process be killed in the backward pass behind ``steps`` steps."""
    backward, taken = step.Stepper.backward, iter(range(1000))

    def dying(stepper: step.Stepper, batch: Any) -> Any:
        if next(taken) == steps:
            os.kill(os.getpid(), signal.SIGKILL)
        return backward(stepper, batch)

    step.Stepper.backward = dying  # type: ignore[method-assign]


if __name__ == "__main__":
    main(sys.argv[1])
