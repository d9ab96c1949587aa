"""Environments on the device as Gymnasium's vector environments: for other code, one compiled program a step."""

import functools
import operator
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.envs.registration import load_env_creator
from gymnasium.experimental.functional import FuncEnv
from gymnasium.spaces import MultiDiscrete
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from jax import Array
from numpy.typing import NDArray

from rlgd import spaces
from rlgd.envs.device.device_env import DeviceEnv, EnvState, Spare, select_envs
from rlgd.envs.functional.gym_renderer import Rendered
from rlgd.errors import UsageError, unknown
from rlgd.pytrees import Obs
from rlgd.spaces import BoxSpec, DiscreteSpec, LeafSpec

Bools: TypeAlias = NDArray[np.bool_]
Info: TypeAlias = dict[str, Any]
Functional: TypeAlias = FuncEnv[Any, Any, Any, Any, Any, Any, Any]

PICTURES = "rgb_array"
MOST_SEED = 2**64 - 1
START, LOOK, MOVE = range(3)  # purposes of an episode's random keys; those of its steps are numbered from MOVE


class Generators(NamedTuple):
    """The randomness of each environment: ``seed [N, 2]`` uint32, and the number of its episode, ``[N]`` uint32."""

    seed: Any
    episode: Any

    def keys(self, purpose: Array) -> Array:
        """A key for each environment, of its episode and ``purpose [N]``."""
        seeds = jax.random.wrap_key_data(self.seed, impl="threefry2x32")
        return jax.vmap(lambda *path: functools.reduce(jax.random.fold_in, path))(seeds, self.episode, purpose)

    def begin(self, env: DeviceEnv) -> tuple[EnvState, Obs]:
        """How each environment's episode begins."""
        return env.reset_each(*(self.keys(jnp.full_like(self.episode, purpose)) for purpose in (START, LOOK)))

    def next_where(self, over: Array) -> "Generators":
        """Those of the next episodes, in the environments that are ``over [N]``."""
        return self._replace(episode=self.episode + over.astype(self.episode.dtype))


class Lanes(NamedTuple):
    """All N environments between two steps.

    Attributes:
        generators: of the episodes that are played.
        state: where they are.
        over: ``[N]`` bool, which episodes have ended.
        spare: the beginnings of the next episodes; None where the caller resets.
    """

    generators: Generators
    state: EnvState
    over: Array
    spare: Spare | None


class Told(NamedTuple):
    """What is told of N environments: the observations, and ``DeviceEnv.info``."""

    obs: Obs
    info: Info


class Moved(NamedTuple):
    """What a step gives. ``final`` is told of where the step led, if some environments were reset behind it."""

    told: Told
    reward: Array
    terminated: Array
    truncated: Array
    final: Told | None


def _reset(
    env: DeviceEnv, mode: AutoresetMode, generators: Generators, mask: Array, before: tuple[Lanes, Obs] | None
) -> tuple[Lanes, Told]:
    """Begin the generators' episodes in the environments of ``mask [N]``; the others stay as they were ``before``."""
    state, obs = begin = generators.begin(env)
    spare = None if mode is AutoresetMode.DISABLED else Spare(begin, jnp.ones_like(mask))
    lanes = Lanes(generators, state, jnp.zeros_like(mask), spare)
    if before is not None:
        lanes, obs = select_envs(mask, (lanes, obs), before)
    return lanes, Told(obs, env.info(lanes.state))


def _step(env: DeviceEnv, mode: AutoresetMode, lanes: Lanes, action: Array) -> tuple[Lanes, Moved]:
    """Step every environment; begin the next episode where the mode says so."""
    generators, before, over, spare = lanes
    keys = generators.keys(MOVE + before.elapsed.astype(jnp.uint32))
    state, (_, obs, reward, terminated, truncated) = env.step_each(keys, before, action)
    final, begins = None, over
    if mode is AutoresetMode.NEXT_STEP:  # behind an end the step is none, but a reset
        reward, terminated, truncated = jnp.where(over, 0, reward), terminated & ~over, truncated & ~over
    over = terminated | truncated
    if mode is AutoresetMode.SAME_STEP:
        final, begins, over = Told(obs, env.info(state)), over, jnp.zeros_like(over)
    if spare is not None:
        following = generators.next_where(jnp.ones_like(begins))
        (state, obs), spare = spare.begin_where(begins, (state, obs), lambda: following.begin(env))
        generators = generators.next_where(begins)
    moved = Moved(Told(obs, env.info(state)), reward, terminated, truncated, final)
    return Lanes(generators, state, over, spare), moved


@functools.cache
def _programs() -> tuple[Any, Any]:
    """``_reset`` and ``_step``, compiled; on the CPU their operations run one after the other.

    They are so small that to hand some of them to another thread takes longer than they do.
    """
    one_by_one = {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"}
    options = one_by_one if jax.default_backend() == "cpu" else {}
    reset, step = (jax.jit(function, static_argnums=(0, 1), compiler_options=options) for function in (_reset, _step))
    return reset, step


class DeviceVectorEnv(VectorEnv[Any, Any, Any]):
    """N environments on the device, to the outside like Gymnasium's ``SyncVectorEnv``.

    Environment i under the seed s plays what environment 0 plays under s + i, however many there are. What is returned
    are NumPy arrays, new ones in each step. ``info`` has what the environment's ``state_info`` tells.

    Args:
        env: the environment, with its time limit.
        num_envs: N.
        autoreset_mode: an ``AutoresetMode`` or its value.
        render_mode: None; or "rgb_array", if the environment draws pictures.

    Attributes:
        lanes: where the environments are, on the device; None before the first reset.

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
        self.env, self.num_envs, self.render_mode, self.mode = env, num_envs, render_mode, _mode(autoreset_mode)
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
        self._bounds = _bounds(self.action_space)
        self.lanes: Lanes | None = None
        self._obs: Obs = None  # what was seen last, on the device
        self._renderers: list[Any] = []

    def reset(self, *, seed: int | Sequence[int | None] | None = None, options: Info | None = None) -> tuple[Any, Info]:
        """Begin an episode in each environment.

        Args:
            seed: of environment 0, the others have the numbers behind it; or one, or None, for each. None: the
                generators go on.
            options: ``{"reset_mask": mask}``, with ``mask [N]`` bool, resets some environments only.

        Raises:
            UsageError: if an argument does not fit.
        """
        mask, seeds = self._reset_mask(options or {}), self._seeds(seed)
        words, episodes = map(np.array, _entropy(self.num_envs) if self.lanes is None else self.lanes.generators)
        episodes += 1
        for n, given in enumerate(seeds):
            if given is not None:
                words[n], episodes[n] = divmod(given, 2**32), 0
        program, _ = _programs()
        before = None if mask.all() else (self.lanes, self._obs)
        self.lanes, told = program(self.env, self.mode, Generators(words, episodes), mask, before)
        self._obs = told.obs
        return self._own(told.obs), _laid_out(told.info, mask)

    def _reset_mask(self, options: Info) -> Bools:
        if others := sorted(options.keys() - {"reset_mask"}):
            raise UsageError(f"{self.env.env_id} takes no reset options but reset_mask; got {', '.join(others)}.")
        everywhere = np.ones(self.num_envs, bool)
        mask = options.get("reset_mask", everywhere)
        if not isinstance(mask, np.ndarray) or mask.dtype != bool or mask.shape != everywhere.shape or not mask.any():
            raise UsageError(
                f"reset_mask is {mask!r}; allowed: a NumPy array of bool with the shape {everywhere.shape}, not all "
                "False."
            )
        if self.lanes is None and not mask.all():
            raise UsageError("reset_mask leaves out environments that were never reset; reset all of them first.")
        return mask

    def _seeds(self, seed: int | Sequence[int | None] | None) -> list[int | None]:
        if seed is None or isinstance(seed, int | np.integer):
            seed = [None if seed is None else int(seed) + n for n in range(self.num_envs)]
        seeds = [None if one is None else int(one) for one in seed]
        if len(seeds) != self.num_envs:
            raise UsageError(f"there are {len(seeds)} seeds; allowed: one number, or one for each of {self.num_envs}.")
        wrong = [one for one in seeds if one is not None and not 0 <= one <= MOST_SEED]
        if wrong:
            raise UsageError(f"the seed is {wrong[0]}; allowed: whole numbers from 0 to 2**64 - 1.")
        return seeds

    def step(self, actions: Any) -> tuple[Any, NDArray[np.float64], Bools, Bools, Info]:
        """Step every environment.

        Args:
            actions: ``[N, ...]``, one for each environment.

        Returns:
            Observations ``[N, ...]``, a tuple or dictionary of such where the space is one; rewards ``[N]`` float64;
            terminations and truncations ``[N]`` bool; info.

        Raises:
            UsageError: if an action is not one, or an environment has to be reset first.
        """
        if self.lanes is None:
            raise UsageError(f"{self.env.env_id} must be reset before the first step.")
        if self.mode is AutoresetMode.DISABLED and np.any(self.lanes.over):
            over = ", ".join(map(str, np.flatnonzero(self.lanes.over)))
            raise UsageError(f"the episodes of environments {over} are over; reset them, by reset_mask, first.")
        _, program = _programs()
        self.lanes, moved = program(self.env, self.mode, self.lanes, self._checked(actions))
        self._obs = moved.told.obs
        terminated, truncated = np.array(moved.terminated), np.array(moved.truncated)
        info = _laid_out(moved.told.info, np.ones(self.num_envs, bool))
        done = terminated | truncated
        if moved.final is not None and done.any():
            info |= self._final(moved.final, done)
        return self._own(moved.told.obs), np.array(moved.reward, np.float64), terminated, truncated, info

    def _checked(self, actions: Any) -> NDArray[Any]:
        """The actions, in the type in which the environment receives them."""
        given, spec = np.asarray(actions), self.env.spec.action
        if given.shape != self.action_space.shape:
            raise UsageError(f"the actions' shape is {given.shape}; allowed: {self.action_space.shape}.")
        if isinstance(spec, BoxSpec):
            right = np.isfinite(given)  # the bounds are the environment's business, as in Gymnasium
        elif given.dtype.kind in "biu":
            right = (self._bounds[0] <= given) & (given <= self._bounds[1])
        else:
            raise UsageError(f"the actions' type is {given.dtype}; allowed: whole numbers.")
        if not right.all():
            n = np.argwhere(~right)[0, 0]
            raise UsageError(f"the action of environment {n} is {given[n]}; allowed: {self.single_action_space}.")
        return given.astype(spaces.obs_shape_dtype(spec)[1])

    def _own(self, obs: Obs) -> Obs:
        """Observations as NumPy arrays of the space's types, which nothing else holds."""
        return spaces.map_parts(lambda part, leaf: np.array(leaf, part.dtype), self.env.spec.obs, obs)

    def _final(self, final: Told, done: Bools) -> Info:
        """What ``info`` has of the episodes that ended, ``done [N]``."""
        obs, singles = self._own(final.obs), np.full(self.num_envs, None, object)
        for n in np.flatnonzero(done):
            singles[n] = spaces.map_parts(functools.partial(_single, n), self.env.spec.obs, obs)
        told = {"final_obs": singles, "final_info": _laid_out(final.info, done)}
        return told | {f"_{key}": done.copy() for key in told}

    def render(self) -> tuple[NDArray[np.uint8], ...]:
        """A picture of each environment, ``[height, width, 3]`` uint8.

        Raises:
            UsageError: if it was made without ``render_mode``, or not reset yet.
        """
        if self.render_mode is None or self.lanes is None:
            raise UsageError(f"to draw {self.env.env_id}, make it with render_mode={PICTURES!r}, and reset it first.")
        func_env, pictures = self.env.func_env, []
        self._renderers = self._renderers or [func_env.render_init() for _ in range(self.num_envs)]
        states = jax.device_get(self.lanes.state.inner)
        for n, renderer in enumerate(self._renderers):
            state = jax.tree.map(operator.itemgetter(n), states)
            self._renderers[n], picture = func_env.render_image(state, renderer)
            pictures.append(np.asarray(picture))
        return tuple(pictures)

    def close_extras(self, **kwargs: Any) -> None:
        """Close what draws."""
        for renderer in self._renderers:
            self.env.func_env.render_close(renderer)
        self._renderers = []


def _mode(autoreset_mode: AutoresetMode | str) -> AutoresetMode:
    try:
        return AutoresetMode(autoreset_mode)
    except ValueError as error:
        raise unknown("autoreset mode", str(autoreset_mode), [mode.value for mode in AutoresetMode]) from error


def _render_metadata(func_env: Functional) -> Info:
    if type(func_env).render_image is FuncEnv.render_image:
        return {"render_modes": []}
    if not isinstance(func_env, Rendered):
        return {"render_modes": [PICTURES]}
    original: Any = load_env_creator(str(gymnasium.spec(func_env.env_id).entry_point))
    return {"render_modes": [PICTURES], "render_fps": original.metadata["render_fps"]}


def _bounds(space: gymnasium.Space[Any]) -> tuple[Any, Any]:
    """The least and the greatest of the numbers of a space of actions ``[N, ...]``."""
    if isinstance(space, MultiDiscrete):
        return space.start, space.start + space.nvec - 1
    assert isinstance(space, gymnasium.spaces.Box)  # whatever else there is, Gymnasium makes a Box of many of it
    return space.low, space.high


def _entropy(num_envs: int) -> Generators:
    """Generators that nobody has seeded."""
    words = np.random.SeedSequence().generate_state(2 * num_envs)
    return Generators(words.reshape(num_envs, 2), np.zeros(num_envs, np.uint32))


def _single(n: np.intp, part: LeafSpec, leaf: NDArray[Any]) -> Any:
    """A part of the observation of environment n, as a single environment gives it."""
    return leaf[n].item() if isinstance(part, DiscreteSpec) else leaf[n]


def _laid_out(info: Info, given: Bools) -> Info:
    """Info as Gymnasium lays it out: each value, zeros where it is not ``given [N]``, beside the mask ``_key``."""

    def zeroed(leaf: Array) -> NDArray[Any]:
        whole = np.array(leaf)
        whole[~given] = 0
        return whole

    laid: Info = {}
    for key, value in info.items():
        laid[key] = _laid_out(value, given) if isinstance(value, dict) else jax.tree.map(zeroed, value)
        laid[f"_{key}"] = given.copy()
    if "action_mask" in laid:
        laid["action_mask"] = jax.tree.map(lambda mask: mask.astype(np.int8), laid["action_mask"])  # Gymnasium's type
    return laid


@functools.cache
def _func_env(path: str) -> Functional:
    creator: Any = load_env_creator(path)
    return creator()


def make(num_envs: int, *, func_env: str, max_episode_steps: int | None = None, **kwargs: Any) -> DeviceVectorEnv:
    """A vector environment of a functional one, as ``gymnasium.make_vec`` asks for it.

    Args:
        num_envs: how many.
        func_env: ``"module:Class"``, a ``FuncEnv`` that is made without arguments.
        max_episode_steps: the time limit; None or, as in Gymnasium, -1: none.
        kwargs: for ``DeviceVectorEnv``.

    Raises:
        UsageError: if an argument does not fit.
    """
    limit = None if max_episode_steps == -1 else max_episode_steps
    if limit is not None and limit < 1:
        raise UsageError(f"max_episode_steps is {limit}; allowed: a whole number from 1, or -1 for no limit.")
    return DeviceVectorEnv(DeviceEnv(_func_env(func_env), func_env.partition(":")[2], limit), num_envs, **kwargs)
