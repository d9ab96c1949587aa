"""What a checkpoint costs a run that trains on beside it, as a share of the default interval.

    .venv/bin/python benchmarks/checkpoints.py [--rounds 5] [--agent ppo] [--seconds 10]

Pieces of a run are trained in one process, in turn without and with a checkpoint that is being written; the difference
of their times, the median over rounds, is what it costs.
"""

import argparse
import dataclasses
import statistics
import tempfile
import time
from pathlib import Path

import jax

from rlgd import envs, training
from rlgd.agents import make_agent
from rlgd.envs import DeviceEnv
from rlgd.pytrees import LoopState
from rlgd.run.checkpoints import state
from rlgd.run.checkpoints.saver import Saver
from rlgd.run.counters import Counters


def main() -> None:
    """Measure, and print the share."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--agent", default="ppo")
    parser.add_argument("--env", default="CartPole-v1")
    parser.add_argument("--seconds", type=float, default=10, help="of a piece; the share is of an interval of 60 s")
    options = parser.parse_args()
    agent, env = make_agent(options.agent).prepared(), envs.make(options.env)
    assert isinstance(env, DeviceEnv)
    length = training.chunk_length(agent, env)
    runner = training.DeviceRunner(agent, env, length)
    loop = training.initialize(agent, env, jax.random.key(0), 10**12)
    loop, _ = runner(loop, length, 2**31 - 1)
    start = time.perf_counter()
    loop, _ = runner(loop, length, 2**31 - 1)
    chunks = max(2, round(options.seconds / (time.perf_counter() - start)))
    saver = Saver()
    lost = []

    def piece(loop: LoopState, directory: Path | None) -> float:
        start = time.perf_counter()
        if directory is not None:
            counters = dataclasses.asdict(Counters(0.0, 0.0, 0.0))
            saver.submit(lambda: state.save(directory, 1, loop, {"versions": {"rlgd": ""}}, counters))
        for _ in range(chunks):
            loop, _ = runner(loop, length, 2**31 - 1)
        return time.perf_counter() - start

    with tempfile.TemporaryDirectory() as folder:
        for _ in range(options.rounds):
            without, beside = piece(loop, None), piece(loop, Path(folder))
            saver.wait()
            lost.append(beside - without)
            print(f"{without:.2f} s without, {beside:.2f} s with a checkpoint beside it", flush=True)
    saver.close()
    seconds = statistics.median(lost)
    print(f"a checkpoint costs {seconds:.2f} s of training: {seconds / 60:.2%} at the default of one in 60 s")


if __name__ == "__main__":
    main()
