"""Training in two processes is training in one: the same losses, the same weights, one run folder, one complaint.

Both add the same numbers in another order, so they agree to rounding: after a dozen steps of SGD to 1e-6 in every
weight, after as many of Adam, whose first steps depend on the sign of gradients next to zero, to 1e-5 in all but a
thousandth of them.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sgela_fast.errors import ConfigError
from sgela_fast.models.config import SGELAConfig
from sgela_fast.skeletons.archive import Archive
from sgela_fast.skeletons.config import WindowConfig
from sgela_fast.training.config import TrainingConfig
from sgela_fast.training.launch import Launch, this_process
from sgela_fast.training.ranks import Ranks, SaidElsewhereError, check_shares
from sgela_fast.training.trainer import train

WORKER = Path(__file__).with_name("several_processes.py")
TRAINING: dict[str, Any] = {
    "batch": 8,
    "max_steps": 12,
    "threads": 1,
    "log_every": 3,
    "checkpoint_every": 4,
    "tensorboard": False,
    "validation": 0.2,
    "device": "cpu",
}


def job(archive: Archive, out: Path, preset: str = "paper", resume: bool = False, **training: Any) -> dict[str, Any]:
    settings = {**TRAINING, **training}
    described = {"archive": str(archive.path), "out": str(out), "preset": preset, "hidden": 8}
    return {**described, "training": settings, "resume": resume}


def alone(archive: Archive, out: Path, preset: Any = "paper", resume: bool = False, **training: Any) -> None:
    config = TrainingConfig(preset=preset, **{**TRAINING, **training})
    train(archive, out, SGELAConfig(variant=preset, hidden=8), WindowConfig(trim=0), config, resume=resume)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(scope="module")
def ended(make_archive: Callable[..., Archive], folder: Path) -> tuple[Archive, list[list[Any]]]:
    """Jobs that ``torchrun`` did in two processes, and how they ended in each."""
    archive = make_archive()
    alone(archive, folder / "onward", "official", max_steps=4)
    (folder / "taken").mkdir()
    (folder / "taken" / "model.safetensors").write_bytes(b"mine")
    jobs = [
        job(archive, folder / "paper"),
        job(archive, folder / "accumulated", batch=4, accumulate=2),
        job(archive, folder / "official", "official", max_steps=4),
        job(archive, folder / "onward", "official", resume=True),
        job(archive, folder / "taken"),
        job(archive, folder / "nothing", split="fold"),
        job(archive, folder / "spent", budget_minutes=1e-9),
        {**job(archive, folder / "killed"), "dies": [1, 5]},
    ]
    file = folder / "jobs.json"
    file.write_text(json.dumps(jobs))
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", free_port()]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, str(WORKER), str(file)], env=environment, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr  # the last job kills a process
    return archive, [json.loads(Path(f"{file}.{rank}").read_text()) for rank in (0, 1)]


def free_port() -> str:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return str(listener.getsockname()[1])


def assert_same(one: Path, other: Path, within: float, share: float = 1.0) -> None:
    weights, others = load_file(one / "model.safetensors"), load_file(other / "model.safetensors")
    assert weights.keys() == others.keys()
    for name, weight in weights.items():
        assert ((weight - others[name]).abs() <= within).double().mean() >= share, name
    histories = [json.loads((out / "history.json").read_text()) for out in (one, other)]
    assert [entry["step"] for entry in histories[0]] == [entry["step"] for entry in histories[1]]
    for entry, wanted in zip(*histories, strict=True):
        for name in ("total", "reconstruction", "attention", "regularisation", "gradient_norm", "validation"):
            assert entry[name] == pytest.approx(wanted[name], rel=2e-5), (entry["step"], name)


def test_two_processes_train_as_one_does(ended: Any, folder: Path, tmp_path: Path) -> None:
    archive, outcomes = ended
    alone(archive, tmp_path / "one")
    assert outcomes[0][0] == outcomes[1][0] == ["finished", 12]
    assert_same(folder / "paper", tmp_path / "one", 1e-6)
    # Halves of batches of 4, twice a step, are the batch of 8 too: norm and L_A enter once.
    assert_same(folder / "accumulated", tmp_path / "one", 1e-6)


def test_a_run_goes_on_with_more_or_fewer_processes(ended: Any, folder: Path, tmp_path: Path) -> None:
    archive, outcomes = ended
    alone(archive, tmp_path / "whole", "official")
    alone(archive, folder / "official", "official", resume=True)
    assert outcomes[0][3] == ["finished", 12]
    for name in ("official", "onward"):
        assert_same(folder / name, tmp_path / "whole", 1e-5, 0.999)


def test_only_the_first_process_writes_and_complains(ended: Any, folder: Path) -> None:
    _, (first, second) = ended
    assert first[4][0] == "OutputError"
    assert second[4] == ["SaidElsewhereError", first[4][1]]
    assert first[5][0] == "DataError"
    assert second[5] == ["SaidElsewhereError", first[5][1]]
    assert not (folder / "nothing").exists()
    names = {path.name for path in (folder / "paper").iterdir() if not path.name.startswith(".")}
    assert names == {"run.json", "model.safetensors", "config.yaml", "history.json", "checkpoints"}


def test_a_spent_budget_ends_all_processes_in_the_same_step(ended: Any) -> None:
    _, outcomes = ended
    assert outcomes[0][6] == outcomes[1][6] == ["out of budget", 1]


def test_a_killed_process_ends_the_others_with_one_sentence(ended: Any, folder: Path, tmp_path: Path) -> None:
    archive, (first, second) = ended
    assert len(second) == 7
    assert first[7] == [
        "PeerFailedError",
        "process 0 of 2 stops because another process of this training has ended; go on from the last checkpoint with "
        "--resume",
    ]
    alone(archive, folder / "killed", resume=True)
    alone(archive, tmp_path / "whole")
    assert_same(folder / "killed", tmp_path / "whole", 1e-6)


def test_a_process_knows_its_place_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    assert this_process() == (0, 1, 0)
    for name, value in (("RANK", "5"), ("WORLD_SIZE", "8"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    assert this_process() == (5, 8, 1)


def test_processes_share_a_step_without_gap_or_overlap() -> None:
    for batch in (torch.arange(12), torch.arange(36).view(3, 12)):
        shares = [Ranks(Launch(rank, 3, rank)).share(batch) for rank in range(3)]
        assert torch.equal(torch.cat(shares, dim=-1), batch)


def test_a_batch_that_cannot_be_shared_is_said_once() -> None:
    check_shares(12, Launch(0, 3, 0))
    with pytest.raises(ConfigError, match=r"^training.batch is 8 but 3 processes share it evenly; make it a multiple"):
        check_shares(8, Launch(0, 3, 0))
    with pytest.raises(SaidElsewhereError):
        check_shares(8, Launch(1, 3, 1))


def test_more_processes_than_cuda_devices_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ConfigError) as caught:
        Ranks(Launch(2, 3, 2)).place(torch.device("cuda"))
    assert str(caught.value) == (
        "2 CUDA devices cannot serve process 3 on this machine; start at most 2 processes with --nproc-per-node"
    )
