"""A folder of checkpoints: which steps it contains, and how checkpoints are removed."""

import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from rlgd.errors import StorageFault
from rlgd.run.checkpoints.manifest import MANIFEST, Damaged, Manifest, as_damaged, verified

BUILDING, OLD = ".tmp", ".old.tmp"  # ends of the names of folders that are being written or removed


class VerifiedCheckpoint(NamedTuple):
    """A checkpoint that is not damaged, and what is wrong with newer ones."""

    steps: int
    manifest: Manifest
    skipped: tuple[str, ...]


def remove(folder: Path) -> None:
    """Remove a checkpoint; it loses its name first, so that it is never seen half removed."""
    if folder.is_symlink():
        folder.unlink()
    elif folder.exists():
        old = folder.with_name(f"{folder.name}{OLD}")
        shutil.rmtree(old, ignore_errors=True)
        shutil.rmtree(folder.rename(old))


def remove_unfinished(directory: Path) -> None:
    """Remove the parts of checkpoints that killed processes left."""
    for folder in incomplete(directory):
        if folder.name.endswith(BUILDING):
            shutil.rmtree(folder)


def keep_only(directory: Path, kept: Iterable[int]) -> None:
    """Remove the checkpoints of other steps."""
    kept = set(kept)
    for steps in all_steps(directory):
        if steps not in kept:
            remove(directory / str(steps))


def incomplete(directory: Path) -> list[Path]:
    """The folders that were not written, or not removed, to the end."""
    if not directory.is_dir():
        return []
    ours = re.compile(rf"\d+({re.escape(OLD)}|{re.escape(BUILDING)})?")
    folders = [path for path in directory.iterdir() if ours.fullmatch(path.name) and path.is_dir()]
    return sorted(path for path in folders if path.name.endswith(BUILDING) or not (path / MANIFEST).exists())


def all_steps(directory: Path) -> list[int]:
    """The steps of the checkpoints, damaged ones included, the oldest first."""
    if not directory.is_dir():
        return []
    folders = [path for path in directory.iterdir() if path.name.isdecimal() and (path / MANIFEST).exists()]
    return sorted(int(path.name) for path in folders if path.name == str(int(path.name)))


def latest_step(directory: Path) -> int | None:
    """The step of the newest checkpoint, or None."""
    return max(all_steps(directory), default=None)


def newest(directory: Path) -> VerifiedCheckpoint | None:
    """The newest checkpoint that is not damaged; None if the folder has no checkpoint at all.

    Raises:
        StorageFault: if all of them are damaged.
    """
    skipped: list[str] = []
    tried: list[int] = []
    lost = [int(path.name) for path in incomplete(directory) if path.name.isdecimal()]
    for steps in sorted({*all_steps(directory), *lost}, reverse=True):
        try:
            if steps in lost:
                raise as_damaged(directory, steps, f"{MANIFEST} is missing")
            return VerifiedCheckpoint(steps, verified(directory, steps), tuple(skipped))
        except Damaged as damage:
            skipped.append(str(damage))
            tried.append(steps)
    if set(tried) - set(lost):
        others = ", ".join(f"{steps:,}" for steps in tried[1:])
        raise StorageFault(f"{skipped[0]}{f'; so are those of the steps {others}' if others else ''}")
    return None
