from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete, Tuple
from jax import Array

from rlgd import spaces
from rlgd.data import BoxSpec, DiscreteSpec
from rlgd.distributions import Categorical, DiagGaussian, TanhGaussian
from rlgd.errors import UsageError

Space = gymnasium.Space[Any]
MATRIX = Box(np.arange(6.0).reshape(2, 3) - 9, np.arange(6.0).reshape(2, 3) + 1, dtype=np.float32)
ACTIONS: dict[str, Box | Discrete] = {
    "discrete": Discrete(3),
    "from_minus_1": Discrete(3, start=-1),
    "box": Box(-2.0, 2.0, (1,)),
    "matrix": MATRIX,
    "float64": Box(0.1, 0.3, (2,), np.float64),
    "half_bounded": Box(np.array([0.0, -np.inf], np.float32), np.array([np.inf, 1.0], np.float32)),
    "integers": Box(-3, 5, (2,), np.int32),
}


def test_spec_describes_both_spaces() -> None:
    spec = spaces.spec(Box(-1, 1, (4,), np.float32), Box(np.array([-2, 0]), np.array([2, 1]), dtype=np.float64), 500)
    assert spec.obs == BoxSpec((4,), "float32")
    assert spec.action == BoxSpec((2,), "float64", (-2.0, 0.0), (2.0, 1.0))
    assert spec.max_episode_steps == 500
    spec = spaces.spec(Discrete(5, start=2), Discrete(3))
    assert spec.obs == DiscreteSpec(5, 2, "int64")
    assert spec.action == DiscreteSpec(3)
    assert spec.max_episode_steps is None


@pytest.mark.parametrize("name", ACTIONS)
def test_equal_spaces_give_equal_and_hashable_specs(name: str) -> None:
    first, second = (spaces.spec(MATRIX, space) for space in (ACTIONS[name], ACTIONS[name]))
    assert first == second
    assert hash(first) == hash(second)
    assert first != spaces.spec(MATRIX, Discrete(7))


@pytest.mark.parametrize(
    "space", [Dict(a=Discrete(2)), Tuple([Discrete(2)]), MultiDiscrete([2, 3]), Box(0, 1, (0,)), Box(0, 1, (2, 0))]
)
def test_other_spaces_are_refused(space: Space) -> None:
    with pytest.raises(UsageError, match=r"the observation space .* is not supported; supported: Box .* and Discrete"):
        spaces.spec(space, Discrete(2))
    with pytest.raises(UsageError, match="the action space"):
        spaces.spec(Discrete(2), space)


@pytest.mark.parametrize(
    ("space", "shape", "dtype", "features"),
    [
        (Box(-1, 1, (4,), np.float32), (4,), "float32", 4),
        (Box(-1, 1, (2, 3), np.float64), (2, 3), "float32", 6),
        (Box(0, 255, (8, 8, 3), np.uint8), (8, 8, 3), "uint8", 192),
        (Box(-1, 1, (), np.float32), (), "float32", 1),
        (Discrete(5), (), "int32", 5),
    ],
)
def test_observations_are_stored_in_32_bits_or_fewer(
    space: Space, shape: tuple[int, ...], dtype: str, features: int
) -> None:
    obs = spaces.spec(space, Discrete(2)).obs
    assert spaces.obs_shape_dtype(obs) == (shape, jnp.dtype(dtype))
    assert spaces.num_features(obs) == features
    for batch in ((), (3,), (2, 3), (0, 3)):
        encoded = spaces.encode(obs, jnp.ones((*batch, *shape), dtype))
        assert encoded.shape == (*batch, features)
        assert encoded.dtype == jnp.float32


def test_encode_flattens_a_box() -> None:
    x = np.arange(24.0, dtype=np.float32).reshape(4, 2, 3)
    np.testing.assert_array_equal(spaces.encode(BoxSpec((2, 3), "float32"), jnp.asarray(x)), x.reshape(4, 6))


@pytest.mark.parametrize("start", [0, 2, -1])
def test_encode_makes_discrete_observations_one_hot(start: int) -> None:
    obs = spaces.spec(Discrete(4, start=start), Discrete(2)).obs
    np.testing.assert_array_equal(spaces.encode(obs, jnp.arange(start, start + 4)), np.eye(4))


@pytest.mark.parametrize(
    ("name", "squash"),
    [(name, False) for name in ACTIONS] + [(name, True) for name in ("box", "matrix", "float64", "integers")],
)
def test_whatever_is_sampled_the_environment_receives_a_member_of_its_space(name: str, squash: bool) -> None:
    space = ACTIONS[name]
    head = spaces.action_head(spaces.spec(MATRIX, space).action, squash)
    outputs = jnp.asarray(5 * np.random.default_rng(0).normal(size=(200, head.num_outputs)), jnp.float32)

    @jax.jit
    def act(key: Array) -> tuple[Array, Array]:
        distribution = head.distribution(outputs, jnp.zeros(head.num_log_stds))
        assert distribution.log_prob(distribution.mode()).shape == (200,)
        return head.to_env(distribution.sample(key)), head.to_env(distribution.mode())

    for action in act(jax.random.key(1)):
        assert action.dtype == jax.dtypes.canonicalize_dtype(space.dtype)
        received = np.asarray(action, space.dtype)
        assert all(space.contains(row) for row in received)
    assert len(np.unique(received)) > 1


def test_heads_of_discrete_and_box() -> None:
    discrete = spaces.action_head(DiscreteSpec(3, start=-1), squash=False)
    assert (discrete.num_outputs, discrete.num_log_stds) == (3, 0)
    assert isinstance(discrete.distribution(jnp.zeros((1, 3)), jnp.zeros(0)), Categorical)
    np.testing.assert_array_equal(discrete.to_env(jnp.arange(3)), [-1, 0, 1])
    for squash, kind in ((False, DiagGaussian), (True, TanhGaussian)):
        box = spaces.action_head(spaces.spec(MATRIX, MATRIX).action, squash)
        assert (box.num_outputs, box.num_log_stds) == (6, 6)
        assert isinstance(box.distribution(jnp.zeros((1, 6)), jnp.zeros(6)), kind)


def test_a_box_action_is_clipped_or_squashed_in_its_own_place() -> None:
    action = spaces.spec(MATRIX, MATRIX).action
    inside = jnp.asarray(MATRIX.low + 1.0).reshape(1, 6)
    np.testing.assert_array_equal(spaces.action_head(action, False).to_env(inside)[0], MATRIX.low + 1)
    for squash in (False, True):
        to_env = spaces.action_head(action, squash).to_env
        np.testing.assert_array_equal(to_env(jnp.full((1, 6), 1e3))[0], MATRIX.high)
        np.testing.assert_array_equal(to_env(jnp.full((1, 6), -1e3))[0], MATRIX.low)
    middle = spaces.action_head(action, True).to_env(jnp.zeros((1, 6)))
    np.testing.assert_allclose(middle[0], (MATRIX.low + MATRIX.high) / 2, rtol=1e-6)


@pytest.mark.parametrize(("log_std", "used"), [(-50.0, -10.0), (0.5, 0.5), (50.0, 2.0)])
def test_log_std_is_kept_in_range(log_std: float, used: float) -> None:
    head = spaces.action_head(BoxSpec((2,), "float32", (-1, -1), (1, 1)), squash=False)
    distribution = head.distribution(jnp.zeros((3, 2)), jnp.full(2, log_std))
    assert isinstance(distribution, DiagGaussian)
    np.testing.assert_array_equal(distribution.log_std, np.full((3, 2), used))


@pytest.mark.parametrize(
    ("name", "message"), [("half_bounded", "squash needs finite bounds"), ("discrete", "the actions are Discrete")]
)
def test_squash_is_refused_where_it_makes_no_sense(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        spaces.action_head(spaces.spec(MATRIX, ACTIONS[name]).action, squash=True)
