"""The environments that run on the device, by their ids, and their registration with Gymnasium.

Worker processes import this module: it imports no JAX.
"""

import functools
from typing import Any

import gymnasium

from rlgd.envs.aliases import NAMESPACE
from rlgd.envs.functional.minatar import GAMES
from rlgd.envs.host.mujoco_tasks import TASKS

# id: the class of the twin
TWINS = {
    "Acrobot-v1": "rlgd.envs.functional.acrobot:Acrobot",
    "Blackjack-v1": "rlgd.envs.functional.blackjack:Blackjack",
    "CartPole-v1": "rlgd.envs.functional.cartpole:CartPole",
    "CliffWalking-v1": "rlgd.envs.functional.tabular:CliffWalking",
    "CliffWalkingSlippery-v1": "rlgd.envs.functional.tabular:CliffWalkingSlippery",
    "FrozenLake-v1": "rlgd.envs.functional.tabular:FrozenLake",
    "FrozenLake8x8-v1": "rlgd.envs.functional.tabular:FrozenLake8x8",
    "MountainCar-v0": "rlgd.envs.functional.mountain_car:MountainCar",
    "MountainCarContinuous-v0": "rlgd.envs.functional.mountain_car:MountainCarContinuous",
    "Pendulum-v1": "rlgd.envs.functional.pendulum:Pendulum",
    "Taxi-v4": "rlgd.envs.functional.tabular:Taxi",
    "rlgd/CartPoleNoVelocity-v1": "rlgd.envs.functional.cartpole:CartPoleNoVelocity",
    "rlgd/PendulumNoVelocity-v1": "rlgd.envs.functional.pendulum:PendulumNoVelocity",
}
# ids that only rlgd has: the class for Gymnasium to make, and the id of the environment that it shows a part of
PARTIAL = {
    "rlgd/CartPoleNoVelocity-v1": ("rlgd.envs.functional.no_velocity:CartPoleNoVelocity", "CartPole-v1"),
    "rlgd/PendulumNoVelocity-v1": ("rlgd.envs.functional.no_velocity:PendulumNoVelocity", "Pendulum-v1"),
}
# Gymnasium's ids of the games of MinAtar, and ours: before a colon Gymnasium expects a module.
GAME_IDS = {f"{NAMESPACE}/MinAtar-{name}": f"minatar:{name}" for name in GAMES}


def vector_id(env_id: str) -> str:
    """The id of a twin's vector environment, for ``gymnasium.make_vec``."""
    return env_id if env_id in PARTIAL else f"{NAMESPACE}/{env_id}"


def register() -> None:
    """Register with Gymnasium the vector environments on the device and in threads, ``PARTIAL``, and MinAtar."""
    for env_id, path in TWINS.items():
        entry_point, original = PARTIAL.get(env_id, (None, env_id))
        spec = gymnasium.spec(original)
        gymnasium.register(
            vector_id(env_id),
            entry_point=entry_point,
            vector_entry_point=functools.partial(make_vector, func_env=path),
            reward_threshold=spec.reward_threshold,
            max_episode_steps=spec.max_episode_steps,
        )
    for env_id, path in zip(GAME_IDS, GAMES.values(), strict=True):
        gymnasium.register(
            env_id,
            entry_point=functools.partial(make_single, func_env=path),
            vector_entry_point=functools.partial(make_vector, func_env=path),
        )
    for env_id in TASKS:
        spec, own = gymnasium.spec(env_id), f"{NAMESPACE}/{env_id}"
        gymnasium.register(
            own,
            entry_point=spec.entry_point,
            vector_entry_point=functools.partial(make_mujoco, env_id=own),
            reward_threshold=spec.reward_threshold,
            max_episode_steps=spec.max_episode_steps,
        )


def make_vector(num_envs: int, **kwargs: Any) -> Any:
    """``rlgd.envs.device.gym_vector.make``, imported only when it is called."""
    from rlgd.envs.device.gym_vector import make

    return make(num_envs, **kwargs)


def make_single(**kwargs: Any) -> Any:
    """``rlgd.envs.device.gym_vector.DeviceGymEnv``, imported only when it is called."""
    from rlgd.envs.device.gym_vector import DeviceGymEnv

    return DeviceGymEnv(**kwargs)


def make_mujoco(num_envs: int, env_id: str, **kwargs: Any) -> Any:
    """``rlgd.envs.host.mujoco_vector.MujocoVector``, imported only when it is called."""
    from rlgd.envs.host.mujoco_vector import MujocoVector

    return MujocoVector(env_id, num_envs, **kwargs)
