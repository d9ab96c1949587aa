"""NPG and TRPO: the trust region, the value function's fit, and the exact natural gradient."""

import dataclasses
import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array
from jax.flatten_util import ravel_pytree

from rlgd import hyperparameters, training
from rlgd.agents import NPG, TRPO, make_agent
from rlgd.agents.base.agent import Agent
from rlgd.agents.base.natural import NaturalAgent
from rlgd.ascent import Ascent, cosine
from rlgd.envs import DeviceEnv, make
from rlgd.errors import UsageError
from rlgd.exact import TabularMDP
from rlgd.maths.distributions import Categorical
from rlgd.pytrees import AgentState, Features, Rollout
from rlgd.spaces import BoxSpec, DiscreteSpec, Spec
from tests.support.exact_problems import gradient_of, natural_of

BOX = Spec(obs=BoxSpec((3,), "float32"), action=BoxSpec((2,), "float32", (-2.0, -2.0), (2.0, 2.0)))
SMALL: dict[str, Any] = {"num_envs": 4, "rollout_length": 8, "hidden_sizes": (8,), "measure_every": 0}


def box_rollout(seed: int = 0) -> Rollout:
    keys = jax.random.split(jax.random.key(seed), 4)
    return Rollout(
        obs=jax.random.normal(keys[0], (8, 4, 3)),
        action=jax.random.normal(keys[1], (8, 4, 2)),
        reward=jax.random.normal(keys[2], (8, 4)),
        terminated=jnp.zeros((8, 4), bool),
        truncated=jnp.zeros((8, 4), bool),
        mask=None,
        action_mask=None,
        last_obs=jax.random.normal(keys[3], (4, 3)),
        final_obs=jnp.zeros((0, 4, 3)),
        first=jnp.ones(4, bool),
    )


def updated(
    agent: Agent, data: Rollout | None = None, state: AgentState | None = None
) -> tuple[AgentState, AgentState, dict[str, Array]]:
    """The states before and after one update, and its metrics."""
    state = agent.init(BOX, jax.random.key(1)) if state is None else state
    data = box_rollout() if data is None else data
    after, metrics = update(agent, BOX, state, data, jnp.float32(0), jax.random.key(2))
    return state, after, metrics


@functools.partial(jax.jit, static_argnums=1)
def update(agent: Agent, spec: Spec, state: AgentState, data: Rollout, progress: Array, key: Array) -> Any:
    return agent.update(spec, state, data, progress, key)


def kl_between(agent: Agent, old: Any, new: Any, data: Rollout) -> Array:
    before, after = (agent.distribution(BOX, policy, Features(data.obs)) for policy in (old, new))
    return jnp.mean(before.kl(after))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("agent_class", "box_distribution", "learning_rate"),
    [(NPG, "gaussian", 0.1), (NPG, "tanh", 30.0), (TRPO, "gaussian", 30.0), (TRPO, "tanh", 1.0)],
)
def test_the_policy_moves_by_the_kl_that_is_reported_and_no_further(
    agent_class: type[NaturalAgent], box_distribution: str, learning_rate: float
) -> None:
    agent = agent_class(
        **SMALL, box_distribution=box_distribution, max_kl=0.03, max_backtracks=40, ascent=Ascent("sgd", learning_rate)
    )
    state, after, metrics = updated(agent.prepared())
    kl = kl_between(agent, state.params.policy, after.params.policy, box_rollout())
    np.testing.assert_allclose(metrics["train/kl"], kl, rtol=1e-4)
    assert metrics["ascent/accepted"] == 1
    assert 0.003 < kl <= 0.03
    assert metrics["train/objective"] > 0
    assert (metrics["ascent/backtracks"] > 3) == (learning_rate == 30)


@pytest.mark.parametrize("cg_damping", [1e-3, 1.0])
def test_the_whole_step_of_trpo_reaches_the_boundary(cg_damping: float) -> None:
    """However much damping: within one backtrack, by which the KL falls to 0.8^2 of itself."""
    _, _, metrics = updated(TRPO(**SMALL, max_kl=1e-3, cg_damping=cg_damping).prepared())
    assert 0.6e-3 < metrics["train/kl"] <= 1e-3
    assert metrics["ascent/backtracks"] <= 1


@pytest.mark.parametrize("agent_class", [NPG, TRPO])
def test_a_step_that_is_refused_leaves_every_bit_of_the_policy(agent_class: type[NaturalAgent]) -> None:
    agent = agent_class(**SMALL, max_backtracks=0, ascent=Ascent("momentum", learning_rate=1e4, momentum=0.9))
    state, after, metrics = updated(agent.prepared())
    jax.tree.map(np.testing.assert_array_equal, state.params.policy, after.params.policy)
    assert [metrics[name] for name in ("ascent/accepted", "train/kl", "train/objective")] == [0, 0, 0]
    assert metrics["first_fault"].max() == 0
    for moved in (lambda state: state.params.value, lambda state: state.opt_state.policy):
        assert not np.array_equal(ravel_pytree(moved(state))[0], ravel_pytree(moved(after))[0])


def test_the_value_function_climbs_by_adam_alone() -> None:
    """Whatever the policy does, and without a gradient of the policy in its moments."""
    ascents = Ascent("sgd", 0.1), Ascent("momentum", 1.0, momentum=0.5, l2=0.1, max_grad_norm=0.1)
    states = [updated(NPG(**SMALL, ascent=ascent).prepared())[1] for ascent in ascents]
    jax.tree.map(np.testing.assert_array_equal, *(state.params.value for state in states))
    jax.tree.map(np.testing.assert_array_equal, *(state.opt_state.value for state in states))
    still = updated(NPG(**SMALL, ascent=ascents[0], value_learning_rate=0.0).prepared())
    jax.tree.map(np.testing.assert_array_equal, still[0].params.value, still[1].params.value)


def test_the_value_error_falls_with_the_passes() -> None:
    errors = [
        float(updated(TRPO(**SMALL, num_epochs=epochs, value_learning_rate=0.01).prepared())[2]["train/value_error"])
        for epochs in (1, 20)
    ]
    assert errors[1] < errors[0]  # each is the mean over its passes


def test_momentum_is_over_natural_gradients() -> None:
    """From the same policy on the same rollout heavy ball's second step is 1.9 times as long as its first."""
    ascent = Ascent("momentum", learning_rate=1e-3, momentum=0.9)
    agent = NPG(**SMALL, value_learning_rate=0.0, ascent=ascent).prepared()
    state, first, metrics = updated(agent)
    _, second, _ = updated(agent, state=dataclasses.replace(first, params=state.params))
    begin, *ends = (ravel_pytree(x.params.policy)[0] for x in (state, first, second))
    np.testing.assert_allclose(ends[1] - begin, 1.9 * (ends[0] - begin), rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(
        jnp.linalg.norm(ends[0] - begin), 1e-3 * metrics["ascent/natural_gradient_norm"], rtol=1e-3
    )


@pytest.mark.parametrize("agent_class", [NPG, TRPO])
def test_a_step_that_is_not_finite_ends_the_run(agent_class: type[NaturalAgent]) -> None:
    data = box_rollout()
    for broken in (
        dataclasses.replace(data, reward=data.reward.at[0, 0].set(np.nan)),
        dataclasses.replace(data, action=data.action.at[0, 0].set(np.inf)),
    ):
        state, after, metrics = updated(agent_class(**SMALL).prepared(), broken)
        assert metrics["first_fault"][0] > 0
        jax.tree.map(np.testing.assert_array_equal, state.params.policy, after.params.policy)


def test_the_trust_region_weighs_the_entropy_bonus() -> None:
    """Advantages of 0: what is climbed is the entropy alone, and TRPO's condition is that it rises."""
    data = dataclasses.replace(box_rollout(), reward=jnp.zeros((8, 4)))
    agent = TRPO(**SMALL, gae_lambda=0.0, normalize_advantage=False, ent_coef=0.1).prepared()
    state = agent.init(BOX, jax.random.key(1))
    worthless = dataclasses.replace(state.params, value=jax.tree.map(jnp.zeros_like, state.params.value))
    state = dataclasses.replace(state, params=worthless)
    _, after, metrics = updated(agent, data, state)
    assert metrics["ascent/accepted"] == 1
    assert (after.params.policy["log_std"] > state.params.policy["log_std"]).all()
    _, idle, metrics = updated(hyperparameters.with_values(agent, {"ent_coef": jnp.float32(0)}), data, state)
    assert metrics["ascent/natural_gradient_norm"] == metrics["train/kl"] == 0
    jax.tree.map(np.testing.assert_array_equal, idle.params.policy, state.params.policy)


@pytest.mark.parametrize("name", ["npg", "trpo"])
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"outer_learning_rate": 0.5}, "outer_learning_rate is set, but an outer step would leave the trust region"),
        ({"outer_momentum": 0.5}, "outer_momentum is set"),
        ({"dropout": 0.1}, "dropout is set, but the KL"),
        ({"max_kl": 0.0}, r"max_kl is 0.0; allowed: a number within \(0, inf\)"),
        ({"backtrack_coeff": 1.0}, "backtrack_coeff is 1.0"),
        ({"cg_iters": 0}, "cg_iters is 0"),
        ({"cg_damping": -0.1}, "cg_damping is -0.1"),
        ({"max_backtracks": -1}, "max_backtracks is -1"),
        ({"num_minibatches": 7}, "num_minibatches is 7, which does not divide"),
        ({"vf_coef": 0.5}, "unknown hyper-parameter 'vf_coef'"),
    ],
)
def test_what_would_break_the_promise_is_refused(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_agent(name, **settings)


# ------------------------------------------------------------------------------------------------ the exact answer

STATES, HORIZON = 3, 3
FIRST = 2 / 3  # probability of action 0 of 2 in every state


def uniform_problem(gamma: float, horizon: int | None) -> TabularMDP:
    """Whose next state is any, with the same probability, whatever is done."""
    reward = np.random.default_rng(0).normal(size=(STATES, 2))
    return TabularMDP(np.full((STATES, 2, STATES), 1 / STATES), reward, np.eye(STATES)[0], gamma, horizon=horizon)


def every_trajectory(mdp: TabularMDP) -> Rollout:
    """Each as often as it is probable: of three that differ by an action, two take action 0."""
    choices = list(itertools.product((0, 0, 1), range(STATES)))
    steps = np.array(list(itertools.product(choices, repeat=HORIZON)))  # [number, HORIZON, (action, next state)]
    action, following = (jnp.asarray(steps[..., i].T, jnp.int32) for i in range(2))
    state = jnp.concatenate([jnp.zeros((1, len(steps)), jnp.int32), following[:-1]])
    nothing = jnp.zeros(action.shape, bool)
    return Rollout(
        obs=state,
        action=action,
        reward=jnp.asarray(mdp.reward, jnp.float32)[state, action],
        terminated=nothing,
        truncated=nothing,
        mask=None,
        action_mask=None,
        last_obs=following[-1],
        final_obs=jnp.zeros((0, len(steps)), jnp.int32),
        first=jnp.ones(len(steps), bool),
    )


def test_the_step_is_the_exact_natural_gradient() -> None:
    """On a batch that is the distribution itself, with a value function of 0, so that advantages are returns."""
    mdp = uniform_problem(1.0, HORIZON)
    data = every_trajectory(mdp)
    agent = NPG(
        num_envs=data.reward.shape[1],
        rollout_length=HORIZON,
        hidden_sizes=(),
        gamma=1.0,
        gae_lambda=1.0,
        normalize_advantage=False,
        cg_damping=0.0,
        cg_iters=30,
        max_kl=100.0,
        num_minibatches=1,
        measure_every=0,
        ascent=Ascent("sgd", learning_rate=1.0),
    ).prepared()
    spec = Spec(obs=DiscreteSpec(STATES), action=DiscreteSpec(2))
    state = agent.init(spec, jax.random.key(0))
    zero = jax.tree.map(jnp.zeros_like, state.params)
    # Zeros but for the bias, which is the one leaf with as many numbers as actions.
    policy = jax.tree.map(lambda x: jnp.log(jnp.array([FIRST, 1 - FIRST])) if x.shape == (2,) else x, zero.policy)
    state = dataclasses.replace(state, params=dataclasses.replace(zero, policy=policy))

    def table(policy: Any) -> Array:
        distribution = agent.distribution(spec, policy, Features(jnp.eye(STATES)))
        assert isinstance(distribution, Categorical)
        return jnp.exp(distribution.log_probs)

    np.testing.assert_allclose(table(policy), np.tile([FIRST, 1 - FIRST], (STATES, 1)), rtol=1e-6)
    after, metrics = update(agent, spec, state, data, jnp.float32(0), jax.random.key(1))
    step = jax.tree.map(jnp.subtract, after.params.policy, policy)
    exact = natural_of(mdp, table, policy)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), step, exact)
    assert metrics["ascent/cg_residual"] < 1e-4
    gradient = jax.jit(agent.gradient, static_argnums=0)
    plain = gradient(spec, state, data, jnp.float32(0), jax.random.key(1)).policy
    true_plain = jax.tree.map(lambda g: g / HORIZON, gradient_of(mdp, table, policy))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), plain, true_plain)
    assert cosine(plain, exact) < 0.99  # the two differ


def test_large_batches_point_along_the_exact_natural_gradient() -> None:
    """With 65,536 rows the cosine is above 0.99: of a table, discounted visits do not turn the natural gradient."""
    random = np.random.default_rng(1)
    transition = random.dirichlet(np.ones(4), size=(4, 3))
    mdp = TabularMDP(transition, random.normal(size=(4, 3)), np.ones(4) / 4, 0.5)
    env = make(mdp.env)
    assert isinstance(env, DeviceEnv)
    agent = TRPO(
        num_envs=2048,
        rollout_length=32,
        hidden_sizes=(),
        gamma=0.5,
        gae_lambda=1.0,
        cg_damping=1e-4,
        num_minibatches=1,
        cg_iters=30,
        num_epochs=1,
        measure_every=0,
    ).prepared()
    loop = training.initialize(agent, env, jax.random.key(0))
    after, metrics = jax.jit(training.iterate, static_argnums=1)(agent, env, loop)
    old = loop.agent_state.params.policy

    def table(policy: Any) -> Array:
        distribution = agent.distribution(env.spec, policy, Features(jnp.eye(4)))
        assert isinstance(distribution, Categorical)
        return jnp.exp(distribution.log_probs)

    step = jax.tree.map(jnp.subtract, after.agent_state.params.policy, old)
    assert metrics["ascent/accepted"] == 1
    assert cosine(step, natural_of(mdp, table, old)) > 0.99
    assert mdp.objective(table(after.agent_state.params.policy)) > mdp.objective(table(old))
