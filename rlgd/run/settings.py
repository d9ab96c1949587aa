"""The settings of a run: each is declared here, once.

Flags, files, ranges, what a resumed run may change, and the documentation of ``rlgd.train`` derive from these classes.
"""

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from rlgd import hyperparameters as hp
from rlgd import ranges
from rlgd.envs import DeviceEnv, Env, make
from rlgd.envs.host.host_env import VECTORIZATIONS
from rlgd.envs.host.sources import as_json
from rlgd.envs.registry import BACKENDS
from rlgd.errors import UsageError, unknown
from rlgd.hyperparameters import hyperparameters, nested, static
from rlgd.run.stopping import NEVER, Stopping
from rlgd.system.mesh import SHUFFLES
from rlgd.training.host_acting import ACT_DEVICES


class CheckpointInterval(NamedTuple):
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

    log_info: tuple[str, ...] = static(
        (),
        "numbers in the environment's infos whose means are recorded",
        resumable=True,
        decides_result=False,
    )

    def validate(self) -> None:
        """Check every setting against its range.

        Raises:
            UsageError: naming the setting, what was given and what is allowed.
        """
        ranges.validate(self)
        if not isinstance(self.log_info, tuple) or not all(isinstance(n, str) and n for n in self.log_info):
            raise UsageError(f"log_info is {self.log_info!r}; allowed: names of numbers in the infos, as a tuple.")
        if not isinstance(self.env_args, Mapping | None):
            raise UsageError(f"env_args is {self.env_args!r}; allowed: a table of arguments.")

    def make(self, env: Any) -> Env:
        """The environment of an id, or of anything else that ``rlgd.envs.make`` takes.

        Raises:
            UsageError: for a setting outside its range, and as ``rlgd.envs.make`` does.
        """
        self.validate()
        options = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        arguments = options.pop("env_args") or {}
        if taken := [name for name in arguments if name in options]:
            raise UsageError(f"env_args sets {taken[0]}, which is a setting of its own; set {taken[0]} instead.")
        return make(env, **options, **arguments)

    @classmethod
    def of(cls, env: Env) -> "EnvSettings":
        """The settings of an environment that was made, with nothing left to choose."""
        if isinstance(env, DeviceEnv):
            return cls("device", env.max_episode_steps, log_info=env.log_info)
        arguments = json.loads(env.kwargs) or None
        return cls("host", env.max_episode_steps, env.vectorization, env.timeout, arguments, env.log_info)

    def applied_to(self, env: Env) -> Env:
        """``env`` with what a resumed run may change of it.

        Raises:
            UsageError: if the environment runs on the device, where only log_info has an effect.
        """
        if isinstance(env, DeviceEnv):
            if dataclasses.replace(EnvSettings.of(env), log_info=self.log_info) != self:
                raise UsageError(f"{env.env_id} runs on the device: it takes no arguments, vectorization or timeout.")
            return dataclasses.replace(env, log_info=()).with_log_info(self.log_info)
        arguments = as_json(env.env_id, self.env_args or {})
        stepped: dict[str, Any] = {"vectorization": self.vectorization, "timeout": self.env_timeout}
        return dataclasses.replace(env, kwargs=arguments, log_info=self.log_info, **stepped)


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
    init: str | None = static(
        None, "begin with what a run has learned (its directory, or a checkpoint in it), or a policy in a file"
    )
    init_normalizers: bool = static(True, "begin with its normalizers too, of observations and rewards")
    init_optimizer: bool = static(False, "begin with the state of its optimizer too; a policy has none")
    stopping: Stopping = nested(NEVER)
    env: EnvSettings = nested(EnvSettings())
    act_device: str = static(
        "auto",
        "where the policy acts in environments on the host",
        choices=ACT_DEVICES,
        resumable=True,
        decides_result=False,
    )
    overlap: bool = static(
        False, "on the host, learn from a rollout while the next one is collected, with a policy one update older"
    )
    devices: int = static(
        1,
        "devices that train together, each with its share of the environments; they round in another order than one",
        "[1, inf)",
        resumable=True,
        decides_result=False,
    )
    shuffle: str = static(
        "global",
        "rows of a minibatch: from all devices, or as many of each device's own, which moves no rows between them",
        choices=SHUFFLES,
        resumable=True,
    )
    checkpoint_every: int | str = static(
        "60s",
        "seconds between checkpoints, such as 60s, or steps, such as 100000",
        resumable=True,
        decides_result=False,
    )
    keep: int = static(
        3,
        "number of newest checkpoints to keep; the best one, if there are evaluations, is kept in addition",
        "[1, inf)",
        resumable=True,
        decides_result=False,
    )

    def validate(self) -> None:
        """Check every setting against its range.

        Raises:
            UsageError: naming the setting, what was given and what is allowed.
        """
        ranges.validate(self)
        self.checkpoint_interval()
        if not isinstance(self.init, str | None):
            raise UsageError(f"init is {self.init!r}; allowed: the path of a run or of a policy, or an rlgd.Policy.")
        if self.init is None and (self.init_optimizer or not self.init_normalizers):
            name = "init_optimizer" if self.init_optimizer else "init_normalizers"
            raise UsageError(f"{name} is set, but init is not: there is nothing to begin with.")
        self.env.validate()

    @property
    def evaluates(self) -> bool:
        """Whether the policy is evaluated while it trains."""
        return self.eval_every is not None or self.stopping.evaluates

    def ending(self) -> dict[str, Any]:
        """What ends the run, as plain values."""
        return {"total_timesteps": self.total_timesteps} | hp.to_dict(self.stopping)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "RunSettings":
        """Settings from values by their flat names.

        Raises:
            UsageError: for a name that is not a setting.
        """
        known = hp.flat_fields(cls())
        for name in values:
            if name not in known:
                raise unknown("setting of a run", name, known)
        # Files have lists, and a setting that has several values is a tuple.
        return hp.with_values(cls(), {name: tuple(x) if isinstance(x, list) else x for name, x in values.items()})

    def checkpoint_interval(self) -> CheckpointInterval:
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
                return CheckpointInterval(seconds, None)
            if 0 < (steps := hp.count(text)) < 2**63:
                return CheckpointInterval(None, steps)
        except (ValueError, OverflowError):
            pass
        raise UsageError(f"checkpoint_every is {given!r}; allowed: seconds, such as 60s, or steps, such as 100000.")
