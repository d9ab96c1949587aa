"""The estimators against the exact gradient: every trajectory of a small MDP, weighted by its probability.

Plain ascent with step size 1 adds the estimate itself to the parameters. So the expected change by the public
``update`` is the expectation of the estimator, with every computation between a rollout and a step.
"""

import dataclasses
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

from rlgd.agents import A2C, NPG, PPO, REINFORCE
from rlgd.agents.base.agent import Agent
from rlgd.ascent import Ascent
from rlgd.pytrees import AgentState, Features, Rollout
from rlgd.spaces import DiscreteSpec, Spec

STATES, ACTIONS, HORIZON, GAMMA = 3, 2, 3, 0.8
TERMINAL = 2  # entering it ends the episode; the next one begins in state 0
SPEC = Spec(obs=DiscreteSpec(STATES), action=DiscreteSpec(ACTIONS), max_episode_steps=HORIZON)
ASCENT = Ascent("sgd", learning_rate=1.0)
_random = np.random.default_rng(0)
REWARD = _random.normal(size=(STATES, ACTIONS)).astype(np.float32)
NEXT = _random.dirichlet(np.ones(STATES), size=(STATES, ACTIONS)).astype(np.float32)  # P(s' | s, a)


class Trajectories(NamedTuple):
    """All possible courses of ``HORIZON`` steps from state 0, ``[number, HORIZON]``."""

    state: np.ndarray
    action: np.ndarray
    following: np.ndarray


def all_trajectories() -> Trajectories:
    rows = []
    for steps in itertools.product(itertools.product(range(ACTIONS), range(STATES)), repeat=HORIZON):
        states = [0]
        for _, following in steps:
            states.append(0 if following == TERMINAL else following)
        rows.append((states[:-1], [a for a, _ in steps], [s for _, s in steps]))
    return Trajectories(*(np.array(part, np.int32) for part in zip(*rows, strict=True)))


ALL = all_trajectories()


def make(agent_class: type[Agent], **settings: Any) -> tuple[Agent, AgentState]:
    agent = agent_class(hidden_sizes=(), gamma=GAMMA, ascent=ASCENT, **settings).prepared()
    state = agent.init(SPEC, jax.random.key(0))
    # Away from the uniform policy and from a value function of 0.
    moved = jax.tree.map(lambda x: x + 0.5 * jnp.sin(jnp.arange(x.size, dtype=x.dtype)).reshape(x.shape), state.params)
    return agent, dataclasses.replace(state, params=moved)


def policy_table(agent: Agent, policy: Any) -> Array:
    """The table of log pi(a | s), ``[STATES, ACTIONS]``."""
    return agent.distribution(SPEC, policy, Features(jnp.eye(STATES))).log_probs  # type: ignore[union-attr]


def probabilities(agent: Agent, policy: Any, live: np.ndarray) -> Array:
    """P(trajectory), with only the steps in ``live [number, HORIZON]``."""
    log_pi = policy_table(agent, policy)[ALL.state, ALL.action]
    log_next = jnp.log(NEXT)[ALL.state, ALL.action, ALL.following]
    return jnp.exp(jnp.sum(jnp.where(live, log_pi + log_next, 0), axis=1))


def rollout(which: Array, mask: Array | None) -> Rollout:
    """The rollout of the trajectories ``which [N]``, one in each environment."""
    time_major = [jnp.asarray(part)[which].T for part in ALL]
    state, action, following = time_major
    ended = following == TERMINAL
    return Rollout(
        obs=state,
        action=action,
        reward=jnp.asarray(REWARD)[state, action],
        terminated=ended,
        truncated=jnp.zeros_like(ended),
        mask=mask,
        action_mask=None,
        last_obs=jnp.where(ended[-1], 0, following[-1]),
        final_obs=jnp.zeros((0, len(which)), jnp.int32),
        first=jnp.ones(len(which), bool),
    )


def added(agent: Agent, state: AgentState, data: Rollout) -> Any:
    after, _ = agent.update(SPEC, state, data, jnp.float32(0), jax.random.key(1))
    return jax.tree.map(jnp.subtract, after.params, state.params)


def close(estimate: Any, exact: Any) -> None:
    assert max(float(jnp.abs(x).max()) for x in jax.tree.leaves(exact)) > 0.01
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=2e-5), estimate, exact)


# Rows of an episode: those up to and including its first entry into the terminal state.
EPISODE = np.cumsum(ALL.following == TERMINAL, axis=1) - (ALL.following == TERMINAL) == 0


def distinct_episodes() -> np.ndarray:
    """Trajectories that differ only after the end of the episode are the same."""
    played = np.where(EPISODE[..., None], np.stack([ALL.action, ALL.following], axis=-1), -1)
    return np.unique(played.reshape(len(played), -1), axis=0, return_index=True)[1]


def expected_step(agent: Agent, state: AgentState, episodes: np.ndarray) -> Any:
    """The expectation over independent episodes in each of the agent's environments."""
    probability = probabilities(agent, state.params.policy, EPISODE)[episodes]
    np.testing.assert_allclose(probability.sum(), 1, rtol=1e-5)
    groups = jnp.asarray(list(itertools.product(range(len(episodes)), repeat=agent.num_envs)))
    weight = jnp.prod(probability[groups], axis=1)
    which = jnp.asarray(episodes)[groups]

    def step(which: Array) -> Any:
        return added(agent, state, rollout(which, jnp.asarray(EPISODE)[which].T))

    steps = jax.jit(lambda which: jax.lax.map(step, which, batch_size=64))(which)
    return jax.tree.map(lambda x: jnp.tensordot(weight, x, axes=1), steps)


def discounted_return(policy: Any, agent: Agent) -> Array:
    """J, the expectation of sum_t gamma^t r_t over an episode."""
    episodes = distinct_episodes()
    reward = jnp.asarray(
        np.where(EPISODE, REWARD[ALL.state, ALL.action], 0) @ (GAMMA ** np.arange(HORIZON)), jnp.float32
    )
    return jnp.sum(probabilities(agent, policy, EPISODE)[episodes] * reward[episodes])


def usual_gradient(policy: Any, agent: Agent) -> Any:
    """E[sum_t grad log pi(a_t|s_t) G_t], by differentiating the sum with the returns held fixed."""
    episodes = distinct_episodes()
    reward = np.where(EPISODE, REWARD[ALL.state, ALL.action], 0)
    returns = np.zeros_like(reward)
    for t in reversed(range(HORIZON)):
        returns[:, t] = reward[:, t] + (GAMMA * returns[:, t + 1] if t + 1 < HORIZON else 0)
    weight = probabilities(agent, policy, EPISODE)[episodes]

    def surrogate(policy: Any) -> Array:
        log_pi = policy_table(agent, policy)[ALL.state, ALL.action]
        return jnp.sum(weight * jnp.sum(jnp.where(EPISODE, log_pi * returns, 0), axis=1)[episodes])

    return jax.grad(surrogate)(policy)


@pytest.mark.parametrize("baseline", ["none", "mean", "value"])
@pytest.mark.parametrize("weighting", [False, True], ids=["usual", "gamma-weighted"])
def test_reinforce_is_unbiased(baseline: str, weighting: bool) -> None:
    """With gamma^t the expectation is the gradient of J; without, of the usual surrogate. Baselines do not matter."""
    agent, state = make(REINFORCE, num_envs=2, baseline=baseline, discount_weighting=weighting)
    step = expected_step(agent, state, distinct_episodes())
    policy = state.params.policy
    exact = jax.grad(discounted_return)(policy, agent) if weighting else usual_gradient(policy, agent)
    close(step.policy, exact)


def test_the_two_reinforce_estimators_differ() -> None:
    """Otherwise the test above could not distinguish them."""
    agent, state = make(REINFORCE, num_envs=1, baseline="none")
    usual, exact = usual_gradient(state.params.policy, agent), jax.grad(discounted_return)(state.params.policy, agent)
    assert max(float(jnp.abs(x - y).max()) for x, y in zip(*map(jax.tree.leaves, (usual, exact)), strict=True)) > 0.01


def actor_critic_gradient(agent: Agent, state: AgentState, gae_lambda: float) -> Any:
    """E[mean_t grad log pi(a_t|s_t) A_t] by dynamic programming on the table.

    The expectation of GAE given (s_t, a_t) obeys A_t(s, a) = delta(s, a) + gamma lambda E[A_{t+1}(s', a')], with
    nothing after an end.
    """
    pi = jnp.exp(policy_table(agent, state.params.policy))
    value = agent.value(SPEC, state.params, Features(jnp.eye(STATES)))
    alive = jnp.asarray(np.arange(STATES) != TERMINAL, jnp.float32)
    delta = REWARD + GAMMA * NEXT @ (alive * value) - value[:, None]
    advantages = [delta]
    for _ in range(HORIZON - 1):
        later = jnp.sum(pi * advantages[0], axis=1)
        advantages.insert(0, delta + GAMMA * gae_lambda * NEXT @ (alive * later))
    visits = [jnp.asarray(np.eye(STATES)[0], jnp.float32)]
    restart = np.eye(STATES)[[0 if s == TERMINAL else s for s in range(STATES)]].astype(np.float32)
    for _ in range(HORIZON - 1):
        visits.append(jnp.einsum("s,sa,sak,kj->j", visits[-1], pi, NEXT, restart))

    def surrogate(policy: Any) -> Array:
        log_pi = policy_table(agent, policy)
        terms = [jnp.sum(d[:, None] * pi * log_pi * a) for d, a in zip(visits, advantages, strict=True)]
        return sum(terms) / HORIZON  # type: ignore[return-value]

    return jax.grad(surrogate)(state.params.policy)


@pytest.mark.parametrize("gae_lambda", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("agent_class", [A2C, PPO])
def test_actor_critics_follow_the_gradient_of_their_surrogate(agent_class: type[Agent], gae_lambda: float) -> None:
    """A2C's step, and PPO's first one, where every ratio is 1."""
    settings: dict[str, Any] = {"num_envs": 1, "rollout_length": HORIZON, "gae_lambda": gae_lambda}
    settings["normalize_advantage"] = False
    if agent_class is PPO:
        settings |= {"num_epochs": 1, "num_minibatches": 1}
    agent, state = make(agent_class, **settings)
    weight = probabilities(agent, state.params.policy, np.ones_like(EPISODE))
    np.testing.assert_allclose(weight.sum(), 1, rtol=1e-5)
    steps = jax.jit(jax.vmap(lambda i: added(agent, state, rollout(i[None], None))))(jnp.arange(len(weight)))
    step = jax.tree.map(lambda x: jnp.tensordot(weight, x, axes=1), steps)
    close(step.policy, actor_critic_gradient(agent, state, gae_lambda))


def test_the_natural_gradient_is_made_from_the_same_estimate() -> None:
    """NPG's gradient before the Fisher matrix: the expectation of the step itself is not known."""
    agent, state = make(NPG, num_envs=1, rollout_length=HORIZON, gae_lambda=0.7, normalize_advantage=False)
    weight = probabilities(agent, state.params.policy, np.ones_like(EPISODE))

    def gradient(i: Array) -> Any:
        return agent.gradient(SPEC, state, rollout(i[None], None), jnp.float32(0), jax.random.key(1)).policy

    gradients = jax.jit(jax.vmap(gradient))(jnp.arange(len(weight)))
    close(jax.tree.map(lambda x: jnp.tensordot(weight, x, axes=1), gradients), actor_critic_gradient(agent, state, 0.7))
