"""The whole state of a run on disk. The only module that imports orbax; nothing that is read is ever executed.

A checkpoint has two parts, so that a policy can be loaded without its environment: ``agent``, what was learned, and
``loop``, all else.
"""

import dataclasses
import logging
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from jax import Array

from rlgd.data import AgentState, LoopState
from rlgd.errors import StorageFault

T = TypeVar("T")
NO_AGENT: Any = None

# orbax tells what it does at every save; what goes wrong it raises.
logging.getLogger("absl").setLevel(logging.ERROR)


def save(directory: Path, steps: int, loop: LoopState, counters: dict[str, Any], keep: int | None = None) -> None:
    """Write a checkpoint, named by the number of steps, beside the older ones; it appears complete or not at all.

    Args:
        directory: where the run's checkpoints are.
        steps: environment steps of the run so far; a checkpoint of that step that is already there stays.
        loop: the state.
        counters: numbers of the loop that are not arrays, such as seconds of training; kept as JSON.
        keep: remove all but so many of the newest; None: none.

    Raises:
        StorageFault: if it cannot be written.
    """
    rest: Any = dataclasses.replace(loop, agent_state=NO_AGENT)
    try:
        options = ocp.CheckpointManagerOptions(max_to_keep=keep)
        with ocp.CheckpointManager(directory.absolute(), options=options) as manager:
            if steps in manager.all_steps():
                return
            items = ocp.args.Composite(
                agent=ocp.args.StandardSave(_named_leaves(loop.agent_state)),
                loop=ocp.args.StandardSave(_named_leaves(rest)),
                counters=ocp.args.JsonSave(counters),
            )
            manager.save(steps, args=items, force=True)
            manager.wait_until_finished()
    except (OSError, ValueError) as error:
        raise StorageFault(f"the checkpoint of step {steps} could not be written to {directory}: {error}") from error


def latest_step(directory: Path) -> int | None:
    """The step of the newest complete checkpoint, or None."""
    return max(all_steps(directory), default=None)


def all_steps(directory: Path) -> list[int]:
    """The steps of the complete checkpoints, the oldest first."""
    if not directory.is_dir():
        return []
    with ocp.CheckpointManager(directory.absolute()) as manager:
        return sorted(manager.all_steps())


def remove_after(directory: Path, steps: int) -> None:
    """Remove the checkpoints of later steps."""
    if not directory.is_dir():
        return
    with ocp.CheckpointManager(directory.absolute()) as manager:
        for later in [step for step in manager.all_steps() if step > steps]:
            manager.delete(later)


def restore(directory: Path, steps: int, like: LoopState) -> tuple[LoopState, dict[str, Any]]:
    """Read a checkpoint into the shapes and dtypes of ``like``, which may be abstract: the state and the counters.

    Raises:
        StorageFault: if it is damaged, or holds other arrays than ``like``.
    """
    agent_state = restore_agent(directory, steps, like.agent_state)
    rest: Any = dataclasses.replace(like, agent_state=NO_AGENT)
    loop = dataclasses.replace(_restore_part(directory, steps, "loop", rest), agent_state=agent_state)
    return loop, _read(directory, steps, counters=ocp.args.JsonRestore())["counters"]


def restore_agent(directory: Path, steps: int, like: AgentState) -> AgentState:
    """The agent's part of a checkpoint.

    Raises:
        StorageFault: as ``restore`` does.
    """
    return _restore_part(directory, steps, "agent", like)


def _restore_part(directory: Path, steps: int, part: str, like: T) -> T:
    wanted = _named_leaves(like)
    stored = _read(directory, steps)[part].tree
    _check_same(wanted, stored, directory / str(steps))
    named = _read(directory, steps, **{part: ocp.args.StandardRestore(wanted)})[part]

    def restored(path: Any, leaf: Any) -> Any:
        value = named[_name(path)]
        return jax.random.wrap_key_data(value) if _is_key(leaf) else value

    return jax.tree_util.tree_map_with_path(restored, like)


def _read(directory: Path, steps: int, **items: Any) -> Any:
    """The named items of a checkpoint; without names, what is known of all of them."""
    try:
        with ocp.CheckpointManager(directory.absolute(), item_handlers=_handlers()) as manager:
            return manager.restore(steps, args=ocp.args.Composite(**items)) if items else manager.item_metadata(steps)
    except Exception as error:  # orbax raises whatever its storage layers raise
        raise StorageFault(f"the checkpoint {directory / str(steps)} is damaged: {type(error).__name__}.") from error


def _handlers() -> dict[str, Any]:
    arrays, numbers = ocp.StandardCheckpointHandler, ocp.JsonCheckpointHandler
    return {"agent": arrays(), "loop": arrays(), "counters": numbers()}


def _check_same(wanted: dict[str, Any], stored: dict[str, Any], path: Path) -> None:
    def describe(leaf: Any) -> str:
        return "nothing" if leaf is None else f"{leaf.dtype}{list(leaf.shape)}"

    pairs = {name: (describe(stored.get(name)), describe(wanted.get(name))) for name in sorted({*wanted, *stored})}
    wrong = [f"{name}: checkpoint {there}, expected {here}" for name, (there, here) in pairs.items() if there != here]
    if wrong:
        raise StorageFault(f"the checkpoint {path} does not fit its configuration: {'; '.join(wrong[:5])}.")


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")


def _is_key(leaf: Any) -> bool:
    return bool(jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key))


def _named_leaves(tree: Any) -> dict[str, Any]:
    """The arrays by their path in the tree; random keys as the integers that they are made of."""

    def plain(leaf: Any) -> Any:
        if not _is_key(leaf):
            return leaf
        return jax.random.key_data(leaf) if isinstance(leaf, Array) else jax.eval_shape(jax.random.key_data, leaf)

    return {_name(path): plain(leaf) for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]}
