"""The encoder as an object: a model together with how skeletons become its windows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, Unpack, overload

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor

from sgela_fast.checkpoints.run_folder import load_run
from sgela_fast.encoding.batching import Batcher
from sgela_fast.encoding.latency import LatencyEncoder
from sgela_fast.encoding.normalisation import center_index, find_origin, normalise
from sgela_fast.encoding.recordings import (
    Array,
    DType,
    EncodeOptions,
    Encoding,
    Frames,
    Pooling,
    array_of,
    as_tensor,
    empty_like_input,
    enumerate_recordings,
    is_one_recording,
    require_batch,
    require_feature,
    require_pooling,
    require_skeletons,
    resolve_dtype,
    upload,
)
from sgela_fast.errors import CheckpointError, DataError
from sgela_fast.models.config import Backend, Feature, Precision, SGELAConfig, Variant
from sgela_fast.models.device import choose_device
from sgela_fast.models.sgela import SGELA, build_model
from sgela_fast.skeletons.config import WindowConfig
from sgela_fast.skeletons.layouts import Layout, get_layout
from sgela_fast.skeletons.recording import Recording
from sgela_fast.skeletons.windows import missing_joints

# Windows encoded at once: enough for the CPU's caches, and for a GPU to be busy.
BATCH = {"cpu": 256, "cuda": 4096}


@dataclass(frozen=True)
class Encoder:
    """Turns skeleton frames into gait encodings.

    Attributes:
        model: in evaluation mode. :meth:`load` and :meth:`untrained` freeze it, so that its weights are packed once; in
            one that is given unfrozen every call looks for changed weights.
        window: how recordings become windows.
        layout: joint layout that the model reads.
        model_hash: SHA-256 of the weights.
        origin: where the weights come from, in words.
        trained_on: ``archive_fingerprint``, ``split`` and ``train_value`` of the training; empty for fresh weights,
            ``None`` where it is not known, as of imported ones.
    """

    unit: ClassVar[str] = "windows"

    model: SGELA
    window: WindowConfig
    layout: Layout
    model_hash: str
    origin: str
    trained_on: Mapping[str, Any] | None = None

    @classmethod
    def load(
        cls,
        run: str | Path,
        backend: Backend = "auto",
        device: torch.device | str = "auto",
        *,
        precision: Precision = "fp32",
    ) -> Encoder:
        """The encoder of a run folder.

        Args:
            run: the folder.
            backend: ``auto``, ``reference`` or ``fused``.
            device: ``auto`` takes a CUDA device if there is one.
            precision: of the model's arithmetic: ``fp32``; ``bf16``; ``int8`` on the CPU; ``tf32`` and ``fp16`` on CUDA
                devices.

        Raises:
            CheckpointError: a file is missing, damaged or belongs to another model, or the model does not read
                whole skeletons of the run's layout.
            ConfigError: backend, device or precision is not there.
        """
        if device in ("auto", "cuda"):
            device = choose_device(str(device), "device")
        loaded = load_run(run, backend, device, precision=precision)
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
        origin = f"run folder {loaded.path}"
        model = loaded.model.freeze()
        return cls(model, loaded.window, layout, loaded.model_hash, origin, loaded.trained_on)

    @classmethod
    def untrained(
        cls,
        variant: Variant,
        layout: Layout | str,
        window: WindowConfig | None = None,
        *,
        seed: int = 0,
        backend: Backend = "auto",
        device: torch.device | str = "cpu",
        precision: Precision = "fp32",
    ) -> Encoder:
        """An encoder with fresh weights: the row that a trained one must beat.

        Random recurrent features keep much of what tells persons apart, so self-supervision is worth only what it
        adds to this.

        Args:
            variant: ``paper`` or ``official``.
            layout: joint layout that the model reads, or its name.
            window: how recordings become windows.
            seed: of the weights.
            backend: as in :meth:`load`; so are ``device`` and ``precision``.
            device: see there.
            precision: see there.

        Raises:
            DataError: there is no such layout.
            ConfigError: variant, backend, device or precision is not there.
        """
        window, layout = window or WindowConfig(), get_layout(layout) if isinstance(layout, str) else layout
        config = SGELAConfig(variant=variant, frames=window.frames, joints=len(layout))
        model = build_model(config, backend, precision, seed=seed, device=device).eval().freeze()
        digest = hashlib.sha256(save({name: tensor.cpu() for name, tensor in model.state_dict().items()})).hexdigest()
        return cls(model, window, layout, digest, f"untrained {variant} variant, seed {seed}", {})

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self.model.output_weight.device

    @property
    def width(self) -> int:
        """Features of one frame's encoding D."""
        return self.model.config.width

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights, and of the windows that the model reads."""
        return self.model.output_weight.dtype

    def with_stride(self, stride: int) -> Encoder:
        """The same encoder cutting windows every ``stride`` frames; 0 changes nothing."""
        return replace(self, window=replace(self.window, stride=stride)) if stride else self

    def describe(self) -> dict[str, Any]:
        """Entries of ``store.json`` that say where encodings come from."""
        return {
            "model_hash": self.model_hash,
            "origin": self.origin,
            "trained_on": None if self.trained_on is None else dict(self.trained_on),
            "model": asdict(self.model.config),
            "window": asdict(self.window),
            "layout": self.layout.name,
            "frames": self.window.frames,
            "dim": self.model.config.width,
        }

    def cut(self, joints: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Cut a recording into normalised windows; :meth:`encode` does the same on the model's device.

        Args:
            joints: ``(frames, J, 3)``, metres, y up.

        Returns:
            Windows ``(N, T, J, 3)`` float32, their first frames ``(N,)`` and whether each has all its joints ``(N,)``.
            A joint that is lost stands at the origin in the windows that hold it.

        Raises:
            DataError: another number of joints than the layout's.
        """
        require_skeletons(joints, self.layout, ("frames",), "the frames")
        starts = np.asarray(self.window.starts(len(joints)), np.int64)
        normalised, lost = normalise(
            upload(joints, torch.device("cpu")), center_index(self.layout, self.window), find_origin(joints)
        )
        frames = starts[:, None] + np.arange(self.window.frames)  # (N, T)
        valid = np.logical_not(lost.any(dim=-1).numpy()[frames].any(axis=1))
        return normalised.numpy()[frames], starts, valid

    def quality(self, joints: NDArray[np.float32], starts: NDArray[np.int64]) -> NDArray[np.float32]:
        """Fraction of the joints that were seen in each window ``(N,)`` of ``joints (frames, J, 3)``."""
        size = self.window.frames
        lost = np.concatenate([[0], np.cumsum(missing_joints(joints).sum(axis=1))])  # (frames + 1,)
        return (1 - (lost[starts + size] - lost[starts]) / (size * joints.shape[1])).astype(np.float32)

    def ages(self, windows: Array) -> Tensor:
        """Encode windows that :meth:`cut` made, ``(N, T, J, 3)``, into AGEs ``(N, T, D)`` on the encoder's device."""
        return self.encodings(windows)

    @torch.inference_mode()
    def encodings(self, windows: Array, feature: Feature = "ages") -> Tensor:
        """As :meth:`ages`, but AGEs or encoded gait states, as ``feature`` says."""
        return self.model.encodings(torch.as_tensor(windows, dtype=self.dtype, device=self.device), feature)

    @overload
    def encode(  # type: ignore[overload-overlap]  # arrays and lists are iterable too, but match first
        self, frames: np.ndarray | Recording, *, details: Literal[False] = ..., **options: Unpack[EncodeOptions]
    ) -> np.ndarray: ...

    @overload
    def encode(self, frames: Tensor, *, details: Literal[False] = ..., **options: Unpack[EncodeOptions]) -> Tensor: ...

    @overload
    def encode(  # type: ignore[overload-overlap]
        self, frames: Frames, *, details: Literal[True], **options: Unpack[EncodeOptions]
    ) -> Encoding: ...

    @overload
    def encode(  # type: ignore[overload-overlap]
        self, frames: list[Any] | tuple[Any, ...], *, details: bool = ..., **options: Unpack[EncodeOptions]
    ) -> list[Any]: ...

    @overload
    def encode(
        self, frames: Iterable[Any], *, details: bool = ..., **options: Unpack[EncodeOptions]
    ) -> Iterator[Any]: ...

    def encode(
        self,
        frames: Frames | Iterable[Frames],
        *,
        feature: Feature = "ages",
        pooling: Pooling = "none",
        dtype: DType = torch.float32,
        batch: int | None = None,
        details: bool = False,
    ) -> Any:
        """Encode one recording, or many.

        A recording is an array or a tensor ``(frames, J, 3)`` in metres, y up, in the model's layout, or a
        :class:`Recording`. Its windows begin where :class:`WindowConfig` says, and are cut and normalised as
        :meth:`cut` does. A recording that is too short has no windows; a joint that is lost (NaN, or exactly at the
        sensor's origin) stands at the origin, and its windows are marked in ``details``.

        The windows of several recordings are encoded together. With the fused backend on the CPU a window has the same
        bits whatever its batch; elsewhere they may differ by rounding (some 1e-8).

        Args:
            frames: one recording, or a list, or any iterable of recordings.
            feature: ``ages``, or ``states`` for the encoded gait states h_t (Eq. 1), which take no decoder.
            pooling: ``none`` keeps the encoding of every frame, ``mean`` their mean.
            dtype: of the results; arithmetic is the model's own. bfloat16 is for tensors only.
            batch: windows encoded at once; ``None`` for what suits the device.
            details: return an :class:`Encoding`, which adds the windows' first frames and whether all joints were seen.

        Returns:
            For one recording encodings ``(windows, T, D)`` or, pooled, ``(windows, D)``: a NumPy array, or for a tensor
            a tensor on the encoder's device, without a detour. For a list a list of these. For an iterable an iterator:
            recordings are read as results are asked for, about one batch of windows ahead.

        Raises:
            DataError: something that is no recording in the model's layout.
            ConfigError: unknown feature, pooling or dtype, or AGEs of a model without attention.
        """
        require_feature(feature, self.model.config)
        require_pooling(pooling)
        one = is_one_recording(frames)
        batch = BATCH.get(self.device.type, 256) if batch is None else batch
        require_batch(batch)
        batcher_options: dict[str, Any] = {
            "feature": feature,
            "mean": pooling == "mean",
            "dtype": resolve_dtype(dtype),
        }
        if one:
            array = array_of(frames, self.layout, "the frames")
            # A short recording needs no room for a whole batch.
            batch = min(batch, max(1, len(self.window.starts(len(array)))))
            found = next(self._batcher(batch, **batcher_options).encode([array]))
            return found if details else found.ages
        if isinstance(frames, str | bytes) or not isinstance(frames, Iterable):
            raise DataError(
                f"the frames are of type {type(frames).__name__}; give a NumPy array or a torch tensor, or several in "
                "a list or an iterator"
            )
        recordings = enumerate_recordings(iter(frames), self.layout)
        results = self._batcher(batch, **batcher_options).encode(recordings)
        chosen = results if details else (found.ages for found in results)
        return list(chosen) if isinstance(frames, list | tuple) else chosen

    def encode_windows(
        self,
        windows: Array,
        *,
        feature: Feature = "ages",
        pooling: Pooling = "none",
        dtype: DType = torch.float32,
        batch: int | None = None,
        origin: str | None = None,
    ) -> Array:
        """Encode windows that are cut already.

        They are normalised as recordings are, which changes nothing in windows that were normalised before.

        Args:
            windows: ``(B, T, J, 3)``, metres, y up, an array or a tensor.
            feature: as in :meth:`encode`; so are ``pooling``, ``dtype`` and ``batch``.
            pooling: see there.
            origin: name of the joint on which the windows were centred before, if it is another one than the encoder
                centres on. In a whole recording such a joint is noticed, in windows it would pass as lost.

        Returns:
            Encodings ``(B, T, D)`` or, pooled, ``(B, D)``, of the same kind as ``windows``.

        Raises:
            DataError: the windows do not fit the model.
            ConfigError: as :meth:`encode`.
        """
        require_feature(feature, self.model.config)
        require_pooling(pooling)
        require_skeletons(windows, self.layout, ("windows", self.window.frames), "the windows")
        batch = BATCH.get(self.device.type, 256) if batch is None else batch
        require_batch(batch)
        shape = (self.model.config.width,) if pooling == "mean" else (self.window.frames, self.model.config.width)
        results = empty_like_input(windows, (len(windows), *shape), resolve_dtype(dtype), self.device)
        center = center_index(self.layout, self.window)
        centred_on = None if origin is None else self.layout.index(origin)
        for start in range(0, len(windows), batch):
            with torch.inference_mode():
                centred, _ = normalise(upload(windows[start : start + batch], self.device), center, centred_on)
                values = self.encodings(centred, feature)  # (B, T, D)
                values = values.mean(dim=1) if pooling == "mean" else values
                as_tensor(results)[start : start + batch].copy_(values)
        return results

    def warm(
        self,
        batch: int = 1,
        *,
        feature: Feature = "ages",
        pooling: Pooling = "none",
        origin: str | None = None,
    ) -> LatencyEncoder:
        """Prepare everything for encoding up to ``batch`` windows at once with the least delay.

        Args:
            batch: most windows of a call, say 1 to 32.
            feature: as in :meth:`encode`.
            pooling: likewise.
            origin: as in :meth:`encode_windows`.

        Returns:
            What to call with windows ``(B, T, J, 3)``.
        """
        return LatencyEncoder(
            self.model, self.window, self.layout, batch, feature=feature, pooling=pooling, origin=origin
        )

    def _batcher(self, batch: int, feature: Feature, **options: Any) -> Batcher:
        return Batcher(
            partial(self.model.encodings, feature=feature),
            self.model.config,
            self.window,
            center_index(self.layout, self.window),
            device=self.device,
            compute=self.dtype,
            batch=batch,
            **options,
        )
