"""Runs of days: memory stays as it is, counters do not wrap, and what is written can be read at once."""

import dataclasses
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import rlgd
from rlgd import envs, training
from rlgd.agents import A2C
from rlgd.envs import DeviceEnv
from rlgd.maths import running_statistics
from rlgd.run import RunConfig, RunSettings, execute
from rlgd.run.sinks.rows import Row, RowAverager
from rlgd.run.sinks.tensorboard import ANSWERS
from rlgd.training import chunks
from rlgd.training.loop import ROLLOUT, iteration_key, iterations_done

AGENT = A2C(num_envs=4, rollout_length=8, hidden_sizes=(8,), measure_every=0, normalize_obs=True)
STEPS = 32  # of an iteration


def resident() -> int:
    """Bytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Scale:
    """Weighs the process at every row."""

    def __init__(self) -> None:
        self.weights: list[int] = []

    def write(self, row: Row) -> None:
        self.weights.append(resident())

    def close(self) -> None:
        pass


@pytest.mark.slow
def test_memory_does_not_grow_over_thousands_of_chunks(tmp_path: Path) -> None:
    settings = RunSettings(5000 * STEPS, eval_episodes=2, checkpoint_every=1000 * STEPS)
    config = RunConfig(AGENT, envs.make("CartPole-v1"), settings, chunk_length=1)
    scale = Scale()
    result = execute(config, tmp_path / "run", sinks=[scale], metrics=False)
    assert result.metrics == {}
    assert result.steps == 5000 * STEPS
    third = len(scale.weights) // 3
    assert np.median(scale.weights[-third:]) - np.median(scale.weights[third : 2 * third]) < 8 * 2**20


def test_steps_and_iterations_count_beyond_32_bits() -> None:
    env = envs.make("CartPole-v1")
    assert isinstance(env, DeviceEnv)
    agent = AGENT.prepared()
    loop = training.initialize(agent, env, jax.random.key(0), 2**40)
    loop = dataclasses.replace(loop, iteration=jnp.int32(2**31 - 20))
    runner, averager = training.DeviceRunner(agent, env, 16), RowAverager(10, 2**31 - 1000, iteration=2**31 - 20)
    seen: list[training.Chunk] = []
    for chunk in chunks.chunks(runner, loop, 16, 2**40, 2**31 - 1000):
        seen.append(chunk)
        rows = list(averager.rows(chunk))
        assert all(row.step > 2**31 - 1000 for row in rows)
        if len(seen) == 5:
            break
    iterations = 5 * 16 - (2**31 - 20) % 16  # chunks end at multiples of 16
    assert seen[-1].steps == averager.step == 2**31 - 1000 + iterations * STEPS
    assert iterations_done(seen[-1].loop) == averager.iteration == 2**31 - 20 + iterations
    progress = [float(chunk.loop.progress) for chunk in seen]
    assert progress == sorted(progress)
    np.testing.assert_allclose(progress[-1], seen[-1].steps / 2**40, rtol=1e-6)
    keys = [iteration_key(chunk.loop, ROLLOUT) for chunk in seen]
    assert len({tuple(jax.random.key_data(key).tolist()) for key in keys}) == len(keys)


def test_statistics_follow_the_data_beyond_2_to_the_24_rows() -> None:
    """A shifted mean still moves them: they do not stall."""
    statistics = running_statistics.RunningStatistics(jnp.float32(2**24), jnp.zeros(1), jnp.ones(1))
    batch = running_statistics.of_batch(jnp.full((1024, 1), 5.0) + jax.random.normal(jax.random.key(0), (1024, 1)))
    merged = jax.jit(lambda s: jax.lax.fori_loop(0, 2**15, lambda _, s: running_statistics.merge(s, batch), s))(
        statistics
    )
    assert merged.mean[0] > 3  # 2^25 rows of 5 after 2^24 of 0
    assert merged.count > 2**25


def test_what_is_written_can_be_read_while_the_run_goes_on(tmp_path: Path) -> None:
    seen: list[tuple[int, int, int]] = []

    class Reader:
        def write(self, row: Row) -> None:
            if len(seen) < 3 and "time/training_seconds" in row.values:
                events = EventAccumulator(str(tmp_path)).Reload()
                lines = (tmp_path / "metrics.jsonl").read_text().count("\n")
                seen.append((row.step, events.Scalars(ANSWERS["time/training_seconds"])[-1].step, lines))

        def close(self) -> None:
            pass

    config = RunConfig(AGENT, envs.make("CartPole-v1"), RunSettings(8 * STEPS, eval_episodes=2), chunk_length=1)
    execute(config, tmp_path, sinks=[Reader()])
    assert seen == [(STEPS, STEPS, 1), (2 * STEPS, 2 * STEPS, 2), (3 * STEPS, 3 * STEPS, 3)]
    assert rlgd.load(tmp_path)(np.zeros(4)) in (0, 1)
