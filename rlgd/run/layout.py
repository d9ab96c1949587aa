"""The names in a run directory, and the names of run directories."""

import contextlib
import itertools
import re
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from rlgd.errors import UsageError

CONFIG, METRICS, SUMMARY, CHECKPOINTS, BEST = "config.json", "metrics.jsonl", "summary.json", "checkpoints", "best"
TABLE, SERVICES = "metrics.csv", "services.jsonl"  # of sinks
LONGEST = 48  # letters of the settings in the name of a directory: TensorBoard shows little more of it


def folder_name(env_id: str) -> str:
    """The name of an environment's folder."""
    return env_id.replace("/", "-").replace(":", "-")


def in_file_name(text: str) -> str:
    """A text as a part of a file's name."""
    return re.sub(r"[^\w.=+-]+", "-", text)


def automatic(root: Path, env_id: str, agent_name: str, seed: int, settings: Iterable[str] = ()) -> Path:
    """``root/<env>/<agent>/<time>-<settings>-seed<seed>``, with a suffix if that is taken.

    Args:
        root: such as ``runs``.
        env_id: of the environment.
        agent_name: of the agent.
        seed: of the run.
        settings: what the run is known by, such as ``lr0.001``, the most telling first: as many as are short.
    """
    parent = root / folder_name(env_id) / agent_name
    kept = ""
    for part in map(in_file_name, settings):
        if len(kept) + len(part) < LONGEST:
            kept += f"-{part}"
    return timed(parent, f"{kept}-seed{seed}")


def names(parent: Path, suffix: str = "") -> Iterator[Path]:
    """``parent/<time><suffix>``, then the same with a number at the end."""
    name = time.strftime("%Y%m%d-%H%M%S") + suffix
    yield parent / name
    yield from (parent / f"{name}-{number}" for number in itertools.count(2))


def timed(parent: Path, suffix: str = "") -> Path:
    """Make the first of ``names`` that does not exist yet.

    Raises:
        UsageError: if it cannot be made.
    """
    try:
        parent.mkdir(parents=True, exist_ok=True)
        for directory in names(parent, suffix):
            with contextlib.suppress(FileExistsError):
                directory.mkdir()  # of several processes that try at once, only one gets it
                return directory
    except OSError as error:
        raise UsageError(f"{parent} cannot be written: {error.strerror}.") from error
    raise AssertionError


@contextlib.contextmanager
def writing(directory: Path) -> Iterator[None]:
    """Report what the system does not let us write as a ``UsageError``: nothing is lost yet."""
    try:
        yield
    except OSError as error:
        raise UsageError(f"the run directory {directory} cannot be written: {error.strerror}.") from error
