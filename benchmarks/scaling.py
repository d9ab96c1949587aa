"""What a training program costs on several devices: what it moves between them, and how long it takes.

    python benchmarks/scaling.py collectives          # read from the compiled program; needs no second device
    python benchmarks/scaling.py times                # one device, then several, in one process, in turns
    python benchmarks/scaling.py model                # an iteration on 8, 64 and 512 devices, under stated assumptions

A CPU is divided into eight devices, which share its cores: then ``times`` shows what dividing costs, and not what it
gains. On a machine with several GPUs it takes those.
"""

import argparse
import dataclasses
import os
import re
import statistics
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

os.environ.setdefault("JAX_NUM_CPU_DEVICES", "8")

import jax
import numpy as np
from jax.sharding import AxisType, Mesh

from rlgd import training
from rlgd.agents import make_agent
from rlgd.agents.base.agent import Agent
from rlgd.envs import DeviceEnv, make
from rlgd.system.mesh import AXIS, SHUFFLES, active, make_mesh
from rlgd.training.placement import placed, shardings
from rlgd.training.runners import chunk_program

AGENTS = ("ppo", "a2c", "reinforce", "npg", "trpo")
COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "collective-permute", "all-to-all")
DTYPE_BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "f32": 4, "s64": 8, "f64": 8}
# What ``model`` assumes of a machine: the time that a collective takes however small it is, and bytes a second.
NETWORKS = {"within a machine (8 GPUs)": (20e-6, 200e9), "between machines": (60e-6, 20e9)}


class Collective(NamedTuple):
    """A collective of the compiled program: what it does, the bytes of its result, how often in an iteration."""

    kind: str
    num_bytes: int
    times: int


def compiled_text(agent: Agent, env: DeviceEnv, mesh: Mesh | None) -> str:
    """The training program as XLA compiled it for the devices of a mesh."""
    prepared = agent.prepared()
    loop = jax.eval_shape(lambda key: training.initialize(prepared, env, key, 1), jax.random.key(0))
    if mesh is not None:
        where = shardings(prepared, env, mesh)
        loop = jax.tree.map(lambda x, at: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=at), loop, where)
    number = jax.ShapeDtypeStruct((), np.int32)
    with active(mesh):
        return chunk_program.program(env).lower(prepared, 1, loop, number, number).compile().as_text()


def collectives(text: str) -> Iterator[Collective]:
    """The collectives of one iteration; loops whose number of turns is not known count as one turn."""
    computations: dict[str, list[str]] = {}
    for line in text.splitlines():
        if header := re.match(r"(ENTRY )?%?(\S+) \(.*\{$", line):
            lines = computations.setdefault("ENTRY" if header[1] else header[2], [])
        elif computations:
            lines.append(line)

    def walk(name: str, times: int) -> Iterator[Collective]:
        for line in computations.get(name, ()):
            if found := re.match(rf"\s*(?:ROOT )?\S+ = (.*?) ({'|'.join(COLLECTIVES)})(?:-start)?\(", line):
                yield Collective(found[2], sum(map(_bytes, re.findall(r"(\w+)\[([\d,]*)\]", found[1]))), times)
            turns = re.search(r'known_trip_count":\{"n":"(\d+)"', line)
            for key, inner in re.findall(r"(body|condition|to_apply|calls)=%?([\w.-]+)", line):
                if "reduce(" not in line:  # an operation of two numbers
                    yield from walk(inner, times * (int(turns[1]) if turns and key == "body" else 1))

    return walk("ENTRY", 1)


def _bytes(shape: tuple[str, str]) -> int:
    dtype, sizes = shape
    return DTYPE_BYTES.get(dtype, 0) * int(np.prod([int(size) for size in sizes.split(",") if size]))


def show_collectives(args: argparse.Namespace) -> None:
    """A table: for each agent, calls and bytes of each kind of collective in an iteration."""
    print(f"| agent, {args.num_envs} environments | shuffle | calls | MB in an iteration | of which all-gather |")
    print("|---|---|---|---|---|")
    for name in args.agents:
        for shuffle in SHUFFLES:
            text = compiled_text(_agent(name, args), _env(args), make_mesh(args.devices, shuffle))
            found = list(collectives(text))
            total = sum(each.times * each.num_bytes for each in found)
            gathered = sum(each.times * each.num_bytes for each in found if each.kind == "all-gather")
            calls = sum(each.times for each in found)
            print(f"| {name} | {shuffle} | {calls} | {total / 1e6:.2f} | {gathered / 1e6:.2f} |", flush=True)


def show_times(args: argparse.Namespace) -> None:
    """Seconds of training: without a mesh, with a mesh of one device, and on all devices; medians of paired ratios."""
    agent, env, rounds = _agent(args.agents[0], args), _env(args), args.rounds
    one = jax.make_mesh((1,), (AXIS,), devices=jax.devices()[:1], axis_types=(AxisType.Auto,))
    meshes: dict[str, Mesh | None] = {"no mesh": None, "a mesh of one device": one}
    for devices in sorted({2, args.devices}):
        for shuffle in SHUFFLES:
            meshes[f"{devices} devices, {shuffle} shuffle"] = make_mesh(devices, shuffle)
    programs = {name: _Timed(agent, env, mesh, args.iterations) for name, mesh in meshes.items()}
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(rounds):
        for name, program in programs.items():
            seconds[name].append(program())
    print(f"{args.agents[0]}, {args.num_envs} environments, strong scaling; times without a mesh are 1")
    for name, taken in seconds.items():
        ratios = sorted(own / base for own, base in zip(taken, seconds["no mesh"], strict=True))
        print(f"  {name:32s} {statistics.median(ratios):.3f}  ({ratios[0]:.3f} to {ratios[-1]:.3f})", flush=True)


class _Timed:
    """A training program, compiled; each call trains for some iterations and gives the processor's seconds."""

    def __init__(self, agent: Agent, env: DeviceEnv, mesh: Mesh | None, iterations: int) -> None:
        self.agent, self.env, self.mesh, self.iterations = agent.prepared(), env, mesh, iterations
        loop = training.initialize(self.agent, env, jax.random.key(0), None)
        self.loop = loop if mesh is None else placed(loop, shardings(self.agent, env, mesh))
        self.run(0)
        self.run(1)

    def run(self, iterations: int) -> None:
        with active(self.mesh):
            number, rows = np.int32(iterations), np.int32(2**31 - 1)
            jax.block_until_ready(chunk_program(self.agent, self.env, self.iterations, self.loop, number, rows))

    def __call__(self) -> float:
        start = time.perf_counter()
        self.run(self.iterations)
        return time.perf_counter() - start


def show_model(args: argparse.Namespace) -> None:
    """Seconds that an iteration spends on collectives: each takes a latency, and its bytes over a ring of devices."""
    print("| agent | shuffle | network | 8 devices | 64 devices | 512 devices |\n|---|---|---|---|---|---|")
    for name in args.agents:
        for shuffle in SHUFFLES:
            mesh = make_mesh(args.devices, shuffle)
            found = list(collectives(compiled_text(_agent(name, args), _env(args), mesh)))
            for network, (latency, rate) in NETWORKS.items():
                cells = [f"{1e3 * sum(_seconds(each, n, args.devices, latency, rate) for each in found):.1f} ms"
                         for n in (8, 64, 512)]  # fmt: skip
                print(f"| {name} | {shuffle} | {network} | {' | '.join(cells)} |", flush=True)


def _seconds(each: Collective, devices: int, measured: int, latency: float, rate: float) -> float:
    """Of a collective in an iteration with as many environments on each device as measured.

    A ring moves (n - 1) / n of the bytes, twice for a sum. What is gathered grows with the number of devices.
    """
    size = each.num_bytes * (devices / measured if each.kind == "all-gather" else 1)
    rounds = 2 if each.kind == "all-reduce" else 1
    return each.times * (latency * np.log2(devices) + rounds * size * (devices - 1) / devices / rate)


def _agent(name: str, args: argparse.Namespace) -> Agent:
    return dataclasses.replace(make_agent(name), num_envs=args.num_envs, measure_every=0)


def _env(args: argparse.Namespace) -> Any:
    env = make(args.env)
    assert isinstance(env, DeviceEnv)
    return env


def main() -> None:
    """Show what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shown = {"collectives": show_collectives, "times": show_times, "model": show_model}
    parser.add_argument("what", choices=shown)
    parser.add_argument("--agents", nargs="+", default=AGENTS)
    parser.add_argument("--env", default="CartPole-v1")
    parser.add_argument("--num-envs", type=int, default=2048)
    parser.add_argument("--devices", type=int, default=8)
    parser.add_argument("--iterations", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    shown[args.what](args)


if __name__ == "__main__":
    main()
