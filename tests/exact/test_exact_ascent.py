"""Ascent really ascends: every optimizer on the exact gradient of J, and to the optimum where a theorem says so."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

from rlgd.ascent import OPTIMIZERS, Ascent, apply_step
from rlgd.exact import LQR, LinearGaussian, TabularMDP
from tests.support.marks import OF_EACH_KIND, quick

_random = np.random.default_rng(3)
MDP = TabularMDP(
    transition=_random.dirichlet(np.ones(4), size=(4, 3)),
    reward=_random.uniform(size=(4, 3)),
    initial=np.full(4, 0.25),
    gamma=0.9,
)
CONTROL = LQR(
    a=[[1.0, 0.2], [0.0, 1.0]],
    b=[[0.0], [0.2]],
    q=np.eye(2),
    r=[[0.5]],
    noise=0.01 * np.eye(2),
    initial_mean=[0.0, 0.0],
    initial_cov=np.eye(2),
    gamma=0.95,
)
# Step sizes for rules that are slow at 0.1: relative to the weights, or divided by all squared gradients so far.
RATES = {"adadelta": 10.0, "lars": 3.0, "adagrad": 0.5, "sm3": 0.5, "novograd": 0.02, "shampoo": 1.0}


def softmax(table: Array) -> Array:
    return jax.nn.softmax(table, axis=1)


def heights(ascent: Ascent, steps: int) -> Array:
    """J before the first and after each step along the exact gradient, from the uniform policy, ``[steps + 1]``."""
    transformation = ascent.transformation()

    def step(carry: tuple[Array, Any], progress: Array) -> tuple[tuple[Array, Any], Array]:
        table, state = carry
        change, state = transformation.update(MDP.gradient(softmax, table), state, table, progress)
        table = apply_step(table, change)
        return (table, state), MDP.objective(softmax(table))

    # Not exactly uniform: rules that scale by the weights could never leave 0.
    table = 0.1 * jnp.sin(jnp.arange(12.0)).reshape(4, 3)
    _, path = jax.lax.scan(step, (table, transformation.init(table)), jnp.linspace(0, 1, steps))
    return jnp.concatenate([MDP.objective(softmax(table))[None], path])


@pytest.mark.parametrize("name", quick(OF_EACH_KIND, OPTIMIZERS))
def test_every_optimizer_climbs(name: str) -> None:
    """The first step goes uphill (ADOPT's is 0), and 300 steps climb most of the way to the optimum."""
    rate = OPTIMIZERS[name].learning_rate or RATES.get(name, 0.1)
    path = jax.jit(lambda: heights(Ascent(name, rate, schedule="linear:0.1"), 300))()
    best = MDP.optimum().objective
    assert path[1] > path[0] or (name == "adopt" and path[1] == path[0])
    assert path[-1] > path[0] + 0.8 * (best - path[0])
    assert path.max() <= best + 1e-5


def test_plain_ascent_reaches_the_best_policy() -> None:
    """Softmax policies, exact gradients, a constant step (Mei et al. 2020, arXiv 2005.06392, theorem 4): gap O(1/t)."""
    path = jax.jit(lambda: heights(Ascent("sgd", 0.4), 40_000))()
    gap = MDP.optimum().objective - np.asarray(path)
    assert gap[-1] < 2e-3 < gap[0]
    assert np.all(np.diff(path) > -2e-5)  # monotone, up to rounding
    assert gap[20_000] < 0.6 * gap[10_000]


def test_natural_ascent_reaches_the_best_policy_soon() -> None:
    """The gap is at most about 1 / (t (1 - gamma)^2) whatever the problem (Agarwal et al. 2021, theorem 16), and falls
    geometrically from some point on (Khodadadian et al. 2021).
    """
    transformation = Ascent("sgd", 1.0).transformation()

    def step(table: Array, _: None) -> tuple[Array, Array]:
        change, _ = transformation.update(MDP.natural_gradient(softmax, table), transformation.init(table), table)
        table = apply_step(table, change)
        return table, MDP.objective(softmax(table))

    with jax.enable_x64(True):
        path = jax.jit(lambda: jax.lax.scan(step, jnp.zeros((4, 3)), length=100)[1])()
        gap = MDP.optimum().objective - np.asarray(path)
    assert gap[-1] < 1e-6
    assert np.all(gap <= 1 / (np.arange(1, 101) * 0.1**2))


@pytest.mark.parametrize(("natural", "rate", "steps"), [(False, 2e-4, 20_000), (True, 0.05, 400)])
def test_ascent_reaches_the_best_controller(natural: bool, rate: float, steps: int) -> None:
    """Of a linear-quadratic regulator, from any stable gain, although J is not concave (Fazel et al. 2018)."""

    def policy_of(gain: Array) -> LinearGaussian:
        return LinearGaussian(gain, jnp.zeros(1), jnp.full(1, -jnp.inf if not natural else 0.0))

    direction = CONTROL.natural_gradient if natural else CONTROL.gradient
    transformation = Ascent("sgd", rate).transformation()

    def step(gain: Array, _: None) -> tuple[Array, None]:
        change, _ = transformation.update(direction(policy_of, gain), transformation.init(gain), gain)
        return apply_step(gain, change), None

    with jax.enable_x64(True):
        start = jnp.array([[-1.0, -1.0]])
        gain = jax.jit(lambda: jax.lax.scan(step, start, length=steps)[0])()
        best = CONTROL.optimum()
        np.testing.assert_allclose(gain, best.policy, atol=1e-5)
        assert float(jnp.abs(start - best.policy).max()) > 0.2
