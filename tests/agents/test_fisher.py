"""Estimates of the Fisher matrix against the matrix itself, and agents that climb with them."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen
from jax import Array
from jax.flatten_util import ravel_pytree

from rlgd import training
from rlgd.agents import A2C, NPG, PPO, REINFORCE, TRPO, check
from rlgd.agents.base.agent import Agent
from rlgd.agents.base.experience import experience
from rlgd.agents.base.fisher import Weights, fisher
from rlgd.agents.base.learning import ascend
from rlgd.agents.base.trial import random_rollout
from rlgd.ascent import Ascent
from rlgd.ascent.fisher import Fisher
from rlgd.envs import DeviceEnv, make
from rlgd.errors import UsageError
from rlgd.maths import blocks, natural_gradient
from rlgd.pytrees import Features, Params
from rlgd.spaces import BoxSpec, DiscreteSpec, Spec
from tests.support.marks import quick

BOX = Spec(obs=BoxSpec((3,), "float32"), action=BoxSpec((2,), "float32", (-2.0, -2.0), (2.0, 2.0)))
THREE = Spec(obs=BoxSpec((3,), "float32"), action=DiscreteSpec(3))
IMAGES = Spec(obs=BoxSpec((8, 8, 1), "uint8"), action=DiscreteSpec(3))
ROWS, DRAWS = 6, 6000
SMALL: dict[str, Any] = {"num_envs": 4, "hidden_sizes": (4,), "measure_every": 0}
BY = {name: Ascent(name, 0.01) for name in ("sophia", "kfac")}


def at_rows(seed: int = 0, rows: int = ROWS) -> Features:
    return Features(jax.random.normal(jax.random.key(seed), (rows, 3)))


def far_from_the_start(params: Params) -> Params:
    """Outputs begin so small that all actions are alike."""
    flat, unravel = ravel_pytree(params)
    return unravel(flat + 0.5 * jax.random.normal(jax.random.key(5), flat.shape))


def estimates(agent: Agent, spec: Spec, params: Params, rows: Any, weights: Weights, draws: int = DRAWS) -> Fisher:
    """As many as there are draws, ``[draws, ...]``."""

    def one(key: Array) -> Fisher:
        estimate = fisher(agent, spec, params, rows, key, weights)
        assert estimate is not None
        return estimate

    return jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(1), draws))


def exact(agent: Agent, spec: Spec, params: Params, features: Features, weights: Weights) -> Any:
    """The Fisher matrix of all parameters, in the order of ``ravel_pytree``."""
    flat, unravel = ravel_pytree(params)
    whole = dataclasses.replace(agent)

    def policy(params: Any, features: Features) -> Any:
        return whole.distribution(spec, params.policy, features)

    product = natural_gradient.fisher_product(policy, params, features)
    of_policy = jax.vmap(lambda v: ravel_pytree(product(unravel(v)))[0])(jnp.eye(flat.size))
    slopes = jax.jacobian(lambda flat: whole.value(spec, unravel(flat), features))(flat)
    return np.asarray(weights.policy * of_policy + (weights.value or 0) * slopes.T @ slopes / len(features.vector))


def near(draws: Any, expected: Any, sigmas: float = 5.0) -> None:
    """The mean of the draws is the expected one, as nearly as so many show it."""
    draws = np.asarray(draws, np.float64)
    error = draws.std(axis=0) / np.sqrt(len(draws))
    np.testing.assert_array_less(np.abs(draws.mean(axis=0) - expected), sigmas * error + 1e-5)
    assert np.mean(error) < 0.1 * np.mean(np.abs(expected))


@pytest.mark.slow
@pytest.mark.parametrize("value_network", [None, "policy"])
@pytest.mark.parametrize("spec", [BOX, THREE], ids=["gaussian", "categorical"])
def test_the_square_of_the_score_is_the_diagonal_on_average(value_network: str | None, spec: Spec) -> None:
    """Also of layers that both networks read, where it is the sum of both."""
    agent = PPO(**SMALL, value_network=value_network, ascent=BY["sophia"])
    params, features, weights = (
        far_from_the_start(agent.init(spec, jax.random.key(0)).params),
        at_rows(),
        Weights(2.0, 0.3),
    )
    drawn = estimates(agent, spec, params, (features, None), weights)
    squares = jax.vmap(lambda score: ravel_pytree(score)[0] ** 2)(drawn.score)
    near(squares, np.diag(exact(agent, spec, params, features, weights)))
    assert drawn.factors == Params({}, {})


def test_at_one_pattern_the_factors_of_a_linear_policy_are_the_whole_matrix() -> None:
    agent = PPO(**SMALL | {"hidden_sizes": ()}, ascent=BY["kfac"])
    params, weights = far_from_the_start(agent.init(THREE, jax.random.key(0)).params), Weights(1.0, 0.3)
    features = Features(jnp.broadcast_to(at_rows().vector[:1], (ROWS, 3)))
    drawn = estimates(agent, THREE, params, (features, None), weights)
    whole = exact(agent, THREE, params, features, weights)
    size = ravel_pytree(params.policy)[0].size
    for factors, block in ((drawn.factors.policy, whole[:size, :size]), (drawn.factors.value, whole[size:, size:])):
        ((inputs, outputs),) = factors.values()
        x = np.append(features.vector[0], 1)
        np.testing.assert_allclose(inputs[0], np.outer(x, x), rtol=1e-5)
        n = outputs.shape[-1]
        # The biases come first, then the kernel, of which the inputs are the last axis.
        order = np.concatenate(
            [np.full(n, 3) * n + np.arange(n), (np.arange(3)[None] * n + np.arange(n)[:, None]).ravel()]
        )
        near(jax.vmap(jnp.kron)(inputs, outputs)[:, order][:, :, order], block)


def test_factors_are_means_over_the_rows_that_count() -> None:
    """Of the layers' inputs, and of squares of the gradients of their outputs."""
    agent = PPO(**SMALL, ascent=BY["kfac"])
    params, features = far_from_the_start(agent.init(THREE, jax.random.key(0)).params), at_rows(rows=8)
    mask = jnp.arange(8) < ROWS
    drawn = estimates(agent, THREE, params, (features, mask), Weights(2.0))
    assert set(drawn.factors.policy) == {"network/Dense_0", "network/OutputLayer_0"}
    assert set(drawn.factors.value) == {"Dense_0", "OutputLayer_0"}
    x = np.asarray(features.vector[:ROWS])
    layer = jax.tree.map(np.asarray, params.policy["network"]["Dense_0"])
    hidden = np.tanh(x @ layer["kernel"] + layer["bias"])
    for name, inputs in (("network/Dense_0", x), ("network/OutputLayer_0", hidden)):
        a = np.concatenate([inputs, np.ones((ROWS, 1))], axis=1)
        np.testing.assert_allclose(drawn.factors.policy[name][0][0], a.T @ a / ROWS, rtol=1e-4, atol=1e-6)
    policy: Any = agent.distribution(THREE, params.policy, Features(features.vector[:ROWS]))
    p = np.asarray(jax.nn.softmax(policy.logits))
    outputs = np.mean([np.diag(q) - np.outer(q, q) for q in p], axis=0)
    near(drawn.factors.policy["network/OutputLayer_0"][1], 2 * outputs)
    kernel = np.asarray(params.policy["network"]["OutputLayer_0"]["kernel"])
    back = [
        (kernel * (1 - h**2)).T @ (np.diag(q) - np.outer(q, q)) @ (kernel * (1 - h**2))
        for q, h in zip(p, hidden, strict=True)
    ]
    near(drawn.factors.policy["network/Dense_0"][1], 2 * np.mean(back, axis=0))
    near(drawn.factors.value["OutputLayer_0"][1], np.ones((1, 1)))


def test_blocks_of_rows_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = PPO(**SMALL, ascent=BY["kfac"])
    params, rows = agent.init(BOX, jax.random.key(0)).params, (at_rows(rows=32), jnp.arange(32) < 27)
    whole = estimates(agent, BOX, params, rows, Weights(), 4000)
    monkeypatch.setattr(blocks, "num_blocks", lambda rows, pixels: 4)
    parts = estimates(agent, BOX, params, rows, Weights(), 4000)
    for name, (inputs, outputs) in whole.factors.policy.items():
        np.testing.assert_allclose(inputs[0], parts.factors.policy[name][0][0], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(outputs.mean(0), parts.factors.policy[name][1].mean(0), rtol=0.1, atol=0.05)
    square, of_parts = (float(jnp.mean(ravel_pytree(x.score.policy)[0] ** 2)) for x in (whole, parts))
    assert square == pytest.approx(of_parts, rel=0.05)


class Twice(linen.Module):
    """One dense layer read twice, and one that reads pairs of numbers."""

    @linen.compact
    def __call__(self, features: Features) -> Array:
        shared, x = linen.Dense(3), features.vector
        pairs = linen.Dense(2)(jnp.stack([x, x], axis=-2))
        return jnp.concatenate([shared(jnp.tanh(shared(x))), pairs[..., 0, :], linen.Dense(2)(x)], axis=-1)


DENSE = ["Dense_0", "OutputLayer_0"]


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"network": "layer_norm"}, DENSE),
        ({"network": "simba"}, ["Dense_0", "Dense_1", "Dense_2", "OutputLayer_0"]),
        ({"network": "gru"}, ["RecurrentLayer_0/Dense_0", "mlp/Dense_0", "mlp/OutputLayer_0"]),
        ({"network": Twice()}, ["torso/Dense_2", "mlp/Dense_0", "mlp/OutputLayer_0"]),
        ({"compute_dtype": "bfloat16"}, []),
        ({"spec": IMAGES}, ["mlp/Dense_0", "mlp/OutputLayer_0"]),
    ],
    ids=["layer_norm", "simba", "gru", "own", "bfloat16", "images"],
)
def test_which_layers_have_factors(options: dict[str, Any], found: list[str]) -> None:
    """All others are divided by the diagonal: what is read twice or not by rows, convolutions, other dtypes."""
    spec = options.pop("spec", THREE)
    agent = A2C(**SMALL, **options, rollout_length=4, ascent=BY["kfac"])

    def estimate(key: Array) -> Fisher | None:
        state = agent.init(spec, key)
        rows = experience(agent, spec, state, random_rollout(agent, spec, state, key))
        return fisher(agent, spec, state.params, (rows.features, rows.mask), key, Weights())

    with jax.debug_key_reuse(False):
        shapes = jax.eval_shape(estimate, jax.random.key(0))
    assert shapes is not None
    assert sorted(shapes.factors.policy) == sorted(f"network/{name}" for name in found)
    assert sorted(shapes.factors.value) == sorted(found)


def test_the_curvature_of_reinforce_is_that_of_an_episode() -> None:
    """Its gradient is a sum over the rows of an episode; that of its value function is a mean over rows."""
    agent = REINFORCE(**SMALL, ascent=BY["kfac"])
    state = agent.init(THREE, jax.random.key(0))
    rows = agent._rows(THREE, state, random_rollout(agent, THREE, state, jax.random.key(1)))
    valid = int(rows.mask.sum())
    assert valid > 2 * agent.num_envs
    block, key = (rows.features, rows.mask), jax.random.key(3)
    got = jax.jit(lambda rows: agent._fisher(THREE, state.params, rows, key))(rows)  # a block of 32 steps: all rows
    plain = jax.jit(lambda block: fisher(agent, THREE, state.params, block, key, Weights()))(block)
    assert got is not None
    assert plain is not None

    def same(x: Any, y: Any, factor: float) -> None:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, factor * b, rtol=1e-3, atol=1e-5), x, y)

    same(got.score.policy, plain.score.policy, np.sqrt(valid / agent.num_envs))
    same(got.score.value, plain.score.value, 1.0)
    for name, (inputs, outputs) in got.factors.policy.items():
        same(inputs, plain.factors.policy[name][0], 1.0)
        same(outputs, plain.factors.policy[name][1], valid / agent.num_envs)


@pytest.fixture(name="env", scope="module")
def _env() -> DeviceEnv:
    env = make("CartPole-v1", max_episode_steps=40)
    assert isinstance(env, DeviceEnv)
    return env


AGENTS: dict[str, Agent] = {
    "ppo": PPO(**SMALL, rollout_length=8, num_epochs=2, num_minibatches=4, ascent=BY["kfac"]),
    "ppo-sophia": PPO(**SMALL, rollout_length=8, num_epochs=2, num_minibatches=4, ascent=BY["sophia"]),
    "ppo-shared": PPO(
        **SMALL | {"measure_every": 1},
        rollout_length=8,
        num_epochs=1,
        num_minibatches=2,
        value_network="policy",
        ascent=Ascent("kfac", 0.01, gradient_accumulation_steps=2),
    ),
    "a2c": A2C(**SMALL, rollout_length=8, value_learning_rate=0.1, ascent=BY["kfac"]),
    "a2c-sophia": A2C(**SMALL, rollout_length=8, ascent=Ascent("sophia", 0.01, rollout_moments="decay")),
    "reinforce": REINFORCE(**SMALL, ascent=BY["kfac"]),
    "reinforce-none": REINFORCE(**SMALL, ascent=BY["sophia"], baseline="none"),
}


@pytest.mark.parametrize("name", quick(["ppo-sophia"], AGENTS))
def test_agents_that_read_it_fulfil_the_contract(name: str) -> None:
    check(AGENTS[name], BOX)


@pytest.mark.slow
def test_parts_of_an_ensemble_climb_as_alone(env: DeviceEnv) -> None:
    agents = [PPO(**SMALL, rollout_length=8, ascent=Ascent("kfac", rate)).prepared() for rate in (0.01, 0.1)]
    loops = [training.initialize(agent, env, jax.random.key(n), 1000) for n, agent in enumerate(agents)]
    together = [jax.tree.map(lambda *x: jnp.stack([jnp.asarray(y) for y in x]), *xs) for xs in (agents, loops)]
    step = jax.jit(lambda agent, loop: training.iterate(agent, env, loop)[0].agent_state.params)
    both = jax.jit(jax.vmap(lambda agent, loop: training.iterate(agent, env, loop)[0].agent_state.params))(*together)
    for n, (agent, loop) in enumerate(zip(agents, loops, strict=True)):
        jax.tree.map(
            lambda x, y, n=n: np.testing.assert_allclose(x[n], y, rtol=1e-3, atol=1e-4), both, step(agent, loop)
        )


@pytest.mark.slow
def test_ppo_with_kfac_learns_to_balance() -> None:
    """From episodes of 20 steps to some of 200 in 12 iterations."""
    env, agent = make("CartPole-v1"), PPO(measure_every=0, ascent=Ascent("kfac", 0.1, schedule="linear")).prepared()
    assert isinstance(env, DeviceEnv)
    loop = training.initialize(agent, env, jax.random.key(0), 50_000)
    step = jax.jit(lambda loop: training.iterate(agent, env, loop))
    lengths = []
    for _ in range(12):
        loop, metrics = step(loop)
        lengths.append(float(metrics["rollout/length_sum"] / jnp.maximum(metrics["rollout/episodes"], 1)))
    assert lengths[0] < 40
    assert max(lengths[-3:]) > 120


def test_nothing_is_drawn_where_nobody_reads_it() -> None:
    agent = PPO(**SMALL)
    params = agent.init(BOX, jax.random.key(0)).params
    rows = at_rows(), None
    program = jax.make_jaxpr(lambda key: fisher(agent, BOX, params, rows, key, Weights()))(jax.random.key(0))
    assert not program.eqns


@pytest.mark.parametrize("agent_class", [NPG, TRPO])
@pytest.mark.parametrize("optimizer", BY)
def test_the_natural_gradient_is_not_divided_twice(agent_class: type[Agent], optimizer: str) -> None:
    with pytest.raises(UsageError, match=f"the optimizer is {optimizer}, but the natural gradient is divided by"):
        agent_class(**SMALL, ascent=BY[optimizer]).validate()


def test_a_step_without_an_estimate_is_refused() -> None:
    agent = PPO(**SMALL, ascent=BY["kfac"])
    state = agent.init(BOX, jax.random.key(0))
    with pytest.raises(UsageError, match="kfac reads an estimate of the Fisher matrix, and there is none in this step"):
        ascend(agent, state.params, state.opt_state, state.params, jnp.zeros(()))
