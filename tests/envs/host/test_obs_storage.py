"""How observations from the host are stored."""

from typing import Any

import jax
import numpy as np
import pytest

from rlgd.envs.host.checked import Broken
from rlgd.envs.host.obs_storage import ObsStorage, all_finite
from rlgd.spaces import BoxSpec, DictSpec, DiscreteSpec, MultiBinarySpec, MultiDiscreteSpec, TupleSpec
from rlgd.system.log import warn_once

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
        (np.array([[0, 0], [0, 0], [1e300, 0]]), 2, r"gave the observation 1e\+300, which float32 cannot hold,"),
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


@pytest.mark.parametrize(
    ("spec", "given", "dtype"),
    [
        (BoxSpec((), "int64"), np.array([7, 2**32 + 7]), "int32"),
        (BoxSpec((), "int64"), np.array([7, -(2**31) - 1]), "int32"),
        (BoxSpec((), "uint64"), np.array([7, 2**32], np.uint64), "uint32"),
        (BoxSpec((), "int8"), np.array([7, 300]), "int8"),
        (BoxSpec((), "float32"), np.array([7, 2**24 + 1]), "float32"),
        (DiscreteSpec(5), np.array([1, 2**32 + 1]), "int32"),
        (MultiDiscreteSpec((3,), (0,), ()), np.array([1, 2**40]), "int32"),
        (MultiBinarySpec(()), np.array([1, 256]), "int8"),
    ],
)
def test_a_number_that_would_change_is_refused_by_name(spec: Any, given: Any, dtype: str) -> None:
    wrong = rf"gave the observation\['at'\] {given[1]}, which {dtype} cannot hold,"
    storage = ObsStorage(DictSpec((("at", spec),)), 2)
    assert storage.single({"at": given[0]}, 1)["at"] == given[0]
    for refused in (
        lambda: storage.batch({"at": given}),
        lambda: storage.single({"at": given[1]}, 1),
        lambda: storage.row({"at": given}, 1),
    ):
        with pytest.raises(Broken, match=f"environment 1 {wrong}"):
            refused()


def test_whole_numbers_that_networks_round_are_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    warn_once.cache_clear()
    storage = ObsStorage(BoxSpec((), "int32"), 2)
    for fine in ([2**24, -(2**24)], [2**25, 0]):
        storage.batch(np.array(fine))
    ObsStorage(DiscreteSpec(2**24 + 2), 1).batch(np.array([2**24 + 1]))  # one-hot: nothing is rounded
    assert not caplog.messages
    for _ in range(2):
        storage.batch(np.array([0, 2**24 + 1]))
    (message,) = caplog.messages
    assert message.startswith("the observation has whole numbers that networks round, because they compute in float32")
