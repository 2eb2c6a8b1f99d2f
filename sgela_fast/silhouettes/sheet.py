"""A contact sheet: some persons, each as seen from all sides in every variant, to look at a set at a glance."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sgela_fast.atomic import replacing
from sgela_fast.silhouettes.config import SIZE
from sgela_fast.silhouettes.dataset import SilhouetteSet
from sgela_fast.silhouettes.images import Frame, pillow

_MARGIN_LEFT, _MARGIN_TOP = 74, 14
_INK = 160


def contact_sheet(silhouettes: SilhouetteSet, persons: int = 3, moment: float = 0.4) -> Frame:
    """A row for each person and variant (the first condition of ``nm``, ``bg``, ``cl``), a column for each view.

    Args:
        silhouettes: the set.
        persons: how many, the first by name.
        moment: which frame, as a share of the sequence.

    Returns:
        Grey levels ``(rows, columns)``.

    Raises:
        MissingDependencyError: Pillow is not installed.
    """
    from PIL import Image, ImageDraw

    table = silhouettes.sequences
    views = sorted(set(table.view.tolist()))
    lines = [
        (subject, condition)
        for subject in table.subjects[:persons]
        for condition in _first_of_each(table.condition[table.subject == subject].tolist())
    ]
    place = {key: index for index, key in enumerate(table.key.tolist())}
    sheet = np.zeros((_MARGIN_TOP + SIZE * len(lines), _MARGIN_LEFT + SIZE * len(views)), np.uint8)
    for row, (subject, condition) in enumerate(lines):
        for column, view in enumerate(views):
            index = place.get(f"{subject}/{condition}/{view}")
            if index is not None:
                frames = silhouettes.load(index)
                top, left = _MARGIN_TOP + SIZE * row, _MARGIN_LEFT + SIZE * column
                sheet[top : top + SIZE, left : left + SIZE] = frames[int(moment * (len(frames) - 1))]
    picture = Image.fromarray(sheet)
    draw = ImageDraw.Draw(picture)
    for row, (subject, condition) in enumerate(lines):
        draw.text((2, _MARGIN_TOP + SIZE * row + SIZE // 2 - 6), f"{subject[-6:]} {condition}", fill=_INK)
    for column, view in enumerate(views):
        draw.text((_MARGIN_LEFT + SIZE * column + SIZE // 2 - 9, 1), view, fill=_INK)
    return np.asarray(picture)


def write_sheet(silhouettes: SilhouetteSet, path: str | Path, persons: int = 3, moment: float = 0.4) -> tuple[int, int]:
    """Write :func:`contact_sheet` as PNG.

    Returns:
        Columns and rows of pixels.

    Raises:
        OutputError: the file cannot be written.
        MissingDependencyError: Pillow is not installed.
    """
    image_module = pillow()
    sheet = contact_sheet(silhouettes, persons, moment)
    with replacing(Path(path)) as temporary:
        image_module.fromarray(sheet).quantize(8).save(temporary, format="PNG", optimize=True)
    return sheet.shape[1], sheet.shape[0]


def _first_of_each(conditions: list[str]) -> list[str]:
    first: dict[str, str] = {}
    for condition in sorted(set(conditions), key=lambda name: (name[:2] != "nm", name)):
        first.setdefault(condition[:2], condition)
    return list(first.values())
