"""How fast PPO learns with each kind of memory, beside GRU on whole rollouts, in CartPole without its velocities.

python benchmarks/memory.py
"""

import argparse
import time

import jax
import numpy as np

from rlgd import training
from rlgd.agents import PPO
from rlgd.envs import make
from rlgd.envs.device.device_env import DeviceEnv
from rlgd.pytrees import LoopState
from rlgd.tables import markdown
from rlgd.training.runners import DeviceRunner

ITERATIONS, ROUNDS, SEQUENCE = 4, 5, 16
NETWORKS = ("gru", "lstm", "rnn", "mingru", "minlstm", "lru", "mlp")


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    env = make("rlgd/CartPoleNoVelocity-v1")
    assert isinstance(env, DeviceEnv)
    kinds = [
        (network, length) for network in NETWORKS for length in (None, SEQUENCE) if length is None or network != "mlp"
    ]
    runners = []
    for network, length in kinds:
        agent = PPO(network=network, sequence_length=length, measure_every=0)
        loop = training.initialize(agent.prepared(), env, jax.random.key(0), 10**9)
        runner = DeviceRunner(agent.prepared(), env, ITERATIONS)
        runner(loop, 1, 10**9)  # compiles
        runners.append((runner, loop, agent.num_envs * agent.rollout_length * ITERATIONS))
    # All take turns, so that a disturbance meets all alike.
    speeds = np.max([[_steps_a_second(*each) for each in runners] for _ in range(ROUNDS)], axis=0)
    rows = [
        [
            network,
            "whole rollouts" if length is None else f"{length} steps",
            f"{speed:,.0f}",
            f"{speed / speeds[0]:.1f}",
        ]
        for (network, length), speed in zip(kinds, speeds, strict=True)
    ]
    print(markdown(["network", "sequences", "steps/s", "times GRU on whole rollouts"], rows))


def _steps_a_second(runner: DeviceRunner, loop: LoopState, steps: int) -> float:
    start = time.perf_counter()
    runner(loop, ITERATIONS, 10**9)
    return steps / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
