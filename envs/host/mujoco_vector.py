"""Gymnasium's MuJoCo environments as one vector environment: their physics in threads, all else for all at once.

MuJoCo lets go of the interpreter's lock while it computes, so threads step several environments at a time, and what
Gymnasium computes around the physics takes one operation for all of them. The numbers are those of Gymnasium's own
environments. ``mujoco.rollout`` steps batches without any Python, but begins each step without the constraint forces
of the last one, and returns none: from then on the states are others. This module imports no JAX.
"""

import itertools
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from numpy.typing import NDArray

from rlgd.envs.aliases import Bools, GymEnv, Info
from rlgd.envs.host.maker import task_of
from rlgd.envs.host.mujoco_tasks import TASKS, Stepped
from rlgd.envs.mujoco_warnings import show_mujoco_warnings
from rlgd.errors import UsageError, unknown
from rlgd.system.machine import num_cores

TIMED_STEPS = 20  # in one thread, then in several, after which the faster way stays
SECONDS_OF_A_THREAD = 100e-6  # of physics, below which one more is not tried
MOST_OF_ALONE = 0.9  # of the time in one thread, that several may take: handing over the interpreter costs time, too


class MujocoVector(SyncVectorEnv):
    """Several environments of one of ``TASKS``, equal to those of ``gymnasium.vector.SyncVectorEnv``.

    They are reset one by one, and stepped together. Infos have the same entries, too.

    Args:
        env_id: Gymnasium's id, or rlgd's for the same environment.
        num_envs: how many.
        autoreset_mode: of Gymnasium's modes.
        max_episode_steps: the time limit; None: the registered one.
        kwargs: arguments for the environments.

    Raises:
        UsageError: for another id, or if MuJoCo is not installed.
    """

    def __init__(
        self,
        env_id: str,
        num_envs: int,
        autoreset_mode: AutoresetMode = AutoresetMode.NEXT_STEP,
        max_episode_steps: int | None = None,
        **kwargs: Any,
    ) -> None:
        if (task := task_of(env_id)) is None:
            raise unknown("MuJoCo task", env_id, TASKS)
        try:
            import mujoco
        except ImportError as error:
            raise UsageError(f"{env_id} needs MuJoCo ({error}): pip install 'rlgd[mujoco]'.") from error
        show_mujoco_warnings()

        def make() -> GymEnv:
            return gymnasium.make(env_id, max_episode_steps=max_episode_steps, disable_env_checker=True, **kwargs)

        super().__init__([make] * num_envs, autoreset_mode=autoreset_mode)
        inner: list[Any] = [env.unwrapped for env in self.envs]
        self._task = TASKS[task](inner)
        self._limit = self.envs[0].spec.max_episode_steps if self.envs[0].spec is not None else None
        self._steps = np.zeros(num_envs, np.int64)
        self._bodies = [(env.model, env.data, env.data.ctrl, env.frame_skip) for env in inner]
        self._forward, self._forces = mujoco.mj_step, mujoco.mj_rnePostConstraint
        self._timed: list[float] = []
        self._alone = 0.0  # seconds of physics in one thread, once known
        self._is_decided = False  # how many threads there are
        self._pool: ThreadPoolExecutor | None = None
        self._parts: list[range] = [range(num_envs)]

    def reset(self, *, seed: Any = None, options: Info | None = None) -> tuple[Any, Info]:
        again = (options or {}).get("reset_mask", slice(None))
        answer = super().reset(seed=seed, options=options)
        self._steps[again] = 0
        return answer

    def step(self, actions: Any) -> tuple[Any, NDArray[Any], Bools, Bools, Info]:
        actions = np.asarray(actions)
        if actions.shape != self.action_space.shape:
            raise ValueError(f"the actions have the shape {actions.shape}; expected {self.action_space.shape}.")
        ended, resets = self._autoreset_envs, np.zeros(self.num_envs, bool)
        if self.autoreset_mode is AutoresetMode.DISABLED and ended.any():
            raise ValueError(f"environments {np.flatnonzero(ended).tolist()} have ended; reset them first.")
        if self.autoreset_mode is AutoresetMode.NEXT_STEP:
            resets = ended
        before = self._task.before()
        self._move(actions, resets)
        self._steps += 1
        stepped = self._task.after(before, actions)
        truncated = np.zeros(self.num_envs, bool) if self._limit is None else self._steps >= self._limit
        done = stepped.terminated | truncated
        if resets.any():
            return self._reset_instead(stepped, truncated, resets)
        self._autoreset_envs = done
        obs, reward = stepped.obs, stepped.reward.astype(np.float64)
        if self.autoreset_mode is AutoresetMode.DISABLED:
            self._env_obs[:] = obs.copy()  # of those that a later reset leaves out
        if self.autoreset_mode is AutoresetMode.SAME_STEP and done.any():
            info = self._reset_too(stepped, done)
        else:
            info = _masked(stepped.info, np.ones(self.num_envs, bool))
        return obs, reward, stepped.terminated, truncated, info

    def _reset_instead(
        self, stepped: Stepped, truncated: Bools, resets: Bools
    ) -> tuple[Any, NDArray[Any], Bools, Bools, Info]:
        """Those that ended in the last step begin again, and the others have been stepped."""
        info = _masked(stepped.info, ~resets)
        reward, terminated = stepped.reward.astype(np.float64), stepped.terminated & ~resets
        reward[resets] = 0
        self._begin_again(resets, stepped.obs, info)
        self._autoreset_envs = terminated | (truncated & ~resets)
        return stepped.obs, reward, terminated, truncated & ~resets, info

    def _reset_too(self, stepped: Stepped, done: Bools) -> Info:
        """In SAME_STEP mode: those that have ended begin again at once."""
        final_obs = np.full(self.num_envs, None, dtype=object)
        for n in np.flatnonzero(done):
            final_obs[n] = stepped.obs[n].copy()
        final = {"final_obs": final_obs, "_final_obs": done.copy(), "_final_info": done.copy()}
        info = _masked(stepped.info, ~done)
        self._begin_again(done, stepped.obs, info)
        return info | final | {"final_info": _masked(stepped.info, done)}

    def _begin_again(self, which: Bools, obs: NDArray[Any], info: Info) -> None:
        """Reset some environments; their first observations and infos are written into ``obs`` and ``info``."""
        for n in np.flatnonzero(which):
            obs[n], about = self.envs[n].reset()
            self._add_info(info, about, int(n))
        self._steps[which] = 0

    def close_extras(self, **kwargs: Any) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=False)
        super().close_extras(**kwargs)

    def _move(self, actions: NDArray[Any], resets: Bools) -> None:
        """The physics of a step; environments that only reset stay as they are."""
        if self._is_decided:
            self._move_parts(actions, resets)
            return
        start = time.perf_counter()
        self._move_parts(actions, resets)
        self._timed.append(time.perf_counter() - start)
        if len(self._timed) == TIMED_STEPS:
            self._decide(statistics.median(self._timed))
            self._timed.clear()

    def _move_parts(self, actions: NDArray[Any], resets: Bools) -> None:
        own, *rest = self._parts
        others = [self._pool.submit(self._move_part, part, actions, resets) for part in rest] if self._pool else []
        self._move_part(own, actions, resets)
        for other in others:
            other.result()

    def _move_part(self, part: Sequence[int], actions: NDArray[Any], resets: Bools) -> None:
        forward, forces, bodies = self._forward, self._forces, self._bodies
        for n in part:
            if resets[n]:
                continue
            model, data, control, frames = bodies[n]
            control[:] = actions[n]
            forward(model, data, frames)
            forces(model, data)

    def _decide(self, seconds: float) -> None:
        """After one thread several are tried, and kept if they are faster; ``seconds`` is what a step has taken."""
        if self._pool is not None:
            self._is_decided = True
            if seconds > MOST_OF_ALONE * self._alone:
                self._pool.shutdown(wait=False)
                self._pool, self._parts = None, [range(self.num_envs)]
            return
        threads = min(num_cores(), self.num_envs, int(seconds / SECONDS_OF_A_THREAD) + 1)
        if threads == 1:
            self._is_decided = True
            return
        self._alone = seconds
        bounds = np.linspace(0, self.num_envs, threads + 1).astype(int).tolist()
        self._parts = [range(*ends) for ends in itertools.pairwise(bounds)]
        self._pool = ThreadPoolExecutor(threads - 1, "mujoco")  # this thread is one of them


def _masked(info: dict[str, NDArray[Any]], which: Bools) -> Info:
    """The infos of some environments as Gymnasium has them: 0 for the others, and a mask beside each."""
    if not which.any():
        return {}
    masks = {f"_{name}": which.copy() for name in info}
    if which.all():
        return info | masks
    zeroed = {
        name: np.where(which.reshape(-1, *(1,) * (value.ndim - 1)), value, 0).astype(value.dtype)
        for name, value in info.items()
    }
    return zeroed | masks
