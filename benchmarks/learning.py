"""How well the agents learn from the shipped defaults: greedy return in Gymnasium over 100 episodes."""

import os

# As the command line sets JAX up on a CPU; before jax is imported.
os.environ.setdefault("PJRT_NPROC", "1")

import argparse

import jax
import numpy as np

import rlgd
from rlgd.agents import make_agent

SETTINGS = [
    ("ppo", "CartPole-v1", 100_000, {}, 20),
    ("a2c", "CartPole-v1", 500_000, {}, 20),
    ("reinforce", "CartPole-v1", 500_000, {}, 20),
    ("npg", "CartPole-v1", 100_000, {}, 20),
    ("trpo", "CartPole-v1", 100_000, {}, 20),
    ("ppo", "Pendulum-v1", 200_000, {"gamma": 0.9}, 5),
    ("trpo", "Pendulum-v1", 200_000, {"gamma": 0.9}, 5),
]


def main() -> None:
    """Print one Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--first-seed", type=int, default=0)
    first = parser.parse_args().first_seed
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    print("| agent | environment | steps | seeds | median | worst | at least 475 |")
    print("| ----- | ----------- | ----- | ----- | ------ | ----- | ------------ |")
    for name, env, steps, changes, seeds in SETTINGS:
        scores = []
        for seed in range(first, first + seeds):
            result = rlgd.train(make_agent(name, **changes), env, total_timesteps=steps, seed=seed)
            scores.append(rlgd.evaluate(result.policy, env, episodes=100).mean)
        label = " ".join([name, *(f"--{key} {value}" for key, value in changes.items())])
        reached = f"{sum(score >= 475 for score in scores)} of {seeds}" if env == "CartPole-v1" else "-"
        summary = f"{np.median(scores):.1f} | {np.min(scores):.1f} | {reached}"
        print(f"| {label} | {env} | {steps:,} | {seeds} | {summary} |", flush=True)


if __name__ == "__main__":
    main()
