"""What a GPU would be given to do: compiles a training program for an NVIDIA H100 on any machine, and counts.

    python -m venv .gpu && .gpu/bin/pip install -c constraints-py311.txt . "jax[cuda12]"   # 6 GB; no driver is needed
    .gpu/bin/python benchmarks/launches.py ppo CartPole-v1 2048 --set measure_every=0

A program of small networks is made of launches: each kernel or copy takes some microseconds, whatever it computes, and
the host pays for each graph of kernels, and for each kernel outside of graphs. Nothing runs, so there are no times of
training; the time to compile is that without autotuning.
"""

import argparse
import dataclasses
import json
import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
from jax.experimental import topologies

from rlgd import training
from rlgd.agents import make_agent
from rlgd.envs import DeviceEnv, make
from rlgd.training.loop import run_iterations

# What the compiler asks of a device; the facts are those of XLA's own description of this GPU.
H100 = """
gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 2048
  shared_memory_per_block: 49152 shared_memory_per_core: 233472 shared_memory_per_block_optin: 232448
  core_count: 132 fpus_per_core: 128 clock_rate_ghz: 1.98
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  thread_dim_limit_x: 1024 thread_dim_limit_y: 1024 thread_dim_limit_z: 64
  memory_bandwidth: 3352320000000 l2_cache_size: 52428800 device_memory_size: 84942979072
  cuda_compute_capability { major: 9 feature_extension: ACCELERATED_FEATURES }
  registers_per_core_limit: 65536 registers_per_block_limit: 65536 device_address_bits: 64
  device_vendor: "NVIDIA Corporation" name: "NVIDIA H100 80GB HBM3"
  driver_version: "13.0.0" runtime_version: "12.9.0" compile_time_toolkit_version: "12.9.0" dnn_version: "9.28.0"
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 28 patch: 0 }
runtime_version { major: 12 minor: 9 patch: 0 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""
GROUPS = ("kCommandBuffer", "kSequential", "kDynamicSliceFusion")  # of thunks, which launch nothing themselves


@dataclasses.dataclass
class Thunk:
    """A step of the compiled program: a kernel, a copy, a group of steps, or a loop with its number of turns."""

    kind: str
    turns: int | None = None
    steps: list["Thunk"] = dataclasses.field(default_factory=list)

    def launches(self) -> Iterator["Thunk"]:
        """Kernels and copies of one turn, without those of loops inside."""
        for step in self.steps:
            if step.kind in GROUPS:
                yield from step.launches()
            elif step.kind != "kWhile":
                yield step

    def loops(self) -> Iterator["Thunk"]:
        """The loops inside."""
        for step in self.steps:
            if step.kind == "kWhile":
                yield step
            else:
                yield from step.loops()

    def total(self) -> int:
        """Kernels and copies of one turn, those of loops of known length included."""
        return sum(1 for _ in self.launches()) + sum((loop.turns or 0) * loop.total() for loop in self.loops())

    def host_calls(self) -> int:
        """Graphs, and kernels and copies outside of graphs, of one turn; loops of known length included."""
        calls = 0
        for step in self.steps:
            if step.kind == "kWhile":
                calls += (step.turns or 0) * step.host_calls()
            elif step.kind in ("kSequential", "kDynamicSliceFusion"):
                calls += step.host_calls()
            else:
                calls += 1
        return calls


def lowered(agent: str, env_id: str, num_envs: int, changes: dict[str, Any]) -> tuple[Any, int]:
    """The program of training for the GPU, and how many iterations it has."""
    device = topologies.get_topology_desc(platform="cuda", target_config=H100, topology="1x1x1").devices[0]
    sharding = jax.sharding.SingleDeviceSharding(device)
    jax.default_backend = lambda: "gpu"  # which layout the program gets
    env, chosen = make(env_id), make_agent(agent, num_envs=num_envs, **changes)
    assert isinstance(env, DeviceEnv)
    chosen.validate()
    length, prepared = training.chunk_length(chosen, env), chosen.prepared()
    loop = jax.eval_shape(lambda agent, key: training.initialize(agent, env, key), prepared, jax.random.key(0))
    number = jax.ShapeDtypeStruct((), jax.numpy.int32)
    arguments = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), (prepared, loop, number, number)
    )
    program = jax.jit(lambda agent, loop, iterations, rows: run_iterations(agent, env, length, loop, iterations, rows))
    return program.lower(*arguments), length


def read(folder: Path) -> Thunk:
    """The compiled program, from what the compiler wrote."""

    def largest(pattern: str) -> str:  # the others are of small programs that came before
        return max(folder.glob(pattern), key=lambda path: path.stat().st_size).read_text()

    instructions = largest("*gpu_after_optimizations.txt")
    trips = dict(re.findall(r'%([\w.\-]+) = [^\n]*? while\([^\n]*"known_trip_count":\{"n":"(\d+)"', instructions))
    about = largest("*thunk_metadata.txt").split("thunk_metadata {")
    found = [(re.search(r"thunk_id: (\d+)", text), re.search(r'profile_annotation: "([^"]*)"', text)) for text in about]
    names = {int(number[1]): name[1] for number, name in found if number and name}
    root = Thunk("kSequential")
    above, in_condition = [(-1, root)], False
    for line in largest("*thunk_sequence_after_thunk_passes.txt").splitlines():
        if line.strip() in ("condition:", "body:"):
            in_condition = line.strip() == "condition:"
        elif (match := re.match(r"( *)(\d+): (k\w+)", line)) and not in_condition:
            indent, turns = len(match[1]), trips.get(names.get(int(match[2]), ""))
            thunk = Thunk(match[3], int(turns) if turns else None)
            while above[-1][0] >= indent:
                above.pop()
            above[-1][1].steps.append(thunk)
            above.append((indent, thunk))
    return root


def describe(loop: Thunk, depth: int = 0) -> Iterator[str]:
    """A loop and those inside, a line each."""
    launches = [step.kind for step in loop.launches()]
    copies = launches.count("kCopy")
    turns = f"{loop.turns:,} turns" if loop.turns else "as many turns as it takes"
    yield f"{'  ' * depth}{turns}: {len(launches) - copies} kernels and {copies} copies in each"
    for inner in loop.loops():
        yield from describe(inner, depth + 1)


def main() -> None:
    """Print the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("agent")
    parser.add_argument("env")
    parser.add_argument("num_envs", type=int)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a hyper-parameter, in JSON")
    args = parser.parse_args()
    jax.config.update("jax_platforms", "cpu")  # otherwise the plugin for GPUs asks for a driver
    changes = {name: json.loads(value) for name, _, value in (text.partition("=") for text in args.set)}
    program, length = lowered(args.agent, args.env, args.num_envs, changes)
    start, cpu = time.perf_counter(), time.process_time()
    memory = program.compile().memory_analysis()
    print(f"compiled in {time.perf_counter() - start:.1f} s, {time.process_time() - cpu:.1f} s of CPU")
    print(f"memory: {(memory.temp_size_in_bytes + memory.argument_size_in_bytes) / 2**20:,.1f} MiB")
    with tempfile.TemporaryDirectory() as folder:
        program.compile(compiler_options={"xla_dump_to": folder})
        (chunk,) = read(Path(folder)).loops()
    print(
        f"an iteration, loops of unknown length left out: {chunk.total():,} launches, {chunk.host_calls():,} host calls"
    )
    print(f"the program, {length} iteration{'s' if length > 1 else ''} at a time:")
    print("\n".join(describe(chunk)))


if __name__ == "__main__":
    main()
