"""MuJoCo's environments in threads beside Gymnasium's own, one after the other: microseconds of a step of all of them.

python benchmarks/physics.py --num-envs 8
"""

import argparse
import functools
import time

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from rlgd.envs.host.mujoco_tasks import TASKS
from rlgd.envs.host.mujoco_vector import MujocoVector
from rlgd.tables import markdown

STEPS, ROUNDS = 100, 7


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-envs", type=int, default=8)
    args = parser.parse_args()
    rows = []
    for env_id in TASKS:
        ours, theirs = both = (
            MujocoVector(env_id, args.num_envs, AutoresetMode.SAME_STEP),
            SyncVectorEnv(
                [functools.partial(gymnasium.make, env_id, disable_env_checker=True)] * args.num_envs,
                copy=False,
                autoreset_mode=AutoresetMode.SAME_STEP,
            ),
        )
        ours.action_space.seed(0)
        actions = [ours.action_space.sample() for _ in range(STEPS)]
        for vector in both:
            vector.reset(seed=0)
        # Both take turns, so that a disturbance meets both.
        seconds = np.min([[_seconds_of_a_step(vector, actions) for vector in both] for _ in range(ROUNDS)], axis=0)
        rows.append([env_id, *(f"{second * 1e6:.0f}" for second in seconds), f"{seconds[1] / seconds[0]:.2f}"])
        ours.close()
        theirs.close()
    print(markdown(["environment", "in threads, us", "SyncVectorEnv, us", "ratio"], rows))


def _seconds_of_a_step(vector: SyncVectorEnv, actions: list[np.ndarray]) -> float:
    start = time.perf_counter()
    for action in actions:
        vector.step(action)
    return (time.perf_counter() - start) / len(actions)


if __name__ == "__main__":
    main()
