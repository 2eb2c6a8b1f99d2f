"""The run folder: a trained model, its settings and its history.

* ``run.json``: schema version, model, window and training settings, joint layout, fingerprint of the archive, state.
* ``model.safetensors``: the weights, in the reference model's state dict.
* ``config.yaml``: the same settings as a file that ``sgela-fast train --config`` takes.
* ``history.json``: losses over time. ``checkpoints/``, ``tensorboard/``: see :mod:`sgela_fast.training`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from sgela_fast._version import __version__
from sgela_fast.atomic import make_folder, write_file, write_json
from sgela_fast.errors import CheckpointError, ConfigError
from sgela_fast.models.config import Backend, Precision, SGELAConfig
from sgela_fast.models.selfgait import SelfGait
from sgela_fast.models.sgela import SGELA, build_model
from sgela_fast.reference import sgela as reference
from sgela_fast.silhouettes.config import ClipConfig
from sgela_fast.skeletons.config import WindowConfig

SCHEMA = "sgela-fast/run"
SCHEMA_VERSION = 1
INDEX = "run.json"
WEIGHTS = "model.safetensors"
# What `system` of run.json may be, and what each reads; folders of before there were two have no such entry.
SYSTEMS = {"sge-la": "skeletons", "selfgait": "silhouettes"}

Settings = TypeVar("Settings")


@dataclass(frozen=True)
class Run:
    """A loaded run folder; ``model`` is in evaluation mode."""

    path: Path
    model: SGELA
    model_config: SGELAConfig
    window: WindowConfig
    layout: str
    model_hash: str
    info: dict[str, Any]

    @property
    def trained_on(self) -> dict[str, Any] | None:
        """``archive_fingerprint``, ``split`` and ``train_value`` of the training; ``None`` for imported weights."""
        training, archive = self.info.get("training"), self.info.get("archive")
        if not training or not archive:
            return None
        split, value = training.get("split", ""), training.get("train_value", "")
        return {"archive_fingerprint": archive.get("fingerprint"), "split": split, "train_value": value}


def save_weights(path: Path, weights: dict[str, Tensor]) -> None:
    """Replace the safetensors file ``path`` in one step.

    Raises:
        OutputError: it cannot be written; what was there stays.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    # Not safetensors' own save_file: it reports a full disk as an error of the format.
    content = save(tensors)
    write_file(path, lambda file: file.write(content))


def read_weights(path: Path, mend: str = "restore it or train again") -> dict[str, Tensor]:
    """Read a safetensors file.

    Args:
        path: the file.
        mend: what to do about a damaged one, for the error message.

    Raises:
        CheckpointError: missing, truncated or not a safetensors file.
    """
    try:
        return load_file(path)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is missing; give a run folder that training has finished at least once") from (
            error
        )
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged ({error}); {mend}") from error


def write_info(path: Path, info: dict[str, Any]) -> None:
    """Write ``run.json`` of the run folder ``path``, with the schema's own entries."""
    head = {"schema": SCHEMA, "schema_version": SCHEMA_VERSION, "made_by": f"sgela_fast {__version__}"}
    write_json(path / INDEX, {**head, **info})


def read_info(path: Path) -> dict[str, Any]:
    """Read ``run.json`` of the run folder ``path``.

    Raises:
        CheckpointError: no run folder, a damaged one, or one of another schema version.
    """
    index = path / INDEX
    try:
        info: dict[str, Any] = json.loads(index.read_text())
        schema, version = info["schema"], info["schema_version"]
        _ = info["model"], info["window"], info["layout"]
    except (FileNotFoundError, NotADirectoryError) as error:
        raise CheckpointError(f"{path} is not a run folder: it has no {INDEX}; give the folder made by `train`") from (
            error
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{index} is damaged ({error!r}); restore it or train again") from error
    if schema != SCHEMA or version != SCHEMA_VERSION:
        raise CheckpointError(
            f"{index} is {schema!r} version {version} but this release reads {SCHEMA!r} version {SCHEMA_VERSION}; "
            "use a matching release"
        )
    return info


def write_run(
    path: str | Path,
    model: reference.SGELA | SelfGait,
    *,
    window: WindowConfig | ClipConfig,
    layout: str,
    info: dict[str, Any] | None = None,
) -> None:
    """Write a run folder around ``model``; weights first, ``run.json`` last.

    Args:
        path: the folder.
        model: its weights and configuration are written.
        window: how skeletons become the windows that it reads, or silhouettes clips.
        layout: joint layout that it reads; ``silhouettes`` for those.
        info: further entries of ``run.json``.
    """
    folder = make_folder(Path(path))
    save_weights(folder / WEIGHTS, model.state_dict())
    settings = {"model": asdict(model.config), "window": asdict(window), "layout": layout}
    write_info(folder, {**settings, **(info or {})})


def system_of(info: dict[str, Any]) -> str:
    """Which system the run of ``run.json``'s content ``info`` is: ``sge-la`` or ``selfgait``."""
    return str(info.get("system", "sge-la"))


def require_system(path: Path, info: dict[str, Any], system: str) -> None:
    """Raise :class:`CheckpointError` unless the run in ``path`` is of ``system``."""
    found = system_of(info)
    if found != system:
        raise CheckpointError(
            f"{path} holds a model of system {found!r}, which reads {SYSTEMS.get(found, 'something else')}; "
            f"{SYSTEMS[system]} need one of system {system!r}"
        )


def read_settings(path: Path, info: dict[str, Any], section: str, kind: type[Settings]) -> Settings:
    """The settings in a section of ``run.json``'s content ``info``.

    Raises:
        CheckpointError: this release does not know one of them.
    """
    try:
        return kind(**info[section])
    except (TypeError, ConfigError) as error:
        raise CheckpointError(
            f"{path / INDEX} has settings that this release does not know ({error}); use a matching release"
        ) from error


def weights_hash(path: Path) -> str:
    """SHA-256 of the weights of the run folder ``path``."""
    return hashlib.sha256((path / WEIGHTS).read_bytes()).hexdigest()


def load_run(
    path: str | Path,
    backend: Backend = "auto",
    device: torch.device | str = "cpu",
    *,
    precision: Precision = "fp32",
) -> Run:
    """Load a run folder for encoding, whatever backend and precision it was trained with.

    Args:
        path: the folder.
        backend: ``auto``, ``reference`` or ``fused``.
        device: where the model computes.
        precision: of its arithmetic.

    Raises:
        CheckpointError: a file is missing, damaged or belongs to another model, or the run is one of SelfGait.
        ConfigError: backend or precision cannot run on the device.
    """
    folder = Path(path)
    info = read_info(folder)
    require_system(folder, info, "sge-la")
    config = read_settings(folder, info, "model", SGELAConfig)
    window = read_settings(folder, info, "window", WindowConfig)
    model = build_model(config, backend, precision, device=device)
    load_weights(model, read_weights(folder / WEIGHTS), folder / WEIGHTS)
    return Run(
        path=folder,
        model=model.eval(),
        model_config=config,
        window=window,
        layout=info["layout"],
        model_hash=weights_hash(folder),
        info=info,
    )


def load_weights(model: nn.Module, weights: dict[str, Tensor], path: Path) -> None:
    """Copy ``weights`` into ``model``.

    Raises:
        CheckpointError: names or shapes differ from the model's, or a weight is not finite.
    """
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    if wanted != found:
        name = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))[0]
        raise CheckpointError(
            f"{path} belongs to another model: {name!r} is {found.get(name, 'absent')} there but "
            f"{wanted.get(name, 'absent')} by the settings; give weights and settings of one run"
        )
    for name, tensor in weights.items():
        if not torch.isfinite(tensor).all():
            raise CheckpointError(f"{path} holds values that are not finite in {name!r}; train again")
    model.load_state_dict(weights)
