"""Does a population that changes its settings beat as many fixed ones with the same budget?

    python benchmarks/evolve.py [SEEDS]

For each task and seed, 16 members of PPO with learning rates from 1e-5 to 1 and momenta from 0 to 0.99 train for the
same number of steps: fixed, by PBT, and by PB2. What counts is the greedy policy of the member with the highest return
in the last generation, over 100 episodes.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import rlgd
from rlgd.agents import make_agent
from rlgd.cli import jax_setup
from rlgd.cli.options import Computing
from rlgd.maths import confidence
from rlgd.run.config import RunConfig
from rlgd.run.settings import RunSettings
from rlgd.tables import markdown

RANGES = {"learning_rate": {"log": [1e-5, 1.0]}, "momentum": {"linear": [0.0, 0.99]}}
SHARED: dict[str, Any] = {
    "num_envs": 16,
    "rollout_length": 64,
    "num_epochs": 4,
    "num_minibatches": 4,
    "measure_every": 0,
}
PENDULUM: dict[str, Any] = {"num_epochs": 8, "gamma": 0.9, "activation": "relu", "scale_reward": True}
TASKS: dict[str, tuple[int, dict[str, Any]]] = {
    "CartPole-v1": (40_960, {}),
    "Acrobot-v1": (61_440, {}),
    "Pendulum-v1": (102_400, PENDULUM),
}
METHODS = ("fixed", "pbt", "pb2")


def main(seeds: int = 5) -> None:
    """Print the table."""
    rows: list[list[str]] = []
    for env_id, (steps, own) in TASKS.items():
        agent = make_agent("ppo", **(SHARED | own))
        config = RunConfig(agent, rlgd.envs.make(env_id), RunSettings(steps))
        if not rows:  # before JAX starts
            jax_setup.set_up(config, Computing(None, False, None, None))
        for method in METHODS:
            returns = []
            for seed in range(seeds):
                with tempfile.TemporaryDirectory() as folder:
                    where = Path(folder) / "population"
                    result = rlgd.evolve(
                        agent, env_id, RANGES, total_timesteps=steps, method=method, seed=seed, evolve_dir=where
                    )
                returns.append(result.evaluation.mean)
                print(f"{env_id} {method} seed {seed}: {returns[-1]:.1f}", file=sys.stderr, flush=True)
            rows.append([env_id, method, confidence.in_words(confidence.interval(returns))])
    print(markdown(["environment", "method", f"return of the winner, {seeds} seeds"], rows))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
