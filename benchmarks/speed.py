"""rlgd's speed beside its peers': prints one Markdown table, asserts nothing.

rlgd and the peer take turns, each in a process of its own, so that every ratio is of two runs that are neighbours in
time: on a shared machine only these mean something.
"""

import argparse
import atexit
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from measure import IMAGES

HERE = Path(__file__).parent
COLUMNS = ("setting", "peer", "rlgd", "peer's", "rlgd / peer (least to most)")

# What each program is given beside the shell's environment: one thread. rlgd's command line does so on the CPU; rejax
# was measured with its default too, and gets what was better for it; Stable-Baselines3 is measured both ways.
ONE_THREAD = {"rlgd": {"PJRT_NPROC": "1"}, "rejax": {"PJRT_NPROC": "1"}, "sb3": {"OMP_NUM_THREADS": "1"}}


class Setting(NamedTuple):
    """A row of the table. ``rlgd`` and ``peer`` run once and return steps per second, seconds, or microseconds."""

    name: str
    peer_name: str
    unit: str
    rlgd: Callable[[], float]
    peer: Callable[[], float]


def run(command: list[str], variables: dict[str, str]) -> str:
    """What a program prints; its failure ends the benchmark with what it said.

    Raises:
        SystemExit: if the program fails.
    """
    environment = os.environ | {"JAX_PLATFORMS": "cpu"} | variables
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with code {done.returncode}:\n{done.stderr}")
    return done.stdout


def trained(python: str, who: str, env: str, num_envs: int, *flags: str, as_installed: bool = False) -> float:
    """The steps per second that one worker reports, with one thread or as it is installed."""
    command = [python, str(HERE / f"{who}_worker.py"), env, str(num_envs), *flags]
    return float(json.loads(run(command, {} if as_installed else ONE_THREAD[who]).splitlines()[-1])["steps_per_second"])


def timed(command: list[str], variables: dict[str, str]) -> float:
    """The wall time of a program in seconds."""
    start = time.perf_counter()
    run(command, variables)
    return time.perf_counter() - start


def device(peers: str) -> list[Setting]:
    """Environments in JAX, compiled together with the update."""

    def setting(num_envs: int) -> Setting:
        return Setting(
            f"PPO, CartPole-v1 on the device, {num_envs:,} environments",
            "rejax",
            "steps/s",
            lambda: trained(sys.executable, "rlgd", "CartPole-v1", num_envs),
            lambda: trained(peers, "rejax", "CartPole-v1", num_envs),
        )

    return [setting(num_envs) for num_envs in (8, 64, 2048)]


def host(peers: str) -> list[Setting]:
    """Gymnasium's environments, stepped from Python."""

    def setting(env: str, *flags: str, as_installed: bool = True) -> Setting:
        return Setting(
            f"PPO, {env} on the host, 8 environments{', overlapping' if flags else ''}",
            f"Stable-Baselines3, {'as installed' if as_installed else 'one thread'}",
            "steps/s",
            lambda: trained(sys.executable, "rlgd", env, 8, "--backend", "host", *flags),
            lambda: trained(peers, "sb3", env, 8, as_installed=as_installed),
        )

    alone = [setting(env, as_installed=False) for env in ("CartPole-v1", "HalfCheetah-v5")]
    return alone + [
        setting(env, *flags)
        for env in ("CartPole-v1", "HalfCheetah-v5", "Ant-v5", "LunarLander-v3")
        for flags in ((), ("--overlap",))
    ]


def images(peers: str) -> list[Setting]:
    """Images of Atari's size from environments that cost nothing, 512 of them an iteration."""

    def setting(as_installed: bool) -> Setting:
        flags = ("--rollout-length", "64")
        return Setting(
            "PPO, images of 84x84x4 on the host, 8 environments",
            f"Stable-Baselines3, {'as installed' if as_installed else 'both with one thread'}",
            "steps/s",
            lambda: trained(sys.executable, "rlgd", IMAGES, 8, "--backend", "host", *flags, as_installed=as_installed),
            lambda: trained(peers, "sb3", IMAGES, 8, *flags, as_installed=as_installed),
        )

    return [setting(as_installed=False), setting(as_installed=True)]


def startup(peers: str) -> list[Setting]:
    """From the shell to the end of a run of one iteration, beside the import that it cannot do without."""
    cache = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, cache, ignore_errors=True)

    def train() -> float:
        with tempfile.TemporaryDirectory() as folder:
            flags = ["--env", "CartPole-v1", "--total-timesteps", "1024", "--eval-episodes", "1", "--quiet"]
            command = [sys.executable, "-m", "rlgd", "train", "ppo", *flags, "--run-dir", str(Path(folder, "run"))]
            return timed(command, {"XDG_CACHE_HOME": cache})

    train()  # fills the compilation cache
    name = "start-up: `rlgd train ppo`, CartPole-v1, one iteration"
    return [Setting(name, "`import jax`", "s", train, lambda: timed([sys.executable, "-c", "import jax"], {}))]


PARTS = {"device": device, "host": host, "images": images, "startup": startup}


def measured(setting: Setting, rounds: int) -> str:
    """One row of the table: medians, and the ratio of each round's two runs."""
    pairs = []
    for done in range(rounds):
        pairs.append((setting.rlgd(), setting.peer()))
        print(f"{setting.name}: round {done + 1} of {rounds}: {pairs[-1][0] / pairs[-1][1]:.2f}", file=sys.stderr)
    ratios = [ours / theirs for ours, theirs in pairs]
    speeds = [statistics.median(column) for column in zip(*pairs, strict=True)]
    spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    digits = {"s": 2, "us": 1}.get(setting.unit, 0)
    return row([setting.name, setting.peer_name, *(f"{x:,.{digits}f} {setting.unit}" for x in speeds), spread])


def row(cells: list[str] | tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


Parts = Mapping[str, Callable[[str], list[Setting]]]


def main(parts: Parts, description: str | None) -> None:
    """Measure what the options select, and print the table."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--peers", default=".peers/bin/python", help="the interpreter of the peers' environment")
    parser.add_argument("--only", choices=tuple(parts), help="one part of the table")
    parser.add_argument("--rounds", type=int, default=3, help="how often each pair runs")
    parser.add_argument("--output", type=Path, help="write the table to this new file as well")
    args = parser.parse_args()
    if args.output and os.path.lexists(args.output):
        parser.error(f"{args.output} exists; name another file")
    lines = [row(COLUMNS), row(["---"] * len(COLUMNS))]
    for part in [args.only] if args.only else list(parts):
        lines += [measured(setting, args.rounds) for setting in parts[part](args.peers)]
    print("\n".join(lines))
    if args.output:
        with args.output.open("x") as file:
            file.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(PARTS, __doc__)
