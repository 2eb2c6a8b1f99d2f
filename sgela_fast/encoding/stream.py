"""Encodings from a live sensor: frames come one at a time, of one person or several.

Each track keeps its last T normalised frames, whatever its length. A window is encoded when its last frame comes; the
windows that are complete at the same time are encoded together.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sgela_fast.encoding.encoder import Encoder
from sgela_fast.encoding.normalisation import center_index, normalise
from sgela_fast.encoding.recordings import Array, Pooling, require_skeletons, upload
from sgela_fast.errors import ConfigError, DataError
from sgela_fast.models.config import Feature


class StreamedWindow(NamedTuple):
    """The encoding of one window of a track.

    Attributes:
        ages: ``(T, D)`` or, pooled, ``(D,)``, float32.
        start: number of the window's first frame in its track, from 0.
        valid: no joint of the window is lost.
    """

    ages: np.ndarray
    start: int
    valid: bool


class _Track:
    """The last frames of a track, twice behind one another: any T of them in a row are one piece of memory."""

    def __init__(self, frames: int, joints: int) -> None:
        self.frames = torch.zeros(2 * frames, joints, 3)
        self.lost = np.zeros(2 * frames, np.bool_)
        self.seen = 0
        self.given: int | None = None  # first frame of the last window that was encoded

    def add(self, frame: Tensor, lost: bool) -> None:
        frames = len(self.lost) // 2
        place = self.seen % frames
        self.frames[place] = self.frames[place + frames] = frame
        self.lost[place] = self.lost[place + frames] = lost
        self.seen += 1

    def latest(self) -> tuple[Tensor, bool]:
        """The last T frames, oldest first, and whether they miss a joint."""
        frames = len(self.lost) // 2
        first = self.seen % frames
        return self.frames[first : first + frames], bool(self.lost[first : first + frames].any())


class StreamEncoder:
    """Gives a window's encoding as soon as its last frame is there.

    Windows begin at ``lead``, ``lead + stride``, ... and get what :meth:`Encoder.encode` gives the windows of the same
    frames: with the fused backend on the CPU bit for bit. A stream does not know its end, so the windows within the
    trimmed end of a recording come too.

    Joints that are NaN, or exactly (0, 0, 0), are lost: they stand at the origin, and the window is not ``valid``. If
    the sensor skips a frame of a track, push one of NaNs, so that the later ones keep their distance in time. Unlike a
    recording as a whole, a stream cannot be searched for the joint on which it was centred before: name it.

    Args:
        encoder: what it encodes with; its model is frozen.
        stride: frames between the starts of two windows; 0 for the run's.
        lead: frames skipped at the beginning of every track; ``None`` for as many as the run trims.
        feature: ``ages`` or ``states``, as in :meth:`Encoder.encode`.
        pooling: ``none`` or ``mean`` over the frames.
        origin: name of the joint on which all frames were centred before, ``None`` for camera coordinates.
        tracks: most tracks that may be open at once; a track holds 2 T J 3 numbers (2.9 kB).

    Raises:
        ConfigError: a number is out of range, feature or pooling is unknown, or the model has no AGEs.
        DataError: the layout has no joint ``origin``.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        stride: int = 0,
        lead: int | None = None,
        feature: Feature = "ages",
        pooling: Pooling = "none",
        origin: str | None = None,
        tracks: int = 1024,
    ) -> None:
        for name, value, least in (("stride", stride, 0), ("lead", lead or 0, 0), ("tracks", tracks, 1)):
            if value < least:
                raise ConfigError(f"{name} is {value}; it must be at least {least}")
        self.encoder = encoder
        self.stride = stride or encoder.window.step
        self.lead = encoder.window.trim if lead is None else lead
        self.most_tracks = tracks
        self._fast = encoder.warm(feature=feature, pooling=pooling)
        self._center = center_index(encoder.layout, encoder.window)
        self._origin = None if origin is None else encoder.layout.index(origin)
        self._length = encoder.window.frames
        self._open: dict[Hashable, _Track] = {}

    @property
    def tracks(self) -> list[Hashable]:
        """The open tracks, in the order of their first frames."""
        return list(self._open)

    def push(self, frame: Array, track: Hashable = 0) -> StreamedWindow | None:
        """Add one frame to a track, which its first frame opens.

        Args:
            frame: ``(J, 3)``, metres, y up, in the model's layout.
            track: anything that may be the key of a dictionary; leave it out for a single person.

        Returns:
            The window that this frame completes, or ``None``.

        Raises:
            DataError: the frame does not fit, or too many tracks are open; nothing was added.
        """
        return self.push_many({track: frame}).get(track)

    def push_many(self, frames: Mapping[Hashable, Array]) -> dict[Hashable, StreamedWindow]:
        """Add one frame to each of several tracks, as a sensor sees several persons at once.

        Args:
            frames: by track; each as in :meth:`push`.

        Returns:
            The windows that are complete now, by track, encoded as one batch.

        Raises:
            DataError: a frame does not fit, or too many tracks are open; nothing was added.
        """
        for track, frame in frames.items():
            require_skeletons(frame, self.encoder.layout, (), f"the frame of track {track!r}")
        new = [track for track in frames if track not in self._open]
        if len(self._open) + len(new) > self.most_tracks:
            raise DataError(
                f"{len(self._open)} tracks are open and {self.most_tracks} may be; close those that have ended, or "
                "raise tracks"
            )
        for track in new:
            self._open[track] = _Track(self._length, len(self.encoder.layout))
        complete = []
        if frames:
            uploaded = [upload(frame, torch.device("cpu")) for frame in frames.values()]
            normalised, lost = normalise(torch.stack(uploaded), self._center, self._origin)
            for name, frame, is_lost in zip(frames, normalised, lost.any(dim=-1).tolist(), strict=True):
                track = self._open[name]
                track.add(frame, is_lost)
                start = track.seen - self._length
                if start >= self.lead and (start - self.lead) % self.stride == 0:
                    complete.append(name)
        return self._encode(complete)

    def flush(self, track: Hashable = 0) -> StreamedWindow | None:
        """The window of a track's last frames, if it has not been given yet: what is known before the next is due.

        The track stays open, and its later windows are what they would have been.

        Returns:
            The window, or ``None`` if it was the last one given, or if there are too few frames behind ``lead``.

        Raises:
            DataError: there is no such track.
        """
        start = self._track(track).seen - self._length
        if start < self.lead or start == self._track(track).given:
            return None
        return self._encode([track])[track]

    def close(self, track: Hashable = 0) -> None:
        """Forget a track; the next frame of that name opens a new one.

        Raises:
            DataError: there is no such track.
        """
        self._track(track)
        del self._open[track]

    def reset(self) -> None:
        """Forget all tracks."""
        self._open.clear()

    def _track(self, name: Hashable) -> _Track:
        if name not in self._open:
            raise DataError(f"there is no track {name!r}; its first frame opens it, and close() ends it")
        return self._open[name]

    @torch.inference_mode()
    def _encode(self, names: list[Hashable]) -> dict[Hashable, StreamedWindow]:
        if not names:
            return {}
        latest = [self._open[name].latest() for name in names]
        windows = torch.stack([window for window, _ in latest]).to(self.encoder.device)
        ages = self._fast.encode_normalised(windows).cpu().numpy()
        found = {}
        for name, values, (_, is_lost) in zip(names, ages, latest, strict=True):
            track = self._open[name]
            track.given = track.seen - self._length
            found[name] = StreamedWindow(values, track.given, not is_lost)
        return found
