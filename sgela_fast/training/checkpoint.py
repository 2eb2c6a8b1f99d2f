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

FOLDER = "checkpoints"
MODEL = "model.safetensors"
OPTIMISER = "optimiser.safetensors"
STATE = "state.json"


def save_checkpoint(
    run: Path, model: nn.Module, optimiser: torch.optim.Optimizer, state: dict[str, Any], keep: int
) -> Path:
    """Write the checkpoint of ``state["step"]`` and drop all but the newest ``keep``.

    One that is there already stays as it is: at the same step of the same run it holds the same.

    Raises:
        OutputError: it cannot be written; earlier checkpoints stay.
    """
    final = run / FOLDER / f"step-{state['step']:08d}"
    temporary = final.with_name(f".{final.name}.tmp")
    with writing(final):
        if not final.exists():
            shutil.rmtree(temporary, ignore_errors=True)
            try:
                make_folder(temporary)
                save_weights(temporary / MODEL, model.state_dict())
                save_weights(temporary / OPTIMISER, _optimiser_tensors(model, optimiser))
                write_json(temporary / STATE, state)
                temporary.rename(final)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
            sync_folder(final.parent)
        for old in list_checkpoints(run)[:-keep]:
            shutil.rmtree(old)
    return final


def list_checkpoints(run: Path) -> list[Path]:
    """Complete checkpoints, oldest first."""
    return sorted((run / FOLDER).glob("step-*"), key=lambda path: (len(path.name), path.name))


def load_checkpoint(
    run: Path, model: nn.Module, optimiser: torch.optim.Optimizer, scaler: torch.amp.GradScaler | None = None
) -> dict[str, Any]:
    """Put the newest checkpoint into ``model``, ``optimiser`` and ``scaler``.

    Returns:
        The state that was saved with it: ``step``, ``seconds`` and ``history``.

    Raises:
        CheckpointError: there is none, or it is damaged or of another model or optimiser.
    """
    found = list_checkpoints(run)
    if not found:
        raise CheckpointError(f"{run} has no checkpoint to resume from; train without --resume into another --out")
    newest = found[-1]
    mend = f"remove {newest} to resume from an older checkpoint"
    if len(found) == 1:
        mend = "no older checkpoint is left, so train again into another --out"
    for name in (MODEL, OPTIMISER, STATE):
        if not (newest / name).is_file():
            raise CheckpointError(f"{newest / name} is missing; {mend}")
    try:
        state: dict[str, Any] = json.loads((newest / STATE).read_text())
        if state["step"] < 0 or state["seconds"] < 0 or not isinstance(state["history"], list):
            raise ValueError("step, seconds or history is out of range")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{newest / STATE} is damaged ({error!r}); {mend}") from error
    load_weights(model, read_weights(newest / MODEL, mend), newest / MODEL)
    tensors = read_weights(newest / OPTIMISER, mend)
    scales = scaler is not None and scaler.is_enabled()
    # Steps that only lowered the scale of the loss leave the optimiser without a state.
    stepped = state["step"] > 0 and not (scales and not tensors)
    _restore_optimiser(model, optimiser, tensors, newest / OPTIMISER, stepped)
    if scaler is not None and scales:
        try:
            scaler.load_state_dict(state["scaler"])
        except (KeyError, TypeError, RuntimeError) as error:
            raise CheckpointError(f"{newest / STATE} is damaged ({error!r}); {mend}") from error
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
    model: nn.Module, optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor], path: Path, stepped: bool
) -> None:
    held = {id(parameter) for group in optimiser.param_groups for parameter in group["params"]}
    parameters = {name: parameter for name, parameter in model.named_parameters() if id(parameter) in held}
    wanted = {f"{name}/{entry}" for name in parameters for entry in _entries(optimiser)} if stepped else set()
    if wanted != tensors.keys():
        name = sorted(wanted ^ tensors.keys())[0]
        there = "holds" if name in tensors else "lacks"
        raise CheckpointError(
            f"{path} was made by another optimiser or model: it {there} {name!r}; resume with the settings of that run"
        )
    states: dict[int, dict[str, Tensor]] = {}
    for index, (name, parameter) in enumerate(parameters.items() if stepped else ()):
        states[index] = {}
        for entry in _entries(optimiser):
            value = tensors[f"{name}/{entry}"]
            shape = torch.Size([1]) if entry == "step" else parameter.shape
            if value.shape != shape:
                raise CheckpointError(
                    f"{path} holds {entry} of {name!r} in the shape {tuple(value.shape)} where {tuple(shape)} is "
                    "needed; resume with the settings of that run"
                )
            states[index][entry] = value.reshape(()) if entry == "step" else value
    optimiser.load_state_dict({"state": states, "param_groups": optimiser.state_dict()["param_groups"]})


def _entries(optimiser: torch.optim.Optimizer) -> tuple[str, ...]:
    if isinstance(optimiser, torch.optim.Adam):
        return ("exp_avg", "exp_avg_sq", "step")
    return ("momentum_buffer",) if optimiser.param_groups[0]["momentum"] else ()
