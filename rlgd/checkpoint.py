"""The whole state of a run on disk. The only module that imports orbax; nothing that is read is ever executed.

A checkpoint is a folder named by its step. Orbax writes the arrays in two parts, so that a policy can be loaded without
its environment: ``agent``, what was learned, and ``loop``, all else. ``manifest.json`` is written last: what the state
belongs to, the counters beside it, and size and SHA-256 of every file. A folder gets its name when all of this is on
the disk; without a manifest that holds it is no checkpoint.
"""

import dataclasses
import hashlib
import json
import logging
import math
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from jax import Array
from jax.sharding import SingleDeviceSharding

from rlgd import durable
from rlgd.data import AgentState, LoopState
from rlgd.errors import StorageFault, UsageError

T = TypeVar("T")
NO_AGENT: Any = None
FORMAT_VERSION = 1
MANIFEST = "manifest.json"
BUILDING, OLD = ".tmp", ".old.tmp"  # behind the names of folders that are being written, or removed
MAX_MANIFEST = 2**26  # bytes
ANY_SIZE, MAX_RATIO = 2**28, 2**12  # bytes that may be allocated; beyond that, for each byte of the files
SMALL_FILES, SMALL_FILE = 40, 2**13  # how many files orbax writes beside the arrays, and bytes of each, at most

# Orbax tells what it does at every save; what goes wrong it raises.
logging.getLogger("absl").setLevel(logging.CRITICAL)
log = logging.getLogger("rlgd")


class Damaged(StorageFault):
    """What is in a folder is not what was written there."""


class Manifest(NamedTuple):
    """What a checkpoint says of itself.

    Attributes:
        about: the configuration of the run, and the kinds of numbers and random keys.
        counters: numbers of the loop that are not arrays, such as seconds of training.
        files: size and SHA-256 of each file by its path in the folder.
    """

    about: dict[str, Any]
    counters: dict[str, Any]
    files: dict[str, tuple[int, str]]


class Found(NamedTuple):
    """A checkpoint that holds, and what was wrong with newer ones."""

    steps: int
    manifest: Manifest
    skipped: tuple[str, ...]


def numbers() -> dict[str, Any]:
    """The kinds of numbers and random keys of this process, which a state is tied to."""
    return {"dtype": jnp.zeros(()).dtype.name, "prng": str(jax.random.key_impl(jax.random.key(0)))}


def save(directory: Path, steps: int, loop: LoopState, about: dict[str, Any], counters: dict[str, Any]) -> None:
    """Write a checkpoint, named by the number of steps, beside the older ones; it appears complete or not at all.

    Args:
        directory: where the run's checkpoints are; made if it is missing, but not what it is in.
        steps: environment steps of the run so far; what is there under this name is replaced.
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
            with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as checkpointer:
                checkpointer.save((building / part).absolute(), args=ocp.args.StandardSave(named_leaves(tree)))
        for path in sorted(building.rglob("*")):
            durable.sync(path)
        files = {name: (path.stat().st_size, _digest(path)) for name, path in _files(building)}
        durable.replace(building / MANIFEST, _written(Manifest(about, counters, files), steps))
        remove(folder)
        building.rename(folder)
        durable.sync(directory)
    except Exception as error:  # orbax raises whatever its storage layers raise
        shutil.rmtree(building, ignore_errors=True)
        reason = durable.why(error, directory.parent)
        raise StorageFault(f"the checkpoint of step {steps:,} cannot be written to {directory}: {reason}") from error


def _ask_for_room(folder: Path, loop: LoopState) -> None:
    """Fail with an ``OSError`` if there is no room for a checkpoint, or no right to write it.

    Orbax would fail too, but in several threads, each of which prints its own traceback.
    """
    arrays = sum(leaf.nbytes for leaf in jax.tree.leaves(loop))
    for number, size in enumerate((max(arrays, 1), *[SMALL_FILE] * SMALL_FILES)):
        path = folder / f"room-{number}"
        with path.open("wb") as file:
            if hasattr(os, "posix_fallocate"):  # not on macOS
                os.posix_fallocate(file.fileno(), 0, size)
    for path in folder.iterdir():
        path.unlink()


def update_counters(directory: Path, steps: int, counters: dict[str, Any]) -> None:
    """Give a checkpoint other counters; its state stays.

    Raises:
        StorageFault: if it cannot be written.
    """
    folder = directory / str(steps)
    manifest = read_manifest(directory, steps)
    try:
        durable.replace(folder / MANIFEST, _written(manifest._replace(counters=counters), steps))
    except OSError as error:
        raise StorageFault(f"{folder / MANIFEST} cannot be written: {durable.why(error, folder)}") from error


class Saver:
    """Does jobs that save something in the background, one after another.

    Attributes:
        fault: why the last one failed, or None. Only the first failure in a row is a warning in the log.
    """

    def __init__(self) -> None:
        self.fault: str | None = None
        self._thread = ThreadPoolExecutor(1, "rlgd-save")
        self._last: Future[None] | None = None

    @property
    def busy(self) -> bool:
        """Whether something is being saved."""
        return self._last is not None and not self._last.done()

    def submit(self, job: Callable[[], None]) -> None:
        """Do a job behind those before it."""
        self.wait()
        self._last = self._thread.submit(self._do, job)

    def wait(self) -> None:
        """Wait until all is saved, or was tried to be."""
        if self._last is not None:
            self._last.result()

    def close(self) -> None:
        """Wait, and end the thread."""
        self.wait()
        self._thread.shutdown()

    def _do(self, job: Callable[[], None]) -> None:
        before, self.fault = self.fault, None
        try:
            job()
        except (StorageFault, OSError) as fault:
            self.fault = str(fault)
            if before is None:
                log.warning("%s. Training goes on, and tries again.", fault)


def remove(folder: Path) -> None:
    """Remove a checkpoint; first of all it is none any more."""
    if folder.is_symlink():
        folder.unlink()
    elif folder.exists():
        old = folder.with_name(f"{folder.name}{OLD}")
        shutil.rmtree(old, ignore_errors=True)
        shutil.rmtree(folder.rename(old))


def remove_unfinished(directory: Path) -> None:
    """Remove what kills left of checkpoints."""
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
    """The folders that have the name of a checkpoint, but were not written to the end, or not removed."""
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


def newest(directory: Path) -> Found | None:
    """The newest checkpoint that holds; None if there is none at all.

    Raises:
        StorageFault: if all of them are damaged.
    """
    skipped: list[str] = []
    damaged = False
    lost = [int(path.name) for path in incomplete(directory) if path.name.isdecimal()]
    for steps in sorted({*all_steps(directory), *lost}, reverse=True):
        try:
            if steps in lost:
                raise _damaged(directory, steps, f"{MANIFEST} is missing")
            return Found(steps, verified(directory, steps), tuple(skipped))
        except Damaged as damage:
            skipped.append(str(damage))
            damaged |= steps not in lost
    if damaged:
        raise StorageFault("; ".join(skipped))
    return None


def verified(directory: Path, steps: int) -> Manifest:
    """The manifest of a checkpoint all of whose files are as they were written.

    Raises:
        Damaged: naming what is not.
        UsageError: if another version of rlgd wrote it in another format.
    """
    manifest = read_manifest(directory, steps)
    try:
        _check_files(directory, steps, manifest)
    except OSError as error:
        raise _damaged(directory, steps, f"{error.filename} cannot be read: {error.strerror}") from error
    return manifest


def _check_files(directory: Path, steps: int, manifest: Manifest) -> None:
    there = dict(_files(directory / str(steps)))
    for name in sorted({*manifest.files, *there}):
        if name not in there:
            raise _damaged(directory, steps, f"{name} is missing")
        if name not in manifest.files:
            raise _damaged(directory, steps, f"{name} does not belong to it")
        status, (size, digest) = there[name].lstat(), manifest.files[name]
        if not stat.S_ISREG(status.st_mode):
            raise _damaged(directory, steps, f"{name} is no file")
        if status.st_size != size:
            raise _damaged(directory, steps, f"{name} has {status.st_size:,} bytes instead of {size:,}")
        if _digest(there[name]) != digest:
            raise _damaged(directory, steps, f"the SHA-256 of {name} differs")


def read_manifest(directory: Path, steps: int) -> Manifest:
    """What a checkpoint says of itself.

    Raises:
        Damaged: if it is not as it was written.
        UsageError: if another version of rlgd wrote it in another format.
    """
    path = directory / str(steps) / MANIFEST
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(MAX_MANIFEST)
        content = json.loads(text)
        whole = text == _sealed({name: value for name, value in content.items() if name != "sha256"})
        step, format_version, about, counters = (
            content[name] for name in ("step", "format_version", "about", "counters")
        )
        writer = about["versions"]["rlgd"]
        files = {name: (int(size), str(digest)) for name, (size, digest) in content["files"].items()}
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise _damaged(directory, steps, f"{MANIFEST} cannot be read") from error
    if not whole or step != steps or not isinstance(counters, dict):
        raise _damaged(directory, steps, f"{MANIFEST} is not as it was written")
    if format_version != FORMAT_VERSION:
        raise UsageError(
            f"the checkpoint {path.parent} was written by rlgd {writer} in format {format_version}; "
            f"this one reads format {FORMAT_VERSION}."
        )
    return Manifest(about, counters, files)


def restore(directory: Path, steps: int, like: LoopState) -> LoopState:
    """Read a checkpoint into the shapes and dtypes of ``like``, which may be abstract.

    Raises:
        StorageFault: if it is damaged, or holds other arrays than ``like``.
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
    wanted, path = named_leaves(like), (directory / str(steps) / part).absolute()
    there = sum(file.stat().st_size for _, file in _files(path))
    if sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in wanted.values()) > max(ANY_SIZE, there * MAX_RATIO):
        raise _damaged(directory, steps, f"{part} has {there:,} bytes, too few for the arrays of its configuration")
    try:
        with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as checkpointer:
            stored = checkpointer.metadata(path).item_metadata.tree
            _check_same(wanted, stored, path.parent)
            # Without a place orbax takes the file's, which may be a device that is not here.
            here = SingleDeviceSharding(jax.devices()[0])
            placed = {name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here) for name, x in wanted.items()}
            named = checkpointer.restore(path, args=ocp.args.StandardRestore(placed))
    except StorageFault:
        raise
    except Exception as error:  # orbax raises whatever its storage layers raise
        raise _damaged(directory, steps, f"{part} cannot be read ({type(error).__name__})") from error

    def restored(path: Any, leaf: Any) -> Any:
        value = named[_name(path)]
        return jax.random.wrap_key_data(value) if _is_key(leaf) else value

    return jax.tree_util.tree_map_with_path(restored, like)


def _check_same(wanted: dict[str, Any], stored: dict[str, Any], path: Path) -> None:
    def describe(leaf: Any) -> str:
        if leaf is None:
            return "nothing"
        chunks = getattr(getattr(leaf, "storage", None), "chunk_shape", None) or leaf.shape
        larger = any(chunk > max(size, 1) for chunk, size in zip(chunks, leaf.shape, strict=False))
        return f"{leaf.dtype}{list(leaf.shape)}{f' in pieces of {list(chunks)}' if larger else ''}"

    pairs = {name: (describe(stored.get(name)), describe(wanted.get(name))) for name in sorted({*wanted, *stored})}
    wrong = [f"{name}: checkpoint {there}, expected {here}" for name, (there, here) in pairs.items() if there != here]
    if wrong:
        raise StorageFault(f"the checkpoint {path} does not fit its configuration: {'; '.join(wrong[:5])}.")


def _files(folder: Path) -> list[tuple[str, Path]]:
    """All but the manifest, by their path in the folder; links are not followed."""
    found = []
    for parent, folders, names in os.walk(folder):
        links = [name for name in folders if (Path(parent) / name).is_symlink()]
        found += [Path(parent) / name for name in (*names, *links)]
    return [(str(path.relative_to(folder)), path) for path in found if path != folder / MANIFEST]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _written(manifest: Manifest, steps: int) -> str:
    return _sealed({"format_version": FORMAT_VERSION, "step": steps, **manifest._asdict()})


def _sealed(content: dict[str, Any]) -> str:
    """The text of a manifest, of which no byte can be another."""
    digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    return json.dumps(content | {"sha256": digest}) + "\n"


def _damaged(directory: Path, steps: int, what: str) -> Damaged:
    return Damaged(f"the checkpoint of step {steps:,} in {directory} is damaged: {what}")


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")


def _is_key(leaf: Any) -> bool:
    return bool(jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key))


def named_leaves(tree: Any) -> dict[str, Any]:
    """The arrays by their path in the tree; random keys as the integers that they are made of."""

    def plain(leaf: Any) -> Any:
        if not _is_key(leaf):
            return leaf
        return jax.random.key_data(leaf) if isinstance(leaf, Array) else jax.eval_shape(jax.random.key_data, leaf)

    return {_name(path): plain(leaf) for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]}
