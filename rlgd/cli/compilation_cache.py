"""The folder of compiled programs: JAX runs whatever it finds there under a program's name.

``digests.json`` has the digest of each program that a process of rlgd wrote to its end. A program that is not in the
list (a kill may have cut it), or that differs from it, is removed, and compiled again when it is needed.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import NamedTuple

from rlgd.system import lock
from rlgd.system.files import replace
from rlgd.system.reading import parse_json, read_text

DIGESTS, LOCK, PROGRAMS = "digests.json", "digests.lock", "*-cache"  # one process at a time has the lock


class Entry(NamedTuple):
    """A program: its size and time of change, which are compared at every start, and its SHA-256."""

    size: int
    changed_ns: int
    digest: str


def folder() -> Path:
    """Where the user's compiled programs are kept; it is made if need be, and only the user can read it.

    Raises:
        OSError: if it cannot be made, or belongs to another user, who may have written its programs.
        RuntimeError: if the user has no home.
    """
    home = os.environ.get("XDG_CACHE_HOME")
    found = (Path(home) if home else Path.home() / ".cache") / "rlgd" / "xla"
    found.mkdir(mode=0o700, parents=True, exist_ok=True)
    if found.stat().st_uid != os.getuid():
        raise PermissionError(f"{found} belongs to another user")
    found.chmod(0o700)
    return found


def remove_strangers(folder: Path) -> None:
    """Remove the programs that are not those that were written.

    Raises:
        OSError: if the folder cannot be read or changed.
    """
    with lock.alone(folder / LOCK):
        known = _read(folder)
        for path in folder.glob(PROGRAMS):
            entry = known.get(path.name)
            if entry is None or (_stamp(path) != entry[:2] and _entry(path).digest != entry.digest):
                path.unlink()


def record(folder: Path) -> None:
    """Write the list of all programs in the folder.

    Raises:
        OSError: if it cannot be written.
    """
    with lock.alone(folder / LOCK):
        known = _read(folder)
        now = {}
        for path in sorted(folder.glob(PROGRAMS)):
            entry = known.get(path.name)
            now[path.name] = entry if entry is not None and _stamp(path) == entry[:2] else _entry(path)
        if now != known:
            replace(folder / DIGESTS, json.dumps(now))


def _read(folder: Path) -> dict[str, Entry]:
    try:
        return parse_json(read_text(folder / DIGESTS), dict[str, Entry])
    except (OSError, ValueError):
        return {}


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _entry(path: Path) -> Entry:
    return Entry(*_stamp(path), hashlib.sha256(path.read_bytes()).hexdigest())
