"""The ascent alone, without reinforcement learning: fit a line by ascending minus the squared error.

    python examples/line_fit.py [OPTIMIZER ...]

The points are x = 1..5, y = 3, 4, 2, 5, 6; whatever the optimizer, the best line has slope 0.70 and intercept 1.90.
"""

import sys

import jax
import jax.numpy as jnp

from rlgd.ascent import OPTIMIZERS, Ascent, apply_step

STEPS = 20_000
LEARNING_RATES = {"adagrad": 1.0, "sm3": 1.0, "shampoo": 1.0}  # divided by the root of all squared gradients so far
X = jnp.arange(1.0, 6.0)
Y = jnp.array([3.0, 4.0, 2.0, 5.0, 6.0])


def objective(line):
    return -jnp.mean(jnp.square(Y - line["slope"] * X - line["intercept"]))


def fit(optimizer):
    """Slope and intercept that the optimizer arrives at."""
    rate = OPTIMIZERS[optimizer].learning_rate or LEARNING_RATES.get(optimizer, 0.05)
    ascent = Ascent(optimizer, learning_rate=rate, weight_decay=0.0, schedule="cosine")
    ascent.validate()
    transformation = ascent.transformation()

    def step(carry, progress):
        line, state = carry
        change, state = transformation.update(jax.grad(objective)(line), state, line, progress)
        return (apply_step(line, change), state), None

    @jax.jit
    def climb(line):
        carry = (line, transformation.init(line))
        return jax.lax.scan(step, carry, jnp.linspace(0, 1, STEPS))[0][0]

    line = climb({"slope": jnp.zeros(()), "intercept": jnp.zeros(())})
    return float(line["slope"]), float(line["intercept"])


if __name__ == "__main__":
    for optimizer in sys.argv[1:] or ["adam"]:
        slope, intercept = fit(optimizer)
        print(f"{optimizer}: slope {slope:.2f}, intercept {intercept:.2f}")
