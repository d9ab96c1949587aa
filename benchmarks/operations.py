"""Where an iteration of PPO on the device spends its time, by operation, from XLA's profiler.

    python benchmarks/operations.py 8 64 2048

prints a table for each number of environments: the share of the time in each kind of operation, in collecting and in
learning. Fusions of several operations count as what their last one is; the transpose of a gradient is the product that
gives a kernel's. One thread, as the command line trains on a CPU.
"""

import os

os.environ.setdefault("PJRT_NPROC", "1")

import argparse
import collections
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from speed import row

from rlgd import envs, training
from rlgd.agents import make_agent
from rlgd.envs import DeviceEnv
from rlgd.training.runners import chunk_program

LEAST = 0.01  # of the time; what takes less is summed up as the rest
INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?([\w.\-]+) = .*?metadata=\{[^}]*?op_name=\"([^\"]+)\"", re.MULTILINE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("num_envs", type=int, nargs="+")
    for num_envs in parser.parse_args().num_envs:
        times = operations(num_envs)
        total = sum(times.values())
        print(f"\nPPO, CartPole-v1 on the device, {num_envs:,} environments\n")
        print(row(("part", "operation", "share of the time")))
        print(row(("---",) * 3))
        for (part, name), seconds in sorted(times.items(), key=lambda item: -item[1]):
            if seconds >= LEAST * total:
                print(row((part, name, f"{seconds / total:.1%}")))
        rest = sum(seconds for seconds in times.values() if seconds < LEAST * total)
        print(row(("", "the rest", f"{rest / total:.1%}")))


def operations(num_envs: int) -> dict[tuple[str, str], float]:
    """Nanoseconds by part and operation, in one chunk of iterations."""
    env = envs.make("CartPole-v1")
    assert isinstance(env, DeviceEnv)
    settings = {"num_epochs": 4, "num_minibatches": 4, "max_grad_norm": 0.5, "measure_every": 0}
    agent = make_agent("ppo", num_envs=num_envs, **settings).prepared()
    length = training.chunk_length(agent, env)
    loop = training.initialize(agent, env, jax.random.key(0))
    given = (loop, np.int32(length), np.int32(2**31 - 1))
    compiled = chunk_program.program(env).lower(agent, length, *given).compile()
    names = dict(INSTRUCTION.findall(compiled.as_text()))
    jax.block_until_ready(compiled(agent, *given))
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            jax.block_until_ready(compiled(agent, *given))
        (profile,) = Path(folder).rglob("*.xplane.pb")
        planes = jax.profiler.ProfileData.from_file(str(profile)).planes
        times: dict[tuple[str, str], float] = collections.defaultdict(float)
        for line in (line for plane in planes for line in plane.lines):
            for name, nanoseconds in alone([event for event in line.events if event.name in names]):
                times[described(names[name])] += nanoseconds
    return times


def alone(events: list[Any]) -> Iterator[tuple[str, float]]:
    """The name of each event of a thread, and the time that it took without those inside it, such as a loop's body."""
    inside: list[list[Any]] = []  # an event that is not over, and its time without those inside it
    for event in sorted(events, key=lambda event: (event.start_ns, -event.duration_ns)):
        while inside and inside[-1][0].end_ns <= event.start_ns:
            over, nanoseconds = inside.pop()
            yield over.name, nanoseconds
        if inside:
            inside[-1][1] -= event.duration_ns
        inside.append([event, event.duration_ns])
    for over, nanoseconds in inside:
        yield over.name, nanoseconds


def described(path: str) -> tuple[str, str]:
    """The part of an iteration and the operation of an instruction, from the names of the functions around it."""
    parts = path.split("/")
    part = next((part for part in ("collecting", "learning") if part in parts), "between the two")
    if part == "learning":
        part += ": gradients" if "jvp" in path else ": the rest"
    return part, parts[-1]


if __name__ == "__main__":
    main()
