"""Settings by rule (`rlgd train --auto`) beside the presets, and beside Stable-Baselines3's defaults.

    rlgd reproduce classic && rlgd reproduce classic --auto && python benchmarks/auto.py presets
    make .peers/.ready && python benchmarks/auto.py sb3 --peers .peers/bin/python --seeds 5

``presets`` reads the two tables in ``docs/``: a share of 1 is the preset's return, 0 that of random actions. ``sb3``
trains in six environments in which no rule was developed; what is finished is kept in ``--results``.
"""

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from speed import ONE_THREAD, run

import rlgd
from rlgd.cli import jax_setup
from rlgd.cli.options import Computing
from rlgd.maths import confidence
from rlgd.run.config import RunConfig
from rlgd.run.settings import RunSettings
from rlgd.tables import markdown

DOCS = Path(__file__).parents[1] / "docs"
EPISODES = 100
ENOUGH = 0.95
TASKS: dict[str, tuple[int, dict[str, Any]]] = {
    "InvertedPendulum-v5": (100_000, {}),
    "Swimmer-v5": (200_000, {}),
    "Reacher-v5": (200_000, {}),
    "LunarLanderContinuous-v3": (300_000, {}),
    "FrozenLake-v1": (100_000, {"map_name": "8x8"}),
    "Blackjack-v1": (100_000, {}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("beside", choices=("presets", "sb3"))
    parser.add_argument("--peers", help="the Python that has Stable-Baselines3")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--results", type=Path, default=Path("runs/auto.jsonl"), help="a line for each trained run")
    args = parser.parse_args()
    if args.beside == "presets":
        beside_presets()
    else:
        beside_sb3(args.peers, args.seeds, args.results)


def beside_presets() -> None:
    """Print the shares of the presets' returns."""
    tuned, by_rule = (_returns(DOCS / f"reproduce-{name}.md") for name in ("classic", "classic-auto"))
    rows, reached = [], 0
    for (env, agent), value in by_rule.items():
        random, preset = _random_return(env), tuned[env, agent]
        share = (value - random) / (preset - random)
        reached += share >= ENOUGH
        rows.append([env, agent, f"{random:.1f}", f"{preset:.1f}", f"{value:.1f}", f"{share:.0%}"])
    print(markdown(["environment", "agent", "random actions", "preset", "by rule", "share"], rows))
    print(f"\n{reached} of {len(rows)} rows reach {ENOUGH:.0%}.")


def _returns(table: Path) -> dict[tuple[str, str], float]:
    """Environment and agent: the interquartile mean in a table of ``rlgd reproduce``."""
    pattern = r"^\| (\S+) +\| (\S+) +\|.*?\|.*?\| (-?[\d.]+) \["
    return {(env, agent): float(x) for env, agent, x in re.findall(pattern, table.read_text(), re.MULTILINE)}


def _random_return(env_id: str) -> float:
    """The mean return of random actions."""
    space = gymnasium.make(env_id).action_space
    space.seed(0)
    return rlgd.evaluate(lambda obs: np.stack([space.sample() for _ in obs]), env_id, episodes=EPISODES).mean


def beside_sb3(peers: str, seeds: int, results: Path) -> None:
    """Train what is missing, and print the table."""
    settings = RunConfig(rlgd.agents.PPO(), rlgd.envs.make("CartPole-v1"), RunSettings())
    jax_setup.set_up(settings, Computing("cpu", False, None, None))
    results.parent.mkdir(parents=True, exist_ok=True)
    results.touch()
    for seed in range(seeds):
        for env, (steps, arguments) in TASKS.items():
            known = _read(results)
            for who in ("sb3", "rlgd"):
                if (who, env, seed) in known:
                    continue
                first = 10_000 + 1_000 * seed
                if who == "sb3":
                    words = [env, json.dumps(arguments), str(steps), str(seed), str(EPISODES), str(first)]
                    worker = str(Path(__file__).parent / "sb3_defaults_worker.py")
                    score = json.loads(run([peers, worker, *words], ONE_THREAD["sb3"]).splitlines()[-1])
                else:
                    score = _trained_by_rule(env, steps, arguments, seed, first)
                line = {"who": who, "env": env, "seed": seed, "steps": steps, "return": score}
                with results.open("a") as file:
                    file.write(json.dumps(line) + "\n")
                print(line, file=sys.stderr, flush=True)
    known, rows = _read(results), []
    for env, (steps, arguments) in TASKS.items():
        cells = [" ".join([env, *map(str, arguments.values())]), f"{steps:,}"]
        for who in ("rlgd", "sb3"):
            cells.append(confidence.in_words(confidence.interval([known[who, env, seed] for seed in range(seeds)])))
        rows.append(cells)
    print(markdown(["environment", "steps", "rlgd train ppo --auto", "Stable-Baselines3's PPO"], rows))


def _trained_by_rule(env: str, steps: int, arguments: dict[str, Any], seed: int, first: int) -> float:
    made = rlgd.envs.make(env, **arguments)
    result = rlgd.train("ppo", made, auto=True, total_timesteps=steps, seed=seed, eval_episodes=1, measure_every=0)
    host = rlgd.envs.make(env, backend="host", **arguments)
    return rlgd.evaluate(result.policy, host, episodes=EPISODES, seed=first).mean


def _read(results: Path) -> dict[tuple[str, str, int], float]:
    records = map(json.loads, results.read_text().splitlines())
    return {(record["who"], record["env"], record["seed"]): record["return"] for record in records}


if __name__ == "__main__":
    main()
