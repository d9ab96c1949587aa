"""Environments on the device as Gymnasium's vector environments, for other code: one compiled program a step."""

import functools
import operator
from collections.abc import Sequence
from typing import Any

import gymnasium
import jax
import numpy as np
from gymnasium.envs.registration import load_env_creator
from gymnasium.experimental.functional import FuncEnv
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from jax import Array
from numpy.typing import NDArray

from rlgd import spaces
from rlgd.envs.aliases import Bools, Functional, Info
from rlgd.envs.device import vector_arguments
from rlgd.envs.device.device_env import DeviceEnv
from rlgd.envs.device.vector_program import Generators, ObsInfo, VectorState, programs
from rlgd.envs.functional.gym_renderer import Rendered
from rlgd.errors import UsageError
from rlgd.pytrees import Obs
from rlgd.spaces import DiscreteSpec, LeafSpec

PICTURES = "rgb_array"


class DeviceVectorEnv(VectorEnv[Any, Any, Any]):
    """N environments on the device, with the interface of Gymnasium's ``SyncVectorEnv``.

    With seed s, environment i plays the same episode as environment 0 with seed s + i, for any N. All returned arrays
    are NumPy's, and new in each step. ``info`` has the environment's ``state_info``.

    Args:
        env: the environment, with its time limit.
        num_envs: N.
        autoreset_mode: an ``AutoresetMode`` or its value.
        render_mode: None; or "rgb_array", if the environment draws pictures.

    Attributes:
        state: the environments' states, on the device; None before the first reset.

    Raises:
        UsageError: if an argument does not fit.
    """

    def __init__(
        self,
        env: DeviceEnv,
        num_envs: int,
        *,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
    ) -> None:
        if num_envs < 1:
            raise UsageError(f"num_envs is {num_envs}; allowed: a whole number from 1.")
        self.env, self.num_envs, self.render_mode = env, num_envs, render_mode
        self.mode = vector_arguments.autoreset_mode(autoreset_mode)
        self.metadata = {**_render_metadata(env.func_env), "autoreset_mode": self.mode}
        if render_mode not in (None, *self.metadata["render_modes"]):
            allowed = ", ".join(repr(mode) for mode in (None, *self.metadata["render_modes"]))
            raise UsageError(
                f"render_mode of {env.env_id} is {render_mode!r}; allowed: {allowed}. For a window, put "
                "gymnasium.wrappers.vector.HumanRendering around it."
            )
        self.single_observation_space = env.func_env.observation_space
        self.single_action_space = env.func_env.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._checked = vector_arguments.action_checker(self.action_space, self.single_action_space, env.spec.action)
        self.state: VectorState | None = None
        self._obs: Obs = None  # the last observations, on the device
        self._renderers: list[Any] = []

    def reset(self, *, seed: int | Sequence[int | None] | None = None, options: Info | None = None) -> tuple[Any, Info]:
        """Begin an episode in each environment.

        Args:
            seed: of environment 0, environment i gets ``seed + i``; or one, or None, for each. None: the generators
                continue.
            options: ``{"reset_mask": mask}``, with ``mask [N]`` bool, resets only some environments.

        Raises:
            UsageError: if an argument does not fit.
        """
        mask = vector_arguments.reset_mask(self.env.env_id, options or {}, self.num_envs)
        if self.state is None and not mask.all():
            raise UsageError("reset_mask leaves out environments that were never reset; reset all of them first.")
        seeds = vector_arguments.seeds(seed, self.num_envs)
        words, episodes = map(np.array, _entropy(self.num_envs) if self.state is None else self.state.generators)
        episodes += 1
        for n, given in enumerate(seeds):
            if given is not None:
                words[n], episodes[n] = divmod(given, 2**32), 0
        program, _ = programs()
        before = None if mask.all() else (self.state, self._obs)
        self.state, current = program(self.env, self.mode, Generators(words, episodes), mask, before)
        self._obs = current.obs
        return self._on_host(current.obs), _gym_info(current.info, mask)

    def step(self, actions: Any) -> tuple[Any, NDArray[np.float64], Bools, Bools, Info]:
        """Step every environment.

        Args:
            actions: ``[N, ...]``, one for each environment.

        Returns:
            Observations ``[N, ...]``, a tuple or dictionary of arrays where the space is one; rewards ``[N]`` float64;
            terminations and truncations ``[N]`` bool; info.

        Raises:
            UsageError: if an action is not in the space, or an environment has to be reset first.
        """
        if self.state is None:
            raise UsageError(f"{self.env.env_id} must be reset before the first step.")
        if self.mode is AutoresetMode.DISABLED and np.any(self.state.over):
            over = ", ".join(map(str, np.flatnonzero(self.state.over)))
            raise UsageError(f"the episodes of environments {over} are over; reset them, by reset_mask, first.")
        _, program = programs()
        self.state, result = program(self.env, self.mode, self.state, self._checked(actions))
        self._obs = result.current.obs
        terminated, truncated = np.array(result.terminated), np.array(result.truncated)
        info = _gym_info(result.current.info, np.ones(self.num_envs, bool))
        done = terminated | truncated
        if result.final is not None and done.any():
            info |= self._final_info(result.final, done)
        return self._on_host(result.current.obs), np.array(result.reward, np.float64), terminated, truncated, info

    def _on_host(self, obs: Obs) -> Obs:
        """Observations as new NumPy arrays of the space's dtypes."""
        return spaces.map_parts(lambda part, leaf: np.array(leaf, part.dtype), self.env.spec.obs, obs)

    def _final_info(self, final: ObsInfo, done: Bools) -> Info:
        """``final_obs`` and ``final_info`` of the episodes that ended, ``done [N]``."""
        obs, singles = self._on_host(final.obs), np.full(self.num_envs, None, object)
        for n in np.flatnonzero(done):
            singles[n] = spaces.map_parts(functools.partial(_single, n), self.env.spec.obs, obs)
        info = {"final_obs": singles, "final_info": _gym_info(final.info, done)}
        return info | {f"_{key}": done.copy() for key in info}

    def render(self) -> tuple[NDArray[np.uint8], ...]:
        """A picture of each environment, ``[height, width, 3]`` uint8.

        Raises:
            UsageError: if it was made without ``render_mode``, or not reset yet.
        """
        if self.render_mode is None or self.state is None:
            raise UsageError(f"to draw {self.env.env_id}, make it with render_mode={PICTURES!r}, and reset it first.")
        func_env, pictures = self.env.func_env, []
        self._renderers = self._renderers or [func_env.render_init() for _ in range(self.num_envs)]
        states = jax.device_get(self.state.env_state.inner)
        for n, renderer in enumerate(self._renderers):
            state = jax.tree.map(operator.itemgetter(n), states)
            self._renderers[n], picture = func_env.render_image(state, renderer)
            pictures.append(np.asarray(picture))
        return tuple(pictures)

    def close_extras(self, **kwargs: Any) -> None:
        """Close the renderers."""
        for renderer in self._renderers:
            self.env.func_env.render_close(renderer)
        self._renderers = []


def _render_metadata(func_env: Functional) -> Info:
    if type(func_env).render_image is FuncEnv.render_image:
        return {"render_modes": []}
    if not isinstance(func_env, Rendered):
        return {**getattr(func_env, "metadata", {}), "render_modes": [PICTURES]}
    original: Any = load_env_creator(str(gymnasium.spec(func_env.env_id).entry_point))
    return {"render_modes": [PICTURES], "render_fps": original.metadata["render_fps"]}


def _entropy(num_envs: int) -> Generators:
    """Generators without a seed: the operating system's randomness."""
    words = np.random.SeedSequence().generate_state(2 * num_envs)
    return Generators(words.reshape(num_envs, 2), np.zeros(num_envs, np.uint32))


def _single(n: np.intp, part: LeafSpec, leaf: NDArray[Any]) -> Any:
    """A part of the observation of environment n, as a single environment gives it."""
    return leaf[n].item() if isinstance(part, DiscreteSpec) else leaf[n]


def _gym_info(info: Info, given: Bools) -> Info:
    """Info in Gymnasium's format: each value, with zeros where not ``given [N]``, and next to it the mask ``_key``."""

    def zeroed(leaf: Array) -> NDArray[Any]:
        whole = np.array(leaf)
        whole[~given] = 0
        return whole

    result: Info = {}
    for key, value in info.items():
        result[key] = _gym_info(value, given) if isinstance(value, dict) else jax.tree.map(zeroed, value)
        result[f"_{key}"] = given.copy()
    if "action_mask" in result:
        result["action_mask"] = jax.tree.map(lambda mask: mask.astype(np.int8), result["action_mask"])  # Gymnasium's
    return result


@functools.cache
def _func_env(path: str) -> Functional:
    creator: Any = load_env_creator(path)
    return creator()


def make(num_envs: int, *, func_env: str, max_episode_steps: int | None = None, **kwargs: Any) -> DeviceVectorEnv:
    """A vector environment of a functional one, with the arguments that ``gymnasium.make_vec`` passes.

    Args:
        num_envs: how many.
        func_env: ``"module:Class"``, a ``FuncEnv`` that is made without arguments.
        max_episode_steps: the time limit; None or, as in Gymnasium, -1: no limit.
        kwargs: for ``DeviceVectorEnv``.

    Raises:
        UsageError: if an argument does not fit.
    """
    limit = None if max_episode_steps == -1 else max_episode_steps
    if limit is not None and limit < 1:
        raise UsageError(f"max_episode_steps is {limit}; allowed: a whole number from 1, or -1 for no limit.")
    return DeviceVectorEnv(DeviceEnv(_func_env(func_env), func_env.partition(":")[2], limit), num_envs, **kwargs)


class DeviceGymEnv(gymnasium.Env[NDArray[Any], Any]):
    """One environment on the device whose observation is an array, with the interface of ``gymnasium.Env``.

    With a seed it plays the same episode as ``DeviceVectorEnv``. ``reset`` has no options.

    Args:
        func_env: ``"module:Class"``, a ``FuncEnv`` that is made without arguments.
        render_mode: None, or "rgb_array" if the environment draws pictures.
    """

    def __init__(self, func_env: str, render_mode: str | None = None) -> None:
        self.vector = make(1, func_env=func_env, render_mode=render_mode, autoreset_mode=AutoresetMode.DISABLED)
        self.metadata, self.render_mode = _render_metadata(self.vector.env.func_env), render_mode
        self.observation_space = self.vector.single_observation_space
        self.action_space = self.vector.single_action_space

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[NDArray[Any], Info]:
        super().reset(seed=seed)
        obs, info = self.vector.reset(seed=seed)
        return obs[0], info

    def step(self, action: Any) -> tuple[NDArray[Any], float, bool, bool, Info]:
        if self.vector.state is not None and np.any(self.vector.state.over):
            raise UsageError(f"the episode of {self.vector.env.env_id} is over; call reset first.")
        obs, reward, terminated, truncated, info = self.vector.step(np.asarray(action)[None])
        return obs[0], float(reward[0]), bool(terminated[0]), bool(truncated[0]), info

    def render(self) -> Any:
        (picture,) = self.vector.render()
        return picture

    def close(self) -> None:
        self.vector.close()
