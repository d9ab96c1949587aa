"""Action heads: what each distribution is, what the environment receives, and which choices are refused."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

from rlgd import spaces
from rlgd.errors import UsageError
from rlgd.maths.distributions import Beta, Categorical, DiagGaussian, TanhGaussian
from rlgd.models import action_heads
from rlgd.spaces import BoxSpec, DiscreteSpec, MultiDiscreteSpec
from tests.support.spaces import ACTIONS, MATRIX


def same(a: Any, b: Any) -> None:
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_masked_actions_are_never_taken() -> None:
    """Of each number the value 0 alone, or all but it; entropy and gradients stay finite."""
    for name in ("discrete", "several", "several_in_a_matrix", "one"):
        action = spaces.spec(MATRIX, ACTIONS[name]).action
        nvec = action.nvec if isinstance(action, MultiDiscreteSpec) else (action.n,)  # type: ignore[union-attr]
        head = action_heads.action_head(action)
        size = spaces.mask_size(action)
        assert size == head.num_outputs == sum(nvec)
        starts = np.cumsum((0, *nvec[:-1]))
        first = np.isin(np.arange(size), starts)
        others = ~first | np.repeat(np.array(nvec) == 1, nvec)
        outputs = jnp.asarray(np.random.default_rng(0).normal(size=(500, size)), jnp.float32)
        only = np.array(nvec) == 1
        for mask, holds in ((first, lambda x: x == 0), (others, lambda x, only=only: (x > 0) | only)):
            allowed = jnp.broadcast_to(jnp.asarray(mask), outputs.shape)

            def entropy(outputs: Array, allowed: Array = allowed, head: Any = head) -> Array:
                return jnp.sum(head.distribution(outputs, None, allowed).entropy())

            distribution = head.distribution(outputs, None, allowed)
            for x in (distribution.sample(jax.random.key(0)), distribution.mode()):
                assert np.all(holds(np.asarray(x).reshape(500, len(nvec))))
                assert np.isfinite(distribution.log_prob(x)).all()
            slope = jax.grad(entropy)(outputs)
            assert np.isfinite(slope).all()
            np.testing.assert_array_equal(np.asarray(slope)[:, ~mask], 0)
            width = np.add.reduceat(mask, starts)
            assert np.all(distribution.entropy() <= np.log(width).sum() + 1e-5)
        same(head.distribution(outputs, None, jnp.ones(outputs.shape, bool)), head.distribution(outputs, None))


@pytest.mark.parametrize(
    ("name", "box_distribution"),
    [(name, "gaussian") for name in ACTIONS]
    + [(name, choice) for name in ("box", "matrix", "float64", "integers") for choice in ("tanh", "beta")],
)
def test_whatever_is_sampled_the_environment_receives_a_member_of_its_space(name: str, box_distribution: str) -> None:
    space = ACTIONS[name]
    head = action_heads.action_head(spaces.spec(MATRIX, space).action, box_distribution)
    outputs = jnp.asarray(5 * np.random.default_rng(0).normal(size=(200, head.num_outputs)), jnp.float32)

    @jax.jit
    def act(key: Array) -> tuple[Array, Array]:
        distribution = head.distribution(outputs, jnp.zeros(head.num_log_stds))
        assert distribution.log_prob(distribution.mode()).shape == (200,)
        return head.to_env(distribution.sample(key)), head.to_env(distribution.mode())

    for action in act(jax.random.key(1)):
        assert action.dtype == jax.dtypes.canonicalize_dtype(space.dtype)
        received = np.asarray(action).astype(space.dtype)
        assert all(space.contains(row) for row in received)
    assert len(np.unique(received)) > (name != "one")


def test_heads_of_discrete_and_box() -> None:
    discrete = action_heads.action_head(DiscreteSpec(3, start=-1))
    assert (discrete.num_outputs, discrete.num_log_stds) == (3, 0)
    assert isinstance(discrete.distribution(jnp.zeros((1, 3)), jnp.zeros(0)), Categorical)
    np.testing.assert_array_equal(discrete.to_env(jnp.arange(3)), [-1, 0, 1])
    for name, std, kind, outputs, log_stds in (
        ("gaussian", "free", DiagGaussian, 6, 6),
        ("tanh", "free", TanhGaussian, 6, 6),
        ("gaussian", "state", DiagGaussian, 12, 6),
        ("tanh", "state", TanhGaussian, 12, 6),
        ("beta", "free", Beta, 12, 0),
    ):
        box = action_heads.action_head(spaces.spec(MATRIX, MATRIX).action, name, std)
        assert (box.num_outputs, box.num_log_stds) == (outputs, log_stds)
        assert isinstance(box.distribution(jnp.zeros((1, outputs)), jnp.zeros(log_stds)), kind)
    box = action_heads.action_head(spaces.spec(MATRIX, MATRIX).action, "gaussian", "gsde")
    assert (box.num_outputs, box.num_log_stds) == (6, 6)
    explored = box.distribution(jnp.zeros((1, 6)), jnp.zeros((3, 6)), hidden=jnp.ones((1, 3)))
    np.testing.assert_allclose(explored.log_std, 0.5 * np.log(3), rtol=1e-5)  # type: ignore[union-attr]


def test_the_divergence_of_concentrated_betas_is_no_noise() -> None:
    head = action_heads.action_head(BoxSpec((1,), "float32", (-1,), (1,)), "beta")
    one, other = (head.distribution(jnp.full((1, 2), x)) for x in (1e4, 1.01e4))
    assert isinstance(one, Beta)
    assert isinstance(other, Beta)
    assert abs(float(one.kl(other)[0])) < 1e-4
    wide, near = (head.distribution(jnp.array([[x, 50.0]])) for x in (60.0, 61.0))
    assert isinstance(wide, Beta)
    assert isinstance(near, Beta)
    assert float(wide.kl(near)[0]) == pytest.approx(3.1e-3, rel=0.5)


def test_a_box_action_is_clipped_or_squashed_in_its_own_place() -> None:
    action = spaces.spec(MATRIX, MATRIX).action
    inside = jnp.asarray(MATRIX.low + 1.0).reshape(1, 6)
    np.testing.assert_array_equal(action_heads.action_head(action).to_env(inside)[0], MATRIX.low + 1)
    for name in action_heads.BOX_DISTRIBUTIONS:
        to_env = action_heads.action_head(action, name).to_env
        np.testing.assert_array_equal(to_env(jnp.full((1, 6), 1e3))[0], MATRIX.high)
        np.testing.assert_array_equal(to_env(jnp.full((1, 6), -1e3))[0], MATRIX.low)
    for name, at in (("tanh", 0.0), ("beta", 0.5)):
        middle = action_heads.action_head(action, name).to_env(jnp.full((1, 6), at))
        np.testing.assert_allclose(middle[0], (MATRIX.low + MATRIX.high) / 2, rtol=1e-6)


@pytest.mark.parametrize(("log_std", "used"), [(-50.0, -10.0), (0.5, 0.5), (50.0, 2.0)])
def test_log_std_is_kept_in_range(log_std: float, used: float) -> None:
    head = action_heads.action_head(BoxSpec((2,), "float32", (-1, -1), (1, 1)))
    distribution = head.distribution(jnp.zeros((3, 2)), jnp.full(2, log_std))
    assert isinstance(distribution, DiagGaussian)
    np.testing.assert_array_equal(distribution.log_std, np.full((3, 2), used))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("half_bounded", ("tanh",), "box_distribution 'tanh' needs finite bounds"),
        ("half_bounded", ("beta",), "box_distribution 'beta' needs finite bounds"),
        ("discrete", ("tanh",), "box_distribution is 'tanh', but the actions are Discrete"),
        ("several", ("beta",), "are MultiDiscrete"),
        ("bits", ("gaussian", "gsde"), "box_std is 'gsde', but the actions are MultiBinary"),
        ("box", ("beta", "state"), "a Beta distribution has no such parameter"),
    ],
)
def test_what_makes_no_sense_is_refused(name: str, options: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        action_heads.action_head(spaces.spec(MATRIX, ACTIONS[name]).action, *options)
