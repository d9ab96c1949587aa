"""Reading what a run left: its checkpoints and its policy."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import jax
from jax import Array

from rlgd.agents.base.agent import Agent
from rlgd.errors import StorageFault, UsageError
from rlgd.evaluation.policy import Policy
from rlgd.run import config_file, layout
from rlgd.run.changes import differences
from rlgd.run.checkpoints import manifest, state
from rlgd.run.checkpoints.folder import VerifiedCheckpoint, all_steps, incomplete, newest
from rlgd.run.checkpoints.state import restore_agent
from rlgd.run.config_file import read_config, reading
from rlgd.run.layout import BEST, CHECKPOINTS
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
    if unknown_parts := config_file.use_parts(directory, agent, parts):
        raise UsageError(f"{', '.join(unknown_parts)}: no such part of a run that load takes; give objects of Python.")
    trained, spec = config_file.read_agent(directory)
    folder, found = find_checkpoint(directory, checkpoint)
    like = shapes(directory, lambda key: federation.init(trained.prepared(), spec, key))
    return Policy(trained, spec, restore_agent(folder, found.steps, like).actor)


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
        found = VerifiedCheckpoint(steps, manifest.verified(folder, steps), ())
    differences(directory, found.manifest.about, content | {"numbers": state.numbers()})
    return folder, found


def _incomplete(folder: Path) -> str:
    number = len(incomplete(folder))
    return f"; found {number} incomplete, ignored" if number else ""
