"""What is measured of the ascent: against its definition, at the iterations that are measured, and without a trace."""

import dataclasses
import functools
import json
import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.experimental.functional import FuncEnv
from gymnasium.spaces import Box, Discrete
from hypothesis import given
from hypothesis import strategies as st
from jax import Array

import rlgd
from rlgd import training
from rlgd.agents import A2C, NPG, PPO, REINFORCE
from rlgd.agents.base.agent import Agent
from rlgd.agents.base.experience import experience
from rlgd.ascent import Ascent, apply_step, cosine, diagnostics, global_norm
from rlgd.ascent.diagnostics import halves, noise_to_signal
from rlgd.envs import DeviceEnv, make
from rlgd.maths import minibatches, objectives
from rlgd.pytrees import AgentState, LoopState, Rollout
from rlgd.run.sinks.rows import summarize
from rlgd.training import DeviceRunner
from rlgd.training.history import concatenated
from rlgd.training.measuring import before_next, is_measured, measure_on_device
from tests.support.probe_envs import collect, initialize

# ---------------------------------------------------------------------------------------------------------- the halves


def test_halves_are_every_other_row() -> None:
    rows = {"a": jnp.arange(12.0).reshape(6, 2), "b": jnp.arange(6)}
    cut = halves(rows)
    np.testing.assert_array_equal(cut["a"], [rows["a"][::2], rows["a"][1::2]])
    np.testing.assert_array_equal(cut["b"], [[0, 2, 4], [1, 3, 5]])


def test_halves_along_time_keep_whole_episodes() -> None:
    rows = jnp.arange(2 * 4 * 3).reshape(2, 4, 3)
    cut = halves(rows, axis=1)
    assert cut.shape == (2, 2, 2, 3)
    np.testing.assert_array_equal(cut, [rows[:, ::2], rows[:, 1::2]])


@given(size=st.integers(1, 12), axis=st.integers(0, 1), odd=st.booleans())
def test_every_row_is_in_one_half_and_only_an_odd_last_one_in_none(size: int, axis: int, odd: bool) -> None:
    size = 2 * size + odd
    rows = np.arange(size)
    cut = halves(rows if axis == 0 else np.stack([rows, rows]), axis)
    assert cut.shape == (2, size // 2) if axis == 0 else (2, 2, size // 2)
    used = np.asarray(cut if axis == 0 else cut[:, 1]).ravel()
    np.testing.assert_array_equal(np.sort(used), rows[: size - odd])


@pytest.mark.parametrize("axis", [0, 1])
def test_one_row_is_the_batch_itself(axis: int) -> None:
    rows = jnp.arange(3).reshape(1, 3) if axis == 0 else jnp.arange(3).reshape(3, 1)
    np.testing.assert_array_equal(halves({"x": rows}, axis)["x"], rows[None])


@pytest.mark.parametrize("dtype", [bool, np.int32, np.float32])
def test_halves_keep_the_type(dtype: Any) -> None:
    assert halves(jnp.zeros(4, dtype)).dtype == dtype


# ---------------------------------------------------------------------------------------------------- noise to signal


def parts(first: Any, second: Any) -> Any:
    """The gradients of two halves, as a tree."""
    a, b = jnp.asarray(first, float), jnp.asarray(second, float)
    return {"first": jnp.stack([a[:1], b[:1]]), "rest": jnp.stack([a[1:], b[1:]])}


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([3, 4], [3, 4], 0),
        ([0, 0], [0, 0], 0),
        ([3, 0], [1, 0], 0.5),
        ([3, 4], [0, 0], 1),
        ([1, 0], [0, 1], 1),
        ([1, 1, 2], [2, -1, 0], math.sqrt(9 / 13)),
        ([2, 0], [-1, 0], 3),
        ([2, 1], [-2, -1], math.nan),
    ],
)
def test_noise_to_signal_of_known_halves(first: list[float], second: list[float], expected: float) -> None:
    np.testing.assert_allclose(noise_to_signal(parts(first, second)), expected, rtol=1e-6)


def test_noise_alone_gives_one() -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 20_000))
    np.testing.assert_allclose(noise_to_signal(parts(a, b)), 1, atol=0.03)


def test_it_is_the_standard_deviation_of_the_whole_batchs_gradient_over_its_length() -> None:
    """Rows N(mean, 1) in many dimensions: the batch's mean of n rows has the variance 1 / n in each."""
    random, dimensions, rows, mean = np.random.default_rng(1), 20_000, 10, 0.4
    batch = mean + random.normal(size=(rows, dimensions))
    a, b = halves(batch).mean(axis=1)
    expected = math.sqrt((1 / rows) / (mean**2 + 1 / rows))
    np.testing.assert_allclose(noise_to_signal(parts(a, b)), expected, rtol=0.03)


# ------------------------------------------------------------------------------------------------------------- measure

ITERATIONS = 9
PARAMS = {"w": jnp.asarray([[1.0, -2.0], [0.5, 0.25]]), "b": jnp.asarray([0.0, 3.0])}
SERIES = {
    "w": jnp.asarray(np.random.default_rng(2).normal(size=(ITERATIONS, 2, 2, 2)), float),
    "b": jnp.asarray(np.random.default_rng(3).normal(size=(ITERATIONS, 2, 2)), float),
}
ASCENTS = {
    "sgd": Ascent("sgd", 0.1, schedule="linear"),
    "nesterov": Ascent("nesterov", 0.1, momentum=0.7, max_grad_norm=0.5, l2=0.1),
    "adam": Ascent("adam", 0.1, weight_decay=0.01),
    "adam reset": Ascent("adam", 0.1, rollout_moments="reset"),
    "lion": Ascent("lion", 0.1),
}
TAGS = {"ascent/update_norm", "ascent/update_ratio", "ascent/gradient_alignment", "ascent/noise_to_signal"}
MORE = {
    "sgd": set(),
    "nesterov": {"ascent/momentum_alignment"},
    "adam": {"ascent/momentum_alignment", "ascent/epsilon_share"},
    "adam reset": {"ascent/epsilon_share"},  # no moment is left to compare with
    "lion": {"ascent/momentum_alignment"},
}


def at(iteration: int) -> tuple[Any, Any]:
    """The gradients of both halves, and of the batch."""
    both = jax.tree.map(lambda x: x[iteration], SERIES)
    return both, jax.tree.map(lambda x: x.mean(axis=0), both)


def measured(ascent: Ascent) -> dict[str, np.ndarray]:
    """The diagnostics of each iteration of a short ascent, compiled."""
    transformation = ascent.transformation()

    def iteration(carry: Any, row: Any) -> tuple[Any, Any]:
        params, state, last = carry
        both, progress = row
        metrics, last = diagnostics.measure(ascent, state, params, progress, both, last)
        gradient = jax.tree.map(lambda x: jnp.mean(x, axis=0), both)
        step, state = transformation.update(gradient, state, params, progress, new_rollout=True)
        return (apply_step(params, step), state, last), metrics

    start = (PARAMS, transformation.init(PARAMS), jax.tree.map(jnp.zeros_like, PARAMS))
    rows = (SERIES, jnp.arange(ITERATIONS) / ITERATIONS)
    return jax.tree.map(np.asarray, jax.jit(lambda: jax.lax.scan(iteration, start, rows)[1])())


@pytest.mark.parametrize("name", ASCENTS)
def test_every_number_is_what_its_definition_says(name: str) -> None:
    ascent = ASCENTS[name]
    seen = measured(ascent)
    assert set(seen) == TAGS | MORE[name]
    transformation = ascent.transformation()
    params, state, before = PARAMS, transformation.init(PARAMS), None
    update = jax.jit(transformation.update)
    for i in range(ITERATIONS):
        both, gradient = at(i)
        step, after = update(gradient, state, params, i / ITERATIONS, new_rollout=True)
        moment = ascent.first_moment(state)
        expected: dict[str, Any] = {
            "update_norm": global_norm(step),
            "update_ratio": global_norm(step) / global_norm(params),
            "gradient_alignment": math.nan if before is None else cosine(before, gradient),
            "noise_to_signal": noise_to_signal(both),
            "epsilon_share": ascent.epsilon_share(after),
            "momentum_alignment": math.nan if i == 0 else moment is not None and cosine(moment, gradient),
        }
        for tag, values in seen.items():
            np.testing.assert_allclose(
                values[i], expected[tag.removeprefix("ascent/")], rtol=1e-5, err_msg=f"{tag} {i}"
            )
        params, state, before = apply_step(params, step), after, gradient


def test_the_angle_between_gradients_is_a_cosine() -> None:
    ascent, last = Ascent("sgd", 0.1), {"x": jnp.zeros(2)}
    seen = []
    for gradient in ([2.0, 0.0], [0.0, 3.0], [0.0, -1.0], [1.0, 1.0], [0.0, 0.0], [1.0, 0.0]):
        both = {"x": jnp.stack([jnp.asarray(gradient)] * 2)}
        state = ascent.transformation().init({"x": jnp.ones(2)})
        metrics, last = diagnostics.measure(ascent, state, {"x": jnp.ones(2)}, jnp.zeros(()), both, last)
        seen.append(float(metrics["ascent/gradient_alignment"]))
    np.testing.assert_allclose(seen, [math.nan, 0, -1, -math.sqrt(0.5), 0, math.nan], rtol=1e-6)


@pytest.mark.parametrize("name", ["adam", "rmsprop", "adagrad"])
@pytest.mark.parametrize(("epsilon", "share"), [(1e-3, 0.0), (1e-1, 0.25), (3.0, 0.75), (1e3, 1.0)])
def test_epsilon_share_is_the_share_of_parameters_whose_step_epsilon_decides(
    name: str, epsilon: float, share: float
) -> None:
    """After one update adam's second moment is g^2; of the others the bound is epsilon itself, and they keep a mean of
    squares and a sum that began at 0.1.
    """
    gradient = {"x": jnp.asarray([0.05, 1.0]), "y": jnp.asarray([2.0, 20.0])}
    squares = np.square([0.05, 1.0, 2.0, 20.0])
    second = {"adam": squares, "rmsprop": 0.1 * squares, "adagrad": 0.1 + squares}[name]
    given = epsilon if name == "adam" else epsilon**2
    expected = float((second <= epsilon**2).mean())
    if name == "adam":
        assert expected == share
    ascent = Ascent(name, 0.1, epsilon=given)
    transformation = ascent.transformation()
    _, state = transformation.update(gradient, transformation.init(gradient), gradient)
    found: Any = ascent.epsilon_share(state)
    np.testing.assert_allclose(found, expected)


def test_one_gradient_has_no_noise_to_signal() -> None:
    ascent, gradient = Ascent("sgd", 0.5), {"x": jnp.asarray([[3.0, 4.0]])}
    params = {"x": jnp.asarray([0.0, 10.0])}
    state, none = ascent.transformation().init(params), jax.tree.map(jnp.zeros_like, params)
    metrics, last = diagnostics.measure(ascent, state, params, jnp.zeros(()), gradient, none)
    assert set(metrics) == TAGS - {"ascent/noise_to_signal"}
    np.testing.assert_allclose(metrics["ascent/update_norm"], 2.5)
    np.testing.assert_allclose(metrics["ascent/update_ratio"], 0.25)
    np.testing.assert_array_equal(last["x"], [3, 4])


# ------------------------------------------------------------------------------------------------ in an agent's update


def _cartpole() -> DeviceEnv:
    env = make("CartPole-v1", max_episode_steps=20)
    assert isinstance(env, DeviceEnv)
    return env


ENV = _cartpole()
SMALL: dict[str, Any] = {"num_envs": 2, "hidden_sizes": (4,)}
LINEAR: dict[str, Any] = {"num_envs": 2, "hidden_sizes": (), "rollout_length": 8}
ASCENT = Ascent("adam", learning_rate=0.01, max_grad_norm=0.5, schedule="linear")
AGENTS: dict[str, Agent] = {
    "a2c": A2C(**SMALL, rollout_length=8, ascent=ASCENT),
    "reinforce": REINFORCE(**SMALL, ascent=ASCENT),
    "ppo": PPO(**SMALL, rollout_length=8, num_epochs=2, num_minibatches=2, ascent=ASCENT),
    "npg": NPG(**SMALL, rollout_length=8, num_epochs=1, num_minibatches=2, cg_iters=3, ascent=ASCENT),
}


def run(agent: Agent, iterations: int, total: int = 10_000) -> tuple[LoopState, dict[str, np.ndarray]]:
    """A short training, with the metrics of all iterations."""
    prepared, parts, done = agent.prepared(), [], 0
    loop = initialize(prepared, ENV, jax.random.key(0), total)
    runner = DeviceRunner(prepared, ENV, 8)
    while done < iterations:
        loop, metrics = runner(loop, iterations - done, 2**31 - 1)
        parts.append(metrics)
        done += len(metrics["rollout/steps"])
    return loop, concatenated(parts)


@pytest.mark.parametrize("name", ["a2c", pytest.param("ppo", marks=pytest.mark.slow)])
def test_measuring_changes_no_bit_of_the_training(name: str) -> None:
    plain, never = run(dataclasses.replace(AGENTS[name], measure_every=0), 7)
    assert plain.agent_state.measured is None
    for every in (1, 3):
        loop, metrics = run(dataclasses.replace(AGENTS[name], measure_every=every), 7)
        for part in ("params", "opt_state"):
            one, other = (getattr(each.agent_state, part) for each in (loop, plain))
            jax.tree.map(np.testing.assert_array_equal, one, other)
        for tag, values in never.items():
            np.testing.assert_array_equal(values, metrics[tag])


@pytest.mark.slow
@pytest.mark.parametrize("name", AGENTS)
def test_what_was_measured_is_in_its_own_rows(name: str) -> None:
    never = run(dataclasses.replace(AGENTS[name], measure_every=0), 7)[1]
    always = run(dataclasses.replace(AGENTS[name], measure_every=1), 7)[1]
    more = set(always) - set(never)
    assert more == TAGS | MORE["adam"]
    for tag in more:
        first = 2 if tag == "ascent/gradient_alignment" else 1
        assert np.isnan(always[tag][:first]).all()
        assert np.isfinite(always[tag][first:]).all()
        assert always[tag].dtype == np.float32
    if name == "a2c":
        seldom = run(dataclasses.replace(AGENTS[name], measure_every=3), 7)[1]
        assert set(seldom) == set(always)
        for tag in more:
            assert np.isnan(np.delete(seldom[tag], [3, 6])).all()
            assert seldom[tag].dtype == np.float32
            if tag != "ascent/gradient_alignment":
                np.testing.assert_allclose(seldom[tag][[3, 6]], always[tag][[3, 6]], rtol=1e-4)
        assert np.isnan(seldom["ascent/gradient_alignment"][3])
        assert abs(seldom["ascent/gradient_alignment"][6] - always["ascent/gradient_alignment"][6]) > 1e-3


@given(every=st.integers(0, 12), start=st.integers(0, 40), most=st.integers(1, 30))
def test_a_chunk_ends_before_the_next_measurement(every: int, start: int, most: int) -> None:
    number = before_next(every, start, most)
    measured = [i for i in range(start + 1, start + most) if is_measured(every, i)]
    assert number == (measured[0] - start if measured else most)
    assert [i for i in range(60) if is_measured(every, i)] == list(range(every, 60, every) if every else [])


@pytest.mark.slow
def test_an_agent_without_halves_is_measured_by_its_gradient() -> None:
    whole = dataclasses.replace(AGENTS["a2c"], measure_every=1).prepared()
    loop = initialize(whole, ENV, jax.random.key(0), 10_000)
    metrics, state = measure_on_device(whole, ENV, loop)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(A2C, "half_gradients", Agent.half_gradients)
        plain, same = measure_on_device(whole, ENV, loop)
    assert set(metrics) - set(plain) == {"ascent/noise_to_signal"}
    for name, value in plain.items():
        np.testing.assert_allclose(value, metrics[name], rtol=1e-4)
    for a, b in zip(*map(jax.tree.leaves, (state.measured, same.measured)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


PLAIN = Ascent("sgd", learning_rate=1.0)
ONE_STEP: dict[str, Agent] = {
    "a2c": A2C(**LINEAR, ascent=PLAIN, measure_every=1),
    "reinforce": REINFORCE(num_envs=2, hidden_sizes=(), ascent=PLAIN, measure_every=1),
    "ppo": PPO(**LINEAR, num_epochs=1, num_minibatches=1, ascent=PLAIN, measure_every=1),
}


@pytest.mark.parametrize("name", ONE_STEP)
def test_the_measured_gradient_is_the_one_that_was_climbed(name: str) -> None:
    """An even number of rows, one update, and a step that is the gradient itself."""
    agent = ONE_STEP[name].prepared()
    loop = initialize(agent, ENV, jax.random.key(1), 10_000)
    metrics, state = jax.jit(measure_on_device, static_argnums=1)(agent, ENV, loop)
    after, trained = jax.jit(training.iterate, static_argnums=1)(agent, ENV, loop)
    climbed = jax.tree.map(jnp.subtract, after.agent_state.params.policy, loop.agent_state.params.policy)
    assert global_norm(climbed) > 0.01
    for a, b in zip(*map(jax.tree.leaves, (state.measured, climbed)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    for norm in (trained["ascent/gradient_norm"], metrics["ascent/update_norm"]):
        np.testing.assert_allclose(norm, global_norm(state.measured), rtol=1e-5)


@pytest.mark.parametrize("name", ["sgd", "momentum"])
def test_what_is_applied_follows_its_schedule(name: str) -> None:
    """Without momentum each step is the rate times the gradient, which shows that the numbers are those that acted."""
    momentum: dict[str, Any] = {"momentum": 0.9, "momentum_schedule": "linear:0.5"} if name == "momentum" else {}
    ascent = Ascent(name, 0.1, schedule="linear", **momentum)
    agent = A2C(**LINEAR, ascent=ascent, measure_every=1)
    _, metrics = run(agent, 10, 10 * 16)
    progress = np.arange(10) / 10
    rate, coefficient = 0.1 * (1 - progress), (0.9 if momentum else 0) * (1 - 0.5 * progress)
    np.testing.assert_allclose(metrics["ascent/learning_rate"], rate, rtol=1e-4)
    np.testing.assert_allclose(metrics["ascent/momentum"], coefficient, rtol=1e-5)
    np.testing.assert_allclose(metrics["ascent/effective_step"], rate / (1 - coefficient), rtol=1e-4)
    if name == "sgd":
        steps = rate * metrics["ascent/gradient_norm"]
        np.testing.assert_allclose(metrics["ascent/update_norm"][1:], steps[1:], rtol=1e-3)


def rollout_of(agent: Agent) -> tuple[AgentState, Rollout]:
    loop = initialize(agent.prepared(), ENV, jax.random.key(2), None)
    rollout, _ = collect(agent.prepared(), ENV, loop, jax.random.key(3))
    return loop.agent_state, rollout


@functools.partial(jax.jit, static_argnums=0)
def minibatch_norms(number: int, agent: PPO, state: AgentState, rollout: Rollout, key: Array) -> Array:
    """The lengths of the policy's gradients on an epoch's minibatches, at the parameters before it."""
    rows = experience(agent, ENV.spec, state, rollout)
    order = minibatches.shuffle(jax.random.fold_in(jax.random.fold_in(key, 0), 0), rows.advantage.shape[0])

    def norm(index: Array) -> Array:
        batch = jax.tree.map(lambda x: x[index], rows)

        def surrogate(policy: Any) -> Array:
            log_prob = agent.distribution(ENV.spec, policy, batch.features).log_prob(batch.action)
            return objectives.clipped_surrogate(log_prob, batch.log_prob, batch.advantage, agent.clip_eps)

        return global_norm(jax.grad(surrogate)(state.params.policy))

    return jax.vmap(norm)(order.reshape(number, -1))


def test_clipped_is_the_share_of_updates_whose_gradient_was_too_long() -> None:
    """With learning rate 0 all of an epoch's gradients are taken at the same parameters."""
    agent = PPO(**LINEAR, num_epochs=1, num_minibatches=4, ascent=Ascent("sgd", 0.0), measure_every=0)
    state, rollout = rollout_of(agent)
    key = jax.random.key(4)
    norms = np.sort(minibatch_norms(4, agent.prepared(), state, rollout, key))
    assert np.diff(norms).min() > 1e-3 * norms[0] > 0
    update = jax.jit(type(agent).update, static_argnums=1)
    between = [norms[0] / 2, *np.sqrt(norms[1:] * norms[:-1]), norms[-1] * 2]
    for number, limit in enumerate(between):
        ascent = Ascent("sgd", 0.0, max_grad_norm=float(limit))
        _, metrics = update(dataclasses.replace(agent, ascent=ascent).prepared(), ENV.spec, state, rollout, 0.0, key)
        assert metrics["ascent/clipped"] == 1 - number / 4
        np.testing.assert_allclose(metrics["ascent/gradient_norm"], norms.mean(), rtol=1e-4)


def test_clipped_is_0_or_1_where_there_is_one_update() -> None:
    agent = A2C(**LINEAR, measure_every=0)
    state, rollout = rollout_of(agent)
    update = jax.jit(A2C.update, static_argnums=1)
    for limit, expected in ((1e-3, 1), (1e3, 0), (None, 0)):
        prepared = dataclasses.replace(agent, ascent=Ascent("sgd", 0.1, max_grad_norm=limit)).prepared()
        _, metrics = update(prepared, ENV.spec, state, rollout, 0.0, jax.random.key(0))
        assert metrics["ascent/clipped"] == expected
        assert 1e-3 < metrics["ascent/gradient_norm"] < 1e3


# ------------------------------------------------------------------------------------------------------------ the rows


def test_a_row_averages_over_what_was_measured() -> None:
    nan = math.nan
    metrics = {
        "rollout/episodes": np.array([0, 2, 1]),
        "rollout/return_sum": np.array([0.0, 10.0, 2.0]),
        "rollout/length_sum": np.array([0, 6, 3]),
        "rollout/steps": np.array([8, 8, 8]),
        "train/entropy": np.array([1.0, 2.0, 3.0], np.float32),
        "ascent/update_norm": np.array([4.0, nan, 6.0], np.float32),
        "ascent/gradient_alignment": np.array([nan, nan, -0.5], np.float32),
        "ascent/momentum_alignment": np.array([nan, nan, nan], np.float32),
    }
    assert summarize(metrics) == {
        "rollout/episodes": 3.0,
        "rollout/episode_return": 4.0,
        "rollout/episode_length": 3.0,
        "train/entropy": 2.0,
        "ascent/update_norm": 5.0,
        "ascent/gradient_alignment": -0.5,
    }


def test_a_run_shows_what_was_measured_and_no_nan(tmp_path: Path) -> None:
    agent = A2C(**LINEAR, ascent=ASCENT, measure_every=4)
    result = rlgd.train(agent, ENV, total_timesteps=10 * 16, run_dir=tmp_path, eval_episodes=1)
    for tag in TAGS | MORE["adam"]:
        assert np.isnan(np.delete(result.metrics[tag], [4, 8])).all()
        assert np.isfinite(result.metrics[tag][8]).all()
    text = (tmp_path / "metrics.jsonl").read_text()
    rows = [json.loads(line) for line in text.splitlines()][:10]
    assert "NaN" not in text
    assert [number for number, row in enumerate(rows) if "ascent/update_norm" in row] == [4, 8]
    assert [number for number, row in enumerate(rows) if "ascent/gradient_alignment" in row] == [8]


@pytest.mark.slow
@pytest.mark.parametrize("every", [2, 3])  # a row is of 2 iterations
def test_on_the_host_a_chunk_measures_wherever_it_is_due(every: int) -> None:
    """Chunks end with the rows of the curves there: a measured iteration is the first of one, or another."""
    agent = A2C(**LINEAR | {"rollout_length": 2}, ascent=ASCENT, measure_every=every)
    result = rlgd.train(agent, "CartPole-v1", total_timesteps=4 * 1000, backend="host")
    norms = result.metrics["ascent/update_norm"]
    np.testing.assert_array_equal(np.flatnonzero(~np.isnan(norms)), np.arange(every, len(norms), every))


class Coin(FuncEnv[Array, Array, Array, Array, Array, Any, Any]):
    """Pays 100 for everything; nothing is observed."""

    observation_space, action_space = Box(-1.0, 1.0, (1,)), Discrete(2)

    def initial(self, rng: Array, params: Any = None) -> Array:
        return jnp.zeros(1)

    def transition(self, state: Array, action: Array, rng: Array, params: Any = None) -> Array:
        return state

    def observation(self, state: Array, rng: Array, params: Any = None) -> Array:
        return state

    def reward(self, state: Array, action: Array, next_state: Array, rng: Array, params: Any = None) -> Array:
        return jnp.full((), 100.0)

    def terminal(self, state: Array, rng: Array, params: Any = None) -> Array:
        return jnp.ones((), bool)


def test_gradients_that_cancel_leave_no_infinity_in_the_curves(tmp_path: Path) -> None:
    """Of two rows with different actions of a uniform policy, the gradients are exactly opposite."""
    agent = A2C(num_envs=1, rollout_length=2, hidden_sizes=(), ascent=Ascent("sgd", 0.0), gamma=0.0, measure_every=1)
    env = make(Coin(), max_episode_steps=2)
    result = rlgd.train(agent, env, total_timesteps=40, run_dir=tmp_path, eval_episodes=1)
    norms = result.metrics["ascent/gradient_norm"]
    assert 0 < (norms == 0).sum() < len(norms)
    assert "Infinity" not in (tmp_path / "metrics.jsonl").read_text()
