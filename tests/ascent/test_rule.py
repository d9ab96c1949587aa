"""The rule alone: its defaults, what it refuses, and what it reads from an optimizer's state."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlgd.ascent import OPTIMIZERS, RolloutMoments, Rule
from rlgd.errors import UsageError

PARAMS = {"w": jnp.array([1.0, -2.0])}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_resolved_sets_what_the_optimizer_uses_and_nothing_else(name: str) -> None:
    rule, defaults = Rule(name).resolved(), {"weight_decay": 0.0} | OPTIMIZERS[name].defaults
    for field in ("momentum", "second_moment", "epsilon", "weight_decay"):
        assert getattr(rule, field) == defaults.get(field)
    assert rule.resolved() == rule
    assert rule.row is OPTIMIZERS[name]


def test_unknown_optimizers_and_unused_numbers_are_refused() -> None:
    with pytest.raises(UsageError, match=r"unknown optimizer 'adma'; did you mean .*'adam'"):
        Rule("adma").resolved()
    with pytest.raises(UsageError, match=r"epsilon is set, but momentum does not use it; .* choose one of .*adam"):
        Rule("momentum", epsilon=1e-8).resolved()


def test_a_number_that_must_be_positive_may_not_reach_0() -> None:
    Rule("adabelief").resolved().check_positive(least_factor=0.1)
    Rule("adam", momentum=0.0).resolved().check_positive(least_factor=0.0)
    for rule, least in ((Rule("adabelief"), 0.0), (Rule("adabelief", momentum=0.0), 1.0)):
        with pytest.raises(UsageError, match="momentum is 0 at some time, with which adabelief fails"):
            rule.resolved().check_positive(least)


def test_the_descent_takes_the_numbers_as_applied_and_decays_the_weights() -> None:
    """Heavy ball: the second step along a steady gradient is 1 + momentum long."""
    descent = (
        Rule("momentum", momentum=0.9, weight_decay=0.5)
        .resolved()
        .descent(jnp.asarray(0.1), jnp.asarray(0.25), RolloutMoments())
    )
    gradient, state = {"w": jnp.ones(2)}, descent.init(PARAMS)
    for total in (1.0, 1.25):
        step, state = descent.update(gradient, state, PARAMS)
        np.testing.assert_allclose(step["w"], -0.1 * total - 0.1 * 0.5 * PARAMS["w"], rtol=1e-6)
    np.testing.assert_allclose(Rule("momentum").first_moment(state)["w"], [-1.25, -1.25], rtol=1e-6)
    assert Rule("momentum").resolved().epsilon_share(state) is None


def test_the_share_of_epsilon_is_read_from_the_state() -> None:
    rule = Rule("adam", epsilon=0.5).resolved()
    descent = rule.descent(jnp.asarray(0.1), None, RolloutMoments())
    with jax.numpy_dtype_promotion("standard"):
        _, state = descent.update({"w": jnp.array([0.1, 10.0])}, descent.init(PARAMS), PARAMS)
    assert rule.epsilon_share(state) == 0.5
