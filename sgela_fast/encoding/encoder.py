"""The encoder as an object: a model together with how skeletons become its windows."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from sgela_fast.checkpoints.run_folder import load_run
from sgela_fast.errors import CheckpointError, DataError
from sgela_fast.models.config import SGELAConfig, Variant
from sgela_fast.models.sgela import Backend, build_model
from sgela_fast.reference.sgela import SGELA
from sgela_fast.skeletons.config import WindowConfig
from sgela_fast.skeletons.layouts import Layout, get_layout
from sgela_fast.skeletons.windows import center_frames, missing_joints, valid_windows


@dataclass(frozen=True)
class Encoder:
    """Turns skeleton frames into gait encodings.

    Attributes:
        model: in evaluation mode.
        window: how recordings become windows.
        layout: joint layout that the model reads.
        model_hash: SHA-256 of the weights.
        origin: where the weights come from, in words.
    """

    model: SGELA
    window: WindowConfig
    layout: Layout
    model_hash: str
    origin: str

    @classmethod
    def load(cls, run: str | Path, backend: Backend = "auto", device: torch.device | str = "cpu") -> Encoder:
        """The encoder of a run folder.

        Raises:
            CheckpointError: a file is missing, damaged or belongs to another model, or the model does not read
                whole skeletons of the run's layout.
        """
        loaded = load_run(run, backend, device)
        config, layout = loaded.model_config, get_layout(loaded.layout)
        if config.axes != 3:
            raise CheckpointError(
                f"{loaded.path} holds a model of {config.axes} of the 3 axes, which cannot encode skeletons; import "
                "all axes of the checkpoint together"
            )
        if config.joints != len(layout):
            raise CheckpointError(
                f"{loaded.path} holds a model of {config.joints} joints but names layout {layout.name!r}, which has "
                f"{len(layout)}; restore its run.json"
            )
        return cls(loaded.model, loaded.window, layout, loaded.model_hash, f"run folder {loaded.path}")

    @classmethod
    def untrained(
        cls,
        variant: Variant,
        layout: Layout,
        window: WindowConfig | None = None,
        *,
        seed: int = 0,
        backend: Backend = "auto",
        device: torch.device | str = "cpu",
    ) -> Encoder:
        """An encoder with fresh weights: the row that a trained one must beat.

        Random recurrent features keep much of what tells persons apart, so self-supervision is worth only what it
        adds to this.
        """
        window = window or WindowConfig()
        config = SGELAConfig(variant=variant, frames=window.frames, joints=len(layout))
        model = build_model(config, backend, seed=seed, device=device).eval()
        digest = hashlib.sha256(save({name: tensor.cpu() for name, tensor in model.state_dict().items()})).hexdigest()
        return cls(model, window, layout, digest, f"untrained {variant} variant, seed {seed}")

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self.model.output_weight.device

    def with_stride(self, stride: int) -> Encoder:
        """The same encoder cutting windows every ``stride`` frames; 0 changes nothing."""
        return replace(self, window=replace(self.window, stride=stride)) if stride else self

    def describe(self) -> dict[str, Any]:
        """Entries of ``store.json`` that say where encodings come from."""
        return {
            "model_hash": self.model_hash,
            "origin": self.origin,
            "model": asdict(self.model.config),
            "window": asdict(self.window),
            "layout": self.layout.name,
            "frames": self.window.frames,
            "dim": self.model.config.width,
        }

    def cut(self, joints: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Cut a recording into centred windows.

        Args:
            joints: ``(frames, J, 3)``, metres, y up.

        Returns:
            Windows ``(N, T, J, 3)`` float32, their first frames ``(N,)`` and whether each has all its joints ``(N,)``.
            A joint that is lost stands at the origin in the windows that hold it.

        Raises:
            DataError: another number of joints than the layout's.
        """
        if joints.ndim != 3 or joints.shape[1:] != (len(self.layout), 3):
            raise DataError(
                f"the frames have the shape {joints.shape} but the model reads (frames, {len(self.layout)}, 3), layout "
                f"{self.layout.name!r}; convert them to that layout"
            )
        starts = np.asarray(self.window.starts(len(joints)), np.int64)
        missing = missing_joints(joints)  # (frames, J)
        valid = valid_windows(np.logical_not(missing.any(axis=-1)), starts, self.window.frames)
        finite = np.nan_to_num(joints.astype(np.float32, copy=False), posinf=0.0, neginf=0.0)
        centered = center_frames(finite, self.layout, self.window.center)
        if missing.any():
            centered = np.where(missing[..., None], np.float32(0), centered)
        frames = starts[:, None] + np.arange(self.window.frames)  # (N, T)
        return centered[frames], starts, valid

    @torch.inference_mode()
    def ages(self, windows: np.ndarray | Tensor) -> Tensor:
        """Encode centred windows ``(N, T, J, 3)`` into AGEs ``(N, T, D)`` on the encoder's device."""
        tensor = torch.as_tensor(windows, dtype=self.model.output_weight.dtype, device=self.device)
        return self.model.ages(tensor)

    def encode(self, frames: np.ndarray | Tensor, batch: int = 256) -> np.ndarray:
        """Encode one recording.

        Args:
            frames: ``(frames, J, 3)``, metres, y up, in the model's layout.
            batch: windows encoded at once.

        Returns:
            AGEs ``(windows, T, D)`` float32; no windows for a recording that is too short.

        Raises:
            DataError: another number of joints than the model reads.
        """
        windows, _, _ = self.cut(frames.numpy(force=True) if isinstance(frames, Tensor) else np.asarray(frames))
        encoded = np.empty((len(windows), self.window.frames, self.model.config.width), np.float32)
        for start in range(0, len(windows), batch):
            encoded[start : start + batch] = self.ages(windows[start : start + batch]).float().cpu().numpy()
        return encoded
