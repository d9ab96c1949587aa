"""MuJoCo's warnings: on stderr, not in a file of the folder that a command was started in."""

import contextlib
import functools
import sys


def show_mujoco_warnings() -> None:
    """From now on MuJoCo's warnings appear on stderr, each once in a process, whatever the time in the simulation.

    By default MuJoCo prints every one and appends it to ``MUJOCO_LOG.TXT`` in the working directory. That a model has a
    deprecated attribute is not shown: only its author can change that, and Gymnasium's models have some. Where MuJoCo
    was not imported, or somebody has a handler already, nothing happens.
    """
    mujoco = sys.modules.get("mujoco")
    if mujoco is not None and mujoco.get_mju_user_warning() is None:
        mujoco.set_mju_user_warning(_show)


def _show(message: str) -> None:
    with contextlib.suppress(Exception):  # MuJoCo is no Python: it would end the process
        _show_once(message.partition(" Time = ")[0])


@functools.cache
def _show_once(message: str) -> None:
    if "deprecated" not in message and sys.stderr is not None:
        print(f"MuJoCo: {message}", file=sys.stderr)
