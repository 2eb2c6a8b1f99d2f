"""Turn checkpoints of the released code into folders of ours."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sgela_fast.atomic import make_folder, write_json
from sgela_fast.checkpoints.run_folder import save_weights, write_run
from sgela_fast.checkpoints.tf_bundle import TFBundle
from sgela_fast.errors import CheckpointError, OutputError
from sgela_fast.models.config import SGELAConfig
from sgela_fast.models.recognition import recognition_from_tf
from sgela_fast.models.sgela import build_model
from sgela_fast.models.tf_names import (
    DEAD,
    RECOGNITION,
    axis_state,
    gait_shape,
    is_gait_encoder,
    is_recognition_network,
    wanted_names,
)
from sgela_fast.skeletons.config import WindowConfig
from sgela_fast.skeletons.layouts import Layout, get_layout, layout_names

AXES = "xyz"
RECOGNITION_WEIGHTS = "recognition.safetensors"
RECOGNITION_INDEX = "recognition.json"


@dataclass(frozen=True)
class ImportResult:
    """What was imported.

    Attributes:
        out: the folder that was made.
        kind: ``gait encoder`` or ``recognition network``.
        sizes: sizes of the model, by name.
        sources: prefixes of the bundles that were read.
        left_out: tensors that were not needed (optimiser state, unused copies, projection heads).
        notes: what a user of the imported model has to know, a sentence each.
    """

    out: Path
    kind: str
    sizes: dict[str, int]
    sources: list[str]
    left_out: list[str]
    notes: list[str]


def import_checkpoint(
    source: str | Path, out: str | Path, *, window: WindowConfig | None = None, layout: str | None = None
) -> ImportResult:
    """Import a gait encoder (one axis or all three) or a recognition network.

    Args:
        source: a bundle's prefix or folder, or a folder with one sub-folder an axis, named ``*_x``, ``*_y``, ``*_z``.
        out: folder to make: a run folder, or one with ``recognition.safetensors``.
        window: how the encoder's training data was cut; the checkpoint does not say.
        layout: joint layout; ``None`` takes the first known one with as many joints.

    Raises:
        CheckpointError: no checkpoint of the released code, a damaged one, axes that do not belong together, or a
            layout with another number of joints.
        DataError: there is no such layout, or it lacks the joint that windows are centred on.
        OutputError: ``out`` is taken or cannot be written.
    """
    source, out = Path(source), Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputError(f"{out} exists already; choose another output path")
    bundles = _open_all(source)
    if len(bundles) == 1 and is_recognition_network(bundles[0].names):
        return _import_recognition(bundles[0], out)
    kinds = "neither a gait encoder nor a recognition network" if len(bundles) == 1 else "not an axis of a gait encoder"
    for bundle in bundles:
        if not is_gait_encoder(bundle.names):
            raise CheckpointError(
                f"{bundle.prefix} is {kinds} of the released code; its tensors are: {', '.join(bundle.names[:5])} ..."
            )
    return _import_encoder(bundles, out, window or WindowConfig(center="none"), layout)


def _open_all(source: Path) -> list[TFBundle]:
    """The bundle at ``source``, or those of its sub-folders for x, y and z."""
    found = {axis: sorted(source.glob(f"*_{axis}")) for axis in AXES} if source.is_dir() else {}
    if not any(found.values()):
        return [TFBundle(source)]
    for axis, folders in found.items():
        if len(folders) != 1:
            raise CheckpointError(
                f"{source} has {len(folders)} folders *_{axis} where one is needed for each of x, y and z; give a "
                "folder with the three axes of one model, or a single axis"
            )
    return [TFBundle(found[axis][0]) for axis in AXES]


def _import_encoder(bundles: list[TFBundle], out: Path, window: WindowConfig, layout: str | None) -> ImportResult:
    shapes = [gait_shape({name: bundle.shape(name) for name in bundle.names}, str(bundle.prefix)) for bundle in bundles]
    for bundle, shape in zip(bundles, shapes, strict=True):
        if shape != shapes[0]:
            raise CheckpointError(
                f"{bundle.prefix} has {shape.joints} joints, {shape.hidden} units and {shape.layers} layers but "
                f"{bundles[0].prefix} has {shapes[0].joints}, {shapes[0].hidden} and {shapes[0].layers}; give the axes "
                "of one model"
            )
    joints, hidden, layers = shapes[0]
    skeleton = _layout_of(joints, layout, bundles[0])
    if window.center not in ("root", "none"):
        skeleton.index(window.center)
    wanted = wanted_names(layers)
    states = [axis_state(_finite_tensors(bundle, wanted), shapes[0]) for bundle in bundles]
    config = SGELAConfig(frames=window.frames, joints=joints, hidden=hidden, layers=layers, axes=len(bundles))
    model = build_model(config)
    model.load_state_dict({name: torch.cat([state[name] for state in states]) for name in states[0]})
    sources = [str(bundle.prefix) for bundle in bundles]
    left_out = sorted({name for bundle in bundles for name in bundle.names} - set(wanted))
    write_run(
        out,
        model,
        window=window,
        layout=skeleton.name,
        info={"state": "imported", "origin": {"kind": "TensorFlow 1 checkpoint", "sources": sources}},
    )
    sizes = {"axes": len(bundles), "joints": joints, "hidden": hidden, "layers": layers}
    return ImportResult(out, "gait encoder", sizes, sources, left_out, _notes(window, len(bundles)))


def _notes(window: WindowConfig, axes: int) -> list[str]:
    read = "raw camera coordinates" if window.center == "none" else f"coordinates centred on {window.center}"
    notes = [
        f"the checkpoint does not say how its windows were cut; this run takes {window.frames} frames of {read}, "
        f"{window.trim} frames trimmed at each end (--frames, --center, --trim)"
    ]
    if axes == 1:
        notes.append("a single axis cannot encode skeletons; import a folder with *_x, *_y and *_z")
    return notes


def _layout_of(joints: int, wanted: str | None, bundle: TFBundle) -> Layout:
    """The layout called ``wanted``, or the first one with as many joints as the checkpoint."""
    fitting = [name for name in layout_names() if len(get_layout(name)) == joints]
    if not fitting:
        raise CheckpointError(
            f"{bundle.prefix} has {joints} joints, as no known layout has; add its layout to sgela_fast first"
        )
    layout = get_layout(wanted or fitting[0])
    if layout.name not in fitting:
        raise CheckpointError(
            f"{bundle.prefix} has {joints} joints but layout {layout.name!r} has {len(layout)}; choose --layout "
            f"{' or '.join(fitting)}"
        )
    return layout


def _finite_tensors(bundle: TFBundle, names: Iterable[str]) -> dict[str, np.ndarray]:
    tensors = {name: bundle.tensor(name) for name in names}
    for name, values in tensors.items():
        if not np.isfinite(values).all():
            raise CheckpointError(
                f"{bundle.prefix} holds values that are not finite in {name!r}: its training diverged; give an earlier "
                "checkpoint"
            )
    return tensors


def _import_recognition(bundle: TFBundle, out: Path) -> ImportResult:
    network = recognition_from_tf(_finite_tensors(bundle, RECOGNITION))
    sizes: dict[str, Any] = {"width": network.width, "hidden": network.hidden, "persons": network.persons}
    make_folder(out)
    save_weights(out / RECOGNITION_WEIGHTS, network.state_dict())
    write_json(out / RECOGNITION_INDEX, {"schema": "sgela-fast/recognition", "schema_version": 1, **sizes})
    left_out = sorted(set(bundle.names) - set(RECOGNITION))
    return ImportResult(out, "recognition network", sizes, [str(bundle.prefix)], left_out, [])


def describe_left_out(names: list[str]) -> str:
    """Tensors that were left out, by kind, in words."""
    slots = [name for name in names if "/Adam" in name or name.endswith("_power") or name.startswith("learning_rate")]
    dead = [name for name in names if name in DEAD]
    # Within a gait encoder these names are the journal extension's projection head.
    heads = [name for name in names if name in RECOGNITION]
    rest = [name for name in names if name not in (*slots, *dead, *heads)]
    parts = [f"{len(slots)} tensors of the optimiser"] if slots else []
    parts += [f"{len(dead)} copies that nothing reads"] if dead else []
    parts += [f"{len(heads)} tensors of the projection head"] if heads else []
    parts += [f"{len(rest)} others ({', '.join(rest)})"] if rest else []
    return ", ".join(parts) or "nothing"
