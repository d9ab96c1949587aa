"""One table, agents times properties, and what each agent promises. A new agent gets its tests by a row in it."""

import dataclasses
import math
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

from rlgd import hyperparameters, spaces, training
from rlgd.agents import A2C, ALIASES, NPG, PPO, REGISTRY, REINFORCE, TRPO, agent_class, check, make_agent
from rlgd.agents.base.agent import Agent
from rlgd.agents.base.experience import Experience, experience
from rlgd.ascent import Ascent
from rlgd.envs import DeviceEnv, make
from rlgd.errors import UsageError
from rlgd.maths import minibatches
from rlgd.models import action_heads
from rlgd.pytrees import Features, LoopState, Rollout, View
from rlgd.training import rollout
from tests.support.marks import quick

SMALL: dict[str, Any] = {"num_envs": 4, "hidden_sizes": (8,), "gamma": 0.9, "measure_every": 0}
MEASURED = SMALL | {"measure_every": 1}
AGENTS: dict[str, Agent] = {
    "reinforce": REINFORCE(**MEASURED),
    "reinforce-mean": REINFORCE(**SMALL, baseline="mean"),
    "reinforce-none": REINFORCE(**SMALL, baseline="none", discount_weighting=True, scale_reward=True),
    "a2c": A2C(**MEASURED, rollout_length=8, ent_coef=0.01),
    "a2c-gru": A2C(**SMALL, rollout_length=8, network="gru", memory_width=8),
    "ppo": PPO(**SMALL, rollout_length=8, num_epochs=2, num_minibatches=4),
    "ppo-lstm": PPO(**MEASURED, rollout_length=8, num_epochs=2, num_minibatches=2, network="lstm", memory_width=8),
    "ppo-all": PPO(
        **MEASURED,
        rollout_length=8,
        num_epochs=2,
        num_minibatches=2,
        clip_value=True,
        target_kl=0.05,
        normalize_obs=True,
        scale_reward=True,
        ent_coef=0.01,
        value_learning_rate=3e-3,
        dropout=0.1,
        ent_coef_schedule="linear:0.5",
        clip_eps_schedule="warmup:0.1+cosine:0.5",
        ascent=Ascent(
            "adam",
            l1=1e-4,
            l2=1e-4,
            weight_decay=1e-3,
            max_grad_norm=0.5,
            momentum_schedule="linear:0.9",
            rollout_moments="relative",
            outer_momentum=0.3,
        ),
    ),
    "npg": NPG(**SMALL, rollout_length=8, num_epochs=2, num_minibatches=4, cg_iters=4),
    "trpo": TRPO(**SMALL, rollout_length=8, num_epochs=2, num_minibatches=4, cg_iters=4, ent_coef=0.01),
    "trpo-all": TRPO(
        **MEASURED,
        rollout_length=8,
        num_epochs=2,
        num_minibatches=2,
        cg_iters=6,  # fewer than the tolerance asks for: that number depends on the last bits
        normalize_obs=True,
        scale_reward=True,
        ascent=Ascent("momentum", 0.1, momentum=0.9, max_grad_norm=0.5, weight_decay=1e-3, schedule="linear"),
    ),
}
NOT_YET = {"ascent/gradient_alignment", "ascent/momentum_alignment"}  # NaN while there is nothing to compare with
BOX = spaces.spec(gymnasium.spaces.Box(-1, 1, (3,)), gymnasium.spaces.Box(-2, 2, (2,)), 16)


# With every measurement, or much like another one, and long to compile.
LONG = ("reinforce", "reinforce-mean", "a2c-gru", "ppo-all", "ppo-lstm", "npg", "trpo-all")


NAMES = quick(AGENTS.keys() - set(LONG), AGENTS)


@pytest.fixture(params=NAMES, name="agent")
def _agent(request: pytest.FixtureRequest) -> Agent:
    return AGENTS[request.param].prepared()


@pytest.fixture(name="env", scope="module")
def _env() -> DeviceEnv:
    env = make("CartPole-v1", max_episode_steps=40)
    assert isinstance(env, DeviceEnv)
    return env


def start(agent: Agent, env: DeviceEnv, seed: int = 0) -> LoopState:
    return training.initialize(agent, env, jax.random.key(seed), 10_000)


def same(a: Any, b: Any, tolerance: float = 0.0) -> None:
    def check(x: Array, y: Array) -> None:
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        assert x.dtype == y.dtype
        np.testing.assert_allclose(np.asarray(x), np.asarray(y), rtol=tolerance, atol=tolerance)

    jax.tree.map(check, a, b)


@pytest.mark.parametrize("name", NAMES)
def test_every_agent_fulfils_the_contract(name: str) -> None:
    """Compiled, vectorized and plain runs agree; types, bits, gradients, metrics, learning rate 0: see ``check``."""
    check(AGENTS[name], BOX)


@pytest.mark.parametrize("name", ["reinforce-none", pytest.param("a2c", marks=pytest.mark.slow), "ppo"])
def test_vmap_equals_a_loop(name: str, env: DeviceEnv) -> None:
    """Whole iterations, with environments."""
    agent = AGENTS[name].prepared()
    agents = [hyperparameters.with_values(agent, {"learning_rate": jnp.float32(rate)}) for rate in (1e-3, 1e-2)]
    loops = [start(agent, env, seed) for seed in range(2)]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *agents), jax.tree.map(lambda *x: jnp.stack(x), *loops)
    together, _ = jax.jit(jax.vmap(lambda a, loop: training.iterate(a, env, loop)))(*stacked)
    step = jax.jit(training.iterate, static_argnums=1)
    for i, (one, loop) in enumerate(zip(agents, loops, strict=True)):
        alone, _ = step(one, env, loop)
        same(jax.tree.map(lambda x, i=i: x[i], together.agent_state), alone.agent_state, 1e-4)


def test_iterations_are_one_program_the_same_bits_finite_and_of_one_type(agent: Agent, env: DeviceEnv) -> None:
    traces = []

    @jax.jit
    def step(agent: Agent, loop: LoopState) -> Any:
        traces.append(1)
        return training.iterate(agent, env, loop)

    loop = begin = start(agent, env)
    for _ in range(3):
        after, metrics = step(agent, loop)
        shapes = jax.tree.map(lambda x: (x.shape, x.dtype, getattr(x, "weak_type", False)), loop)
        assert shapes == jax.tree.map(lambda x: (x.shape, x.dtype, getattr(x, "weak_type", False)), after)
        assert all(jnp.isfinite(x).all() for x in jax.tree.leaves(after.agent_state))
        assert {name for name, x in metrics.items() if not jnp.isfinite(x).all()} <= NOT_YET
        loop = after
    first, _ = step(agent, begin)
    again, _ = step(hyperparameters.as_arrays(agent), start(agent, env))
    same(first, again)
    step(hyperparameters.with_values(agent, {"gamma": jnp.float32(0.5)}), first)
    assert len(traces) == 1
    other, _ = step(agent, start(agent, env, seed=1))
    parameters = (jax.tree.leaves(loop.agent_state.params) for loop in (first, other))
    assert any(not np.array_equal(x, y) for x, y in zip(*parameters, strict=True))


def test_value_learning_rate_moves_the_value_function_alone(env: DeviceEnv) -> None:
    agent = hyperparameters.with_values(AGENTS["a2c"], {"learning_rate": 0.0, "value_learning_rate": 1e-2}).prepared()
    loop = start(agent, env)
    after, _ = jax.jit(training.iterate, static_argnums=1)(agent, env, loop)
    same(loop.agent_state.params.policy, after.agent_state.params.policy)
    with pytest.raises(AssertionError):
        same(loop.agent_state.params.value, after.agent_state.params.value)


def box_rollout(agent: Agent, key: Array, length: int, mask: Array | None) -> Rollout:
    """Random rows of an environment with Box spaces; what the mask leaves out is garbage."""
    keys = jax.random.split(key, 4)
    shape = (length, agent.num_envs)
    junk = 1e9 if mask is not None else 0.0
    real = jnp.ones(shape, bool) if mask is None else mask
    obs = jnp.where(real[..., None], jax.random.uniform(keys[0], (*shape, 3)), junk)
    return Rollout(
        obs=obs,
        action=jnp.where(real[..., None], jax.random.normal(keys[1], (*shape, 2)), junk),
        reward=jnp.where(real, jax.random.normal(keys[2], shape), junk),
        terminated=jnp.zeros(shape, bool),
        truncated=jnp.zeros(shape, bool),
        mask=mask,
        action_mask=None,
        last_obs=jax.random.uniform(keys[3], (agent.num_envs, 3)),
        final_obs=jnp.zeros((0, agent.num_envs, 3)),
        first=jnp.ones(agent.num_envs, bool),
        memory=agent.memory(BOX, agent.num_envs),
    )


HEADS = [("gaussian", "free"), ("tanh", "free"), ("beta", "free"), ("tanh", "state"), ("gaussian", "gsde")]
# Every head by its entropy, and those that no other test of TRPO has by their KL; every agent.
QUICK = {
    "reinforce-none": [("gaussian", "free")],
    "a2c": HEADS,
    "ppo": [("tanh", "state")],
    "trpo": [("beta", "free"), ("tanh", "state"), ("gaussian", "gsde")],
}


@pytest.mark.parametrize(
    ("name", "box_distribution", "box_std"),
    [
        pytest.param(name, *head, marks=[pytest.mark.slow] * (head not in QUICK.get(name, ())))
        for name in AGENTS
        for head in HEADS
    ],
)
def test_box_actions_act_and_learn(name: str, box_distribution: str, box_std: str) -> None:
    agent = dataclasses.replace(AGENTS[name].prepared(), box_distribution=box_distribution, box_std=box_std)
    if box_std == "gsde":  # the random actions of the rollout have to be likely ones
        zero: Any = jnp.float32(0)
        agent = dataclasses.replace(agent, log_std_init=zero)
    keys = jax.random.split(jax.random.key(0), 4)
    state = agent.init(BOX, keys[0])
    view = View(jnp.zeros((4, 3)), jnp.ones(4, bool))
    action, _ = agent.act(BOX, state.actor, agent.memory(BOX, 4), view, keys[1])
    sent = agent.action_head(BOX).to_env(action)
    assert action.shape == sent.shape == (4, 2)
    assert jnp.all(jnp.abs(sent) <= 2)
    data = box_rollout(agent, keys[2], 8, jnp.ones((8, 4), bool))
    after, metrics = jax.jit(agent.update, static_argnums=0)(BOX, state, data, jnp.float32(0), keys[3])
    assert all(jnp.isfinite(x).all() for x in jax.tree.leaves(after))
    assert {name for name, x in metrics.items() if not jnp.isfinite(x).all()} <= NOT_YET
    with pytest.raises(AssertionError):
        same(state.params.policy, after.params.policy)


def test_what_the_mask_leaves_out_changes_nothing(agent: Agent) -> None:
    """The same real rows with other garbage where the mask is False lead to the same parameters and normalizers."""
    mask = jnp.arange(8)[:, None] < jnp.array([8, 5, 3, 6])[None]
    clean = box_rollout(agent, jax.random.key(0), 8, jnp.ones((8, 4), bool))
    # Every episode ends where its mask does, so that no real row sees what comes after.
    ends = mask & ~jnp.concatenate([mask[1:], jnp.zeros((1, 4), bool)])
    states = []
    for junk in (0.0, 7.0):
        data = dataclasses.replace(
            clean,
            obs=jnp.where(mask[..., None], clean.obs, junk),
            action=jnp.where(mask[..., None], clean.action, junk),
            reward=jnp.where(mask, clean.reward, junk),
            terminated=ends,
            mask=mask,
        )
        state = agent.init(BOX, jax.random.key(1))
        after, _ = jax.jit(agent.update, static_argnums=0)(BOX, state, data, jnp.float32(0), jax.random.key(2))
        states.append(dataclasses.replace(after, value_memory=None))  # which is 0 again where the next episode begins
    same(states[0], states[1])


def test_greedy_is_the_mode(env: DeviceEnv) -> None:
    agent = AGENTS["ppo"].prepared()
    state = agent.init(env.spec, jax.random.key(0))
    view = View(jax.random.normal(jax.random.key(1), (64, 4)), jnp.ones(64, bool))
    greedy, _ = agent.act(env.spec, state.actor, (), view, jax.random.key(2), greedy=True)
    logits = agent.networks(env.spec).policy.apply(state.params.policy["network"], Features(view.obs))
    np.testing.assert_array_equal(greedy, logits.argmax(-1))


def test_first_ratio_is_one(env: DeviceEnv) -> None:
    """With one epoch and one minibatch PPO's ratios are all 1: nothing is clipped, and the KL is 0."""
    agent = PPO(**SMALL, rollout_length=8, num_epochs=1, num_minibatches=1, normalize_obs=True).prepared()
    loop = start(agent, env)
    for _ in range(2):  # the second time with a normalizer that has seen something
        loop, metrics = jax.jit(training.iterate, static_argnums=1)(agent, env, loop)
        assert metrics["train/clip_fraction"] == 0
        assert abs(metrics["train/approx_kl"]) < 1e-6


def test_target_kl_skips_the_rest(env: DeviceEnv) -> None:
    agent = PPO(
        **SMALL, rollout_length=8, num_epochs=4, num_minibatches=2, target_kl=1e-4, ascent=Ascent("sgd", 5.0)
    ).prepared()
    _, metrics = jax.jit(training.iterate, static_argnums=1)(agent, env, start(agent, env))
    assert 1 <= metrics["train/updates"] < 8
    assert metrics["train/approx_kl"] <= 1e-4


def test_every_row_is_used_once_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = PPO(**SMALL, rollout_length=8, num_epochs=3, num_minibatches=4)
    seen: list[np.ndarray] = []

    def spy(step: Any, *rest: Any) -> Any:
        def seeing(climb: Any, batch: Experience, number: Array) -> Any:
            jax.debug.callback(lambda x: seen.append(np.asarray(x)), batch.features.vector[:, 0])
            return step(climb, batch, number)

        return minibatches.epochs(seeing, *rest)

    monkeypatch.setattr("rlgd.agents.ppo.epochs", spy)
    data = dataclasses.replace(box_rollout(agent, jax.random.key(0), 8, None), obs=jnp.arange(96.0).reshape(8, 4, 3))
    update = jax.jit(agent.update, static_argnums=0)
    update(BOX, agent.init(BOX, jax.random.key(1)), data, jnp.float32(0), jax.random.key(2))
    jax.effects_barrier()
    epochs = np.concatenate(seen).reshape(3, 32)
    for epoch in epochs:
        np.testing.assert_array_equal(np.sort(epoch), np.arange(0.0, 96.0, 3.0))
    assert not np.array_equal(epochs[0], epochs[1])


def test_stochastic_ascent_learns_from_one_row_at_a_time() -> None:
    """Advantages are normalized over the rollout: over a single row they would all be 0."""
    agent = PPO(**MEASURED, rollout_length=4, num_epochs=1, num_minibatches=16)
    agent.validate()
    data, state = box_rollout(agent, jax.random.key(0), 4, None), agent.init(BOX, jax.random.key(1))
    after, metrics = jax.jit(agent.update, static_argnums=0)(BOX, state, data, jnp.float32(0), jax.random.key(2))
    assert metrics["train/updates"] == 16
    moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), state.params, after.params)
    assert all(distance > 0 for distance in jax.tree.leaves(moved))
    given = (state, data, jnp.float32(0), jax.random.key(2))
    parts = jax.jit(agent.half_gradients, static_argnums=0)(BOX, *given)
    assert all(len(leaf) == 1 for leaf in jax.tree.leaves(parts))  # one row has no halves


def test_batch_minibatch_and_stochastic_ascent_climb_the_same_objective() -> None:
    """At a step size of almost 0 nothing moves between minibatches: their gradients average to that of the batch."""
    steps = []
    for parts in (1, 4, 32):
        agent = PPO(**SMALL, rollout_length=8, num_epochs=1, num_minibatches=parts, ascent=Ascent("sgd", 1e-3 / parts))
        data, state = box_rollout(agent, jax.random.key(0), 8, None), agent.init(BOX, jax.random.key(1))
        after, _ = jax.jit(agent.update, static_argnums=0)(BOX, state, data, jnp.float32(0), jax.random.key(2))
        steps.append(jax.tree.map(jnp.subtract, after.params, state.params))
    same(steps[0], steps[1], 2e-6)
    same(steps[0], steps[2], 2e-6)
    assert max(float(jnp.abs(x).max()) for x in jax.tree.leaves(steps[0])) > 1e-4


def test_dropout_is_off_when_acting_and_for_old_log_probabilities() -> None:
    plain = PPO(**SMALL, rollout_length=8, num_epochs=1, num_minibatches=1)
    dropping = dataclasses.replace(plain, dropout=0.5)
    data, state = box_rollout(plain, jax.random.key(0), 8, None), plain.init(BOX, jax.random.key(1))
    policy, x = state.params.policy, Features(jnp.ones((5, 3)))
    same(plain.distribution(BOX, policy, x).mode(), dropping.distribution(BOX, policy, x).mode())
    rows = jax.jit(experience, static_argnums=1)
    same(rows(plain, BOX, state, data), rows(dropping, BOX, state, data))
    by_key = [dropping.distribution(BOX, policy, x, jax.random.key(i)).mode() for i in range(2)]
    assert not np.array_equal(by_key[0], by_key[1])
    with_key = plain.distribution(BOX, policy, x, jax.random.key(0)).mode()
    same(with_key, plain.distribution(BOX, policy, x).mode())
    metrics = [
        jax.jit(agent.update, static_argnums=0)(BOX, state, data, jnp.float32(0), jax.random.key(2))[1]
        for agent in (plain, dropping)
    ]
    assert metrics[0]["train/approx_kl"] < 1e-9 < metrics[1]["train/approx_kl"]


def test_schedules_of_entropy_and_clipping_are_applied() -> None:
    agent = PPO(
        **SMALL, rollout_length=8, ent_coef=0.2, ent_coef_schedule="linear", clip_eps_schedule="exponential:0.25"
    )
    data, state = box_rollout(agent, jax.random.key(0), 8, None), agent.init(BOX, jax.random.key(1))
    _, metrics = jax.jit(agent.update, static_argnums=0)(BOX, state, data, jnp.float32(0.5), jax.random.key(2))
    np.testing.assert_allclose(metrics["train/ent_coef"], 0.1, rtol=1e-6)
    np.testing.assert_allclose(metrics["train/clip_eps"], 0.2 * 0.25**0.5, rtol=1e-6)
    fixed = dataclasses.replace(
        agent, ent_coef=0.1, clip_eps=0.1, ent_coef_schedule="constant", clip_eps_schedule="constant"
    )
    _, expected = jax.jit(fixed.update, static_argnums=0)(BOX, state, data, jnp.float32(0.5), jax.random.key(2))
    for name in ("train/objective", "train/entropy", "train/clip_fraction", "ascent/gradient_norm"):
        np.testing.assert_allclose(metrics[name], expected[name], rtol=1e-5)


def test_the_outer_step_scales_and_carries_on_the_displacement_of_an_iteration() -> None:
    plain = A2C(**SMALL, rollout_length=8, ascent=Ascent("sgd", 0.1))
    outer = dataclasses.replace(plain, ascent=Ascent("sgd", 0.1, outer_learning_rate=0.5, outer_momentum=0.8))
    data = box_rollout(plain, jax.random.key(0), 8, None)

    @jax.jit
    def displacement(agent: Agent, state: Any) -> tuple[Any, Any]:
        after, _ = agent.update(BOX, state, data, jnp.float32(0), jax.random.key(2))
        return after, jax.tree.map(jnp.subtract, after.params, state.params)

    first = outer.init(BOX, jax.random.key(1))
    second, step = displacement(outer, first)
    _, inner = displacement(plain, first)
    same(step, jax.tree.map(lambda d: 0.5 * (d + 0.8 * d), inner), 1e-6)
    _, step = displacement(outer, second)
    _, inner_after = displacement(plain, second)
    velocity = jax.tree.map(lambda d, e: 0.8 * d + e, inner, inner_after)
    same(step, jax.tree.map(lambda e, v: 0.5 * (e + 0.8 * v), inner_after, velocity), 1e-6)


@pytest.mark.parametrize(("rollout_moments", "counted"), [("keep", 8), ("reset", 4), ("relative", 4), ("decay", 8)])
def test_moments_know_when_a_rollout_is_new(rollout_moments: str, counted: int) -> None:
    """Once in each iteration, whatever the number of updates: Adam counts those since."""
    agent = PPO(
        **SMALL, rollout_length=8, num_epochs=2, num_minibatches=2, ascent=Ascent(rollout_moments=rollout_moments)
    )
    data, state = box_rollout(agent, jax.random.key(0), 8, None), agent.init(BOX, jax.random.key(1))
    update = jax.jit(agent.update, static_argnums=0)
    for seed in range(2):
        state, _ = update(BOX, state, data, jnp.float32(0), jax.random.key(seed))
    counts = [leaf for leaf in jax.tree.leaves(state.opt_state) if jnp.issubdtype(leaf.dtype, jnp.integer)]
    assert [int(count) for count in counts] == [counted, counted]


def test_the_cost_of_an_iteration_counts_its_passes() -> None:
    """Acting, each epoch, each step of conjugate gradient."""
    cost = {"reinforce": 2, "a2c": 2, "ppo": 3, "npg": 7, "trpo-all": 9}
    assert {name: AGENTS[name].passes() for name in cost} == cost


@pytest.mark.parametrize("initialization", ["orthogonal", "glorot", "xavier", "he", "lecun"])
def test_a_seed_decides_every_parameter(initialization: str) -> None:
    agent = PPO(**(SMALL | {"hidden_sizes": (8, 8)}), initialization=initialization)
    first, again, other = (agent.init(BOX, jax.random.key(seed)).params for seed in (3, 3, 4))
    same(first, again)
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(other), strict=True):
        assert a.ndim < 2 or not np.array_equal(a, b)
    kernels = [leaf for leaf in jax.tree.leaves(first) if leaf.shape == (8, 8)]
    assert len(kernels) == 2
    assert not np.array_equal(kernels[0], kernels[1])  # policy and value function


def test_registry_names_every_agent() -> None:
    for name, (_, cls, _) in REGISTRY.items():
        assert agent_class(name.upper()).__name__ == cls
    assert agent_class("actor-critic") is A2C
    assert set(ALIASES.values()) <= set(REGISTRY)
    with pytest.raises(UsageError, match="unknown agent 'pppo'; did you mean 'ppo'"):
        make_agent("pppo")


def test_make_agent_resolves_flat_names() -> None:
    agent = make_agent("ppo", learning_rate=1e-2, momentum=0.5, num_envs=2)
    assert (agent.ascent.rule.learning_rate, agent.ascent.rule.momentum, agent.num_envs) == (1e-2, 0.5, 2)
    with pytest.raises(UsageError, match="unknown hyper-parameter 'gama'; did you mean 'gamma'"):
        make_agent("ppo", gama=0.9)


BAD: list[tuple[str, dict[str, Any], str]] = [
    ("ppo", {"gamma": 1.5}, r"gamma is 1.5; allowed: a number within \[0, 1\]"),
    ("ppo", {"gamma": float("nan")}, "gamma is nan"),
    ("ppo", {"learning_rate": -1e-3}, "learning_rate is -0.001"),
    ("ppo", {"learning_rate": float("nan")}, "learning_rate is nan"),
    ("ppo", {"learning_rate": float("inf")}, "learning_rate is inf"),
    ("ppo", {"num_envs": 0}, "num_envs is 0"),
    ("ppo", {"num_envs": 1.5}, "num_envs is 1.5; allowed: a whole number"),
    ("ppo", {"gae_lambda": -0.1}, "gae_lambda"),
    ("ppo", {"clip_eps": 0}, "clip_eps"),
    ("ppo", {"target_kl": 0}, "target_kl"),
    ("ppo", {"hidden_sizes": (64, 0)}, "hidden_sizes is 0"),
    ("ppo", {"activation": "tan"}, "unknown activation 'tan'; did you mean 'tanh'"),
    ("ppo", {"momentum": 1.0}, r"momentum is 1.0; allowed: a number within \[0, 1\)"),
    ("ppo", {"optimizer": "adamm"}, "unknown optimizer 'adamm'; did you mean 'adam"),
    ("a2c", {"optimizer": "sgd", "momentum": 0.9}, "momentum is set, but sgd does not use it"),
    ("ppo", {"max_grad_norm": 0}, "max_grad_norm"),
    ("ppo", {"num_minibatches": 3}, r"does not divide .* = 1024; nearest that do: 1, 2, 4"),
    ("ppo", {"num_envs": 1, "rollout_length": 1, "num_minibatches": 1}, "the advantage 0 in a rollout of one row"),
    ("a2c", {"network": "gru", "rollout_length": 1}, "rollout_length is 1, so network 'gru' never learns"),
    ("ppo", {"clip_eps_schedule": "piecewise:0=0"}, "its factor is 0 in the whole run, so nothing is learned"),
    ("ppo", {"schedule": "piecewise:0=0,1=0"}, "its factor is 0 in the whole run, so nothing is learned"),
    ("ppo", {"outer_learning_rate": 0.0}, r"outer_learning_rate is 0.0; allowed: a number within \(0, inf\)"),
    ("ppo", {"hidden_sizes": (10**400,)}, r"hidden_sizes is 1000.* \.\.\. .*0; allowed: a whole number below 2\*\*63"),
    ("ppo", {"gamma": math.nan}, "gamma is nan; allowed: a number within"),
    ("ppo", {"hidden_sizes": (8,) * 101}, "hidden_sizes has 101 numbers; allowed: at most 100"),
    ("ppo", {"schedule": "piecewise:" + "0=1," * 5000 + "1=1"}, r"schedule has 20,013 characters; allowed: at most"),
    ("reinforce", {"baseline": "mean", "num_envs": 1}, "num_envs is 1; allowed: at least 2"),
    ("reinforce", {"baseline": "avg"}, "unknown baseline"),
    ("ppo", {"schedule": "lineer"}, "unknown schedule 'lineer'; did you mean 'linear'"),
    ("ppo", {"ent_coef_schedule": "linear:x"}, "schedule 'linear:x': 'x' is not a number; allowed: constant, linear"),
    ("ppo", {"clip_eps_schedule": "exponential"}, "exponential needs a number"),
    ("a2c", {"dropout": 1.0}, r"dropout is 1.0; allowed: a number within \[0, 1\)"),
    ("a2c", {"dropout": 0.1, "hidden_sizes": ()}, "no hidden layer"),
    ("a2c", {"measure_every": -1}, "measure_every is -1"),
    ("a2c", {"momentum": 0.9, "momentum_schedule": "linear:1.2"}, "brings momentum from 0.9 to 1.08; allowed: below 1"),
    ("ppo", {"moment_decay": 0.5}, "moment_decay is set, but rollout_moments is 'keep'; choose 'decay'"),
    ("ppo", {"optimizer": "sgd", "rollout_moments": "relative"}, "'relative' is set, but sgd does not use it"),
    ("ppo", {"normalize_obs": 1}, "normalize_obs is 1; allowed: True or False"),
]


@pytest.mark.parametrize(("name", "overrides", "message"), BAD, ids=[str(row[1]) for row in BAD])
def test_bad_values_are_refused(name: str, overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_agent(name, **overrides)


def test_squashing_needs_bounds() -> None:
    with pytest.raises(UsageError, match="finite bounds"):
        action_heads.action_head(
            spaces.spec(gymnasium.spaces.Box(-1, 1), gymnasium.spaces.Box(-np.inf, 1)).action, "tanh"
        )


def test_whole_episodes_need_a_time_limit() -> None:
    with pytest.raises(UsageError, match="time limit"):
        rollout.padded_limit(dataclasses.replace(BOX, max_episode_steps=None))
