"""rlgd's speed on this machine's accelerator, in one process: prints Markdown tables, asserts nothing.

It begins with what matters most and stops when its time is over; rows that were left out are named. Where there is no
GPU it runs on the CPU: `--sizes 8 --minutes 2` then shows that it works.
"""

import argparse
import collections
import gzip
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import purejaxrl
from gymnasium.experimental.functional import FuncEnv
from jax import Array

import rlgd
from rlgd import envs, training
from rlgd.agents import A2C, PPO, REINFORCE, TRPO
from rlgd.agents.base.agent import Agent
from rlgd.ascent import Ascent
from rlgd.envs import DeviceEnv
from rlgd.system.machine import device_name
from rlgd.training.programs import programs_of

SIZES = (64, 2048, 16_384, 65_536)  # environments
SECONDS = 2.0  # of training in each row
STEPS = 2**31 - 1  # without end: the number of iterations says when a call returns
SEEDS, VALUES, STUDY_STEPS = 16, 8, 50_000  # of the study: 8 momenta, 8 learning rates


class Pictures(FuncEnv[Array, Array, Array, Array, Array, Any, Any]):
    """A point that moves on a picture of MinAtar's size, 10 x 10 x 4: its cost is that of the picture."""

    observation_space = gymnasium.spaces.Box(0, 255, (10, 10, 4), np.uint8)
    action_space = gymnasium.spaces.Discrete(6)

    def initial(self, rng: Any, params: Any = None) -> Array:
        return jax.random.randint(rng, (2,), 0, 10)

    def transition(self, state: Array, action: Any, rng: Any, params: Any = None) -> Array:
        return (state + jnp.stack([action % 3, action // 3]).astype(state.dtype)) % 10

    def observation(self, state: Array, rng: Any, params: Any = None) -> Array:
        return jnp.zeros((10, 10, 4), jnp.uint8).at[state[0], state[1]].set(255)

    def reward(self, state: Array, action: Any, next_state: Array, rng: Any, params: Any = None) -> Array:
        return (next_state[0] == next_state[1]).astype(jnp.float32)

    def terminal(self, state: Array, rng: Any, params: Any = None) -> Array:
        return jnp.all(state == 9)


def ppo(num_envs: int, **changes: Any) -> PPO:
    """PPO as the peers are set: 4 epochs of 4 minibatches."""
    ascent = Ascent("adam", learning_rate=2.5e-4, max_grad_norm=0.5, schedule="linear")
    own: dict[str, Any] = {"rollout_length": 128, "num_epochs": 4, "num_minibatches": 4, "measure_every": 0}
    return PPO(num_envs=num_envs, **(own | {"ascent": ascent} | changes))


class Setting(NamedTuple):
    """A row of the table."""

    name: str
    agent: Agent
    env: DeviceEnv


def on_device(env: Any, **kwargs: Any) -> DeviceEnv:
    """A device environment."""
    made = envs.make(env, **kwargs)
    assert isinstance(made, DeviceEnv)
    return made


def settings(sizes: tuple[int, ...]) -> Iterator[Setting]:
    """What is measured, the most important first."""
    cartpole, middle = on_device("CartPole-v1"), sizes[min(1, len(sizes) - 1)]
    yield Setting("PPO", ppo(middle), cartpole)
    others: list[Callable[[int], tuple[str, Agent]]] = [
        lambda size: ("PPO", ppo(size)),
        lambda size: ("A2C", A2C(num_envs=size, measure_every=0)),
        lambda size: ("REINFORCE", REINFORCE(num_envs=size, measure_every=0)),
        lambda size: ("TRPO", TRPO(num_envs=size, rollout_length=128, measure_every=0)),
    ]
    for size in (middle, *(size for size in sizes if size != middle)):
        for make in others:
            name, agent = make(size)
            if (name, size) != ("PPO", middle):
                yield Setting(name, agent, cartpole)
        if size == middle:
            yield Setting("PPO, its defaults", PPO(num_envs=size), cartpole)
            yield Setting("PPO with a GRU", ppo(size, network="gru"), cartpole)
            yield Setting("PPO", ppo(size), on_device("Pendulum-v1"))
            yield Setting("PPO, images 10 x 10 x 4", ppo(size), on_device(Pictures(), max_episode_steps=100))


def speed(run: Callable[[], int]) -> float:
    """Steps a second of ``run``, which returns the steps that it made, after one call that does not count."""
    run()
    start, steps = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - start) < SECONDS:
        steps += run()
    return steps / elapsed


def training_speed(agent: Agent, env: DeviceEnv) -> Callable[[], int]:
    """Trains a chunk, as ``rlgd train`` does, and continues where it was."""
    length, prepared = training.chunk_length(agent, env), agent.prepared()
    loop, runner = training.initialize(prepared, env, jax.random.key(0)), training.DeviceRunner(prepared, env, length)

    def run() -> int:
        nonlocal loop
        loop, metrics = runner(loop, length, STEPS)
        return int(metrics["rollout/steps"].sum(dtype=np.int64))

    return run


def stepping_speed(env: DeviceEnv, num_envs: int, length: int = 512) -> Callable[[], int]:
    """Steps the environments with random actions, in one compiled loop."""
    state, _ = env.reset(jax.random.key(0), num_envs)
    space = env.func_env.action_space
    number = space.n if isinstance(space, gymnasium.spaces.Discrete) else None
    shape = (length, num_envs, *(space.shape or ()))

    @jax.jit
    def loop(state: Any, key: Array) -> tuple[Any, Array]:
        step_key, action_key = jax.random.split(key)
        if number is None:
            actions = jax.random.normal(action_key, shape)
        else:
            actions = jax.random.randint(action_key, shape, 0, number)

        def step(state: Any, row: tuple[Array, Array]) -> tuple[Any, Array]:
            fresh = env.reset(row[1], num_envs)
            state, timestep = env.step(row[1], state, row[0], fresh)
            return state, timestep.reward

        return jax.lax.scan(step, state, (actions, jax.random.split(step_key, length)))

    key = jax.random.key(1)

    def run() -> int:
        nonlocal state, key
        key, now = jax.random.split(key)
        state, _ = jax.block_until_ready(loop(state, now))
        return length * num_envs

    return run


def row(setting: Setting) -> str:
    """A row of the table."""
    jax.clear_caches()
    cold = next(programs_of(setting.agent, setting.env))
    jax.clear_caches()
    warm = next(programs_of(setting.agent, setting.env))
    trained = speed(training_speed(setting.agent, setting.env))
    stepped = speed(stepping_speed(setting.env, setting.agent.num_envs))
    memory = "-" if cold.memory_bytes is None else f"{cold.memory_bytes / 2**20:,.0f} MiB"
    cells = (
        setting.name, setting.env.env_id, f"{setting.agent.num_envs:,}", f"{trained:,.0f}", f"{trained / stepped:.1%}",
        f"{cold.compile_seconds:.1f} s", f"{warm.compile_seconds:.1f} s", memory,
    )  # fmt: skip
    return f"| {' | '.join(cells)} |"


COLUMNS = ("agent", "environment", "environments", "steps/s", "of bare stepping", "cold", "from cache", "memory")


def study() -> str:
    """The price of a study of many members, in single runs."""
    agent = ppo(8, measure_every=0)
    start = time.perf_counter()
    rlgd.train(agent, "CartPole-v1", total_timesteps=STUDY_STEPS, seed=0)
    single = time.perf_counter() - start
    vary = {
        "momentum": np.linspace(0.0, 0.97, VALUES).tolist(),
        "learning_rate": np.geomspace(1e-4, 1e-2, VALUES).tolist(),
    }
    start = time.perf_counter()
    result = rlgd.study(agent, "CartPole-v1", vary, seeds=SEEDS, total_timesteps=STUDY_STEPS, eval_episodes=8)
    whole = time.perf_counter() - start
    return (
        f"a study of {len(result.outcomes):,} members, {STUDY_STEPS:,} steps each, compiling included: {whole:.1f} s; "
        f"a single run: {single:.1f} s; the study costs {whole / single:.1f} single runs"
    )


def kernels(setting: Setting, most: int = 12) -> Iterator[str]:
    """The kernels that take most of the time of a chunk, by JAX's profiler."""
    run = training_speed(setting.agent, setting.env)
    run()
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder, create_perfetto_trace=False):
            run()
        (file,) = Path(folder).rglob("*.trace.json.gz")
        events = json.loads(gzip.decompress(file.read_bytes()))["traceEvents"]
    places = {event["pid"]: event["args"]["name"] for event in events if event.get("name") == "process_name"}
    spent: collections.Counter[str] = collections.Counter()
    for event in events:
        if event.get("ph") == "X" and "GPU" in places.get(event["pid"], "") and "hlo_op" in event.get("args", {}):
            spent[event["name"]] += event["dur"]
    total = sum(spent.values())
    for name, microseconds in spent.most_common(most):
        yield f"| {name} | {microseconds / 1e3:,.2f} ms | {microseconds / total:.1%} |"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=8.0, help="no row begins after this")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="numbers of environments")
    parser.add_argument("--no-study", action="store_true")
    args = parser.parse_args()
    end = time.monotonic() + 60 * args.minutes
    cache = tempfile.TemporaryDirectory()  # ours alone: the first compilation is a cold one
    jax.config.update("jax_compilation_cache_dir", cache.name)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    print(f"{device_name()}, JAX {jax.__version__}\n", flush=True)
    print(f"| {' | '.join(COLUMNS)} |\n| {' | '.join('-' * len(name) for name in COLUMNS)} |", flush=True)
    left_out, about = [], None
    todo = list(settings(tuple(args.sizes)))
    for number, setting in enumerate(todo):
        if time.monotonic() > end:
            left_out.append(f"{setting.name} {setting.agent.num_envs:,}")
            continue
        print(row(setting), flush=True)
        if number == 0:
            peer = speed(purejaxrl.training(setting.agent.num_envs, training.chunk_length(setting.agent, setting.env)))
            print(f"| PPO as PureJaxRL | CartPole-v1 | {setting.agent.num_envs:,} | {peer:,.0f} | | | | |", flush=True)
        if number == 0 and not args.no_study:
            about = study()  # its place is early: it answers the flagship question
    if about is not None:
        print(f"\n{about}")
    if jax.default_backend() != "cpu":
        print("\n| kernel | time | share |\n| --- | --- | --- |")
        print("\n".join(kernels(todo[0])))
    if left_out:
        print(f"\nleft out, as the time was over: {', '.join(left_out)}")


if __name__ == "__main__":
    main()
