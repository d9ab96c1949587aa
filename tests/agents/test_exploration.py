"""Ways to choose an action, each by itself, and gSDE in an agent."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlgd.agents import PPO
from rlgd.agents.base.exploration import (
    Decision,
    Greedy,
    IndependentNoise,
    StateDependentNoise,
    make_exploration,
    validate,
)
from rlgd.envs import make
from rlgd.errors import UsageError
from rlgd.evaluation import Policy
from rlgd.maths.distributions import Categorical, DiagGaussian
from rlgd.models.torsos import NetworkOutput
from rlgd.pytrees import View

N, WIDTH, D = 4, 3, 2
FIRST = jnp.zeros(N, bool)


def decision(log_std: Any = None) -> Decision:
    """Of a Gaussian policy at ``N`` observations."""
    mean = jnp.arange(float(N * D)).reshape(N, D)
    hidden = jnp.linspace(-1.0, 1.0, N * WIDTH).reshape(N, WIDTH)
    return Decision(DiagGaussian(mean, jnp.zeros((N, D))), NetworkOutput(mean, hidden), log_std)


def test_greedy_is_the_mode_and_keeps_the_memory() -> None:
    memory = StateDependentNoise(WIDTH, D).begin(N)
    action, kept = Greedy().choose(decision(), memory, FIRST, jax.random.key(0))
    np.testing.assert_array_equal(action, decision().policy.mode())
    assert kept is memory
    logits = jnp.array([[0.0, 2.0, 1.0]])
    discrete = Decision(Categorical(logits), NetworkOutput(logits, logits), None)
    assert Greedy().choose(discrete, None, FIRST[:1], jax.random.key(0))[0] == 1


def test_independent_noise_is_a_sample_and_remembers_nothing() -> None:
    noise, key = IndependentNoise(D), jax.random.key(1)
    assert noise.begin(N) is None
    action, memory = noise.choose(decision(), None, FIRST, key)
    with jax.debug_key_reuse(False):
        np.testing.assert_array_equal(action, decision().policy.sample(key))
    assert memory is None
    np.testing.assert_array_equal(noise.initial_log_std(None), np.zeros(D))
    np.testing.assert_array_equal(noise.initial_log_std(-1.0), np.full(D, -1.0))


def test_state_dependent_noise_is_linear_in_the_hidden_layer() -> None:
    noise = StateDependentNoise(WIDTH, D)
    log_std = noise.initial_log_std(None)
    np.testing.assert_array_equal(log_std, np.full((WIDTH, D), -2.0))
    given = decision(log_std)
    action, memory = noise.choose(given, noise.begin(N), FIRST, jax.random.key(0))
    assert memory is not None
    expected = np.einsum("nw,nwd->nd", given.output.hidden, memory.noise) * np.exp(-2.0)
    np.testing.assert_allclose(action - given.policy.mode(), expected, rtol=1e-5, atol=1e-6)
    blind = given._replace(output=given.output._replace(hidden=jnp.zeros((N, WIDTH))))
    np.testing.assert_array_equal(noise.choose(blind, memory, FIRST, jax.random.key(1))[0], given.policy.mode())


@pytest.mark.parametrize("sample_freq", [1, 2, 3])
def test_noise_is_drawn_again_after_some_steps_and_where_an_episode_begins(sample_freq: int) -> None:
    noise = StateDependentNoise(WIDTH, D, sample_freq)
    given, memory, drawn = decision(noise.initial_log_std(0.0)), noise.begin(N), []
    for t in range(6):
        _, memory = noise.choose(given, memory, jnp.arange(N) == (0 if t == 4 else N), jax.random.key(t))
        assert memory is not None
        drawn.append(np.asarray(memory.noise))
    changed = np.any(np.diff(np.stack(drawn), axis=0) != 0, axis=(2, 3))
    np.testing.assert_array_equal(changed[:, 1], [t % sample_freq == 0 for t in range(1, 6)])
    assert changed[3, 0]


def test_the_hyper_parameters_choose_the_class() -> None:
    assert make_exploration("free", (8,), D, None) == make_exploration("state", (8,), D, None) == IndependentNoise(D)
    assert make_exploration("gsde", (8, 5), D, None) == StateDependentNoise(5, D, 4)
    assert make_exploration("gsde", (8, 5), D, 2) == StateDependentNoise(5, D, 2)
    validate("gsde", (8,), 3)
    with pytest.raises(UsageError, match="there is no hidden layer to explore with"):
        validate("gsde", (), None)
    with pytest.raises(UsageError, match="sde_sample_freq is set, but box_std is 'free'; choose 'gsde'"):
        validate("free", (8,), 3)


def explorer(**options: Any) -> Any:
    agent = PPO(num_envs=2, rollout_length=8, num_minibatches=2, hidden_sizes=(6,), box_std="gsde", **options)
    return agent.prepared(), make("Pendulum-v1")


def test_gsde_keeps_its_noise_for_some_steps() -> None:
    agent, env = explorer(sde_sample_freq=3)
    state = agent.init(env.spec, jax.random.key(0))
    memory, seen = agent.memory(env.spec, 2), []
    for t in range(8):
        view = View(jnp.ones((2, 3)), jnp.array([t == 0, t in (0, 5)]))
        action, memory = agent.act(env.spec, state.actor, memory, view, jax.random.key(t))
        seen.append(np.asarray(action)[:, 0])
    actions = np.array(seen).T
    np.testing.assert_array_equal(np.diff(actions[0]) != 0, [False, False, True, False, False, True, False])
    np.testing.assert_array_equal(np.diff(actions[1]) != 0, [False, False, True, False, True, False, False])


def test_gsde_explores_with_the_deviation_that_it_says() -> None:
    agent, env = explorer(log_std_init=-1.0)
    state = agent.init(env.spec, jax.random.key(0))
    view = View(jnp.broadcast_to(jnp.array([0.3, -0.9, 2.0]), (20_000, 3)), jnp.ones(20_000, bool))
    memory = agent.memory(env.spec, 20_000)
    action, _ = agent.act(env.spec, state.actor, memory, view, jax.random.key(1))
    features = agent.features(env.spec, None, view.obs)
    distribution = agent.distribution(env.spec, state.params.policy, features)
    deviation = float(np.exp(distribution.log_std[0, 0]))
    assert np.std(np.asarray(action)) == pytest.approx(deviation, rel=0.03)
    assert np.mean(np.asarray(action)) == pytest.approx(float(distribution.mean[0, 0]), abs=4 * deviation / 140)
    greedy, _ = agent.act(env.spec, state.actor, memory, view, jax.random.key(1), greedy=True)
    np.testing.assert_array_equal(greedy, distribution.mean)
    policy = Policy(agent, env.spec, state.actor)
    once = policy(np.ones(3), deterministic=False, key=1)
    assert policy(np.ones((5, 3))).shape == (5, 1)  # nothing is remembered
    assert policy(np.ones(3), deterministic=False, key=2) != once
    assert policy(np.ones(3), deterministic=False, key=1, first=False) == once
