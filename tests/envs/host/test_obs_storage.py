"""How observations from the host are stored."""

from typing import Any

import jax
import numpy as np
import pytest

from rlgd.envs.host.checked import Broken
from rlgd.envs.host.obs_storage import ObsStorage, all_finite
from rlgd.spaces import BoxSpec, DictSpec, DiscreteSpec, TupleSpec

BOX, COUNT = BoxSpec((2,), "float64"), DiscreteSpec(5)
TREE = DictSpec((("a", BOX), ("b", TupleSpec((COUNT,)))))


def test_stored_arrays_are_copies_in_32_bits() -> None:
    given: Any = {"a": np.ones((3, 2)), "b": (np.arange(3),)}
    stored = ObsStorage(TREE, 3).batch(given)
    assert jax.tree.map(lambda x: (x.dtype.name, x.shape), stored) == {
        "a": ("float32", (3, 2)),
        "b": (("int32", (3,)),),
    }
    given["a"][:] = 7
    np.testing.assert_array_equal(stored["a"], np.ones((3, 2)))
    same = np.ones((3, 2), np.float32)
    assert ObsStorage(BOX, 3).batch(same) is not same


def test_one_environment_has_no_leading_axis() -> None:
    batch = {"a": np.arange(6.0).reshape(3, 2), "b": (np.arange(3),)}
    storage = ObsStorage(TREE, 3)
    np.testing.assert_array_equal(storage.row(batch, 2)["a"], [4, 5])
    np.testing.assert_array_equal(storage.single({"a": [8, 9], "b": (1,)}, 0)["a"], [8, 9])


@pytest.mark.parametrize(
    ("obs", "number", "what"),
    [
        (np.zeros((3, 2), complex), None, r"gave the observation as complex128 in the shape \(3, 2\), which must be"),
        (
            np.zeros((3, 4)),
            None,
            r"gave the observation as float64 in the shape \(3, 4\), which must be float32",
        ),
        (np.array([[0, 0], [0, np.nan], [0, 0]]), 1, "gave the observation nan, which must be finite,"),
        (np.array([[0, 0], [0, 0], [1e300, 0]]), 2, "gave the observation inf, which must be finite,"),
    ],
)
def test_wrong_observations_are_named(obs: Any, number: int | None, what: str) -> None:
    with pytest.raises(Broken, match=what) as caught:
        ObsStorage(BOX, 3).batch(obs)
    assert caught.value.number == number
    assert str(caught.value).startswith("gave" if number is None else f"environment {number} gave")


def test_a_part_is_named_with_its_place() -> None:
    storage = ObsStorage(DictSpec((("b", TupleSpec((BoxSpec((), "float32"),))),)), 1)
    with pytest.raises(Broken, match=r"environment 4 gave the observation\['b'\]\[0\] inf"):
        storage.single({"b": (np.inf,)}, 4)


def test_a_sum_that_overflows_is_finite_in_its_parts() -> None:
    assert all_finite(np.full(4, 3e38, np.float32))
    assert not all_finite(np.array([3e38, np.inf, -np.inf], np.float32))
    assert all_finite(np.arange(3))
