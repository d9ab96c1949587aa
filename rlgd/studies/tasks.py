"""What returns mean in known environments, so that several of them can be compared."""

from typing import NamedTuple


class Task(NamedTuple):
    """The scale of an environment's returns.

    Attributes:
        random: the mean return of actions that are drawn from the action space, over 1,000 episodes.
        solved: a return that counts as solved: the most that there is, or what published agents reach
            (docs/reproduce-classic.md).
        target_return: what counts as reached, for steps and seconds to it.
    """

    random: float
    solved: float
    target_return: float


TASKS = {
    "CartPole-v1": Task(22.0, 500.0, 475.0),
    "rlgd/CartPoleNoVelocity-v1": Task(22.0, 500.0, 475.0),
    "Acrobot-v1": Task(-499.0, -75.0, -100.0),
    "Pendulum-v1": Task(-1231.0, -150.0, -200.0),
    "MountainCarContinuous-v0": Task(-33.0, 95.0, 90.0),
}
