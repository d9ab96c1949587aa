from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, Graph, MultiBinary, MultiDiscrete, OneOf, Sequence, Text, Tuple
from jax import Array

from rlgd import spaces
from rlgd.errors import UsageError
from rlgd.maths.distributions import Beta, Categorical, DiagGaussian, TanhGaussian
from rlgd.models import action_heads
from rlgd.models.features import encode, image_shapes, images, num_features
from rlgd.spaces import BoxSpec, DictSpec, DiscreteSpec, MultiDiscreteSpec

Space = gymnasium.Space[Any]
MATRIX = Box(np.arange(6.0).reshape(2, 3) - 9, np.arange(6.0).reshape(2, 3) + 1, dtype=np.float32)
ACTIONS: dict[str, Space] = {
    "discrete": Discrete(3),
    "from_minus_1": Discrete(3, start=-1),
    "box": Box(-2.0, 2.0, (1,)),
    "matrix": MATRIX,
    "float64": Box(0.1, 0.3, (2,), np.float64),
    "half_bounded": Box(np.array([0.0, -np.inf], np.float32), np.array([np.inf, 1.0], np.float32)),
    "integers": Box(-3, 5, (2,), np.int32),
    "number": Box(-1.0, 1.0, ()),
    "several": MultiDiscrete([2, 5, 3], start=[0, -2, 7]),
    "several_in_a_matrix": MultiDiscrete(np.array([[2, 5], [3, 1]])),
    "bits": MultiBinary(4),
    "bits_in_a_matrix": MultiBinary([2, 3]),
    "one": Discrete(1),
}
# An observation of every kind at once, with its arrays' names in an order that is not the alphabet's.
NESTED = Dict(
    pixels=Box(0, 255, (9, 8, 3), np.uint8),
    arm=Tuple([Box(-1, 1, (2,)), Discrete(3, start=5)]),
    doors=MultiBinary([2, 2]),
    gears=MultiDiscrete([2, 3], start=[1, 0]),
)


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


UNKNOWN = [
    Box(0, 1, (0,)),
    Box(0, 1, (2, 0)),
    Dict(),
    Text(5),
    Sequence(Discrete(2)),
    Graph(Box(0, 1, (2,)), None),
    OneOf([Discrete(2), Discrete(3)]),
]


@pytest.mark.parametrize("space", [*UNKNOWN, Dict(a=Discrete(2), b=Tuple([Text(3)]))], ids=str)
def test_other_observations_are_refused(space: Space) -> None:
    with pytest.raises(
        UsageError, match=r"observation space .* is not supported; supported: Box .*wrappers"
    ) as refusal:
        spaces.spec(space, Discrete(2))
    inner = "Text(" if isinstance(space, Dict) and space.spaces else str(space)
    assert inner in str(refusal.value)  # the part at fault is named


@pytest.mark.parametrize("space", [*UNKNOWN, Dict(a=Discrete(2)), Tuple([Discrete(2)])], ids=str)
def test_other_actions_are_refused(space: Space) -> None:
    with pytest.raises(
        UsageError, match=r"action space .* is not supported; supported: Discrete, .*wrappers"
    ) as refusal:
        spaces.spec(Discrete(2), space)
    assert str(space) in str(refusal.value)


@pytest.mark.parametrize(
    ("space", "shape", "dtype", "features"),
    [
        (Box(-1, 1, (4,), np.float32), (4,), "float32", 4),
        (Box(-1, 1, (2, 3), np.float64), (2, 3), "float32", 6),
        (Box(0, 255, (8, 8, 3), np.uint8), (8, 8, 3), "uint8", 0),
        (Box(0, 255, (4, 8, 3), np.uint8), (4, 8, 3), "uint8", 96),
        (Box(-1, 1, (), np.float32), (), "float32", 1),
        (Discrete(5), (), "int32", 5),
        (Discrete(1), (), "int32", 1),
        (MultiDiscrete([2, 5, 3]), (3,), "int32", 10),
        (MultiDiscrete(np.array([[2, 5], [3, 1]])), (2, 2), "int32", 11),
        (MultiBinary(4), (4,), "int8", 4),
        (MultiBinary([2, 3]), (2, 3), "int8", 6),
    ],
)
def test_observations_are_stored_in_32_bits_or_fewer(
    space: Space, shape: tuple[int, ...], dtype: str, features: int
) -> None:
    obs = spaces.spec(space, Discrete(2)).obs
    (leaf,) = spaces.leaf_specs(obs)
    assert spaces.obs_shape_dtype(leaf) == (shape, jnp.dtype(dtype))
    assert num_features(obs) == features
    for batch in ((), (3,), (2, 3), (0, 3)):
        encoded = encode(obs, jnp.ones((*batch, *shape), dtype))
        assert encoded.shape == (*batch, features)
        assert encoded.dtype == jnp.float32


def test_encode_flattens_a_box() -> None:
    x = np.arange(24.0, dtype=np.float32).reshape(4, 2, 3)
    np.testing.assert_array_equal(encode(BoxSpec((2, 3), "float32"), jnp.asarray(x)), x.reshape(4, 6))


@pytest.mark.parametrize("start", [0, 2, -1])
def test_encode_makes_discrete_observations_one_hot(start: int) -> None:
    obs = spaces.spec(Discrete(4, start=start), Discrete(2)).obs
    np.testing.assert_array_equal(encode(obs, jnp.arange(start, start + 4)), np.eye(4))


def test_encode_makes_each_number_one_hot() -> None:
    obs = spaces.spec(MultiDiscrete([2, 3], start=[1, 0]), Discrete(2)).obs
    np.testing.assert_array_equal(encode(obs, jnp.array([[1, 2], [2, 0]])), [[1, 0, 0, 0, 1], [0, 1, 1, 0, 0]])


@pytest.mark.parametrize("batch", [(), (4,), (3, 4)])
def test_parts_are_read_one_after_the_other_and_images_apart(batch: tuple[int, ...]) -> None:
    spec = spaces.spec(NESTED, Discrete(2))
    assert hash(spec) == hash(spaces.spec(NESTED, Discrete(2)))
    blank = spaces.blank(spec.obs, *batch)
    assert jax.tree.map(lambda x: x.shape[len(batch) :], blank) == jax.tree.map(np.shape, NESTED.sample())
    rng = np.random.default_rng(0)
    obs = {
        "arm": (rng.normal(size=(*batch, 2)).astype(np.float32), rng.integers(5, 8, batch)),
        "doors": rng.integers(0, 2, (*batch, 2, 2)),
        "gears": rng.integers(0, 2, (*batch, 2)) + np.array([1, 0]),
        "pixels": rng.integers(0, 256, (*batch, 9, 8, 3), np.uint8),
    }
    arm, joint = obs["arm"]
    numbers = [np.eye(2)[obs["gears"][..., 0] - 1], np.eye(3)[obs["gears"][..., 1]]]
    by_name = {"arm": [arm, np.eye(3)[joint - 5]], "doors": [obs["doors"].reshape(*batch, 4)], "gears": numbers}
    assert isinstance(spec.obs, DictSpec)
    names = [name for name, _ in spec.obs.parts]
    assert names == list(NESTED.spaces)
    expected = np.concatenate([part for name in names for part in by_name.get(name, [])], axis=-1)
    encoded = encode(spec.obs, jax.tree.map(jnp.asarray, obs))
    np.testing.assert_array_equal(encoded, expected)
    assert encoded.shape == (*batch, num_features(spec.obs)) == (*batch, 14)
    (image,) = images(spec.obs, obs)
    np.testing.assert_array_equal(image, obs["pixels"])
    assert image.dtype == np.uint8


@pytest.mark.parametrize(
    ("space", "shape"),
    [
        (Box(0, 255, (84, 84), np.uint8), (84, 84, 1)),
        (Box(0, 255, (4, 84, 84), np.uint8), (84, 84, 4)),
        (Box(0, 255, (210, 160, 3), np.uint8), (210, 160, 3)),
        (Box(0, 1, (10, 10, 4)), (10, 10, 4)),
        (Box(0, 1, (10, 10)), None),
        (Box(0, 1, (4, 4, 3)), None),
        (Box(0, 255, (2, 9, 9, 3), np.uint8), None),
        (Discrete(9), None),
    ],
)
def test_what_is_an_image(space: Space, shape: tuple[int, int, int] | None) -> None:
    obs = spaces.spec(space, Discrete(2)).obs
    assert image_shapes(obs) == (() if shape is None else (shape,))
    x = np.random.default_rng(0).integers(0, 2, (5, *(space.shape or ())))
    for image in images(obs, jnp.asarray(x)):
        assert image.shape == (5, *(shape or ()))
        for n, (i, j) in enumerate([(0, 0), (2, 3), (7, 5)]):
            pixel = x[n, :, i, j] if space.shape == (4, 84, 84) else x[n, i, j]
            np.testing.assert_array_equal(image[n, i, j], np.ravel(pixel))


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


def test_boxes_and_bits_have_no_masks() -> None:
    assert [spaces.mask_size(spaces.spec(MATRIX, ACTIONS[name]).action) for name in ("box", "bits")] == [None, None]


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
