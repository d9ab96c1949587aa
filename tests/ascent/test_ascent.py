"""The contract of every optimizer: uphill, the same traced as static, still at rate 0, regularized, refused by name."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax import Array

from rlgd import ascent, hyperparameters
from rlgd.ascent import (
    OPTIMIZERS,
    Ascent,
    Clipping,
    Outer,
    RolloutMoments,
    Rule,
    Schedules,
    apply_step,
    schedules,
)
from rlgd.errors import UsageError
from rlgd.hyperparameters import with_values
from tests.support.marks import OF_EACH_KIND, quick

Tree = dict[str, Array]
every_optimizer = pytest.mark.parametrize("name", OPTIMIZERS)
every_kind = pytest.mark.parametrize("name", quick(OF_EACH_KIND, OPTIMIZERS))
FLAT_NAMES = [
    *("optimizer", "learning_rate", "momentum", "second_moment", "epsilon", "weight_decay", "l1", "l2"),
    *("max_grad_norm", "schedule", "momentum_schedule", "rollout_moments", "moment_decay"),
    *("outer_learning_rate", "outer_momentum", "sync_every", "climbers", "learning_rate_control", "momentum_control"),
    *("batch_control", "gradient_accumulation_steps"),
]


def tree(first: float, second: float, third: float) -> Tree:
    """A matrix and a number: what methods that look at shapes tell apart."""
    matrix = [[first, 0.5 * second], [third, first], [second - third, -first]]
    return {"a": jnp.asarray(matrix, float), "b": jnp.asarray(second, float)}


CURVATURE, SUMMIT, START = tree(1.0, 0.8, 0.5), tree(1.0, -2.0, 3.0), tree(-1.0, 2.0, 0.5)
# Values unlike any default, for the fields that an optimizer uses.
NUMBERS = {"momentum": 0.8, "second_moment": 0.95, "epsilon": 1e-3, "weight_decay": 0.03}
OWN_FIELDS = ("momentum", "second_moment", "epsilon")


def chosen(name: str, learning_rate: float = 0.1, **fields: Any) -> Ascent:
    """The optimizer with a value in every field that it uses."""
    used: dict[str, Any] = {field: NUMBERS[field] for field in OPTIMIZERS[name].defaults}
    return Ascent(name, learning_rate, **(used | fields))


def using(field: str) -> list[str]:
    return [name for name, row in OPTIMIZERS.items() if field in row.defaults]


def slope(params: Tree) -> Tree:
    """Of a concave quadratic."""

    def of_leaf(w: Array, curvature: Array, summit: Array) -> Array:
        return jnp.abs(curvature).astype(w.dtype) * (summit.astype(w.dtype) - w)

    return jax.tree.map(of_leaf, params, CURVATURE, SUMMIT)


def zero(params: Tree) -> Tree:
    return jax.tree.map(jnp.zeros_like, params)


def climb(
    rule: Ascent, params: Tree, steps: int, uphill: Callable[[Tree], Tree] = slope, rollout: int | None = None
) -> Tree:
    """The parameters after each step, ``[steps, ...]``; ``rollout`` is the number of steps with each, None: all."""
    transformation = rule.transformation()

    def step(carry: tuple[Tree, Any], k: Array) -> tuple[tuple[Tree, Any], Tree]:
        params, state = carry
        new = False if rollout is None else k % rollout == 0
        change, state = transformation.update(uphill(params), state, params, k / steps, new_rollout=new)
        params = apply_step(params, change)
        return (params, state), params

    return jax.lax.scan(step, (params, transformation.init(params)), jnp.arange(steps))[1]


def gradients(steps: int = 5) -> list[Tree]:
    return [tree(*values) for values in np.random.default_rng(0).normal(size=(steps, 3))]


def lengths(path: Tree) -> np.ndarray:
    """The sum of |w| after each step."""
    return np.asarray(sum(np.abs(leaf).reshape(len(leaf), -1).sum(axis=1) for leaf in jax.tree.leaves(path)))


def at(path: Tree, k: int) -> Tree:
    return jax.tree.map(lambda leaf: leaf[k], path)


def assert_close(a: Any, b: Any, tolerance: float = 1e-6) -> None:
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance), a, b)


def assert_same_bits(a: Any, b: Any) -> None:
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_flat_names_and_parts_make_the_same_value() -> None:
    flat = Ascent("adam", 2e-3, max_grad_norm=0.5, schedule="linear", rollout_moments="reset", outer_momentum=0.7)
    parts = Ascent(
        rule=Rule("adam", 2e-3),
        clipping=Clipping(0.5),
        schedules=Schedules("linear"),
        moments=RolloutMoments("reset"),
        outer=Outer(outer_momentum=0.7),
    )
    assert flat == parts
    assert hash(flat) == hash(parts)
    assert jax.tree.leaves(flat) == [2e-3, 0.5, 0.7]
    assert list(hyperparameters.to_dict(flat)) == FLAT_NAMES
    faster = dataclasses.replace(flat, rule=dataclasses.replace(flat.rule, learning_rate=0.1))
    assert faster == with_values(flat, {"learning_rate": 0.1}) != flat


def test_the_docstring_explains_every_field() -> None:
    for name, (path, field, _, _) in hyperparameters.flat_fields(Ascent()).items():
        assert f"    {'.'.join(path)} (" in str(Ascent.__doc__), name
        assert field.metadata["doc"].split()[0] in str(Ascent.__doc__), name


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name != "adopt"])  # its first step is 0
def test_the_first_step_goes_uphill(name: str) -> None:
    transformation, gradient = chosen(name, weight_decay=0.0).transformation(), gradients(1)[0]
    step, _ = jax.jit(transformation.update)(gradient, transformation.init(START), START)
    for change, g in zip(jax.tree.leaves(step), jax.tree.leaves(gradient), strict=True):
        assert np.vdot(change, g) > 0


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.95])
@pytest.mark.parametrize("name", ["momentum", "nesterov"])
def test_momentum_follows_the_closed_form_on_a_quadratic(name: str, momentum: float) -> None:
    """Position and velocity are multiplied by a fixed matrix in each step; its power is the trajectory."""
    rate, curvature, steps = 0.3, 0.7, 40
    velocity = np.array([-curvature, momentum])  # v' of (w, v), for the gradient -curvature * w
    shift = rate * (momentum * velocity + [-curvature, 0] if name == "nesterov" else velocity)
    matrix = np.array([np.array([1, 0]) + shift, velocity])
    expected = [(np.linalg.matrix_power(matrix, k) @ [2.0, 0.0])[0] for k in range(1, steps + 1)]
    with jax.enable_x64(True):
        rule = Ascent(name, rate, momentum)
        path = climb(rule, {"w": jnp.array(2.0)}, steps, lambda params: {"w": -curvature * params["w"]})
        np.testing.assert_allclose(path["w"], expected, rtol=0, atol=1e-12)


def stack(*rules: Ascent) -> Ascent:
    return jax.tree.map(
        lambda *values: jnp.stack(values), *(hyperparameters.as_arrays(rule.resolved()) for rule in rules)
    )


@every_kind
def test_traced_numbers_give_the_steps_of_static_ones(name: str) -> None:
    """In all traced fields that the optimizer uses, each time another value; alone and stacked, in a scan."""
    fields: dict[str, Any] = {"l1": 0.01, "l2": 0.02, "max_grad_norm": 0.5, "weight_decay": 0.5}
    if OPTIMIZERS[name].allows("decay"):
        fields |= {"moment_decay": 0.25, "rollout_moments": "decay"}
    elif OPTIMIZERS[name].allows("reset"):
        fields |= {"rollout_moments": "reset"}
    first = chosen(name, 0.1, **fields, schedule="linear", outer_momentum=0.3)
    if name in using("momentum") and "momentum_schedule" not in OPTIMIZERS[name].excludes:
        first = with_values(first, {"momentum_schedule": "linear:0.9"})
    flat = hyperparameters.flat_fields(first.resolved())
    numbers = {field: value for field, (_, about, _, value) in flat.items() if not about.metadata["static"]}
    other = {field: 0.7 * value for field, value in numbers.items() if value is not None}
    rules = [first, with_values(first, other)]
    with jax.enable_x64(True):
        start = jax.tree.map(lambda x: x.astype(float), START)

        def path(rule: Ascent) -> Tree:
            return climb(rule, start, 12, rollout=5)

        static, alone = jax.jit(lambda: path(rules[1]))(), jax.jit(path)
        together = jax.jit(jax.vmap(path))(stack(*rules))
        assert_close(alone(hyperparameters.as_arrays(rules[1])), static, 1e-9)
        for i, rule in enumerate(rules):
            assert_close(at(together, i), alone(hyperparameters.as_arrays(rule)), 1e-9)
        assert not np.allclose(together["a"][0], together["a"][1])


@every_optimizer
def test_nothing_compiles_twice_and_types_are_kept(name: str) -> None:
    traces = []

    @jax.jit
    def update(rule: Ascent, state: Any, params: Tree, progress: Array, new: Array) -> tuple[Tree, Any]:
        traces.append(rule)
        step, state = rule.transformation().update(params, state, params, progress, new_rollout=new)
        return apply_step(params, step), state

    params, state = START, chosen(name).transformation().init(START)
    types = jax.tree.map(lambda x: (x.dtype, x.shape), (START, state))
    for rate, progress in ((0.1, 0.0), (1, 0.5), (0, 1.0)):
        rule = hyperparameters.as_arrays(
            chosen(name, rate, max_grad_norm=1 + rate, l1=rate, l2=rate, schedule="linear")
        )
        params, state = update(rule, state, params, jnp.asarray(progress), jnp.asarray(rate == 1))
        assert jax.tree.map(lambda x: (x.dtype, x.shape), (params, state)) == types
    assert len(traces) == 1


@every_optimizer
@pytest.mark.parametrize("bits", [32, 64])
def test_the_precision_of_the_parameters_is_kept(name: str, bits: int) -> None:
    with jax.enable_x64(bits == 64):
        params = jax.tree.map(lambda x: x.astype(f"float{bits}"), START)
        transformation = chosen(name, schedule="linear", max_grad_norm=1.0, l1=0.1, l2=0.1).transformation()
        out = jax.eval_shape(transformation.update, params, transformation.init(params), params, 0.5)
        floats = [leaf.dtype for leaf in jax.tree.leaves(out) if jnp.issubdtype(leaf.dtype, jnp.floating)]
        assert set(floats) == {jnp.dtype(f"float{bits}")}


@every_optimizer
def test_learning_rate_0_changes_nothing(name: str) -> None:
    """Not a bit, but where positions are computed from averages of positions: those round."""
    path = climb(chosen(name, 0.0, weight_decay=0.3, l2=0.1, l1=0.1), START, 3)
    if name.startswith("schedule_free"):
        assert_close(at(path, -1), START)
    else:
        assert_same_bits(at(path, -1), START)


def climbs(rules: list[Ascent], steps: int, uphill: Callable[[Tree], Tree]) -> Tree:
    """The paths of several rules, from ``START``, which comes first, ``[rules, 1 + steps, ...]``."""
    paths = jax.jit(jax.vmap(lambda rule: climb(rule, START, steps, uphill)))(stack(*rules))
    return jax.tree.map(lambda w, path: jnp.insert(path, 0, w, axis=1), START, paths)


@every_kind
def test_weight_decay_shrinks_weights_at_zero_gradient(name: str) -> None:
    paths = climbs([chosen(name, weight_decay=strength) for strength in (0.3, 0.0)], 4, zero)
    if OPTIMIZERS[name].decays:
        assert all(np.diff(lengths(at(paths, 0))) < -1e-3)
    else:
        for k in range(5):
            assert_close(at(at(paths, 0), k), jax.tree.map(lambda w, k=k: 0.97**k * w, START))
    assert_close(at(at(paths, 1), -1), START, 1e-7)  # and nothing else moves them


def test_penalties_of_plain_ascent_shrink_weights_as_their_formulas_say() -> None:
    rate, strength, steps = 0.1, 0.3, 7
    l2 = at(climb(Ascent("sgd", rate, l2=strength), START, steps, zero), -1)
    assert_close(l2, jax.tree.map(lambda w: (1 - rate * strength) ** steps * w, START))
    l1 = at(climb(Ascent("sgd", rate, l1=strength), START, steps, zero), -1)
    assert_close(l1, jax.tree.map(lambda w: w - steps * rate * strength * jnp.sign(w), START))
    both = at(climb(Ascent("sgd", rate, l1=0.5, l2=0.2), START, 1, zero), -1)
    assert_close(both, jax.tree.map(lambda w: w - rate * (0.5 * jnp.sign(w) + 0.2 * w), START))


def test_penalties_are_the_gradients_of_their_terms_and_leave_0_alone() -> None:
    rule = Ascent(l1=0.3, l2=0.7)

    def term(params: Tree) -> Array:
        return -sum((0.3 * jnp.sum(jnp.abs(w)) + 0.35 * jnp.sum(jnp.square(w)) for w in params.values()), jnp.zeros(()))

    assert_close(rule.penalties.subtracted(zero(START), START), jax.grad(term)(START))
    assert_same_bits(rule.penalties.subtracted(zero(START), zero(START)), zero(START))
    assert rule.penalties.subtracted(START, SUMMIT) is not START
    assert Ascent().penalties.subtracted(START, SUMMIT) is START


# Rates at which some steps shrink weights of about 1 visibly and do not go beyond 0.
PENALTY_RATE = {"adadelta": 10.0, "lars": 10.0, "adafactor": 0.02, "lion": 0.02, "signum": 0.02, "muon": 0.02}


@every_kind
def test_penalties_pull_weights_towards_0_under_every_optimizer(name: str) -> None:
    rate, steps = (PENALTY_RATE.get(name, 0.05), 5) if OPTIMIZERS[name].learning_rate is None else (1.0, 50)
    rules = [chosen(name, rate, weight_decay=0.0, l1=l1, l2=l2) for l1, l2 in ((0.5, 0.0), (0.0, 0.5))]
    for length in map(lengths, (at(climbs(rules, steps, zero), i) for i in range(2))):
        assert 0 < length[-1] < 0.999 * length[0]


def test_penalties_come_before_clipping() -> None:
    """A penalty cannot lengthen a clipped gradient: it takes its part of it."""
    gradient, rule = tree(3.0, 0.0, -4.0), Ascent("sgd", 1.0, l2=10.0, l1=3.0, max_grad_norm=1.0)
    transformation = rule.transformation()
    step, _ = transformation.update(gradient, transformation.init(START), START)
    longer = jax.tree.map(lambda g, w: g - 3.0 * jnp.sign(w) - 10.0 * w, gradient, START)
    assert_close(step, jax.tree.map(lambda x: x / ascent.global_norm(longer), longer))


PLAIN = {
    "momentum": "sgd",
    "nesterov": "sgd",
    "nadam": "adam",
    "nadamw": "adamw",
    "lion": "signum",
}


@pytest.mark.parametrize("name", PLAIN)
def test_momentum_0_is_plain(name: str) -> None:
    rules = [chosen(name, momentum=0.0), chosen(PLAIN[name])]
    if "momentum" in OPTIMIZERS[PLAIN[name]].defaults:
        rules[1] = with_values(rules[1], {"momentum": 0.0})
    assert_close(climb(rules[0], START, 5), climb(rules[1], START, 5))


@every_optimizer
def test_fields_left_out_take_the_table_s_defaults(name: str) -> None:
    row = OPTIMIZERS[name]
    spelt_out = Ascent(name, **row.defaults)
    assert Ascent(name).resolved() == with_values(spelt_out, {"max_grad_norm": math.inf}).resolved()
    spelt_out.validate()
    Ascent(name).validate()
    state = Ascent(name).transformation().init(START)
    assert_same_bits(*(rule.transformation().update(START, state, START)[0] for rule in (Ascent(name), spelt_out)))
    values = dict.fromkeys([*row.defaults, "weight_decay", "max_grad_norm"], 0.123)
    changed = Ascent(name, **values)
    assert changed.resolved() == changed
    assert changed.resolved().resolved() == changed


def test_moment_decay_is_one_half_where_it_is_used() -> None:
    assert Ascent(rollout_moments="decay").resolved().moments.moment_decay == 0.5
    assert Ascent(rollout_moments="decay", moment_decay=0.1).resolved().moments.moment_decay == 0.1
    assert all(
        Ascent(rollout_moments=mode).resolved().moments.moment_decay is None for mode in ("keep", "reset", "relative")
    )


both_uses = pytest.mark.parametrize("use", [Ascent.validate, Ascent.transformation])


@pytest.mark.parametrize(
    ("name", "field"),
    [(name, field) for name, row in OPTIMIZERS.items() for field in OWN_FIELDS if field not in row.defaults],
)
@both_uses
def test_a_field_that_the_optimizer_ignores_is_refused(name: str, field: str, use: Callable[[Ascent], Any]) -> None:
    rule = Ascent(name, **{field: NUMBERS[field]})
    with pytest.raises(UsageError, match=f"{field} is set, but {name} does not use it; .* choose one of .*adam"):
        use(rule)


@pytest.mark.parametrize(
    "name",
    [name for name in OPTIMIZERS if name not in using("momentum") or "momentum_schedule" in OPTIMIZERS[name].excludes],
)
@both_uses
def test_a_momentum_schedule_without_momentum_is_refused(name: str, use: Callable[[Ascent], Any]) -> None:
    with pytest.raises(UsageError, match=f"momentum_schedule is set, but {name} does not use it; .*nesterov"):
        use(Ascent(name, momentum_schedule="linear"))


@pytest.mark.parametrize("name", [name for name, row in OPTIMIZERS.items() if not row.relative])
@both_uses
def test_local_time_where_it_does_not_shorten_the_first_steps_is_refused(
    name: str, use: Callable[[Ascent], Any]
) -> None:
    with pytest.raises(UsageError, match=f"rollout_moments 'relative' is set, but {name} does not use it; .*adam"):
        use(Ascent(name, rollout_moments="relative"))


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (Ascent("adma"), "unknown optimizer 'adma'; did you mean .*'adam'"),
        (Ascent("Nestrov"), "did you mean 'nesterov'"),
        (Ascent("rmsprop_centered"), "did you mean 'rmsprop_centred'"),
        (Ascent(schedule="liner"), "unknown schedule 'liner'; did you mean 'linear'"),
        (Ascent(momentum_schedule="liner"), "unknown schedule 'liner'; did you mean 'linear'"),
        (Ascent(schedule="linear:x"), "schedule 'linear:x': 'x' is not a number; allowed: constant"),
        (Ascent(rollout_moments="rest"), "unknown rollout_moments 'rest'; did you mean 'reset'"),
        (Ascent(moment_decay=0.5), "moment_decay is set, but rollout_moments is 'keep'; choose 'decay'"),
        (Ascent(moment_decay=0.5, rollout_moments="reset"), "rollout_moments is 'reset'; choose 'decay'"),
        (Ascent(learning_rate=-1e-3), r"learning_rate is -0.001; allowed: a number within \[0, inf\)"),
        (Ascent(learning_rate=math.nan), "learning_rate is nan"),
        (Ascent(learning_rate=math.inf), "learning_rate is inf"),
        (Ascent(momentum=1.0), r"momentum is 1.0; allowed: a number within \[0, 1\)"),
        (Ascent(second_moment=-0.1), "second_moment is -0.1"),
        (Ascent(second_moment=1.0), "second_moment is 1.0"),
        (Ascent(epsilon=0.0), "epsilon is 0.0"),
        (Ascent(weight_decay=-1.0), "weight_decay is -1.0"),
        (Ascent(max_grad_norm=0), "max_grad_norm is 0"),
        (Ascent(l1=-1.0), "l1 is -1.0"),
        (Ascent(l2=math.inf), "l2 is inf"),
        (Ascent(rollout_moments="decay", moment_decay=1.1), r"moment_decay is 1.1; allowed: a number within \[0, 1\]"),
        (Ascent(outer_learning_rate=-1.0), "outer_learning_rate is -1.0"),
        (Ascent(outer_momentum=1.0), "outer_momentum is 1.0"),
        (Ascent("momentum", momentum_schedule="linear:1.2"), "brings momentum from 0.9 to 1.08; allowed: below 1"),
        (
            Ascent("adam", momentum=np.array([0.2, 0.5]), momentum_schedule="piecewise:0=1,1=2"),  # type: ignore[arg-type]
            "brings momentum from .* to 1; allowed: below 1",
        ),
        (Ascent("adabelief", momentum=0.0), "momentum is 0 at some time.*adabelief.*allowed: above 0"),
        (Ascent("adabelief", momentum_schedule="linear"), "momentum is 0 at some time.*adabelief"),
        (Ascent("adabelief", momentum_schedule="warmup:0.1"), "momentum is 0 at some time.*adabelief"),
        (Ascent("schedule_free_sgd", momentum=0.0), "momentum is 0 at some time.*schedule_free_sgd"),
        (Ascent("schedule_free_adamw", momentum=0.0), "momentum is 0 at some time.*schedule_free_adamw"),
        (
            Ascent("adabelief", momentum=np.array([0.5, 0.0])),  # type: ignore[arg-type]
            "momentum is 0 at some time",
        ),
        (Ascent("sgd", rollout_moments="reset"), "rollout_moments 'reset' is set, but sgd does not use it"),
        (Ascent("sgd", rollout_moments="decay"), "rollout_moments 'decay' is set, but sgd does not use it"),
        (Ascent("lbfgs", rollout_moments="decay"), "rollout_moments 'decay' is set, but lbfgs does not use it"),
        (Ascent("rmsprop", momentum_schedule="linear"), "momentum_schedule .* momentum is 0"),
    ],
)
def test_mistakes_are_refused_by_name(rule: Ascent, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        rule.validate()


@pytest.mark.parametrize(
    "rule",
    [
        Ascent("momentum", momentum=0.5, momentum_schedule="linear:1.9"),
        Ascent("momentum", momentum_schedule="linear"),
        Ascent("adabelief", momentum_schedule="linear:0.1"),
        Ascent("nesterov", momentum=0.0),
        Ascent("adam", rollout_moments="decay", moment_decay=0.0),
        Ascent("adam", outer_momentum=0.0),
        Ascent("adam", learning_rate=np.array([0.0, 1.0])),  # type: ignore[arg-type]
        Ascent("sgd", l1=0, l2=0),
    ],
)
def test_what_lies_within_the_bounds_is_allowed(rule: Ascent) -> None:
    rule.validate()


@pytest.mark.parametrize("field", ["optimizer", "schedule", "momentum_schedule", "rollout_moments"])
def test_unknown_names_are_refused_even_without_validation(field: str) -> None:
    with pytest.raises(UsageError, match=r"unknown (optimizer|schedule|rollout_moments) 'linea'"):
        Ascent(**{field: "linea"}).transformation()  # type: ignore[arg-type]


def test_clipping_keeps_the_direction_and_shortens_to_the_global_norm() -> None:
    gradient = {"a": jnp.asarray([3.0, 0.0]), "b": jnp.asarray(-4.0)}
    params = zero(gradient)
    transformation = Ascent("sgd", 1.0, max_grad_norm=1.0).transformation()
    step, _ = transformation.update(gradient, transformation.init(params), params)
    assert_close(step, {"a": jnp.asarray([0.6, 0.0]), "b": jnp.asarray(-0.8)})
    for at_most in (5.0, math.inf, None):
        assert_same_bits(ascent.clip_by_norm(gradient, at_most), gradient)
    assert_same_bits(ascent.clip_by_norm(params, 1.0), params)


@given(values=st.lists(st.floats(-1e3, 1e3, width=32), min_size=3, max_size=3), at_most=st.floats(1e-3, 1e3))
def test_a_gradient_is_clipped_as_one_vector(values: list[float], at_most: float) -> None:
    first, second, third = jnp.asarray(values, float)
    clipped = jax.jit(ascent.clip_by_norm)({"a": jnp.stack([first, second]), "b": third}, at_most)
    length = np.linalg.norm(values)
    expected = np.array(values) * (at_most / length if length > at_most else 1.0)
    np.testing.assert_allclose([*clipped["a"], clipped["b"]], expected, rtol=1e-5, atol=1e-30)


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine:0.1", "warmup:0.2+exponential:0.01"])
def test_schedules_are_functions_of_progress(schedule: str) -> None:
    rule = Ascent("sgd", 0.1, schedule=schedule)
    transformation = rule.transformation()
    gradient, state = gradients(1)[0], transformation.init(START)
    for progress in (0.0, 0.25, 0.5, 0.25, 1.0):  # 0.25 twice: how many updates there were does not matter
        rate = 0.1 * schedules.factor(schedule, progress)
        np.testing.assert_allclose(rule.step_size(progress), rate, rtol=1e-6, atol=1e-9)
        step, state = transformation.update(gradient, state, START, progress)
        assert_close(step, jax.tree.map(lambda g, rate=rate: rate * g, gradient))
    assert rule.step_size(-1.0) == rule.step_size(0.0)
    assert rule.step_size(2.0) == rule.step_size(1.0)


NOT_ONE_STEP = {
    "schedule_free_sgd": "steps to an average of all steps so far",
    "schedule_free_adamw": "steps to an average of all steps so far",
    "dadapt_adam": "averages gradients times the step size that they came with",
}


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name not in NOT_ONE_STEP])
def test_a_schedule_acts_on_the_whole_step(name: str) -> None:
    """Moments gather what they would have gathered; only the step is shorter, weight decay's too."""
    plain = chosen(name)
    steps = []
    for rule in (plain, with_values(plain, {"schedule": "linear"})):
        transformation = rule.transformation()
        update, state = jax.jit(transformation.update), transformation.init(START)
        for g, progress in zip(gradients(), (0.0, 0.1, 0.2, 0.3, 0.75), strict=True):
            step, state = update(g, state, START, progress)
        steps.append(step)
    assert_close(steps[1], jax.tree.map(lambda x: 0.25 * x, steps[0]), 2e-6)


@pytest.mark.parametrize("name", ["momentum", "nesterov"])
def test_the_momentum_schedule_is_the_momentum_of_each_progress(name: str) -> None:
    rule, steps = Ascent(name, 0.1, momentum=0.6, momentum_schedule="linear:1.5"), 9
    with jax.enable_x64(True):
        path = climb(rule, {"w": jnp.array(2.0)}, steps, lambda params: {"w": -0.7 * params["w"]})["w"]
    w, v, expected = 2.0, 0.0, []
    for k in range(steps):
        m = 0.6 * (1 + 0.5 * k / steps)
        v = m * v - 0.7 * w
        w = w + 0.1 * (m * v - 0.7 * w if name == "nesterov" else v)
        expected.append(w)
    np.testing.assert_allclose(path, expected, rtol=0, atol=1e-12)


def test_momentum_and_effective_step_are_those_that_are_applied() -> None:
    for name, sums_gradients in (("momentum", True), ("nesterov", True), ("adam", False), ("signum", False)):
        rule = Ascent(name, 0.1, momentum=0.8, schedule="linear", momentum_schedule="linear:0.5")
        for progress in (0.0, 0.5, 1.0):
            rate, m = 0.1 * (1 - progress), 0.8 * (1 - 0.5 * progress)
            np.testing.assert_allclose(rule.step_size(progress), rate, rtol=1e-6)
            np.testing.assert_allclose(rule.momentum_at(progress), m, rtol=1e-6)
            expected = rate / (1 - m) if sums_gradients else rate
            np.testing.assert_allclose(rule.effective_step(progress), expected, rtol=1e-6)
    assert Ascent("sgd", 0.1).momentum_at(0.0) == 0
    np.testing.assert_allclose(Ascent("sgd", 0.1).effective_step(0.0), 0.1)
    np.testing.assert_allclose(Ascent("momentum", 0.1).effective_step(0.0), 1.0, rtol=1e-6)
    np.testing.assert_allclose(Ascent("rmsprop", 0.1).effective_step(0.0), 0.1, rtol=1e-6)


def test_equal_effective_steps_arrive_together_on_a_gentle_slope() -> None:
    """Plain ascent and heavy ball cover the same way under a steady gradient, but for the momentum's delay."""
    steady = {"w": jnp.array(1.0)}
    ends = [
        climb(rule, {"w": jnp.array(0.0)}, 200, lambda _: steady)["w"][-1]
        for rule in (Ascent("sgd", 0.1), Ascent("momentum", 0.02, 0.8), Ascent("nesterov", 0.02, 0.8))
    ]
    np.testing.assert_allclose(ends[1] / ends[0], 1, atol=0.03)
    np.testing.assert_allclose(ends[2] / ends[0], 1, atol=0.03)


def test_the_transformation_fits_into_an_optax_chain() -> None:
    """With what only some of the chain's parts understand."""
    rule = Ascent("adam", 0.1, schedule="linear", rollout_moments="reset").transformation()
    chain = optax.chain(optax.identity(), rule, optax.keep_params_nonnegative(), optax.identity())
    extra: dict[str, Any] = {"progress": jnp.array(0.75), "new_rollout": jnp.array(True), "value": 1.0}
    state = chain.init(START)
    for gradient in gradients(3):  # each is the first: sign(g) times the scheduled rate
        step, state = chain.update(gradient, state, SUMMIT, **extra)
        expected = jax.tree.map(lambda w, g: jnp.maximum(w + 0.025 * jnp.sign(g), 0.0) - w, SUMMIT, gradient)
        assert_close(step, expected, 1e-5)
    assert_close(apply_step(START, step), optax.apply_updates(START, step))


def test_lengths_and_angles_are_those_of_the_flat_vectors() -> None:
    a, b = gradients(2)
    u, v = (np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(x)]) for x in (a, b))
    np.testing.assert_allclose(ascent.global_norm(a), np.linalg.norm(u), rtol=1e-6)
    np.testing.assert_allclose(ascent.cosine(a, b), u @ v / np.linalg.norm(u) / np.linalg.norm(v), rtol=1e-5)
    np.testing.assert_allclose(ascent.cosine(a, jax.tree.map(jnp.negative, a)), -1, rtol=1e-6)
    assert ascent.cosine(a, zero(a)) == 0
