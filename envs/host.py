"""The bridge to Gymnasium's vector API: however environments are stepped, the same kind of step comes out."""

import contextlib
import dataclasses
import functools
import inspect
import json
import math
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from numpy.typing import NDArray

from rlgd import spaces
from rlgd.data import DictSpec, LeafSpec, MultiDiscreteSpec, Obs, ObsSpec, Spec, TupleSpec
from rlgd.envs.maker import (
    Broken,
    Maker,
    Space,
    flat_mask,
    make_checked,
    median_step,
    num_cores,
    registered,
    why_not_native,
)
from rlgd.envs.pool import PoolVector
from rlgd.envs.workers import WorkerVector
from rlgd.errors import EnvironmentFault, UsageError, unknown

Bools: TypeAlias = NDArray[np.bool_]
Vector: TypeAlias = VectorEnv[Any, Any, Any]

VECTORIZATIONS = ("auto", "native", "sync", "async", "envpool")
TIMEOUT = 60.0  # seconds for a step or reset of worker processes
SLOW_STEP = 1e-3  # seconds; what takes longer is worth a process of its own
MAX_WORKERS = 64  # that are started unasked


class HostStep(NamedTuple):
    """One step of N environments.

    Attributes:
        obs: ``[N, ...]``, what the policy sees next; a dictionary or tuple of arrays where the space is one.
        first: ``[N]`` bool, whether ``obs`` begins an episode.
        reward: ``[N]``.
        terminated, truncated: ``[N]`` bool.
        valid: ``[N]`` bool, False where the step was no transition but a reset (NEXT_STEP autoreset).
        final_obs: the true observation behind each truncation, by environment; empty where ``obs`` is the true one.
    """

    obs: Obs
    first: Bools
    reward: NDArray[Any]
    terminated: Bools
    truncated: Bools
    valid: Bools
    final_obs: dict[int, Obs]

    def only(self, real: Bools) -> "HostStep":
        """The step with the environments outside ``real [N]`` masked."""
        return self._replace(
            valid=self.valid & real, terminated=self.terminated & real, truncated=self.truncated & real
        )


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


class _Array(NamedTuple):
    """One array of the observations: its name in messages, and how it is stored."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def _arrays(obs: ObsSpec, batch: tuple[int, ...], name: str = "observation") -> Any:
    """The ``_Array`` of every part of an observation, in its structure."""
    if isinstance(obs, DictSpec):
        return {key: _arrays(part, batch, f"{name}[{key!r}]") for key, part in obs.parts}
    if isinstance(obs, TupleSpec):
        return tuple(_arrays(part, batch, f"{name}[{i}]") for i, part in enumerate(obs.parts))
    shape, dtype = spaces.obs_shape_dtype(obs)
    return _Array(name, batch + shape, dtype)


def _mask_starts(action: LeafSpec) -> list[int]:
    """Where in an action mask the values of each number begin."""
    return [0, *np.cumsum(action.nvec)[:-1].tolist()] if isinstance(action, MultiDiscreteSpec) else [0]


class HostVector:
    """Running environments. Whatever their autoreset mode, ``step`` says what happened in the same terms.

    Args:
        vector: the environments, whose metadata tell the autoreset mode.
        spec: of one of them.
        env_id: names them in messages.
        how: how they are stepped, for the console.
        release: what ``close`` does; None closes ``vector``.

    Attributes:
        action_mask: ``[N, n]`` bool, which actions are allowed in the state that the policy sees next; None where the
            environments never said.

    Raises:
        UsageError: if the autoreset mode is not told.
    """

    def __init__(
        self,
        vector: Vector,
        spec: Spec,
        env_id: str,
        how: str = "a vector environment",
        release: Callable[[], None] | None = None,
    ) -> None:
        self.vector = vector
        self.spec = spec
        self.env_id = env_id
        self.how = how
        self._release = vector.close if release is None else release
        mode = vector.metadata.get("autoreset_mode")
        if not isinstance(mode, AutoresetMode):
            raise UsageError(
                f"{env_id} does not say its autoreset mode, which must be in metadata['autoreset_mode']; the metadata "
                f"are {vector.metadata}. Use vectorization 'sync', or set it; `rlgd check-env` finds out which it is."
            )
        self.mode = mode
        self.action_mask: Bools | None = None
        self._together, self._single = _arrays(spec.obs, (vector.num_envs,)), _arrays(spec.obs, ())
        self._mask_size = spaces.mask_size(spec.action)
        self._mask_starts = _mask_starts(spec.action)
        self._everyone = np.ones(vector.num_envs, bool)
        self._everyone.flags.writeable = False  # it is handed out
        self._begin()

    def _begin(self) -> None:
        self._resetting = ~self._everyone
        self._num_steps = 0
        self._action: NDArray[Any] | None = None

    @property
    def has_reset_rows(self) -> bool:
        """Whether some rows are resets and no transitions."""
        return self.mode is AutoresetMode.NEXT_STEP

    def reset(self, seed: int | None = None) -> Obs:
        """Begin an episode everywhere: ``obs [N, ...]``. Without a seed the environments' generators go on.

        Raises:
            EnvironmentFault: as ``step`` does.
        """
        self._begin()
        obs, info = self._ask(self.vector.reset, seed=seed)
        self._read_masks(info, self._everyone)
        return self._stored(obs)

    def step(self, action: NDArray[Any]) -> HostStep:
        """Step every environment with ``action [N, ...]``.

        Raises:
            EnvironmentFault: if an environment raises, hangs or dies; gives an observation or reward that is not finite
                or does not fit its space; or does not follow the autoreset mode that its metadata tell.
        """
        self._action = action
        obs, reward, terminated, truncated, info = self._ask(self.vector.step, action)
        reward = self._rewards(reward)
        step = self._as_step(obs, reward, np.array(terminated, bool), np.array(truncated, bool), info)
        self._num_steps += 1
        return step

    def close(self) -> None:
        """End the environments; a second call does nothing."""
        self._release()

    def _ask(self, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        try:
            return method(*args, **kwargs)
        except Broken as broken:
            raise self._fault(broken.number, broken.what) from broken.__cause__
        except Exception as error:
            raise EnvironmentFault(f"{self.env_id} raised {error!r} {self._when()}.") from error

    def _as_step(
        self, obs: Any, reward: NDArray[Any], terminated: Bools, truncated: Bools, info: dict[str, Any]
    ) -> HostStep:
        done = terminated | truncated
        if self.mode is AutoresetMode.NEXT_STEP:
            was_reset, self._resetting = self._resetting, done
            self._check_next_step(was_reset, reward, done, info)
            self._read_masks(info, self._everyone)
            return HostStep(self._stored(obs), was_reset, reward, terminated, truncated, ~was_reset, {})
        final_obs = {}
        self._read_masks(info, self._everyone)
        if np.count_nonzero(done):
            final_obs = {n: self._final(obs, info, n) for n in np.flatnonzero(done).tolist()}
            if self.mode is AutoresetMode.DISABLED:
                obs, info = self._ask(self.vector.reset, options={"reset_mask": done})
                self._read_masks(info, done)
        needed = {n: behind for n, behind in final_obs.items() if truncated[n]}
        return HostStep(self._stored(obs), done, reward, terminated, truncated, self._everyone, needed)

    def _check_next_step(self, was_reset: Bools, reward: NDArray[Any], done: Bools, info: dict[str, Any]) -> None:
        if "final_obs" in info:
            raise self._lie("gives final_obs, as SAME_STEP autoreset does,")
        number = was_reset.argmax()  # of one environment a step: who lies does so again
        if was_reset[number] and (reward[number] != 0 or done[number]):
            raise self._lie("gives a reward or an end where it has only to reset,")

    def _final(self, obs: Any, info: dict[str, Any], number: int) -> Obs:
        """The true observation of an environment whose episode ended."""
        if self.mode is AutoresetMode.DISABLED:
            if "final_obs" in info:
                raise self._lie("gives final_obs, as SAME_STEP autoreset does,")
            return self._stored(spaces.map_parts(lambda _, leaf: leaf[number], self.spec.obs, obs), number)
        final = info.get("final_obs")
        if final is None or final[number] is None:
            raise self._lie("gives no final_obs behind the end of an episode")
        return self._stored(final[number], number)

    def _lie(self, what: str) -> EnvironmentFault:
        return EnvironmentFault(
            f"the metadata of {self.env_id} say {self.mode.name} autoreset, but it {what} {self._when()}; "
            f"`rlgd check-env {self.env_id}` shows what it really does."
        )

    def _stored(self, obs: Any, number: int | None = None) -> Obs:
        """``obs [N, ...]`` as it is kept; of one environment, if ``number`` says which, without the N in front.

        Always copied: vector environments may give out the memory that they write to next.
        """
        arrays = self._together if number is None else self._single
        if isinstance(arrays, _Array):
            return self._stored_array(number, arrays, obs)
        return spaces.map_parts(lambda _, *parts: self._stored_array(number, *parts), self.spec.obs, arrays, obs)

    def _stored_array(self, number: int | None, array: _Array, leaf: Any) -> NDArray[Any]:
        given = np.asarray(leaf)
        same = given.dtype == array.dtype and given.shape == array.shape
        values = given.copy() if same else self._converted(array, given)
        if not _finite(values):
            index = tuple(np.argwhere(~np.isfinite(values))[0])
            broken = int(index[0]) if number is None else number
            raise self._fault(broken, f"gave the {array.name} {values[index]}, which must be finite,")
        return values

    def _converted(self, array: _Array, given: NDArray[Any]) -> NDArray[Any]:
        if given.shape != array.shape or not np.can_cast(given.dtype, array.dtype, "same_kind"):
            raise EnvironmentFault(
                f"{self.env_id} gave the {array.name} as {given.dtype} in the shape {given.shape}, which must be "
                f"{array.dtype} in the shape {array.shape}, {self._when()}."
            )
        with np.errstate(over="ignore"):  # what is too large is infinite then
            return given.astype(array.dtype)

    def _rewards(self, reward: Any) -> NDArray[Any]:
        rewards = np.array(reward)
        if rewards.shape != self._everyone.shape or rewards.dtype.kind not in "fiub":
            raise EnvironmentFault(
                f"{self.env_id} gave the rewards as {rewards.dtype} in the shape {rewards.shape}, which must be "
                f"numbers in the shape {self._everyone.shape}, {self._when()}."
            )
        if not _finite(rewards):
            number = int(np.flatnonzero(~np.isfinite(rewards))[0])
            raise self._fault(number, f"gave the reward {rewards[number]}, which must be finite,")
        return rewards

    def _read_masks(self, info: dict[str, Any], of: Bools) -> None:
        """Take the action masks of the environments ``of [N]``; where one gives none, it allows everything."""
        given, size = info.get("action_mask"), self._mask_size
        if size is None or (given is None and self.action_mask is None):
            return
        masks = np.ones((len(of), size), bool) if self.action_mask is None else self.action_mask.copy()
        masks[of] = True
        if given is not None:
            has = of & np.asarray(info.get("_action_mask", self._everyone))
            masks[has] = self._mask_rows(given, has, size)
        masks[self._resetting] = True  # the next action is ignored
        empty = ~np.logical_or.reduceat(masks, self._mask_starts, axis=1).all(axis=1)
        if empty.any():
            raise self._fault(int(np.flatnonzero(empty)[0]), "gave an action mask that allows no action")
        self.action_mask = masks

    def _mask_rows(self, given: Any, has: Bools, size: int) -> Bools:
        if isinstance(given, tuple):  # one array ``[N, n]`` for each number of a MultiDiscrete action
            given = np.concatenate([np.asarray(part) for part in given], axis=1)
        rows = [flat_mask(given[number]) for number in np.flatnonzero(has).tolist()]
        wrong = next((row for row in rows if row.shape != (size,)), None)
        if wrong is not None:
            raise EnvironmentFault(
                f"{self.env_id} gave an action mask of {wrong.size} entries {self._when()}; it has {size} actions."
            )
        return np.array(rows, bool).reshape(-1, size)

    def _fault(self, number: int, what: str) -> EnvironmentFault:
        action = "" if self._action is None else f"; its last action was {_in_short(self._action[number])}"
        return EnvironmentFault(f"{self.env_id}: environment {number} {what} {self._when()}{action}.")

    def _when(self) -> str:
        return "in the reset" if self._action is None else f"in step {self._num_steps} since the reset"


def _finite(values: NDArray[Any]) -> bool:
    # The sum is one number to look at; that of finite numbers may overflow.
    return values.dtype.kind != "f" or math.isfinite(np.add.reduce(values.ravel())) or bool(np.isfinite(values).all())


def _in_short(action: Any) -> str:
    return np.array2string(np.asarray(action), precision=4, threshold=8, separator=", ")
