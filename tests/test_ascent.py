"""Every optimizer uphill: against its formula, against optax, and on a concave quadratic with a known trajectory."""

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax import Array
from numpy.typing import NDArray

from rlgd import ascent, config
from rlgd.ascent import OPTIMIZERS, SCHEDULES, Ascent, apply_step
from rlgd.errors import UsageError

Tree = dict[str, Array]


def tree(first: float, second: float, third: float) -> Tree:
    return {"a": jnp.asarray([first, second], float), "b": jnp.asarray(third, float)}


CURVATURE, SUMMIT, START = tree(1.0, 0.2, 0.5), tree(1.0, -2.0, 3.0), tree(-1.0, 2.0, 0.5)
RATES = {"adagrad": 1.0, "rmsprop": 0.02}  # what does not climb well at 0.1
# Values unlike any default, for the fields that an optimizer uses.
NUMBERS = {"momentum": 0.8, "second_moment": 0.95, "epsilon": 1e-3, "weight_decay": 0.03}


def chosen(name: str, learning_rate: float = 0.1) -> Ascent:
    """The optimizer with a value in every field that it uses."""
    return Ascent(name, learning_rate, **{field: NUMBERS[field] for field in OPTIMIZERS[name].defaults})  # type: ignore[arg-type]


def objective(params: Tree) -> Array:
    terms = jax.tree.map(lambda w, h, top: -0.5 * jnp.sum(h * jnp.square(w - top)), params, CURVATURE, SUMMIT)
    return jnp.sum(jnp.stack(jax.tree.leaves(terms)))


def slope(params: Tree) -> Tree:
    return jax.grad(objective)(params)


def climb(rule: Ascent, params: Tree, steps: int, uphill: Callable[[Tree], Tree] = slope) -> Tree:
    """The parameters after each step, ``[steps, ...]``."""
    transformation = rule.transformation()

    def step(carry: tuple[Tree, Any], _: None) -> tuple[tuple[Tree, Any], Tree]:
        params, state = carry
        change, state = transformation.update(uphill(params), state, params)
        params = apply_step(params, change)
        return (params, state), params

    return jax.lax.scan(step, (params, transformation.init(params)), length=steps)[1]


def gradients(steps: int = 5) -> list[Tree]:
    return [tree(*values) for values in np.random.default_rng(0).normal(size=(steps, 3))]


def assert_close(a: Any, b: Any, tolerance: float = 1e-6) -> None:
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance), a, b)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_climbs_a_concave_quadratic(name: str) -> None:
    path = jax.jit(lambda: climb(Ascent(name, RATES.get(name, 0.1)), START, 300))()
    height = jax.vmap(objective)(path)
    assert objective(START) < height[0]
    assert height[-1] > 0.01 * objective(START)


def documented(
    name: str, gs: list[NDArray[Any]], w: NDArray[Any], a: float, m: float, b: float, e: float
) -> Iterator[Any]:
    """The steps that the formulas in ``OPTIMIZERS`` give."""
    v: Any = 0.0
    s: Any = 0.1 if name == "adagrad" else 0.0
    for t, g in enumerate(gs, 1):
        match name:
            case "sgd":
                yield a * g
            case "momentum":
                v = m * v + g
                yield a * v
            case "nesterov":
                v = m * v + g
                yield a * (m * v + g)
            case "rmsprop":
                s = b * s + (1 - b) * g**2
                v = m * v + g / np.sqrt(s + e)
                yield a * v
            case "adagrad":
                s = s + g**2
                yield a * g / np.sqrt(s + e)
            case "adam" | "adamw":
                v, s = m * v + (1 - m) * g, b * s + (1 - b) * g**2
                decay = a * NUMBERS["weight_decay"] * w if name == "adamw" else 0.0
                yield a * (v / (1 - m**t)) / (np.sqrt(s / (1 - b**t)) + e) - decay


@pytest.mark.parametrize("name", ["sgd", "momentum", "nesterov", "rmsprop", "adagrad", "adam", "adamw"])
def test_steps_equal_the_documented_formula(name: str) -> None:
    numbers = [NUMBERS[field] for field in ("momentum", "second_moment", "epsilon")]
    with jax.enable_x64(True):
        gs, params, transformation = gradients(), tree(1.0, -2.0, 3.0), chosen(name).transformation()
        state, update = transformation.init(params), jax.jit(transformation.update)
        expected = documented(name, [np.asarray(g["a"]) for g in gs], np.asarray(params["a"]), 0.1, *numbers)
        for g, right in zip(gs, expected, strict=True):
            step, state = update(g, state, params)
            np.testing.assert_allclose(step["a"], right, rtol=1e-12)


OPTAX: dict[str, Callable[..., optax.GradientTransformation]] = {
    "sgd": optax.sgd,
    "momentum": optax.sgd,
    "nesterov": lambda a, momentum: optax.sgd(a, momentum, nesterov=True),
    "rmsprop": lambda a, momentum, second_moment, epsilon: optax.rmsprop(
        a, second_moment, epsilon, momentum=momentum, eps_in_sqrt=True
    ),
    "adagrad": lambda a, epsilon: optax.adagrad(a, eps=epsilon),
    "adam": lambda a, momentum, second_moment, epsilon: optax.adam(a, momentum, second_moment, epsilon),
    "adamw": lambda a, momentum, second_moment, epsilon, weight_decay: optax.adamw(
        a, momentum, second_moment, epsilon, weight_decay=weight_decay
    ),
}


@pytest.mark.parametrize("name", OPTAX)
def test_steps_equal_those_of_optax_down_the_negated_objective(name: str) -> None:
    ours, params = chosen(name).transformation(), START
    theirs = OPTAX[name](0.1, **{field: NUMBERS[field] for field in OPTIMIZERS[name].defaults})
    our_state, their_state = ours.init(params), theirs.init(params)
    our_update, their_update = jax.jit(ours.update), jax.jit(theirs.update)
    for g in gradients():
        step, our_state = our_update(g, our_state, params)
        with jax.numpy_dtype_promotion("standard"):
            expected, their_state = their_update(jax.tree.map(jnp.negative, g), their_state, params)
        assert_close(step, expected)
        params = apply_step(params, step)


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
    return jax.tree.map(lambda *values: jnp.stack(values), *(config.as_arrays(rule.resolved()) for rule in rules))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_traced_numbers_give_the_steps_of_static_ones(name: str) -> None:
    rules = [chosen(name, rate) for rate in (0.1, 0.02)]
    rules[1] = dataclasses.replace(rules[1], max_grad_norm=0.3, weight_decay=0.5)
    rules[0] = dataclasses.replace(rules[0], weight_decay=0.0)
    stacked = jax.jit(jax.vmap(lambda rule: climb(rule, START, 20)))(stack(*rules))
    for i, rule in enumerate(rules):
        static = climb(rule, START, 20)
        assert_close(jax.jit(lambda rule: climb(rule, START, 20))(config.as_arrays(rule)), static, 1e-5)
        assert_close(jax.tree.map(lambda x, i=i: x[i], stacked), static, 1e-5)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_nothing_compiles_twice_and_types_are_kept(name: str) -> None:
    traces = []

    @jax.jit
    def update(rule: Ascent, state: Any, params: Tree, progress: Array) -> tuple[Tree, Any]:
        traces.append(rule)
        step, state = rule.transformation().update(params, state, params, progress)
        return apply_step(params, step), state

    params, state = START, chosen(name).transformation().init(START)
    for rate, progress in ((0.1, 0.0), (1, 0.5), (0, 1.0)):
        rule = config.as_arrays(dataclasses.replace(chosen(name, rate), max_grad_norm=1 + rate))
        params, state = update(rule, state, params, jnp.asarray(progress))
        assert jax.tree.map(lambda x: x.dtype, params) == jax.tree.map(lambda x: x.dtype, START)
    assert len(traces) == 1


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_weight_decay_shrinks_weights_at_zero_gradient(name: str) -> None:
    rule = dataclasses.replace(chosen(name), weight_decay=0.3)
    path = climb(rule, START, 4, lambda params: jax.tree.map(jnp.zeros_like, params))
    for k in range(4):
        assert_close(jax.tree.map(lambda x, k=k: x[k], path), jax.tree.map(lambda w, k=k: 0.97 ** (k + 1) * w, START))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_learning_rate_0_changes_nothing(name: str) -> None:
    path = climb(dataclasses.replace(chosen(name, 0.0), weight_decay=0.3), START, 3)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[-1], b), path, START)


@pytest.mark.parametrize("name", ["momentum", "nesterov", "rmsprop"])
def test_momentum_0_is_plain(name: str) -> None:
    plain = Ascent("rmsprop" if name == "rmsprop" else "sgd", 0.1)
    paths = [climb(rule, START, 5) for rule in (plain, Ascent(name, 0.1, momentum=0.0))]
    jax.tree.map(np.testing.assert_array_equal, *paths)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_fields_left_out_take_the_table_s_defaults(name: str) -> None:
    row = OPTIMIZERS[name]
    spelt_out = Ascent(name, **row.defaults)  # type: ignore[arg-type]
    assert Ascent(name).resolved() == dataclasses.replace(spelt_out, max_grad_norm=math.inf).resolved()
    spelt_out.validate()
    jax.tree.map(np.testing.assert_array_equal, climb(Ascent(name), START, 3), climb(spelt_out, START, 3))
    values = dict.fromkeys([*row.defaults, "weight_decay", "max_grad_norm"], 0.123)
    changed = Ascent(name, **values)  # type: ignore[arg-type]
    assert changed.resolved() == changed


@pytest.mark.parametrize(
    ("name", "field"),
    [
        (name, field)
        for name, row in OPTIMIZERS.items()
        for field in ("momentum", "second_moment", "epsilon")
        if field not in row.defaults
    ],
)
@pytest.mark.parametrize("use", [Ascent.validate, Ascent.transformation])
def test_a_field_that_the_optimizer_ignores_is_refused(name: str, field: str, use: Callable[[Ascent], Any]) -> None:
    rule = Ascent(name, **{field: NUMBERS[field]})  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=f"{field} is set, but {name} does not use it; .* choose one of .*adam"):
        use(rule)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (Ascent("adma"), "unknown optimizer 'adma'; did you mean 'adam'"),
        (Ascent("Nestrov"), "did you mean 'nesterov'"),
        (Ascent(schedule="liner"), "unknown schedule 'liner'; did you mean 'linear'"),
        (Ascent(learning_rate=-1e-3), r"learning_rate is -0.001; allowed: a number within \[0, inf\)"),
        (Ascent(learning_rate=math.nan), "learning_rate is nan"),
        (Ascent(learning_rate=math.inf), "learning_rate is inf"),
        (Ascent(momentum=1.0), r"momentum is 1.0; allowed: a number within \[0, 1\)"),
        (Ascent(second_moment=-0.1), "second_moment is -0.1"),
        (Ascent(epsilon=0.0), "epsilon is 0.0"),
        (Ascent(weight_decay=-1.0), "weight_decay is -1.0"),
        (Ascent(max_grad_norm=0), "max_grad_norm is 0"),
    ],
)
def test_mistakes_are_refused_by_name(rule: Ascent, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        rule.validate()


@pytest.mark.parametrize("field", ["optimizer", "schedule"])
def test_unknown_names_are_refused_even_without_validation(field: str) -> None:
    with pytest.raises(UsageError, match=f"unknown {field} 'linea'"):
        Ascent(**{field: "linea"}).transformation()  # type: ignore[arg-type]


def test_clipping_keeps_the_direction_and_shortens_to_the_global_norm() -> None:
    gradient = tree(3.0, 0.0, -4.0)
    transformation = Ascent("sgd", 1.0, max_grad_norm=1.0).transformation()
    step, _ = transformation.update(gradient, transformation.init(START), START)
    assert_close(step, tree(0.6, 0.0, -0.8))
    for at_most in (5.0, math.inf):
        jax.tree.map(np.testing.assert_array_equal, ascent.clip_by_norm(gradient, at_most), gradient)
    zero = jax.tree.map(jnp.zeros_like, gradient)
    jax.tree.map(np.testing.assert_array_equal, ascent.clip_by_norm(zero, 1.0), zero)


@given(values=st.lists(st.floats(-1e3, 1e3, width=32), min_size=3, max_size=3), at_most=st.floats(1e-3, 1e3))
def test_a_gradient_is_clipped_as_one_vector(values: list[float], at_most: float) -> None:
    clipped = jax.jit(ascent.clip_by_norm)(tree(*values), at_most)
    length = np.linalg.norm(values)
    expected = np.array(values) * (at_most / length if length > at_most else 1.0)
    np.testing.assert_allclose([*clipped["a"], clipped["b"]], expected, rtol=1e-5, atol=1e-30)


@pytest.mark.parametrize(
    ("schedule", "share"),
    [
        ("constant", lambda progress: 1.0),
        ("linear", lambda progress: 1 - progress),
        ("cosine", lambda progress: (1 + math.cos(math.pi * progress)) / 2),
    ],
)
def test_schedules_are_functions_of_progress(schedule: str, share: Callable[[float], float]) -> None:
    rule = Ascent("sgd", 0.1, schedule=schedule)
    transformation = rule.transformation()
    gradient, state = gradients(1)[0], transformation.init(START)
    for progress in (0.0, 0.25, 0.5, 0.25, 1.0):  # 0.25 twice: how many updates there were does not matter
        rate = 0.1 * share(progress)
        np.testing.assert_allclose(rule.step_size(progress), rate, rtol=1e-6, atol=1e-9)
        step, state = transformation.update(gradient, state, START, progress)
        assert_close(step, jax.tree.map(lambda g, rate=rate: rate * g, gradient))
    assert rule.step_size(-1.0) == rule.step_size(0.0)
    assert rule.step_size(2.0) == rule.step_size(1.0)
    assert schedule in SCHEDULES


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_schedule_acts_on_the_whole_step(name: str) -> None:
    """Moments gather what they would have gathered; only the step is shorter, weight decay's too."""
    plain = chosen(name)
    steps = []
    for rule in (plain, dataclasses.replace(plain, schedule="linear")):
        transformation = rule.transformation()
        state = transformation.init(START)
        for g, progress in zip(gradients(), (0.0, 0.1, 0.2, 0.3, 0.75), strict=True):
            step, state = transformation.update(g, state, START, progress)
        steps.append(step)
    assert_close(steps[1], jax.tree.map(lambda x: 0.25 * x, steps[0]))


def test_the_transformation_fits_into_an_optax_chain() -> None:
    rule = Ascent("sgd", 0.1, schedule="linear").transformation()
    chain = optax.chain(rule, optax.identity())
    step, _ = chain.update(START, chain.init(START), START, progress=jnp.array(0.75))
    assert_close(step, jax.tree.map(lambda x: 0.025 * x, START))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_first_moment_points_where_the_gradient_pointed(name: str) -> None:
    transformation, gradient = chosen(name).transformation(), gradients(1)[0]
    _, state = transformation.update(gradient, transformation.init(START), START)
    moment = ascent.first_moment(state)
    if "momentum" not in OPTIMIZERS[name].defaults:
        assert moment is None
    else:
        jax.tree.map(lambda m, g: np.testing.assert_array_equal(np.sign(m), np.sign(g)), moment, gradient)
        if name != "rmsprop":  # the trace of scaled gradients has another direction
            np.testing.assert_allclose(ascent.cosine(moment, gradient), 1, rtol=1e-5)


def test_lengths_and_angles_are_those_of_the_flat_vectors() -> None:
    a, b = gradients(2)
    u, v = (np.array([*x["a"], x["b"]]) for x in (a, b))
    np.testing.assert_allclose(ascent.global_norm(a), np.linalg.norm(u), rtol=1e-6)
    np.testing.assert_allclose(ascent.cosine(a, b), u @ v / np.linalg.norm(u) / np.linalg.norm(v), rtol=1e-5)
    np.testing.assert_allclose(ascent.cosine(a, jax.tree.map(jnp.negative, a)), -1, rtol=1e-6)
    assert ascent.cosine(a, jax.tree.map(jnp.zeros_like, a)) == 0
