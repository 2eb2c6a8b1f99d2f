"""Taking possession of a folder that a job is going to fill, so that the same job can go on with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sgela_fast.atomic import make_folder, write_json
from sgela_fast.errors import DataError, OutputError, one_line

PLAN = "unfinished.json"


def claim(path: Path, plan: dict[str, Any]) -> None:
    """Make ``path`` with a note of what is going to be in it, or find that it is unfinished with the same note.

    Raises:
        OutputError: the folder holds something else, or cannot be made.
        DataError: the note is damaged.
    """
    make_folder(path)
    note = path / PLAN
    if note.exists():
        try:
            found = json.loads(note.read_text())
        except (OSError, ValueError) as error:
            reason = one_line(error)
            raise DataError(f"{note} is damaged ({reason}); remove {path} or choose another output path") from error
        # As JSON has it: tuples become lists.
        if found != json.loads(json.dumps(plan)):
            raise OutputError(
                f"{path} holds unfinished silhouettes of something else or with other settings; remove it or choose "
                "another output path"
            )
    elif any(path.iterdir()):
        raise OutputError(f"{path} is not empty and holds no silhouettes; choose another output path")
    else:
        write_json(note, plan)


def give_up(path: Path) -> None:
    """Take the note back, and the folder if nothing else is in it."""
    (path / PLAN).unlink(missing_ok=True)
    if not any(path.iterdir()):
        path.rmdir()
