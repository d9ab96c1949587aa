"""The bridge to Gymnasium's vector API: however environments are stepped, the same kind of step comes out."""

import contextlib
import dataclasses
import functools
import inspect
import json
import math
import weakref
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import gymnasium
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from rlgd import spaces
from rlgd.envs.host.checked import make_checked
from rlgd.envs.host.envpool import PoolVector
from rlgd.envs.host.host_vector import HostVector, Vector
from rlgd.envs.host.maker import Maker, Space, median_step, registered, why_not_native
from rlgd.envs.host.workers import WorkerVector
from rlgd.errors import UsageError, unknown
from rlgd.spaces import Spec
from rlgd.system.machine import num_cores

VECTORIZATIONS = ("auto", "native", "sync", "async", "envpool")
TIMEOUT = 60.0  # seconds for a step or reset of worker processes
SLOW_STEP = 1e-3  # seconds; what takes longer is worth a process of its own
MAX_WORKERS = 64  # that are started unasked


class _Description(NamedTuple):
    """What one environment says of itself."""

    obs_space: Space
    action_space: Space
    max_episode_steps: int | None


@dataclasses.dataclass(frozen=True)
class HostEnv:
    """A Gymnasium environment, by its id or brought along. Hashable; ``open`` makes the environments.

    Attributes:
        env_id: the Gymnasium id; of an environment that is brought, its name.
        max_episode_steps: the time limit; None takes the registered one.
        kwargs: arguments for the environment, as JSON.
        autoreset_mode: None takes NEXT_STEP where nothing else is to be had, else SAME_STEP.
        vectorization: one of ``VECTORIZATIONS``. "native" is Gymnasium's own vector environment, "sync" steps one
            environment after the other in this process, "async" each in a process of its own, "envpool" in EnvPool's
            threads. "auto" takes the native one where there is one; else, to the same bits as "sync", processes where
            a step takes longer than ``SLOW_STEP``.
        timeout: seconds that a step or reset of worker processes may take; None: ``TIMEOUT``. If given, "auto" takes
            worker processes: a step in this process cannot be interrupted.
        source: what is brought, see ``of``; None takes ``env_id`` from Gymnasium's registry.

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

    def __post_init__(self) -> None:
        if self.vectorization not in VECTORIZATIONS:
            raise unknown("vectorization", self.vectorization, VECTORIZATIONS)
        if self.timeout is not None:
            if not 0 < self.timeout < math.inf:
                raise UsageError(f"the timeout of {self.env_id} is {self.timeout}; allowed: seconds above 0.")
            if self.vectorization not in ("auto", "async"):
                raise UsageError(
                    f"{self.env_id} has a timeout, but vectorization {self.vectorization!r}, and a step in this "
                    "process cannot be interrupted; use vectorization 'async', or no timeout."
                )
        if self.source is not None:
            self._check_source()
        elif self.vectorization == "native" and (reason := why_not_native(self.env_id)) is not None:
            raise UsageError(f"{reason}; use vectorization 'auto'.")

    def _check_source(self) -> None:
        if self.vectorization in ("native", "envpool"):
            raise UsageError(f"{self.env_id} is brought; vectorization {self.vectorization!r} is for a Gymnasium id.")
        changed = (self.max_episode_steps, self.autoreset_mode, self.timeout) != (None, None, None)
        if isinstance(self.source, VectorEnv) and (changed or self.vectorization != "auto" or self.kwargs != "{}"):
            raise UsageError(
                f"{self.env_id} is a running vector environment, which stays as it is: it takes no arguments, time "
                "limit, autoreset mode, vectorization or timeout."
            )
        if isinstance(self.source, gymnasium.Env) and self.kwargs != "{}":
            raise UsageError(f"{self.env_id} is already made; arguments {self.kwargs} go with its class or id.")

    @staticmethod
    def of(
        source: Any,
        *,
        max_episode_steps: int | None = None,
        vectorization: str = "auto",
        timeout: float | None = None,
        **kwargs: Any,
    ) -> "HostEnv":
        """An environment that is brought along.

        Args:
            source: a ``gymnasium.Env`` class or a function that makes one, which get ``kwargs``; an environment, of
                which copies are made; or a running vector environment, which can be opened once at a time, by as
                many environments as it has, and which stays open when we close it.
            max_episode_steps: the time limit that is laid around it.
            vectorization, timeout: see ``HostEnv``.
            kwargs: arguments, JSON values.

        Raises:
            UsageError: if it is none of these, or the rest does not fit.
        """
        made = isinstance(source, gymnasium.Env | VectorEnv)
        if not made and not callable(source):
            raise UsageError(
                f"{source!r} is no environment; allowed: a Gymnasium id, a gymnasium.Env class or a function that "
                "makes one, a gymnasium.Env, a gymnasium.vector.VectorEnv, or a FuncEnv."
            )
        name = _name(source)
        return HostEnv(
            name,
            max_episode_steps,
            as_json(name, kwargs),
            vectorization=vectorization,
            timeout=timeout,
            source=source,
        )

    @functools.cached_property
    def spec(self) -> Spec:
        """The static description for agents; makes one environment to ask it."""
        return spaces.spec(*self._described)

    @functools.cached_property
    def _described(self) -> _Description:
        with _explained(self.env_id):
            if isinstance(self.source, VectorEnv):
                return _describe_vector(self.source)
            if self.vectorization == "envpool":
                with contextlib.closing(self._pool(1)) as threads:
                    return _describe_vector(threads)
            with contextlib.closing(self._maker()) as env:
                registered = None if env.spec is None else env.spec.max_episode_steps
                limits = [limit for limit in (registered, self.max_episode_steps) if limit is not None]
                return _Description(env.observation_space, env.action_space, min(limits, default=None))

    @property
    def _maker(self) -> Maker:
        source = registered(self.env_id) if self.source is None else self.source
        return Maker(source, json.loads(self.kwargs), self.max_episode_steps)

    def make_one(self, **kwargs: Any) -> gymnasium.Env[Any, Any]:
        """One environment as it is learned from, made with further arguments, such as ``render_mode``.

        Raises:
            UsageError: if it cannot be made so.
        """
        with _explained(self.env_id):
            return dataclasses.replace(self._maker, kwargs=json.loads(self.kwargs) | kwargs)()

    @property
    def native(self) -> bool:
        """Whether Gymnasium's own vector environment for the id is opened, which steps in NEXT_STEP mode."""
        if self.vectorization != "auto":
            return self.vectorization == "native"
        if self.source is not None or self.timeout is not None:
            return False
        return self.autoreset_mode in (None, AutoresetMode.NEXT_STEP) and why_not_native(self.env_id) is None

    @property
    def running(self) -> int | None:
        """How many environments a running vector environment that was brought has; None for all else."""
        return self.source.num_envs if isinstance(self.source, VectorEnv) else None

    def how(self, num_envs: int) -> str:
        """How so many environments are stepped, in words."""
        if self.running:
            return f"{num_envs} environments in a vector environment that was brought"
        way, why = self._choose(num_envs)
        return _how(way, num_envs) + why

    def open(self, num_envs: int) -> "HostVector":
        """Make ``num_envs`` environments; see ``vectorization``.

        Raises:
            UsageError: if they cannot be made so.
        """
        if isinstance(self.source, VectorEnv):
            return _borrow(self.source, num_envs, self)
        with _explained(self.env_id):
            way, _ = self._choose(num_envs)
            return HostVector(self._make(way, num_envs), self.spec, self.env_id, self.how(num_envs))

    def _choose(self, num_envs: int) -> tuple[str, str]:
        """One of ``VECTORIZATIONS`` but "auto", and the measurement that decided, in words."""
        if self.vectorization != "auto":
            return self.vectorization, ""
        if self.native:
            return "native", ""
        if self.timeout is not None:
            return "async", ""
        if not 1 < num_envs <= MAX_WORKERS or num_cores() == 1:
            return "sync", ""
        if self._step_time is None:
            return "sync", ""
        return "async" if self._step_time > SLOW_STEP else "sync", f" (a step takes {_in_words(self._step_time)})"

    def _make(self, way: str, num_envs: int) -> Vector:
        if way in ("native", "envpool"):
            if self.autoreset_mode not in (None, AutoresetMode.NEXT_STEP):
                raise UsageError(f"vectorization {way!r} has NEXT_STEP autoreset only, not {self.autoreset_mode.name}.")
            return self._pool(num_envs) if way == "envpool" else self._native(num_envs)
        maker, alike = self._maker, self._described[:2]
        makers = [functools.partial(make_checked, number, maker, alike) for number in range(num_envs)]
        mode = AutoresetMode.SAME_STEP if self.autoreset_mode is None else self.autoreset_mode
        if way == "async":
            return WorkerVector(makers, mode, TIMEOUT if self.timeout is None else self.timeout)
        return SyncVectorEnv(makers, copy=False, autoreset_mode=mode)

    def _native(self, num_envs: int) -> Vector:
        return gymnasium.make_vec(self.env_id, num_envs, "vector_entry_point", **self._arguments)

    def _pool(self, num_envs: int) -> Vector:
        return PoolVector(self.env_id, num_envs, self._arguments)

    @property
    def _arguments(self) -> dict[str, Any]:
        limit = {} if self.max_episode_steps is None else {"max_episode_steps": self.max_episode_steps}
        return json.loads(self.kwargs) | limit

    @functools.cached_property
    def _step_time(self) -> float | None:
        """Seconds of a step, the median of a few with random actions; None if one fails: the run will say how."""
        try:
            with contextlib.closing(self._maker()) as env:
                return median_step(env)
        except Exception:
            return None


def as_json(name: str, kwargs: Mapping[str, Any]) -> str:
    """The arguments of an environment as ``HostEnv`` keeps them.

    Raises:
        UsageError: if they are no JSON values.
    """
    try:
        return json.dumps(kwargs, sort_keys=True)
    except TypeError as error:
        raise UsageError(
            f"arguments of {name} must be JSON values, so that the run can be repeated: {error}."
        ) from error


def autoreset_mode(name: str | None) -> AutoresetMode | None:
    """The autoreset mode of this name, such as "SAME_STEP"; None for None."""
    return None if name is None else AutoresetMode[name]


def _name(source: Any) -> str:
    if inspect.isclass(source) or inspect.isfunction(source):
        return source.__name__ if source.__name__.isidentifier() else "environment"  # not so a lambda
    return type(source.unwrapped if isinstance(source, gymnasium.Env) else source).__name__


def _how(way: str, num_envs: int) -> str:
    several = num_envs > 1
    return {
        "native": "Gymnasium's native vector environment",
        "sync": f"{num_envs} environment{'s' if several else ''} in this process",
        "async": f"{num_envs} worker process{'es' if several else ''}",
        "envpool": "EnvPool",
    }[way]


def _in_words(seconds: float) -> str:
    unit, scale = ("us", 1e6) if seconds < 1e-3 else ("ms", 1e3) if seconds < 1 else ("s", 1)
    return f"{seconds * scale:.3g} {unit}"


def _describe_vector(vector: Vector) -> _Description:
    limit = getattr(vector.spec, "max_episode_steps", None)
    return _Description(vector.single_observation_space, vector.single_action_space, limit)


_borrowed: "weakref.WeakSet[Vector]" = weakref.WeakSet()


def _borrow(vector: Vector, num_envs: int, env: HostEnv) -> "HostVector":
    """A vector environment that is brought, until the result is closed; then it is its owner's again, still open."""
    if vector.num_envs != num_envs:
        raise UsageError(
            f"{env.env_id} is a running vector environment of {vector.num_envs} environments, but {num_envs} are asked "
            "for; give the environment's class or id, or ask for as many."
        )
    if vector in _borrowed:
        raise UsageError(
            f"{env.env_id} is a running vector environment and in use; give the environment's class or id, of which "
            "more can be made."
        )
    release = functools.partial(_borrowed.discard, vector)
    opened = HostVector(vector, env.spec, env.env_id, env.how(num_envs), release)
    _borrowed.add(vector)
    return opened


@contextlib.contextmanager
def _explained(env_id: str) -> Iterator[None]:
    """Turns what goes wrong while an environment is made into a ``UsageError`` that names it."""
    try:
        yield
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(f"{env_id} cannot be made: {error}") from error
