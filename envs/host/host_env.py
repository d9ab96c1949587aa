"""The bridge to Gymnasium's vector API: which environment, and how its copies are stepped."""

import contextlib
import dataclasses
import functools
import json
import math
from typing import Any

import gymnasium
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from rlgd import spaces
from rlgd.envs.aliases import LIVES, GymEnv, GymVector
from rlgd.envs.host.checked import make_checked
from rlgd.envs.host.envpool import PoolVector
from rlgd.envs.host.host_vector import Fallback, HostVector
from rlgd.envs.host.maker import Maker, measure, registered, task_of, why_not_native
from rlgd.envs.host.mujoco_tasks import TASKS
from rlgd.envs.host.mujoco_vector import MujocoVector
from rlgd.envs.host.sources import (
    Description,
    as_json,
    borrow,
    common_numbers,
    describe,
    describe_vector,
    explained,
    name_of,
)
from rlgd.envs.host.workers import WorkerVector
from rlgd.errors import UsageError, unknown
from rlgd.spaces import Spec
from rlgd.system.log import warn_once
from rlgd.system.machine import num_cores

VECTORIZATIONS = ("auto", "native", "sync", "async", "threads", "envpool")
TIMEOUT = 60.0  # seconds for a step or reset of worker processes
SLOW_STEP = 1e-3  # seconds; slower environments get processes of their own
MAX_WORKERS = 64  # that "auto" starts


@dataclasses.dataclass(frozen=True)
class HostEnv:
    """A Gymnasium environment, given by its id or as an object. Hashable; ``open`` makes the environments.

    Attributes:
        env_id: the Gymnasium id; of an object, its name.
        max_episode_steps: the time limit; None takes the registered one.
        kwargs: arguments for the environment, as JSON.
        autoreset_mode: None takes SAME_STEP, or NEXT_STEP where the vector environment has no other.
        vectorization: one of ``VECTORIZATIONS``. "native" is Gymnasium's own vector environment, "sync" steps one
            environment after the other in this process, "async" each in a process of its own, "threads" MuJoCo's in
            threads, "envpool" in EnvPool's. "auto" takes the native one where there is one, threads for MuJoCo's;
            otherwise processes where a step takes longer than ``SLOW_STEP`` and they can be started, else this process.
            Threads, processes and this process give the same bits.
        timeout: seconds that a step or reset of worker processes may take; None: ``TIMEOUT``. If given, "auto" takes
            worker processes: a step in this process cannot be interrupted.
        source: the object, see ``of``; None takes ``env_id`` from Gymnasium's registry.
        log_info: names of numbers in the infos that training records.

    Raises:
        UsageError: if the fields do not fit each other.
    """

    env_id: str
    max_episode_steps: int | None = None
    kwargs: str = "{}"
    autoreset_mode: AutoresetMode | None = None
    vectorization: str = "auto"
    timeout: float | None = None
    source: Any = None
    log_info: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.vectorization not in VECTORIZATIONS:
            raise unknown("vectorization", self.vectorization, VECTORIZATIONS)
        if self.timeout is not None:
            self._check_timeout(self.timeout)
        if self.source is not None:
            self._check_source()
        elif self.vectorization == "native" and (reason := why_not_native(self.env_id)) is not None:
            raise UsageError(f"{reason}; use vectorization 'auto'.")
        elif self.vectorization == "threads" and task_of(self.env_id) is None:
            raise UsageError(
                f"{self.env_id} is none of MuJoCo's environments that are stepped in threads ({', '.join(TASKS)}); use "
                "vectorization 'auto'."
            )

    def _check_timeout(self, timeout: float) -> None:
        if not 0 < timeout < math.inf:
            raise UsageError(f"the timeout of {self.env_id} is {timeout}; allowed: seconds above 0.")
        if self.vectorization not in ("auto", "async"):
            raise UsageError(
                f"{self.env_id} has a timeout, but vectorization {self.vectorization!r}, and a step in this "
                "process cannot be interrupted; use vectorization 'async', or no timeout."
            )

    def _check_source(self) -> None:
        if self.vectorization in ("native", "threads", "envpool"):
            raise UsageError(
                f"{self.env_id} is given as an object; vectorization {self.vectorization!r} is for a Gymnasium id."
            )
        changed = (self.max_episode_steps, self.autoreset_mode, self.timeout) != (None, None, None)
        if isinstance(self.source, VectorEnv) and (changed or self.vectorization != "auto" or self.kwargs != "{}"):
            raise UsageError(
                f"{self.env_id} is a running vector environment, which stays as it is: it takes no arguments, time "
                "limit, autoreset mode, vectorization or timeout."
            )
        if isinstance(self.source, gymnasium.Env) and self.kwargs != "{}":
            raise UsageError(f"{self.env_id} is already made; pass arguments {self.kwargs} with its class or id.")

    @staticmethod
    def of(
        source: Any,
        *,
        max_episode_steps: int | None = None,
        vectorization: str = "auto",
        timeout: float | None = None,
        log_info: tuple[str, ...] = (),
        **kwargs: Any,
    ) -> "HostEnv":
        """An environment that is given as an object.

        Args:
            source: a ``gymnasium.Env`` class or a function that makes one, called with ``kwargs``; an environment, of
                which copies are made; or a running vector environment. The last can be opened once at a time, with its
                own number of environments, and stays open after ``close``.
            max_episode_steps: a time limit that is added.
            vectorization, timeout, log_info: see ``HostEnv``.
            kwargs: arguments, JSON values.

        Raises:
            UsageError: if it is none of these, or the rest does not fit.
        """
        name = name_of(source)
        return HostEnv(
            name,
            max_episode_steps,
            as_json(name, kwargs),
            vectorization=vectorization,
            timeout=timeout,
            source=source,
            log_info=log_info,
        )

    @functools.cached_property
    def spec(self) -> Spec:
        """The static description for agents; makes one environment to read its spaces."""
        described = self._described
        for warning in described.warnings:
            warn_once(f"{self.env_id}: {warning}")
        return spaces.spec(described.obs_space, described.action_space, described.max_episode_steps)

    @functools.cached_property
    def _described(self) -> Description:
        with explained(self.env_id):
            if isinstance(self.source, VectorEnv):
                return describe_vector(self.source)
            if self.vectorization == "envpool":
                with contextlib.closing(self._pool(1)) as threads:
                    return describe_vector(threads)
            with contextlib.closing(self._maker()) as env:
                return describe(env, self.max_episode_steps)

    @functools.cached_property
    def tells_lives(self) -> bool:
        """Whether the infos have the number of lives that are left; resets one environment.

        True where only the run's first reset can show it.
        """
        if isinstance(self.source, VectorEnv) or self.vectorization == "envpool":
            return True
        with explained(self.env_id):
            env = self._maker()
        with contextlib.closing(env):
            try:
                return LIVES in env.reset(seed=0)[1]
            except Exception:  # the run itself will report it
                return True

    @property
    def _maker(self) -> Maker:
        source = registered(self.env_id) if self.source is None else self.source
        return Maker(source, json.loads(self.kwargs), self.max_episode_steps, self.log_info)

    def make_one(self, **kwargs: Any) -> GymEnv:
        """One environment as in training, made with further arguments, such as ``render_mode``.

        Raises:
            UsageError: if it cannot be made with them.
        """
        with explained(self.env_id):
            return dataclasses.replace(self._maker, kwargs=json.loads(self.kwargs) | kwargs)()

    @property
    def native(self) -> bool:
        """Whether ``open`` takes Gymnasium's own vector environment of the id, which steps in NEXT_STEP mode."""
        if self.vectorization != "auto":
            return self.vectorization == "native"
        if self.source is not None or self.timeout is not None:
            return False
        return self.autoreset_mode in (None, AutoresetMode.NEXT_STEP) and why_not_native(self.env_id) is None

    @property
    def running(self) -> int | None:
        """The number of environments if ``source`` is a running vector environment, else None."""
        return self.source.num_envs if isinstance(self.source, VectorEnv) else None

    def how(self, num_envs: int) -> str:
        """How ``num_envs`` environments are stepped, in words."""
        if self.running:
            return f"{num_envs} environments in the given vector environment"
        way, why = self._choose(num_envs)
        return _in_words(way, num_envs) + why

    def open(self, num_envs: int) -> HostVector:
        """Make ``num_envs`` environments; see ``vectorization``.

        Raises:
            UsageError: if they cannot be made.
        """
        if isinstance(self.source, VectorEnv):
            release = borrow(self.source, num_envs, self.env_id)
            try:
                return HostVector(
                    self.source, self.spec, self.env_id, self.how(num_envs), release, log_info=self.log_info
                )
            except BaseException:
                release()
                raise
        with explained(self.env_id):
            way, _ = self._choose(num_envs)
            fallback = None
            if way == "async" and not self._must_be_workers:
                make_here = functools.partial(self._make, "sync", num_envs)
                fallback = Fallback(make_here, functools.partial(self._without_workers, num_envs))
            try:
                vector, how = self._make(way, num_envs), self.how(num_envs)
            except Exception as error:
                if fallback is None:
                    raise
                vector = fallback.make()  # raises if the environment itself is at fault
                how, fallback = fallback.report(error), None
            return HostVector(vector, self.spec, self.env_id, how, fallback=fallback, log_info=self.log_info)

    def _without_workers(self, num_envs: int, error: Exception) -> str:
        """For ``Fallback``: what failed is said, and how environments are stepped now is returned."""
        self._give_up_workers(str(error))
        return self.how(num_envs)

    def _give_up_workers(self, why: str) -> None:
        """Remember and say why environments are stepped in this process."""
        self._unfit.append(why)
        warn_once(f"{self.env_id} is stepped in this process (worker processes cannot be used: {why}).")

    @property
    def _must_be_workers(self) -> bool:
        return self.vectorization == "async" or self.timeout is not None

    def _choose(self, num_envs: int) -> tuple[str, str]:
        """One of ``VECTORIZATIONS`` but "auto", and the measurement or the failure that decided, in words."""
        if self.vectorization != "auto":
            return self.vectorization, ""
        if self.native:
            return "native", ""
        if self._must_be_workers:
            return "async", ""
        if self.source is None and task_of(self.env_id) is not None:
            return "threads", ""
        if not 1 < num_envs <= MAX_WORKERS or num_cores() == 1:
            return "sync", ""
        if self._step_time is None:
            return "sync", ""
        if self._unfit:
            return "sync", f" (worker processes cannot be used: {self._unfit[-1]})"
        return "async" if self._step_time > SLOW_STEP else "sync", f" (a step takes {_duration(self._step_time)})"

    @functools.cached_property
    def _unfit(self) -> list[str]:
        """Why worker processes could not be used, in words; empty if nothing is known against them."""
        return []

    def _make(self, way: str, num_envs: int) -> GymVector:
        if way in ("native", "envpool"):
            if self.autoreset_mode not in (None, AutoresetMode.NEXT_STEP):
                raise UsageError(f"vectorization {way!r} has NEXT_STEP autoreset only, not {self.autoreset_mode.name}.")
            return self._pool(num_envs) if way == "envpool" else self._native(num_envs)
        if way == "threads":
            mode = AutoresetMode.SAME_STEP if self.autoreset_mode is None else self.autoreset_mode
            return MujocoVector(self.env_id, num_envs, mode, **self._arguments)
        maker, common_spaces = self._maker, self._described[:2]
        if num_envs > 1:
            for warning in self._common_numbers:
                warn_once(f"{self.env_id}: {warning}")
        makers = [functools.partial(make_checked, number, maker, common_spaces) for number in range(num_envs)]
        mode = AutoresetMode.SAME_STEP if self.autoreset_mode is None else self.autoreset_mode
        if way == "async":
            return WorkerVector(makers, mode, TIMEOUT if self.timeout is None else self.timeout)
        return SyncVectorEnv(makers, copy=False, autoreset_mode=mode)

    @functools.cached_property
    def _common_numbers(self) -> list[str]:
        """Warnings of generators that are the same in all environments; it makes two, so only once."""
        return common_numbers(self._maker) if self._described.has_generators else []

    def _native(self, num_envs: int) -> GymVector:
        return gymnasium.make_vec(self.env_id, num_envs, "vector_entry_point", **self._arguments)

    def _pool(self, num_envs: int) -> GymVector:
        return PoolVector(self.env_id, num_envs, self._arguments)

    @property
    def _arguments(self) -> dict[str, Any]:
        limit = {} if self.max_episode_steps is None else {"max_episode_steps": self.max_episode_steps}
        return json.loads(self.kwargs) | limit

    @functools.cached_property
    def _step_time(self) -> float | None:
        """Seconds of a step; None if a step fails, which the run itself will report."""
        try:
            with contextlib.closing(self._maker()) as env:
                seconds, obstacle = measure(env)
        except Exception:
            return None
        if obstacle is not None and seconds > SLOW_STEP:
            self._give_up_workers(obstacle)
        return seconds


def autoreset_mode_named(name: str | None) -> AutoresetMode | None:
    """The autoreset mode of this name, such as "SAME_STEP"; None for None."""
    return None if name is None else AutoresetMode[name]


def _in_words(way: str, num_envs: int) -> str:
    several = num_envs > 1
    return {
        "native": "Gymnasium's native vector environment",
        "sync": f"{num_envs} environment{'s' if several else ''} in this process",
        "async": f"{num_envs} worker process{'es' if several else ''}",
        "threads": f"{num_envs} environment{'s' if several else ''} in threads",
        "envpool": "EnvPool",
    }[way]


def _duration(seconds: float) -> str:
    unit, scale = ("us", 1e6) if seconds < 1e-3 else ("ms", 1e3) if seconds < 1 else ("s", 1)
    return f"{seconds * scale:.3g} {unit}"
