"""The settings of a run: each is declared here, once.

Flags, files, ranges, what a resumed run may change, and the documentation of ``rlgd.train`` derive from these classes.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from rlgd import hyperparameters as hp
from rlgd.envs.host.host_env import VECTORIZATIONS
from rlgd.envs.registry import BACKENDS
from rlgd.errors import UsageError
from rlgd.hyperparameters import hyperparameters, nested, static
from rlgd.run.stopping import NEVER, Stopping
from rlgd.training.host_rollout import ACT_DEVICES


class Interval(NamedTuple):
    """The time between two checkpoints: in seconds, or in environment steps; the other is None."""

    seconds: float | None
    steps: int | None


@hyperparameters
class EnvSettings:
    """How an environment is made from its id."""

    backend: str = static(
        "auto", "where the environment runs; auto takes the device if the environment can run there", choices=BACKENDS
    )
    max_episode_steps: int | None = static(None, "a time limit instead of the registered one", "[1, inf)")
    vectorization: str = static(
        "auto",
        "how environments on the host are stepped",
        choices=VECTORIZATIONS,
        resumable=True,
        decides_result=False,
    )
    env_timeout: float | None = static(
        None,
        "seconds that a step on the host may take, in worker processes",
        "(0, inf)",
        resumable=True,
        decides_result=False,
    )
    env_args: Mapping[str, Any] | None = static(
        None, "arguments for the environment, key=value", resumable=True, flag="env_arg"
    )


@hyperparameters
class RunSettings:
    """What decides a run beside its agent and its environment."""

    total_timesteps: int = static(
        100_000,
        "environment steps; the run ends with the iteration that reaches them",
        "[1, inf)",
        resumable=True,
        count=True,
    )
    seed: int = static(0, "seed of everything random; the same seed gives the same bits on a CPU", "[0, inf)")
    eval_every: int | None = static(
        None,
        "steps between evaluations; None: only at the end, or 20 times a run if a criterion needs evaluations",
        "[1, inf)",
        resumable=True,
        count=True,
    )
    eval_episodes: int = static(
        100,
        "episodes of each evaluation of the greedy policy, in Gymnasium's own environment if it has one",
        "[1, inf)",
        resumable=True,
    )
    stopping: Stopping = nested(NEVER)
    env: EnvSettings = nested(EnvSettings())
    act_device: str = static(
        "auto",
        "where the policy acts in environments on the host",
        choices=ACT_DEVICES,
        resumable=True,
        decides_result=False,
    )
    checkpoint_every: int | str = static(
        "60s",
        "seconds between checkpoints, such as 60s, or steps, such as 100000",
        resumable=True,
        decides_result=False,
    )
    keep: int = static(
        3,
        "how many of the newest checkpoints are kept; the best one, if there are evaluations, is kept apart",
        "[1, inf)",
        resumable=True,
        decides_result=False,
    )

    def validate(self) -> None:
        """Check every setting against its range.

        Raises:
            UsageError: naming the setting, what was given and what is allowed.
        """
        hp.validate(self)
        self.checkpoint_interval()

    def checkpoint_interval(self) -> Interval:
        """``checkpoint_every`` as a number.

        Raises:
            UsageError: if it is neither seconds nor steps.
        """
        given = self.checkpoint_every
        text = str(given) if type(given) in (int, str) else ""
        try:
            if text.endswith("m"):  # minutes, or millions?
                raise ValueError
            if text.endswith("s") and 0 < (seconds := float(text[:-1])) < math.inf:
                return Interval(seconds, None)
            if 0 < (steps := hp.count(text)) < 2**63:
                return Interval(None, steps)
        except (ValueError, OverflowError):
            pass
        raise UsageError(f"checkpoint_every is {given!r}; allowed: seconds, such as 60s, or steps, such as 100000.")
