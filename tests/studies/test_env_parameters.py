"""Parameters of the environment as axes of a study."""

from typing import Any

import jax
import numpy as np
import pytest

import rlgd
from rlgd.agents import A2C
from rlgd.envs import DeviceEnv, make, randomized
from rlgd.envs.randomization import overridden, overrides
from rlgd.errors import UsageError
from rlgd.studies import Outcome
from tests.support.marks import quick

AGENT = A2C(num_envs=4, rollout_length=16, hidden_sizes=(8,), measure_every=0)
GIVEN: dict[str, Any] = {"total_timesteps": 512, "eval_episodes": 2}
LENGTHS = [0.25, 0.5, 1.0]


def curve(outcome: Outcome) -> list[float]:
    return [row.values["train/objective"] for row in outcome.rows if "train/objective" in row.values]


def twin(env: Any = "CartPole-v1") -> DeviceEnv:
    made = make(env)
    assert isinstance(made, DeviceEnv)
    return made


def test_members_train_in_environments_of_their_own_in_one_program() -> None:
    vary = {"env.half_length": LENGTHS, "learning_rate": [0.01, 0.02]}
    result = rlgd.study(AGENT, "CartPole-v1", vary, seeds=2, **GIVEN)
    assert len(result.plan.members) == 12
    assert len(result.plan.groups) == 1
    records = result.records()
    assert [record["env.half_length"] for record in records] == [length for length in LENGTHS for _ in range(4)]
    objectives = {tuple(curve(outcome)) for outcome in result.outcomes.values()}
    assert len(objectives) == 12  # one seed gives other curves in other environments
    assert "env.half_length=0.25" in result.table()


@pytest.mark.parametrize(
    "base", quick(["CartPole-v1"], ["CartPole-v1", randomized("CartPole-v1", {"gravity": (8.0, 12.0)})])
)
def test_a_member_equals_the_run_alone(base: Any) -> None:
    study = rlgd.study(AGENT, base, {"env.half_length": [0.25, 1.0]}, seeds=1, exact=True, **GIVEN)
    for n, length in enumerate([0.25, 1.0]):
        alone = rlgd.train(AGENT, overridden(twin(base), {"half_length": length}), **GIVEN)
        np.testing.assert_array_equal(curve(study.outcomes[n]), np.float64(alone.metrics["train/objective"]))


def test_a_fixed_value_is_the_same_environment_by_either_name() -> None:
    one = rlgd.train(AGENT, overridden(twin(), {"half_length": 0.3}), **GIVEN)
    other = rlgd.train(AGENT, randomized("CartPole-v1", {"half_length": 0.3}), **GIVEN)
    jax.tree.map(np.testing.assert_array_equal, one.state.agent_state.params, other.state.agent_state.params)


def test_values_over_values_and_over_draws() -> None:
    env = twin()
    twice = overridden(overridden(env, {"gravity": 1, "force": 2}), {"gravity": 3})
    assert overrides(twice) == {"gravity": 3.0, "force": 2.0}
    assert overridden(env, {}) is env
    assert overrides(env) == overrides(make("CartPole-v1", backend="host")) == {}
    drawn = overridden(randomized(env, {"gravity": (5.0, 6.0), "force": (7.0, 8.0)}), {"gravity": 3})
    state, _ = drawn.reset(jax.random.key(0), 5)
    params = jax.vmap(drawn.func_env.params_of)(state.inner)  # type: ignore[attr-defined]
    np.testing.assert_array_equal(params.gravity, 3)
    assert len(np.unique(params.force)) == 5


@pytest.mark.slow
def test_other_parameters_are_another_program() -> None:
    cases = {"short": {"env.half_length": 0.3}, "heavy": {"env.pole_mass": 1.0}, "usual": {}}
    result = rlgd.study(AGENT, "CartPole-v1", cases=cases, seeds=1, **GIVEN)
    assert {group.label for group in result.plan.groups} == {
        "parameters=half_length",
        "parameters=pole_mass",
        "parameters=none",
    }


@pytest.mark.parametrize(
    ("env", "vary", "message"),
    [
        ("CartPole-v1", {"env.half_lenght": [1.0]}, "unknown parameter of CartPole-v1 'half_lenght'"),
        ("CartPole-v1", {"env.gravity": ["low", "high"]}, "gravity is 'low'; allowed: a number, in place of 9.8"),
        ("FrozenLake-v1", {"env.initial": [1.0]}, "initial is 1.0; allowed: a number, in place of"),
        (make("CartPole-v1", backend="host"), {"env.gravity": [1.0]}, "env.gravity cannot vary: CartPole-v1 runs"),
    ],
)  # fmt: skip
def test_what_cannot_vary_is_named(env: Any, vary: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        rlgd.study(AGENT, env, vary, seeds=1, **GIVEN)
