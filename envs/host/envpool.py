"""EnvPool, an optional extra: many environments in EnvPool's own threads."""

import importlib
import secrets
from typing import Any

import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from rlgd.envs.aliases import LIVES, Info
from rlgd.errors import UsageError, unknown


class PoolVector(VectorEnv[Any, Any, Any]):
    """EnvPool's environments as Gymnasium's vector environment.

    Autoreset is NEXT_STEP: the step after an end ignores its action and resets. EnvPool takes a seed only when a pool
    is made, so a reset with a seed makes a new pool. If an episode terminates in the step of its time limit, EnvPool
    reports only the truncation.

    Args:
        env_id: a Gymnasium id, or EnvPool's name of a task, which is the id without its namespace.
        num_envs: how many.
        arguments: for ``envpool.make_gymnasium``.

    Raises:
        UsageError: if EnvPool is not installed, or does not know the task.
    """

    def __init__(self, env_id: str, num_envs: int, arguments: dict[str, Any]) -> None:
        try:
            self._envpool = importlib.import_module("envpool")
        except ImportError as error:
            raise UsageError(
                f"EnvPool cannot be imported ({error}); install it: pip install 'rlgd[envpool]'."
            ) from error
        self._task = env_id.rpartition("/")[2]
        if self._task not in self._envpool.list_all_envs():
            raise unknown("EnvPool task", self._task, self._envpool.list_all_envs())
        self.num_envs, self._arguments = num_envs, arguments
        self.metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}
        self._pool = self._make(secrets.randbits(31))
        self.single_observation_space = self._pool.observation_space
        self.single_action_space = self._pool.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        limit = self._pool.spec.config.max_episode_steps
        self.spec = EnvSpec(self._task, max_episode_steps=limit)

    def _make(self, seed: int) -> Any:
        return self._envpool.make_gymnasium(self._task, num_envs=self.num_envs, seed=seed, **self._arguments)

    def reset(self, *, seed: Any = None, options: Info | None = None) -> tuple[Any, Info]:
        if seed is not None:
            self._pool.close()
            self._pool = self._make(seed)
        obs, info = self._pool.reset()
        return obs, _kept(info)

    def step(self, actions: NDArray[Any]) -> tuple[Any, Any, Any, Any, Info]:
        obs, reward, terminated, truncated, info = self._pool.step(np.asarray(actions))
        return obs, reward, terminated, truncated, _kept(info)

    def close_extras(self, **kwargs: Any) -> None:
        self._pool.close()


def _kept(info: Info) -> Info:
    """What of an info has the form of Gymnasium's: the lives."""
    return {LIVES: np.asarray(info[LIVES])} if LIVES in info else {}
