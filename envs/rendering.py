"""One environment to watch: in a window, or as pictures."""

import contextlib
import functools
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import HumanRendering
from jax import Array
from numpy.typing import NDArray

from rlgd.envs.aliases import GymEnv, Info
from rlgd.envs.device.device_env import DeviceEnv, EnvState, Timestep
from rlgd.envs.device.programs import JitPerEnv
from rlgd.envs.host.checked import Checked
from rlgd.envs.host.host_env import HostEnv
from rlgd.envs.host.host_vector import HostVector
from rlgd.errors import UsageError
from rlgd.pytrees import Obs
from rlgd.spaces import Spec

WINDOW, PICTURES = "human", "rgb_array"  # Gymnasium's render modes
FRAMES_PER_SECOND = "render_fps"  # in an environment's metadata


def rendered(env: DeviceEnv | HostEnv, mode: str) -> GymEnv:
    """One environment as in training, which shows itself in a ``WINDOW`` or gives ``PICTURES``.

    Raises:
        UsageError: if it cannot be rendered in this mode.
    """
    if isinstance(env, DeviceEnv):
        drawn: GymEnv = DrawnDeviceEnv(env)
    elif env.running:
        raise UsageError(f"{env.env_id} is a running vector environment, which is not rendered; give its class or id.")
    else:
        drawn = _on_host(env, mode)
    if drawn.render_mode == mode:
        return drawn
    if FRAMES_PER_SECOND not in drawn.metadata:
        raise UsageError(
            f"{env.env_id} has no window of its own, and its metadata do not say {FRAMES_PER_SECOND!r}; record a video."
        )
    return HumanRendering(drawn)


def _on_host(env: HostEnv, mode: str) -> GymEnv:
    """The environment in the render mode; if it has no window of its own, with pictures for one."""
    with contextlib.closing(env.make_one()) as unrendered:
        modes = unrendered.metadata.get("render_modes") or []
    own = mode if mode in modes else PICTURES
    if own not in modes:
        raise UsageError(f"{env.env_id} gives no pictures: its render modes are {', '.join(modes) or 'none at all'}.")
    made = env.make_one(render_mode=own)
    if made.render_mode != own:
        raise UsageError(
            f"{env.env_id} has the render mode {made.render_mode!r}, and {own!r} is needed; make it with that, or "
            "give its class or id."
        )
    return made


def alone(env: GymEnv, spec: Spec, env_id: str) -> HostVector:
    """A running environment as a vector of one; after an end it is reset only by the next step."""
    make = functools.partial(Checked, env, 0, (env.observation_space, env.action_space))
    vector = SyncVectorEnv([make], copy=False, autoreset_mode=AutoresetMode.NEXT_STEP)
    return HostVector(vector, spec, env_id)


class DrawnDeviceEnv(gymnasium.Env[Any, Any]):
    """A ``DeviceEnv`` as one Gymnasium environment; its pictures come from the functional one's ``render_image``.

    ``metadata["render_fps"]`` of the functional environment gives their number per second; by default 30.

    Raises:
        UsageError: if the functional environment has no pictures.
    """

    render_mode = PICTURES

    def __init__(self, env: DeviceEnv) -> None:
        self.env, func_env = env, env.func_env
        try:
            self._renderer = func_env.render_init()
        except NotImplementedError as error:
            raise UsageError(
                f"{env.env_id} gives no pictures: its class has no render_init, render_image and render_close."
            ) from error
        self.observation_space, self.action_space = func_env.observation_space, func_env.action_space
        self.metadata = {FRAMES_PER_SECOND: 30} | getattr(func_env, "metadata", {}) | {"render_modes": [PICTURES]}

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[Any, Info]:
        super().reset(seed=seed)
        begin, self._key = jax.random.split(jax.random.key(int(self.np_random.integers(2**31))))
        self._num_steps = 0
        self._state, obs, mask = _begin(self.env, begin)
        return _first(obs), _info(mask)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, Info]:
        self._num_steps += 1
        key = jax.random.fold_in(self._key, self._num_steps)
        self._state, timestep, mask = _step(self.env, key, self._state, jnp.asarray(action)[None])
        return (
            _first(timestep.next_obs),
            float(timestep.reward[0]),
            bool(timestep.terminated[0]),
            bool(timestep.truncated[0]),
            _info(mask),
        )

    def render(self) -> NDArray[np.uint8]:
        state = jax.tree.map(lambda leaf: leaf[0], self._state.inner)
        self._renderer, picture = self.env.func_env.render_image(state, self._renderer)
        return np.asarray(picture)

    def close(self) -> None:
        self.env.func_env.render_close(self._renderer)


def _begin_in(env: DeviceEnv, key: Array) -> tuple[EnvState, Obs, Array | None]:
    state, obs = env.reset(key, 1)
    return state, obs, env.action_mask(state)


def _step_in(env: DeviceEnv, key: Array, state: EnvState, action: Array) -> tuple[EnvState, Timestep, Array | None]:
    state, timestep = env.step_without_reset(key, state, action)
    return state, timestep, env.action_mask(state)


_begin, _step = (JitPerEnv(function, 0) for function in (_begin_in, _step_in))


def _first(obs: Obs) -> Any:
    """The first of a batch of observations, as NumPy arrays."""
    return jax.tree.map(lambda leaf: np.asarray(leaf)[0], obs)


def _info(mask: Array | None) -> Info:
    return {} if mask is None else {"action_mask": np.asarray(mask)[0]}
