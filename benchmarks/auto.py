"""Settings by rule (`rlgd train --auto`) beside the presets, and beside the defaults of others.

    rlgd reproduce classic && rlgd reproduce classic --auto && python benchmarks/auto.py presets
    make .peers/.ready && python benchmarks/auto.py defaults --peers .peers/bin/python --seeds 5

``presets`` reads the two tables in ``docs/``: a share of 1 is the preset's return, 0 that of random actions.
``defaults`` trains in six environments in which no rule was developed: by rule, Stable-Baselines3's PPO as it is
installed, and rlgd's PPO with the settings of CleanRL's programs (it is no package) and of rejax (whose programs
are for environments in JAX). What is finished is kept in ``--results``.
"""

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

import gymnasium
import jax
import numpy as np
from speed import ONE_THREAD, run

import rlgd
from rlgd.agents import make_agent
from rlgd.cli import jax_setup
from rlgd.cli.options import Computing
from rlgd.maths import confidence
from rlgd.run.config import RunConfig
from rlgd.run.settings import RunSettings
from rlgd.tables import markdown

DOCS = Path(__file__).parents[1] / "docs"
EPISODES = 100
ENOUGH = 0.95
RANDOM_EPISODES = 1000
TASKS: dict[str, tuple[int, dict[str, Any], float]] = {  # steps, arguments, and a return that counts as 1
    "InvertedPendulum-v5": (100_000, {}, 1000.0),  # the most that there is
    "Swimmer-v5": (200_000, {}, 360.0),  # the best run of docs/reproduce-mujoco.md
    "Reacher-v5": (200_000, {}, -3.7),  # the same
    "LunarLanderContinuous-v3": (300_000, {}, 280.0),  # as LunarLander-v3 in docs/reproduce-box2d.md
    "FrozenLake-v1": (100_000, {"map_name": "8x8"}, 1.0),  # the most that there is
    "Blackjack-v1": (100_000, {}, -0.05),  # near that of basic strategy
}
AVERAGES = {"interquartile mean": confidence.interval, "mean": confidence.mean_interval}
CONTENDERS = {
    "rlgd": "`rlgd train ppo --auto`",
    "sb3": "Stable-Baselines3 2.9.2",
    "cleanrl": "CleanRL's settings",
    "rejax": "rejax 0.1.3's settings",
}
CLEANRL = {  # ppo.py
    "num_envs": 4,
    "rollout_length": 128,
    "num_epochs": 4,
    "num_minibatches": 4,
    "learning_rate": 2.5e-4,
    "ent_coef": 0.01,
    "clip_value": True,
    "epsilon": 1e-5,
}
CLEANRL_BOX = {  # ppo_continuous_action.py
    "num_envs": 1,
    "rollout_length": 2048,
    "num_epochs": 10,
    "num_minibatches": 32,
    "learning_rate": 3e-4,
    "clip_value": True,
    "epsilon": 1e-5,
    "normalize_obs": True,
    "scale_reward": True,
}
REJAX = {
    "num_envs": 64,
    "rollout_length": 64,
    "num_epochs": 8,
    "num_minibatches": 16,
    "learning_rate": 3e-4,
    "ent_coef": 0.01,
    "schedule": "constant",
    "max_grad_norm": None,
    "clip_value": True,
    "activation": "silu",
    "initialization": "lecun",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("beside", choices=("presets", "defaults"))
    parser.add_argument("--peers", help="the Python that has Stable-Baselines3")
    parser.add_argument("--who", nargs="+", choices=CONTENDERS, default=list(CONTENDERS), help="whose settings")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--results", type=Path, default=Path("runs/auto.jsonl"), help="a line for each trained run")
    args = parser.parse_args()
    if args.beside == "presets":
        beside_presets()
    else:
        beside_defaults(args.peers, args.who, args.seeds, args.results)


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


def _random_return(env_id: str, episodes: int = EPISODES, **arguments: Any) -> float:
    """The mean return of random actions."""
    space = gymnasium.make(env_id, **arguments).action_space
    space.seed(0)
    env = rlgd.envs.make(env_id, backend="host", **arguments)
    return rlgd.evaluate(lambda obs: np.stack([space.sample() for _ in range(_rows(obs))]), env, episodes=episodes).mean


def _rows(obs: Any) -> int:
    return len(jax.tree.leaves(obs)[0])


def beside_defaults(peers: str, contenders: list[str], seeds: int, results: Path) -> None:
    """Train what is missing, and print the tables."""
    settings = RunConfig(rlgd.agents.PPO(), rlgd.envs.make("CartPole-v1"), RunSettings())
    jax_setup.set_up(settings, Computing("cpu", False, None, None))
    results.parent.mkdir(parents=True, exist_ok=True)
    results.touch()
    for seed in range(seeds):
        for env, (steps, arguments, _) in TASKS.items():
            for who in contenders:
                if (who, env, seed) in _read(results):
                    continue
                first = 10_000 + 1_000 * seed
                if who == "sb3":
                    words = [env, json.dumps(arguments), str(steps), str(seed), str(EPISODES), str(first)]
                    worker = str(Path(__file__).parent / "sb3_defaults_worker.py")
                    score = json.loads(run([peers, worker, *words], ONE_THREAD["sb3"]).splitlines()[-1])
                else:
                    score = _trained(who, env, steps, arguments, seed, first)
                line = {"who": who, "env": env, "seed": seed, "steps": steps, "return": score}
                with results.open("a") as file:
                    file.write(json.dumps(line) + "\n")
                print(line, file=sys.stderr, flush=True)
    known = _read(results)
    pairs = [(env, who) for env in TASKS for who in contenders]
    scores = {(env, who): np.array([known[who, env, seed] for seed in range(seeds)]) for env, who in pairs}
    rows = []
    for env, (steps, arguments, _) in TASKS.items():
        cells = [confidence.in_words(confidence.interval(scores[env, who])) for who in contenders]
        rows.append([" ".join([env, *map(str, arguments.values())]), f"{steps:,}", *cells])
    print(markdown(["environment", "steps", *(CONTENDERS[who] for who in contenders)], rows))
    shares: dict[str, list[Any]] = {who: [] for who in contenders}
    for env, (_, arguments, good) in TASKS.items():
        random = _random_return(env, RANDOM_EPISODES, **arguments)
        for who in contenders:
            shares[who].append((scores[env, who] - random) / (good - random))
    print("\n0 is the return of random actions, 1 the return that TASKS names:\n")
    rows = [
        [CONTENDERS[who], *(confidence.in_words(average(*parts), ".2f") for average in AVERAGES.values())]
        for who, parts in shares.items()
    ]
    print(markdown(["settings", *AVERAGES], rows))


def _trained(who: str, env: str, steps: int, arguments: dict[str, Any], seed: int, first: int) -> float:
    made = rlgd.envs.make(env, **arguments)
    run: dict[str, Any] = {"total_timesteps": steps, "seed": seed, "eval_episodes": 1}
    if who == "rlgd":
        result = rlgd.train("ppo", made, auto=True, measure_every=0, **run)
    else:  # an agent, not its name, which would take the presets
        box = isinstance(gymnasium.make(env, **arguments).action_space, gymnasium.spaces.Box)
        settings = REJAX if who == "rejax" else CLEANRL_BOX if box else CLEANRL
        result = rlgd.train(make_agent("ppo", measure_every=0, **settings), made, **run)
    host = rlgd.envs.make(env, backend="host", **arguments)
    return rlgd.evaluate(result.policy, host, episodes=EPISODES, seed=first).mean


def _read(results: Path) -> dict[tuple[str, str, int], float]:
    records = map(json.loads, results.read_text().splitlines())
    return {(record["who"], record["env"], record["seed"]): record["return"] for record in records}


if __name__ == "__main__":
    main()
