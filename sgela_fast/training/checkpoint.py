"""Training checkpoints: everything that an exact continuation needs.

``checkpoints/step-00001000/`` holds ``model.safetensors``, ``optimiser.safetensors`` and ``state.json``. The folder is
filled under a temporary name and renamed whole, so a checkpoint is either complete or absent.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sgela_fast.atomic import make_folder, sync_folder, write_json, writing
from sgela_fast.checkpoints.run_folder import load_weights, read_weights, save_weights
from sgela_fast.errors import CheckpointError
from sgela_fast.reference.sgela import SGELA

FOLDER = "checkpoints"


def save_checkpoint(
    run: Path, model: SGELA, optimiser: torch.optim.Optimizer, state: dict[str, Any], keep: int
) -> Path:
    """Write the checkpoint of ``state["step"]`` and drop all but the newest ``keep``."""
    final = run / FOLDER / f"step-{state['step']:08d}"
    temporary = final.with_name(f".{final.name}.tmp")
    with writing(final):
        shutil.rmtree(temporary, ignore_errors=True)
        make_folder(temporary)
        save_weights(temporary / "model.safetensors", model.state_dict())
        save_weights(temporary / "optimiser.safetensors", _optimiser_tensors(model, optimiser))
        write_json(temporary / "state.json", state)
        if final.exists():
            shutil.rmtree(final)
        temporary.rename(final)
        sync_folder(final.parent)
        for old in list_checkpoints(run)[:-keep]:
            shutil.rmtree(old)
    return final


def list_checkpoints(run: Path) -> list[Path]:
    """Complete checkpoints, oldest first."""
    return sorted((run / FOLDER).glob("step-*"))


def load_checkpoint(run: Path, model: SGELA, optimiser: torch.optim.Optimizer) -> dict[str, Any]:
    """Put the newest checkpoint into ``model`` and ``optimiser``.

    Returns:
        The state that was saved with it.

    Raises:
        CheckpointError: there is none, or it is damaged or of another model or optimiser.
    """
    found = list_checkpoints(run)
    if not found:
        raise CheckpointError(f"{run} has no checkpoint to resume from; train without --resume")
    newest = found[-1]
    load_weights(model, read_weights(newest / "model.safetensors"), newest / "model.safetensors")
    _restore_optimiser(model, optimiser, read_weights(newest / "optimiser.safetensors"), newest)
    try:
        state: dict[str, Any] = json.loads((newest / "state.json").read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{newest / 'state.json'} cannot be read ({error}); remove {newest} to resume from an older checkpoint"
        ) from error
    return state


def _optimiser_tensors(model: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Flatten the optimiser's state: ``parameter/entry`` -> tensor, so that no pickle is needed."""
    return {
        f"{name}/{entry}": torch.as_tensor(value).reshape(-1) if entry == "step" else value
        for name, parameter in model.named_parameters()
        for entry, value in optimiser.state.get(parameter, {}).items()
        if value is not None
    }


def _restore_optimiser(
    model: nn.Module, optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor], path: Path
) -> None:
    states: dict[int, dict[str, Tensor]] = {}
    for index, (name, parameter) in enumerate(model.named_parameters()):
        entries = {key.rpartition("/")[2]: value for key, value in tensors.items() if key.rpartition("/")[0] == name}
        for entry, value in entries.items():
            if entry != "step" and value.shape != parameter.shape:
                raise CheckpointError(
                    f"{path} holds {entry} of {name!r} in the shape {tuple(value.shape)} where "
                    f"{tuple(parameter.shape)} is needed; resume with the settings of that run"
                )
        if entries:
            states[index] = {key: value.reshape(()) if key == "step" else value for key, value in entries.items()}
    expected = {"exp_avg", "exp_avg_sq", "step"} if isinstance(optimiser, torch.optim.Adam) else {"momentum_buffer"}
    if any(set(entries) != expected for entries in states.values()):
        raise CheckpointError(f"{path} was made by another optimiser; resume with the settings of that run")
    optimiser.load_state_dict({"state": states, "param_groups": optimiser.state_dict()["param_groups"]})
