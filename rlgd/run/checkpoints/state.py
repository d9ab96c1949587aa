"""The complete training state between two iterations, on disk. Nothing that is read is ever executed.

A checkpoint is a folder named by its step. Orbax writes the arrays in two parts, so that a policy can be loaded without
its environment: ``agent``, what was learned, and ``loop``, the rest. ``manifest.json`` is written last: what the state
belongs to, the counters beside it, and size and SHA-256 of every file. A folder gets its name when all of this is on
the disk; without a valid manifest it is not a checkpoint.
"""

import dataclasses
import logging
import math
import os
import shutil
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax import Array
from jax.sharding import SingleDeviceSharding

from rlgd.errors import StorageFault
from rlgd.pytrees import DOT, PERCENT, AgentState, LoopState, named_leaves, with_leaves
from rlgd.run.checkpoints.folder import BUILDING, remove
from rlgd.run.checkpoints.manifest import MANIFEST, Manifest, as_damaged, file_digest, files_of, manifest_text
from rlgd.system.files import replace, sync, why
from rlgd.system.processes import are_several

T = TypeVar("T")
NO_AGENT: Any = None
# Fields of the state, and their names in checkpoints of earlier versions.
EARLIER_NAMES = {"opt_state": "moments", "outer_opt_state": "outer_moments", "measured": "measured.gradient"}
EARLIER_ONLY = {"measured.wait"}  # leaves of checkpoints of earlier versions that have no successor
ANY_SIZE, MAX_RATIO = (
    2**28,
    2**12,
)  # bytes that may always be allocated; above that, bytes for each byte on disk
SMALL_FILES, SMALL_FILE = 40, 2**13  # at most: how many files orbax writes beside the arrays, and their bytes

# Orbax logs every save; failures are raised anyway.
logging.getLogger("absl").setLevel(logging.CRITICAL)


def numbers() -> dict[str, Any]:
    """The types of numbers and random keys in this process; a state fits only the same ones."""
    return {"dtype": jnp.zeros(()).dtype.name, "prng": str(jax.random.key_impl(jax.random.key(0)))}


def save(directory: Path, steps: int, loop: LoopState, about: dict[str, Any], counters: dict[str, Any]) -> None:
    """Write a checkpoint, named by the number of steps, beside the older ones; it appears complete or not at all.

    Args:
        directory: where the run's checkpoints are; made if it is missing, but its parent is not.
        steps: environment steps of the run so far; an older checkpoint of this name is replaced.
        loop: the state.
        about: see ``Manifest``; plain values.
        counters: see ``Manifest``; plain values.

    Raises:
        StorageFault: if it cannot be written.
    """
    folder, building = directory / str(steps), directory / f"{steps}{BUILDING}"
    try:
        directory.mkdir(exist_ok=True)
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir()
        _ask_for_room(building, loop)
        rest: Any = dataclasses.replace(loop, agent_state=NO_AGENT)
        for part, tree in (("agent", loop.agent_state), ("loop", rest)):
            with _checkpointer() as checkpointer:
                checkpointer.save((building / part).absolute(), args=ocp.args.StandardSave(_stored(tree)))
        for path in sorted(building.rglob("*")):
            sync(path)
        files = {name: (path.stat().st_size, file_digest(path)) for name, path in files_of(building)}
        replace(building / MANIFEST, manifest_text(Manifest(about, counters, files), steps))
        remove(folder)
        building.rename(folder)
        sync(directory)
    except Exception as error:  # orbax raises whatever its storage layers raise
        shutil.rmtree(building, ignore_errors=True)
        reason = why(error, directory.parent)
        raise StorageFault(f"the checkpoint of step {steps:,} cannot be written to {directory}: {reason}") from error


def _stored(tree: Any) -> dict[str, Any]:
    """The arrays as orbax takes them: with several processes it refuses those of JAX that one process alone has."""
    arrays = {name: leaf for name, leaf in named_leaves(tree).items() if not _is_empty(leaf)}
    return {name: np.asarray(array) for name, array in arrays.items()} if are_several() else arrays


def _is_empty(leaf: Any) -> bool:
    """Whether an array has no elements, such as the contacts of a body that can touch nothing; orbax refuses these."""
    return bool(leaf.size == 0)


def _checkpointer() -> ocp.Checkpointer:
    """Orbax for this process alone: others that train with it do not write, and read what they need themselves."""
    options: dict[str, Any] = {}
    if are_several():
        this = jax.process_index()
        options["multiprocessing_options"] = ocp.options.MultiprocessingOptions(
            primary_host=this, active_processes={this}, barrier_sync_key_prefix=f"process-{this}"
        )
    return ocp.Checkpointer(ocp.StandardCheckpointHandler(**options), **options)


def _ask_for_room(folder: Path, loop: LoopState) -> None:
    """Fail with an ``OSError`` if there is no room for a checkpoint, or no right to write it.

    Orbax would fail too, but in several threads that each print a traceback.
    """
    arrays = sum(leaf.nbytes for leaf in jax.tree.leaves(loop))
    for number, size in enumerate((max(arrays, 1), *[SMALL_FILE] * SMALL_FILES)):
        path = folder / f"room-{number}"
        with path.open("wb") as file:
            if hasattr(os, "posix_fallocate"):  # not on macOS
                os.posix_fallocate(file.fileno(), 0, size)
    for path in folder.iterdir():
        path.unlink()


def restore(directory: Path, steps: int, like: LoopState) -> LoopState:
    """Read a checkpoint into the shapes and dtypes of ``like``, which may be abstract.

    Raises:
        StorageFault: if it is damaged, or has other arrays than ``like``.
    """
    rest: Any = dataclasses.replace(like, agent_state=NO_AGENT)
    agent_state = restore_agent(directory, steps, like.agent_state)
    return dataclasses.replace(_restore_part(directory, steps, "loop", rest), agent_state=agent_state)


def restore_agent(directory: Path, steps: int, like: AgentState) -> AgentState:
    """The agent's part of a checkpoint.

    Raises:
        StorageFault: as ``restore`` does.
    """
    return _restore_part(directory, steps, "agent", like)


def _restore_part(directory: Path, steps: int, part: str, like: T) -> T:
    path = (directory / str(steps) / part).absolute()
    leaves: dict[str, Any] = named_leaves(like)
    empty = {name: leaf for name, leaf in leaves.items() if _is_empty(leaf)}
    wanted = {name: leaf for name, leaf in leaves.items() if name not in empty}
    size = sum(file.stat().st_size for _, file in files_of(path))
    if sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in wanted.values()) > max(ANY_SIZE, size * MAX_RATIO):
        raise as_damaged(directory, steps, f"{part} has {size:,} bytes, too few for the arrays of its configuration")
    try:
        with _checkpointer() as checkpointer:
            stored = checkpointer.metadata(path).item_metadata.tree
            on_disk = {name: name if name in stored else _earlier(name) for name in wanted}
            wanted = {on_disk[name]: leaf for name, leaf in wanted.items()}
            ignored = {name: leaf for name, leaf in stored.items() if name in EARLIER_ONLY}
            wanted |= ignored
            _check_same(wanted, stored, path.parent)
            # By default orbax takes the device named in the file, which this machine may not have.
            here = SingleDeviceSharding(jax.local_devices()[0])
            placed = {name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here) for name, x in wanted.items()}
            named = checkpointer.restore(path, args=ocp.args.StandardRestore(placed))
    except StorageFault:
        raise
    except Exception as error:  # orbax raises whatever its storage layers raise
        raise as_damaged(directory, steps, f"{part} cannot be read ({type(error).__name__})") from error

    def restored(name: str) -> Array:
        if name in empty:
            return jnp.zeros(empty[name].shape, empty[name].dtype)
        # By way of NumPy: arrays that orbax has put on a device are of another kind than those of a new run, and the
        # program that trains would be compiled a second time for what it returns.
        return jnp.asarray(np.asarray(named[on_disk[name]]))

    return with_leaves(like, restored)


def _earlier(name: str) -> str:
    """The name of a leaf in checkpoints of earlier versions, which did not mark the dots in keys."""
    field, dot, rest = name.partition(".")
    return EARLIER_NAMES.get(field, field) + dot + rest.replace(DOT, ".").replace(PERCENT, "%")


def _check_same(wanted: dict[str, Any], stored: dict[str, Any], path: Path) -> None:
    def describe(leaf: Any) -> str:
        if leaf is None:
            return "nothing"
        chunks = getattr(getattr(leaf, "storage", None), "chunk_shape", None) or leaf.shape
        larger = any(chunk > max(size, 1) for chunk, size in zip(chunks, leaf.shape, strict=False))
        return f"{leaf.dtype}{list(leaf.shape)}{f' in pieces of {list(chunks)}' if larger else ''}"

    pairs = {name: (describe(stored.get(name)), describe(wanted.get(name))) for name in sorted({*wanted, *stored})}
    wrong = [
        f"{name}: checkpoint {found}, expected {expected}"
        for name, (found, expected) in pairs.items()
        if found != expected
    ]
    if wrong:
        raise StorageFault(f"the checkpoint {path} does not fit its configuration: {'; '.join(wrong[:5])}.")
