"""Gymnasium's environments that run on the device, by their ids; ``gymnasium.make_vec`` knows them as ``rlgd/<id>``.

Worker processes import this: it imports no JAX.
"""

import gymnasium

NAMESPACE = "rlgd"

# Gymnasium's id: the class of its twin
TWINS = {
    "Acrobot-v1": "rlgd.envs.acrobot:Acrobot",
    "Blackjack-v1": "rlgd.envs.blackjack:Blackjack",
    "CartPole-v1": "rlgd.envs.cartpole:CartPole",
    "CliffWalking-v1": "rlgd.envs.tabular:CliffWalking",
    "CliffWalkingSlippery-v1": "rlgd.envs.tabular:CliffWalkingSlippery",
    "FrozenLake-v1": "rlgd.envs.tabular:FrozenLake",
    "FrozenLake8x8-v1": "rlgd.envs.tabular:FrozenLake8x8",
    "MountainCar-v0": "rlgd.envs.mountain_car:MountainCar",
    "MountainCarContinuous-v0": "rlgd.envs.mountain_car:MountainCarContinuous",
    "Pendulum-v1": "rlgd.envs.pendulum:Pendulum",
    "Taxi-v4": "rlgd.envs.tabular:Taxi",
}


def register() -> None:
    """Tell Gymnasium of the vector environments on the device."""
    for env_id, path in TWINS.items():
        original = gymnasium.spec(env_id)
        gymnasium.register(
            f"{NAMESPACE}/{env_id}",
            vector_entry_point="rlgd.envs.vector:make",
            reward_threshold=original.reward_threshold,
            max_episode_steps=original.max_episode_steps,
            kwargs={"func_env": path},
        )
