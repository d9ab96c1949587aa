"""Reading what a run left: its checkpoints and its policy."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
from jax import Array

from rlgd.agents import stored
from rlgd.agents.base.agent import Agent
from rlgd.errors import StorageFault, UsageError
from rlgd.evaluation.policy import Policy
from rlgd.pytrees import AgentState
from rlgd.run import config_file, layout
from rlgd.run.changes import differences
from rlgd.run.checkpoints import manifest, state
from rlgd.run.checkpoints.folder import VerifiedCheckpoint, all_steps, incomplete, newest
from rlgd.run.checkpoints.state import restore_agent
from rlgd.run.config_content import reading
from rlgd.run.config_file import read_config
from rlgd.run.layout import BEST, CHECKPOINTS
from rlgd.spaces import Spec
from rlgd.training import federation

T = TypeVar("T")
log = logging.getLogger("rlgd")


def load(
    run_dir: str | Path, checkpoint: str | int | None = None, *, agent: type[Agent] | None = None, **parts: Any
) -> Policy:
    """A run's policy, ready to act; the environment itself need not be installed.

    Args:
        run_dir: a directory that ``train`` wrote.
        checkpoint: "latest", "best" (of the evaluations), or a number of steps; None: the run's result, which is the
            best one if it was trained with ``patience``, else the latest. A damaged checkpoint is refused. Only for
            "latest" the newest one that is not damaged is taken instead, and the log says so.
        agent: the class of an agent that is not rlgd's: a file alone imports no code.
        parts: the network or the optimizer of the run, where it is not rlgd's: ``network=MyTorso``.

    Raises:
        UsageError: if there is no run, or it has no such checkpoint; if a part is needed, or is another one.
        StorageFault: if the checkpoint is damaged.
    """
    directory = Path(run_dir)
    stored.refuse_others(config_file.use_parts(directory, agent, parts))
    folder, found = find_checkpoint(directory, checkpoint)
    trained, spec, learned = _learned(directory, folder, found.steps)
    return Policy(trained, spec, learned.actor)


class Learned(NamedTuple):
    """What a run has learned up to a checkpoint, which is at ``path``."""

    path: Path
    agent: Agent
    spec: Spec
    state: AgentState


def load_state(path: Path) -> Learned:
    """What a run has learned.

    Args:
        path: the run's directory: then it is the run's result, as for ``load``; or a checkpoint in it.

    Raises:
        UsageError, StorageFault: as ``load`` does.
    """
    if path.name.isdecimal() and path.parent.name in (CHECKPOINTS, BEST) and not (path / layout.CONFIG).exists():
        directory, folder, steps = path.parent.parent, path.parent, int(path.name)
        if steps not in (stored := all_steps(folder)):
            raise UsageError(f"there is no checkpoint {path}; {folder} has: {', '.join(map(str, stored)) or 'none'}.")
        _verified(directory, read_config(directory), folder, steps)
    else:
        folder, found = find_checkpoint(directory := path, None)
        steps = found.steps
    return Learned(folder / str(steps), *_learned(directory, folder, steps))


def _learned(directory: Path, folder: Path, steps: int) -> tuple[Agent, Spec, AgentState]:
    trained, spec = config_file.read_agent(directory)
    like = shapes(directory, lambda key: federation.init(trained.prepared(), spec, key))
    return trained, spec, restore_agent(folder, steps, like)


def shapes(directory: Path, make: Callable[[Array], T]) -> T:
    """The shapes of what ``make`` would return, without computing it."""
    try:
        return jax.eval_shape(make, jax.random.key(0))
    except (TypeError, ValueError, OverflowError) as error:
        if isinstance(error, UsageError):
            raise
        reason = str(error).partition("\n")[0]
        raise StorageFault(f"{directory / layout.CONFIG} describes arrays that cannot exist: {reason}") from error


def find_checkpoint(directory: Path, which: str | int | None) -> tuple[Path, VerifiedCheckpoint]:
    """The folder of a checkpoint and the checkpoint: "latest", "best", a step, or None for the run's result.

    For "latest" the newest checkpoint that is not damaged is taken; a step or "best" is refused if it is damaged.

    Raises:
        UsageError: if there is none, or it belongs to another configuration.
        StorageFault: if it is damaged.
    """
    content = read_config(directory)
    if which is None:
        with reading(directory):
            with_patience = content["settings"]["patience"] is not None
        which = "best" if with_patience and all_steps(directory / BEST) else "latest"
    folder = directory / (BEST if which == "best" else CHECKPOINTS)
    stored = all_steps(folder)
    if which == "latest":
        found = newest(folder)
        if found is None:
            raise UsageError(f"no complete checkpoint in {directory}{_incomplete(folder)}.")
        for damage in found.skipped:
            log.warning("%s; using that of step %s.", damage, f"{found.steps:,}")
    else:
        if which == "best" and not stored:
            raise UsageError(f"{directory} has no best checkpoint: it was not evaluated during training.")
        if which != "best" and (not str(which).isdecimal() or int(which) not in stored):
            known = ", ".join(map(str, stored)) or "none"
            raise UsageError(f"checkpoint is {which!r}; allowed: best, latest, or a step; the steps are: {known}.")
        steps = max(stored) if which == "best" else int(which)
        return folder, _verified(directory, content, folder, steps)
    _check_same(directory, content, found)
    return folder, found


def _verified(directory: Path, content: dict[str, Any], folder: Path, steps: int) -> VerifiedCheckpoint:
    found = VerifiedCheckpoint(steps, manifest.verified(folder, steps), ())
    _check_same(directory, content, found)
    return found


def _check_same(directory: Path, content: dict[str, Any], found: VerifiedCheckpoint) -> None:
    differences(directory, found.manifest.about, content | {"numbers": state.numbers()})


def _incomplete(folder: Path) -> str:
    number = len(incomplete(folder))
    return f"; found {number} incomplete, ignored" if number else ""
