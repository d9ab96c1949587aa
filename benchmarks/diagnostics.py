"""What the diagnostics of the ascent cost: training with them over training without, in turns, in one process."""

import os

# As the command line sets JAX up on a CPU; before jax is imported.
os.environ.setdefault("PJRT_NPROC", "1")

import argparse
import dataclasses
import time
from typing import Any

import jax
import numpy as np

from rlgd import envs, training
from rlgd.agents import REGISTRY, make_agent
from rlgd.agents.base.agent import Agent
from rlgd.envs import DeviceEnv
from rlgd.pytrees import LoopState

STEPS = 2**31 - 1  # without end: the number of iterations says when a call returns
SETTINGS: dict[str, dict[str, Any]] = {
    **{name: {} for name in REGISTRY},
    "ppo with 4 epochs of 4": {"num_epochs": 4, "num_minibatches": 4},
}


def seconds(runner: training.DeviceRunner, loop: LoopState, length: int) -> float:
    """The processor time of a chunk, from the same state whenever it is asked for: the same steps and updates."""
    start = time.process_time()
    done = 0
    while done < length:  # the runner stops to measure
        loop, metrics = runner(loop, length - done, STEPS)
        done += len(metrics["rollout/steps"])
    jax.block_until_ready(loop)
    return time.process_time() - start


def overhead(agent: Agent, env: DeviceEnv, rounds: int) -> tuple[float, float, float]:
    """Median, least and greatest extra time of a chunk of iterations, as a share."""
    length = training.chunk_length(agent, env)
    chunks = []
    for every in (agent.measure_every, 0):
        chosen = dataclasses.replace(agent, measure_every=every).prepared()
        runner = training.DeviceRunner(chosen, env, length)
        chunks.append((runner, training.initialize(chosen, env, jax.random.key(0)), length))
        for _ in range(2):
            seconds(*chunks[-1])  # compiles
    ratios = [seconds(*chunks[0]) / seconds(*chunks[1]) - 1 for _ in range(rounds)]
    return float(np.median(ratios)), min(ratios), max(ratios)


def main() -> None:
    """Print one Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    env = envs.make("CartPole-v1")
    assert isinstance(env, DeviceEnv)
    print("| agent | measured | extra processor time (least to most) |")
    print("| ----- | -------- | -------------------------- |")
    for label, changes in SETTINGS.items():
        agent = make_agent(label.split()[0], **changes)
        median, least, most = overhead(agent, env, rounds)
        measured = f"1 iteration of {agent.measure_every}"
        print(f"| {label} | {measured} | {median:.1%} ({least:.1%} to {most:.1%}) |", flush=True)


if __name__ == "__main__":
    main()
