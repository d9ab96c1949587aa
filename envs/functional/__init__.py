"""Gymnasium's environments as pure functions of JAX: twins, equal to the originals step by step, and their constants.

Worker processes import this package: it imports no JAX until a name is used.
"""

from typing import TYPE_CHECKING

from rlgd.faces import lazy

if TYPE_CHECKING:
    from rlgd.envs.functional.acrobot import Acrobot as Acrobot
    from rlgd.envs.functional.acrobot import AcrobotParams as AcrobotParams
    from rlgd.envs.functional.blackjack import Blackjack as Blackjack
    from rlgd.envs.functional.blackjack import BlackjackParams as BlackjackParams
    from rlgd.envs.functional.cartpole import CartPole as CartPole
    from rlgd.envs.functional.cartpole import CartPoleNoVelocity as CartPoleNoVelocity
    from rlgd.envs.functional.cartpole import CartPoleParams as CartPoleParams
    from rlgd.envs.functional.mountain_car import MountainCar as MountainCar
    from rlgd.envs.functional.mountain_car import MountainCarContinuous as MountainCarContinuous
    from rlgd.envs.functional.mountain_car import MountainCarParams as MountainCarParams
    from rlgd.envs.functional.pendulum import Pendulum as Pendulum
    from rlgd.envs.functional.pendulum import PendulumNoVelocity as PendulumNoVelocity
    from rlgd.envs.functional.pendulum import PendulumParams as PendulumParams
    from rlgd.envs.functional.tabular import CliffWalking as CliffWalking
    from rlgd.envs.functional.tabular import CliffWalkingSlippery as CliffWalkingSlippery
    from rlgd.envs.functional.tabular import FrozenLake as FrozenLake
    from rlgd.envs.functional.tabular import FrozenLake8x8 as FrozenLake8x8
    from rlgd.envs.functional.tabular import TabularParams as TabularParams
    from rlgd.envs.functional.tabular import Taxi as Taxi

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "rlgd.envs.functional.acrobot": ("Acrobot", "AcrobotParams"),
        "rlgd.envs.functional.blackjack": ("Blackjack", "BlackjackParams"),
        "rlgd.envs.functional.cartpole": ("CartPole", "CartPoleNoVelocity", "CartPoleParams"),
        "rlgd.envs.functional.mountain_car": ("MountainCar", "MountainCarContinuous", "MountainCarParams"),
        "rlgd.envs.functional.pendulum": ("Pendulum", "PendulumNoVelocity", "PendulumParams"),
        "rlgd.envs.functional.tabular": (
            "CliffWalking",
            "CliffWalkingSlippery",
            "FrozenLake",
            "FrozenLake8x8",
            "TabularParams",
            "Taxi",
        ),
    },
)
