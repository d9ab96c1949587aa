"""Observations as features: what is encoded and how, and what is an image."""

from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple

from rlgd import spaces
from rlgd.models.features import encode, image_shapes, images, num_features
from rlgd.spaces import BoxSpec, DictSpec

Space = gymnasium.Space[Any]
# An observation of every kind at once, with its arrays' names in an order that is not the alphabet's.
NESTED = Dict(
    pixels=Box(0, 255, (9, 8, 3), np.uint8),
    arm=Tuple([Box(-1, 1, (2,)), Discrete(3, start=5)]),
    doors=MultiBinary([2, 2]),
    gears=MultiDiscrete([2, 3], start=[1, 0]),
)


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
    by_name: dict[str | int, Any] = {
        "arm": [arm, np.eye(3)[joint - 5]],
        "doors": [obs["doors"].reshape(*batch, 4)],
        "gears": numbers,
    }
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
