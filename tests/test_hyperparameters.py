import abc
import dataclasses
import inspect
import json
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

from rlgd import hyperparameters as hp
from rlgd import ranges
from rlgd.errors import UsageError
from rlgd.hyperparameters import hyperparameters, nested, static, traced


@hyperparameters
class Inner:
    rate: float = traced(0.1, "step size", "[0, inf)")
    decay: float | None = traced(None, "decay", "[0, 1)")
    rule: str = static("slow", "rule", choices=("slow", "fast"))


@hyperparameters
class Outer:
    num_envs: int = static(8, "environments", "[1, inf)")
    gamma: float = traced(0.99, "discount", "[0, 1]")
    inner: Inner = nested(Inner())
    sizes: tuple[int, ...] = static((64, 64), "layers", "[1, inf)")
    squash: bool = static(False, "squash")


@pytest.mark.parametrize(
    ("interval", "inside", "outside"),
    [
        ("[0, 1]", [0, 1, 0.5], [-1e-9, 1.0001]),
        ("(0, 1)", [1e-9, 0.999], [0, 1, -1]),
        ("[0, inf)", [0, 1e300], [-1e-300, math.inf]),
        ("(0, inf]", [1, math.inf], [0, -math.inf]),
        ("(-inf, inf)", [-1e300, 0], [math.inf, -math.inf]),
    ],
)
def test_contains(interval: str, inside: list[float], outside: list[float]) -> None:
    assert all(ranges.contains(interval, number) for number in inside)
    assert not any(ranges.contains(interval, number) for number in [*outside, math.nan])


@pytest.mark.parametrize(
    "values",
    [
        {"gamma": 1},
        {"gamma": np.float32(0.5)},
        {"gamma": jnp.float32(0.5)},
        {"gamma": jnp.array([0.0, 0.5, 1.0])},
        {"gamma": np.array([0.9, 0.99])},
        {"rate": 3, "decay": None},
        {"decay": 0.0},
        {"num_envs": np.int64(4)},
        {"sizes": ()},
        {"sizes": (1, 256)},
        {"rule": "fast", "squash": True},
    ],
)
def test_validate_accepts(values: dict[str, Any]) -> None:
    ranges.validate(hp.with_values(Outer(), values))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("gamma", 1.5, r"gamma is 1.5; allowed: a number within \[0, 1\]."),
        ("gamma", math.nan, "gamma is nan"),
        ("gamma", "0.9", "gamma is '0.9'"),
        ("gamma", None, "gamma is None"),
        ("gamma", True, "gamma is True"),
        ("gamma", jnp.array([0.5, 1.5]), "gamma is 1.5"),
        ("gamma", jnp.array([0.5, math.nan]), "gamma is nan"),
        ("rate", -1, r"rate is -1; allowed: a number within \[0, inf\)."),
        ("decay", 1.0, "decay is 1.0"),
        ("num_envs", 0, r"num_envs is 0; allowed: a whole number within \[1, inf\)."),
        ("num_envs", 8.0, "num_envs is 8.0; allowed: a whole number"),
        ("num_envs", True, "num_envs is True"),
        ("num_envs", (8, 8), r"num_envs is \(8, 8\)"),
        ("sizes", (64, 0), "sizes is 0"),
        ("sizes", (64, 1.5), "sizes is 1.5"),
        ("sizes", 64, "sizes is 64"),
        ("rule", "fats", "unknown rule 'fats'; did you mean 'fast'?"),
        ("squash", 1, "squash is 1; allowed: True or False."),
    ],
)
def test_validate_names_the_field_the_value_and_what_is_allowed(name: str, value: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ranges.validate(hp.with_values(Outer(), {name: value}))


def test_flat_names_reach_nested_fields_in_order() -> None:
    assert list(hp.flat_fields(Outer())) == ["num_envs", "gamma", "rate", "decay", "rule", "sizes", "squash"]
    assert hp.flat_fields(Outer())["rate"].path == ("inner", "rate")


def test_with_values_copies_and_takes_flat_and_nested_names() -> None:
    default = Outer()
    changed = hp.with_values(default, {"inner": Inner(rule="fast"), "rate": 0.5, "gamma": 0.9})
    assert changed == Outer(gamma=0.9, inner=Inner(rate=0.5, rule="fast"))
    assert default == Outer()


def test_unknown_names_are_refused_with_the_nearest() -> None:
    def constructor(_: Outer, values: dict[str, Any]) -> Any:
        return Outer(**values)

    for change in (hp.with_values, hp.from_dict, constructor):
        with pytest.raises(UsageError, match="unknown hyper-parameter 'gama'; did you mean 'gamma'"):
            change(Outer(), {"gama": 0.9})


def test_constructors_take_flat_names_and_parts_and_flat_names_change_the_part_given() -> None:
    make: Any = Outer
    expected = Outer(4, gamma=0.9, inner=Inner(rate=0.5, rule="fast"))
    assert make(num_envs=4, gamma=0.9, rate=0.5, rule="fast") == expected
    assert make(rate=0.5, num_envs=4, inner=Inner(rate=9.0, rule="fast"), gamma=0.9) == expected
    assert make(4, 0.9, 0.5, rule="fast") == expected  # by position: flat names in order
    assert dataclasses.replace(make(num_envs=4, rule="fast"), **{"gamma": 0.9, "rate": 0.5}) == expected
    assert hash(make(rate=0.5)) == hash(Outer(inner=Inner(rate=0.5)))
    assert [*inspect.signature(Outer).parameters] == list(hp.flat_fields(Outer()))


def test_values_given_twice_or_too_many_are_refused() -> None:
    make: Any = Outer
    with pytest.raises(UsageError, match="Outer has num_envs twice, by position and by name; give it once"):
        make(4, num_envs=8)
    with pytest.raises(UsageError, match="Outer has 8 positional values; allowed: at most 7"):
        make(*range(8))


def test_abstract_classes_may_have_parts() -> None:
    @hyperparameters
    class Base(abc.ABC):
        inner: Inner = nested(Inner())

        @abc.abstractmethod
        def run(self) -> None: ...

    @hyperparameters
    class Concrete(Base):
        def run(self) -> None: ...

    make: Any = Concrete
    assert make(rate=0.5).inner.rate == 0.5
    with pytest.raises(TypeError, match="abstract"):
        Base()  # type: ignore[abstract]


def test_a_flat_name_that_two_parts_share_is_refused() -> None:
    with pytest.raises(TypeError, match="Twice declares rate twice, also in a part"):

        @hyperparameters
        class Twice:
            rate: float = traced(0.1, "step size")
            inner: Inner = nested(Inner())


def test_leaves_are_the_traced_fields_that_are_set() -> None:
    assert jax.tree.leaves(Outer()) == [0.99, 0.1]
    assert jax.tree.leaves(hp.with_values(Outer(), {"decay": 0.5})) == [0.99, 0.1, 0.5]
    with pytest.raises(dataclasses.FrozenInstanceError):
        Outer().gamma = 0.5  # type: ignore[misc]


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"gamma": 0.9, "decay": 0.1, "sizes": (), "rule": "fast", "squash": True},
        {"gamma": np.float32(0.1), "rate": jnp.float32(3e-4)},
        {"rate": jnp.array([0.1, 0.2, 3e-4])},
        {"rate": math.inf},
        {"num_envs": np.int64(4)},
    ],
)
def test_dicts_survive_json_and_give_the_same_config_back(values: dict[str, Any]) -> None:
    original = hp.with_values(Outer(), values)
    restored = hp.from_dict(Outer(), json.loads(json.dumps(hp.to_dict(original))))
    assert type(restored.num_envs) is int
    first, second = hp.as_arrays(original), hp.as_arrays(restored)
    assert jax.tree.map(np.shape, first) == jax.tree.map(np.shape, second)
    jax.tree.map(np.testing.assert_array_equal, first, second)


def test_float32_is_written_as_the_shortest_decimal() -> None:
    tenth: Any = jnp.float32(0.1)
    assert hp.to_dict(Outer(gamma=tenth))["gamma"] == 0.1


def test_as_arrays_makes_every_number_one_type() -> None:
    traces = []

    @jax.jit
    def double(outer: Outer) -> Array:
        traces.append(outer)
        return jnp.asarray(outer.inner.rate * 2)

    for rate in (2, 2.0, np.float32(2), np.float64(2), jnp.float32(2), jnp.asarray(2)):
        assert double(hp.as_arrays(hp.with_values(Outer(), {"rate": rate}))) == 4
    assert len(traces) == 1


def test_stacked_configs_are_vmapped() -> None:
    stacked = hp.with_values(Outer(), {"gamma": jnp.array([0.5, 0.9]), "rate": np.array([1, 2])})
    ranges.validate(stacked)
    result = jax.vmap(lambda outer: outer.gamma * outer.inner.rate)(hp.as_arrays(stacked))
    np.testing.assert_allclose(result, [0.5, 1.8], rtol=1e-6)


@pytest.mark.parametrize(
    ("text", "number"),
    [("100000", 100_000), ("100_000", 100_000), ("1e5", 100_000), ("100k", 100_000), ("2M", 2_000_000)],
)
def test_numbers_as_people_write_them(text: str, number: int) -> None:
    assert hp.count(text) == number


@pytest.mark.parametrize("text", ["1.5", "x", "", "1e5.5", "0x10", "inf", "nan"])
def test_what_is_no_whole_number(text: str) -> None:
    with pytest.raises((ValueError, OverflowError)):
        hp.count(text)


def test_a_list_for_a_static_field_becomes_a_tuple() -> None:
    assert Outer(sizes=[32, 32]) == Outer(sizes=(32, 32))  # type: ignore[arg-type]
    assert dataclasses.replace(Outer(), sizes=[8]).sizes == (8,)  # type: ignore[arg-type]
    assert hp.with_values(Outer(), {"sizes": []}).sizes == ()
    assert jax.jit(lambda config: config.gamma)(Outer(sizes=[4])) == pytest.approx(0.99)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="sizes is 'wide'"):
        ranges.validate(Outer(sizes=[4, "wide"]))  # type: ignore[arg-type]
