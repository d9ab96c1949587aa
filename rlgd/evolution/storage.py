"""A population on disk: its state after every generation, from which it goes on with the same bits."""

import io
import zipfile
from pathlib import Path
from typing import Any, TypeVar

import jax.numpy as jnp
import numpy as np

from rlgd.errors import StorageFault, UsageError
from rlgd.pytrees import named_leaves, with_leaves
from rlgd.run import config_file, layout
from rlgd.studies.directory import STUDY
from rlgd.system import files, machine, reading
from rlgd.tuning.journal import JOURNAL

T = TypeVar("T")
FORMAT_VERSION = 1
EVOLUTION, STATE = "evolution.json", "population.npz"
OF_OTHERS = (layout.CONFIG, layout.METRICS, STUDY, JOURNAL)  # what runs, studies and searches write first
OF_STATE, OF_GENERATION = "state/", "generation/"


def begin(directory: Path, identity: dict[str, Any], names: tuple[str, ...]) -> None:
    """Say what evolves in a directory, or check that the same does.

    Raises:
        UsageError: if something else does, or it cannot be written.
    """
    files.check_own(directory, EVOLUTION, (STATE, *names[:-1], *OF_OTHERS), "population", folders=names[-1:])
    path = directory / EVOLUTION
    if path.exists():
        try:
            written = reading.parse_json(reading.read_text(path), dict[str, Any])
        except (OSError, ValueError) as error:
            raise UsageError(f"{path} cannot be read: {error}.") from error
        differ = [name for name in identity if written.get(name) != identity[name]]
        if differ:
            raise UsageError(f"{directory} holds a population with another {differ[0]}; name another directory.")
        return
    try:
        content = {"format_version": FORMAT_VERSION, **identity, "device": machine.device_name()}
        files.write_json(path, content | {"versions": config_file.versions()})
    except OSError as error:
        raise UsageError(f"the directory {directory} cannot be written: {error.strerror}.") from error


def write(directory: Path, population: Any, generations: list[np.ndarray]) -> None:
    """Store the state after a generation; until all of it is on disk, the old one stays.

    Raises:
        StorageFault: if it cannot be written.
    """
    arrays = {f"{OF_STATE}{name}": np.asarray(x) for name, x in named_leaves(population).items()}
    arrays |= {f"{OF_GENERATION}{n}": x for n, x in enumerate(generations)}
    content = io.BytesIO()
    np.savez(content, **arrays)  # type: ignore[arg-type]
    try:
        files.replace(directory / STATE, content.getvalue())
    except OSError as error:
        raise StorageFault(f"the population could not be stored: {files.why(error, directory)}.") from error


def read(directory: Path, like: T) -> tuple[T, list[np.ndarray]] | None:
    """The state that was stored, like ``like``, and what its generations did; None if there is none.

    Raises:
        UsageError: if the file is damaged.
    """
    path = directory / STATE
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as stored:
            found = {name: stored[name] for name in stored.files}
        generations = [found[name] for name in sorted(found) if name.startswith(OF_GENERATION)]
        for name, leaf in named_leaves(like).items():
            if (found[f"{OF_STATE}{name}"].shape, found[f"{OF_STATE}{name}"].dtype) != (leaf.shape, leaf.dtype):
                raise ValueError(f"{name} has another shape")
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UsageError(f"{path} is damaged ({error}); remove it to begin again.") from error
    return with_leaves(like, lambda name: jnp.asarray(found[f"{OF_STATE}{name}"])), generations
