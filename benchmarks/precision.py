"""What less precise matrix products do to learning: 20 seeds each in float32, TensorFloat-32 and bfloat16.

    python benchmarks/precision.py

A GPU multiplies float32 matrices in TensorFloat-32 unless ``--matmul-precision highest`` says otherwise: both factors
are rounded to 10 bits behind the point, their products are added in float32. A CPU has no such products, so they are
made here: the factors of every matrix product, gradients included, are rounded before it. ``--compute-dtype bfloat16``
is the toolkit's own.
"""

import os

# As the command line sets JAX up on a CPU; before jax is imported.
os.environ.setdefault("PJRT_NPROC", "1")

import argparse
import concurrent.futures
import multiprocessing
from typing import Any

import numpy as np
from jax._src.lax import lax
from jax.interpreters import mlir
from jaxlib.mlir.dialects import stablehlo

import rlgd
from rlgd.agents import make_agent
from rlgd.maths import confidence

AGENTS = {"ppo": ("CartPole-v1", 100_000), "a2c": ("CartPole-v1", 200_000), "trpo": ("Pendulum-v1", 300_000)}
PRECISIONS = ("float32", "tensorfloat32", "bfloat16")
SEEDS = 20
MANTISSA_BITS = 10  # of TensorFloat-32, which has float32's exponent


def round_factors() -> None:
    """Make the factors of all matrix products that are compiled from now on those of TensorFloat-32."""
    plain = lax._dot_general_lower

    def rounded(x: Any) -> Any:
        return stablehlo.reduce_precision(x, 8, MANTISSA_BITS)

    def lower(ctx: Any, a: Any, b: Any, **options: Any) -> Any:
        return plain(ctx, rounded(a), rounded(b), **options)

    for platform in ("cpu", None):
        mlir.register_lowering(lax.dot_general_p, lower, platform=platform)


def returns(agent: str, precision: str) -> np.ndarray:
    """The mean returns of the final greedy policies, one for each seed."""
    if precision == "tensorfloat32":
        round_factors()
    env, steps = AGENTS[agent]
    dtype = "bfloat16" if precision == "bfloat16" else "float32"
    chosen = make_agent(agent, measure_every=0, compute_dtype=dtype)
    result = rlgd.study(chosen, env, {"gamma": [chosen.gamma]}, seeds=SEEDS, total_timesteps=steps, eval_episodes=20)
    return np.array([outcome.episode_return for outcome in result.outcomes.values()])


def main() -> None:
    """Print one Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agents", nargs="*", choices=AGENTS, default=list(AGENTS))
    print("| agent | environment, steps | matrix products | interquartile mean | 95% interval | worst seed |")
    print("| ----- | ------------------ | --------------- | ------------------ | ------------ | ---------- |")
    spawn = multiprocessing.get_context("spawn")  # each in a process of its own: what is compiled there stays there
    for agent in parser.parse_args().agents:
        for precision in PRECISIONS:
            with concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn) as pool:
                values = pool.submit(returns, agent, precision).result()
            mean, low, high = confidence.interval(values)
            env, steps = AGENTS[agent]
            cells = (
                agent, f"{env}, {steps:,}", precision, f"{mean:,.1f}", f"{low:,.1f} to {high:,.1f}",
                f"{values.min():,.1f}",
            )  # fmt: skip
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
