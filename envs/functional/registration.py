"""The environments that run on the device, by their ids; ``gymnasium.make_vec`` knows them by their ``vector_id``.

Worker processes import this: it imports no JAX.
"""

import functools
from typing import Any

import gymnasium

NAMESPACE = "rlgd"

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
# those that Gymnasium does not have: the class that it is to make, and what that is a part of
PARTIAL = {
    "rlgd/CartPoleNoVelocity-v1": ("rlgd.envs.functional.no_velocity:CartPoleNoVelocity", "CartPole-v1"),
    "rlgd/PendulumNoVelocity-v1": ("rlgd.envs.functional.no_velocity:PendulumNoVelocity", "Pendulum-v1"),
}


def vector_id(env_id: str) -> str:
    """The id of a twin's vector environment."""
    return env_id if env_id in PARTIAL else f"{NAMESPACE}/{env_id}"


def register() -> None:
    """Tell Gymnasium of the vector environments on the device, and of the environments that it does not have."""
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


def make_vector(num_envs: int, **kwargs: Any) -> Any:
    """``rlgd.envs.device.gym_vector.make``, imported when it is called."""
    from rlgd.envs.device.gym_vector import make

    return make(num_envs, **kwargs)
