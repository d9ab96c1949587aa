"""Gradient accumulation: a step with the mean of several gradients, for every optimizer, whatever comes with it."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlgd import training
from rlgd.agents import make_agent
from rlgd.ascent import OPTIMIZERS, Ascent, apply_step
from rlgd.ascent.diagnostics import measure
from rlgd.envs import make
from rlgd.errors import UsageError
from tests.support.marks import OF_EACH_KIND, quick

START = {"w": jnp.array([[1.0, -2.0], [0.5, 3.0]]), "b": jnp.array([0.3, -0.1])}


def gradients(number: int) -> list[Any]:
    rng = np.random.default_rng(0)
    return [jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), x.dtype), START) for _ in range(number)]


def climbed(ascent: Ascent, given: list[Any], new_rollouts: list[bool]) -> list[Any]:
    """The parameters after each gradient."""
    transformation, params, after = ascent.transformation(), START, []
    state, update = transformation.init(params), jax.jit(transformation.update)
    for gradient, new_rollout in zip(given, new_rollouts, strict=True):
        step, state = update(gradient, state, params, 0.0, new_rollout=new_rollout)
        params = apply_step(params, step)
        after.append(params)
    return after


def close(one: Any, other: Any) -> None:
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-5, atol=1e-6), one, other)


@pytest.mark.parametrize("name", quick(OF_EACH_KIND, OPTIMIZERS))
def test_a_step_has_the_mean_of_its_gradients(name: str) -> None:
    options: dict[str, Any] = {"learning_rate": 0.1, "l2": 0.01, "max_grad_norm": 1.0}
    parts = gradients(6)
    means = [jax.tree.map(lambda *x: sum(x) / 3, *parts[i : i + 3]) for i in (0, 3)]
    several = climbed(Ascent(name, gradient_accumulation_steps=3, **options), parts, [False] * 6)
    close(several[1], START)
    close(several[4], several[2])
    close([several[2], several[5]], climbed(Ascent(name, **options), means, [False] * 2))


@pytest.mark.parametrize("mode", ["reset", "relative", "decay"])
def test_a_new_rollout_is_not_forgotten_until_the_step(mode: str) -> None:
    parts = gradients(4)
    pairs = [jax.tree.map(lambda x, y: (x + y) / 2, *parts[i : i + 2]) for i in (0, 2)]
    ascent = Ascent("adam", 0.1, rollout_moments=mode, gradient_accumulation_steps=2)
    several = climbed(ascent, parts, [True, False, True, False])
    close(several[-1], climbed(Ascent("adam", 0.1, rollout_moments=mode), pairs, [True, True])[-1])


def test_its_number_may_be_traced() -> None:
    parts = gradients(4)

    def end(number: Any) -> Any:
        transformation = Ascent("sgd", 0.1, gradient_accumulation_steps=number).transformation()
        state, params = transformation.init(START), START
        for gradient in parts:
            step, state = transformation.update(gradient, state, params)
            params = apply_step(params, step)
        return params

    ends = jax.jit(jax.vmap(end))(jnp.array([1.0, 2.0, 4.0]))
    for i, number in enumerate((1, 2, 4)):
        alone = climbed(Ascent("sgd", 0.1, gradient_accumulation_steps=number), parts, [False] * 4)[-1]
        close(jax.tree.map(lambda x, i=i: x[i], ends), alone)


def test_diagnostics_measure_the_step_that_would_be_made() -> None:
    ascent = Ascent("momentum", 0.1, 0.9, gradient_accumulation_steps=8)
    (gradient,) = gradients(1)
    halves = jax.tree.map(lambda x: jnp.stack([x, x]), gradient)
    metrics, _ = measure(ascent, ascent.transformation().init(START), START, jnp.zeros(()), halves, gradient)
    plain = Ascent("momentum", 0.1, 0.9)
    expected, _ = measure(plain, plain.transformation().init(START), START, jnp.zeros(()), halves, gradient)
    assert float(metrics["ascent/update_norm"]) == pytest.approx(float(expected["ascent/update_norm"]), rel=1e-6)
    assert metrics.keys() == expected.keys()


@pytest.mark.parametrize("name", ["a2c", "reinforce"])
def test_an_iteration_without_a_step_moves_nothing(name: str) -> None:
    """With one step an iteration, rollouts are collected with the same policy until there are enough."""
    env = make("CartPole-v1", max_episode_steps=20)
    agent = make_agent(name, num_envs=4, hidden_sizes=(8,), gradient_accumulation_steps=3).prepared()
    loop = training.initialize(agent, env, jax.random.key(0), 1000)
    step = jax.jit(training.iterate, static_argnums=1)
    policies = [loop.agent_state.params]
    for _ in range(6):
        loop, _ = step(agent, env, loop)
        policies.append(loop.agent_state.params)
    moved = [not jax.tree.all(jax.tree.map(jnp.array_equal, *pair)) for pair in itertools.pairwise(policies)]
    assert moved == [False, False, True, False, False, True]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"gradient_accumulation_steps": 0.5},
            r"_accumulation_steps is 0.5; allowed: a number within \[1, inf\)",
        ),
        ({"gradient_accumulation_steps": 2, "batch_control": "noise"}, "both say how many gradients"),
        ({"gradient_accumulation_steps": 2, "learning_rate_control": "kl"}, "iterations that all move the policy"),
        ({"batch_control": "noise:2"}, "noise takes no number"),
        ({"batch_control": "kl"}, "unknown batch_control 'kl'"),
    ],
)
def test_what_does_not_go_together(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Ascent(**settings).validate()


@pytest.mark.parametrize("settings", [{"gradient_accumulation_steps": 2}, {"batch_control": "noise"}])
@pytest.mark.parametrize("name", ["npg", "trpo"])
def test_a_trust_region_is_of_one_rollout(name: str, settings: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="max_kl bounds"):
        make_agent(name, **settings)
