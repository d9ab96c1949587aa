"""The bridge to Gymnasium's vector API: every autoreset mode becomes the same kind of step."""

import contextlib
import dataclasses
import functools
import json
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from numpy.typing import NDArray

from rlgd import spaces
from rlgd.data import Spec
from rlgd.errors import EnvironmentFault, UsageError

Bools = NDArray[np.bool_]


class HostStep(NamedTuple):
    """One step of N environments.

    Attributes:
        obs: ``[N, ...]``, what the policy sees next.
        first: ``[N]`` bool, whether ``obs`` begins an episode.
        reward: ``[N]``.
        terminated, truncated: ``[N]`` bool.
        valid: ``[N]`` bool, False where the step was no transition but a reset (NEXT_STEP autoreset).
        final_obs: the true observation behind each truncation, by environment; empty where ``obs`` is the true one.
    """

    obs: NDArray[Any]
    first: Bools
    reward: NDArray[Any]
    terminated: Bools
    truncated: Bools
    valid: Bools
    final_obs: dict[int, NDArray[Any]]

    def only(self, real: Bools) -> "HostStep":
        """The step with the environments outside ``real [N]`` masked."""
        return self._replace(
            valid=self.valid & real, terminated=self.terminated & real, truncated=self.truncated & real
        )


@dataclasses.dataclass(frozen=True)
class HostEnv:
    """A Gymnasium environment by its id. Hashable; ``open`` makes the environments.

    Attributes:
        kwargs: arguments for ``gymnasium.make``, as JSON.
        autoreset_mode: None takes the native vector environment's where there is one, else SAME_STEP.
    """

    env_id: str
    max_episode_steps: int | None = None
    kwargs: str = "{}"
    autoreset_mode: AutoresetMode | None = None

    @functools.cached_property
    def spec(self) -> Spec:
        """The static description for agents; makes one environment to ask it."""
        with _explained(self.env_id):
            env = gymnasium.make(self.env_id, **self._make_arguments)
        limit = None if env.spec is None else env.spec.max_episode_steps
        described = spaces.spec(env.observation_space, env.action_space, limit)
        env.close()
        return described

    @property
    def _make_arguments(self) -> dict[str, Any]:
        limit = {} if self.max_episode_steps is None else {"max_episode_steps": self.max_episode_steps}
        return json.loads(self.kwargs) | limit

    @property
    def native(self) -> bool:
        """Whether Gymnasium has a vector environment of its own for the id, which steps in NEXT_STEP mode."""
        has_one = gymnasium.spec(self.env_id).vector_entry_point is not None
        return has_one and self.autoreset_mode in (None, AutoresetMode.NEXT_STEP)

    def open(self, num_envs: int) -> "HostVector":
        """Make ``num_envs`` environments: Gymnasium's native vector environment where it has one, else one by one."""
        with _explained(self.env_id):
            return HostVector(self._make(num_envs), self.spec, self.env_id)

    def _make(self, num_envs: int) -> VectorEnv[Any, Any, Any]:
        if self.native:
            return gymnasium.make_vec(self.env_id, num_envs, "vector_entry_point", **self._make_arguments)
        mode = AutoresetMode.SAME_STEP if self.autoreset_mode is None else self.autoreset_mode
        arguments = {"disable_env_checker": True} | self._make_arguments
        makers = [functools.partial(_make_one, number, self.env_id, arguments) for number in range(num_envs)]
        return _SyncVector(makers, copy=False, autoreset_mode=mode)


class _SyncVector(SyncVectorEnv):
    """Collects no more of the infos than is read, the observations behind an episode's end.

    Gymnasium gathers every number of every info in an array; for MuJoCo that takes longer than the physics.
    """

    def _add_info(self, vector_infos: dict[str, Any], env_info: dict[str, Any], env_num: int) -> dict[str, Any]:
        if "final_obs" in env_info:
            vector_infos.setdefault("final_obs", {})[env_num] = env_info["final_obs"]
        return vector_infos


def _make_one(number: int, env_id: str, arguments: dict[str, Any]) -> gymnasium.Env[Any, Any]:
    return _Numbered(gymnasium.make(env_id, **arguments), number)


class _Raised(Exception):
    """An exception out of an environment, with the environment's number."""

    def __init__(self, number: int) -> None:
        self.number = number


class _Numbered(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Says which of several environments it is that raised."""

    def __init__(self, env: gymnasium.Env[Any, Any], number: int) -> None:
        super().__init__(env)
        self.number = number

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        try:
            return self.env.step(action)
        except Exception as error:
            raise _Raised(self.number) from error


@contextlib.contextmanager
def _explained(env_id: str) -> Iterator[None]:
    """Turns what goes wrong while an environment is made into a ``UsageError`` that names it."""
    try:
        yield
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(f"{env_id} cannot be made: {error}") from error


class HostVector:
    """Running environments. Whatever their autoreset mode, ``step`` says what happened in the same terms."""

    def __init__(self, vector: VectorEnv[Any, Any, Any], spec: Spec, env_id: str) -> None:
        self.vector = vector
        self.spec = spec
        self.env_id = env_id
        self.mode = vector.metadata.get("autoreset_mode")
        if not isinstance(self.mode, AutoresetMode):
            raise UsageError(
                f"{env_id} does not say its autoreset mode; got {self.mode!r} in metadata['autoreset_mode']."
            )
        self._resetting = np.zeros(vector.num_envs, bool)
        self._num_steps = 0

    @property
    def has_reset_rows(self) -> bool:
        """Whether some rows are resets and no transitions."""
        return self.mode is AutoresetMode.NEXT_STEP

    def reset(self, seed: int | None = None) -> NDArray[Any]:
        """Begin an episode everywhere: ``obs [N, ...]``. Without a seed the environments' generators go on."""
        self._resetting = np.zeros(self.vector.num_envs, bool)
        self._num_steps = 0
        obs, _ = self.vector.reset(seed=seed)
        return self._stored(obs)

    def step(self, action: NDArray[Any]) -> HostStep:
        """Step every environment with ``action [N, ...]``.

        Raises:
            EnvironmentFault: if an environment raises, or gives an observation or reward that is not finite.
        """
        try:
            obs, reward, terminated, truncated, info = self.vector.step(action)
        except _Raised as raised:
            raise self._fault(raised.number, f"raised {raised.__cause__!r}") from raised.__cause__
        except Exception as error:
            raise EnvironmentFault(f"{self.env_id} raised {error!r} in step {self._num_steps}.") from error
        self._check_finite("reward", reward)
        step = self._as_step(obs, reward, terminated, truncated, info)
        self._num_steps += 1
        return step

    def _as_step(
        self, obs: NDArray[Any], reward: NDArray[Any], terminated: Bools, truncated: Bools, info: dict[str, Any]
    ) -> HostStep:
        if self.mode is AutoresetMode.NEXT_STEP:
            was_reset, self._resetting = self._resetting, terminated | truncated
            valid = ~was_reset
            return HostStep(self._stored(obs), was_reset, reward, terminated & valid, truncated & valid, valid, {})
        done, valid = terminated | truncated, np.ones(len(reward), bool)
        final_obs = {}
        if done.any():
            behind = np.array(obs)  # the true observations, of which obs may hold the next episodes'
            if self.mode is AutoresetMode.SAME_STEP:
                for n in np.flatnonzero(done):
                    behind[n] = info["final_obs"][n]
            stored = self._stored(behind)
            final_obs = {int(n): stored[n] for n in np.flatnonzero(truncated)}
            if self.mode is AutoresetMode.DISABLED:
                obs, _ = self.vector.reset(options={"reset_mask": done})
        return HostStep(self._stored(obs), done, reward, terminated, truncated, valid, final_obs)

    def _stored(self, obs: NDArray[Any]) -> NDArray[Any]:
        _, dtype = spaces.obs_shape_dtype(self.spec.obs)
        # Copied: vector environments may give out the buffer that they write to next.
        stored = np.array(obs, dtype=dtype)
        self._check_finite("observation", stored)
        return stored

    def _check_finite(self, name: str, values: NDArray[Any]) -> None:
        if values.dtype.kind == "f" and not math.isfinite(values.sum()) and not np.isfinite(values).all():
            index = np.argwhere(~np.isfinite(values))[0]
            raise self._fault(int(index[0]), f"gave the {name} {values[tuple(index)]}, which must be finite,")

    def _fault(self, number: int, what: str) -> EnvironmentFault:
        return EnvironmentFault(
            f"{self.env_id}: environment {number} {what} in step {self._num_steps} since the reset."
        )

    def close(self) -> None:
        self.vector.close()
