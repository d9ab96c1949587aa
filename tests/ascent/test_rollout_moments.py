"""Moments at new rollouts: restarts, partial restarts, local time and outer momentum against loops written by hand."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import Array
from numpy.typing import NDArray

from rlgd import hyperparameters
from rlgd.ascent import OPTIMIZERS, Ascent, RolloutMoments, apply_step, rollout_moments
from rlgd.errors import UsageError
from rlgd.hyperparameters import with_values
from tests.support.marks import OF_EACH_KIND, quick

Tree = dict[str, Array]
Vector = NDArray[Any]
COUNTING = [name for name, row in OPTIMIZERS.items() if row.relative]

CURVATURE, SUMMIT, START = np.array([1.0, 0.2, 3.0]), np.array([1.0, -2.0, 0.5]), np.array([-1.0, 2.0, 3.0])
STEPS, ROLLOUT = 14, 4  # the last rollout is not whole
NEW = np.arange(STEPS) % ROLLOUT == 0
M, B, E = 0.8, 0.95, 1e-3


def chosen(name: str, **fields: Any) -> Ascent:
    used = {"momentum": M, "second_moment": B, "epsilon": E}
    own: dict[str, Any] = {field: used[field] for field in OPTIMIZERS[name].defaults if field in used}
    return Ascent(name, 0.1, **(own | fields))


def slope(w: Any) -> Any:
    return CURVATURE * (SUMMIT - w)


def climb(transformation: Any, new: Any = NEW, start: Any = START) -> tuple[Vector, Any]:
    """The parameters after each step, ``[STEPS, 3]``, and the last state; ``new``: where rollouts begin."""

    def step(carry: tuple[Any, Any], new: Array) -> tuple[tuple[Any, Any], Any]:
        params, state = carry
        gradient = jax.tree.map(slope, params)
        change, state = transformation.update(gradient, state, params, new_rollout=new)
        params = apply_step(params, change)
        return (params, state), params["w"]

    def path() -> Any:
        params = {"w": jnp.asarray(start, float)}
        return jax.lax.scan(step, (params, transformation.init(params)), jnp.asarray(new))

    (_, state), ws = jax.jit(path)()
    return np.asarray(ws), state


def assert_same_bits(a: Any, b: Any) -> None:
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize("name", [name for name, row in OPTIMIZERS.items() if "reset" not in row.excludes])
def test_reset_is_a_new_optimizer_at_every_new_rollout(name: str) -> None:
    with jax.enable_x64(True):
        transformation = chosen(name).transformation()
        update = jax.jit(transformation.update)
        params: Tree = {"w": jnp.asarray(START)}
        state, expected = transformation.init(params), []
        for new in NEW:
            if new:
                state = transformation.init(params)
            change, state = update(jax.tree.map(slope, params), state, params)
            params = apply_step(params, change)
            expected.append(params["w"])
        got, _ = climb(chosen(name, rollout_moments="reset").transformation())
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12)


def adam_by_hand(share: float, local_time: bool) -> list[Vector]:
    """Adam that keeps ``share`` of its averages at a new rollout, and may restart its count there."""
    w, v, s, t, path = START, 0 * START, 0 * START, 0, []
    for k, new in enumerate(NEW):
        if new and k:
            v, s, t = share * v, share * s, 0 if local_time else t
        g, t = slope(w), t + 1
        v, s = M * v + (1 - M) * g, B * s + (1 - B) * g**2
        w = w + 0.1 * (v / (1 - M**t)) / (np.sqrt(s / (1 - B**t)) + E)
        path.append(w)
    return path


def momentum_by_hand(share: float) -> list[Vector]:
    w, v, path = START, 0 * START, []
    for new in NEW:
        v = M * (share * v if new else v) + slope(w)
        w = w + 0.1 * v
        path.append(w)
    return path


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0, None])
def test_decay_follows_a_loop_by_hand(share: float | None) -> None:
    kept = 0.5 if share is None else share
    with jax.enable_x64(True):
        for name, expected in (("momentum", momentum_by_hand(kept)), ("adam", adam_by_hand(kept, False))):
            rule = chosen(name, rollout_moments="decay", moment_decay=share)
            np.testing.assert_allclose(climb(rule.transformation())[0], expected, rtol=0, atol=1e-12)


def test_relative_is_adam_with_a_local_time() -> None:
    with jax.enable_x64(True):
        got, state = climb(chosen("adam", rollout_moments="relative").transformation())
    np.testing.assert_allclose(got, adam_by_hand(1.0, True), rtol=0, atol=1e-12)
    assert optax.tree.get(state, "count") == STEPS % ROLLOUT


def aged(transformation: optax.GradientTransformationExtraArgs) -> tuple[Tree, Any]:
    """Parameters and a state after a few updates, with enough numbers for every kind of rounding."""
    random = np.random.default_rng(0)
    params = {"w": jnp.asarray(random.normal(size=200), float)}
    state, update = transformation.init(params), jax.jit(transformation.update)
    for gradient in random.normal(size=(5, 200)):
        change, state = update({"w": jnp.asarray(gradient, float)}, state, params)
        params = apply_step(params, change)
    return params, state


def is_average(leaf: Array) -> bool:
    return bool(jnp.issubdtype(leaf.dtype, jnp.floating))


WITH_AVERAGES = [name for name, row in OPTIMIZERS.items() if row.allows("decay")]


@pytest.mark.parametrize("name", quick(OF_EACH_KIND, WITH_AVERAGES))
def test_decay_lies_between_a_restart_and_no_change(name: str) -> None:
    """To the bit: a share of 1 keeps everything, and a share of 0 leaves nothing but the counts."""
    keep, forget = (chosen(name, rollout_moments="decay", moment_decay=share).transformation() for share in (1.0, 0.0))
    params, state = aged(keep)
    unchanged = keep.update(params, state, params, new_rollout=False)
    assert_same_bits(keep.update(params, state, params, new_rollout=True), unchanged)
    fresh = forget.init(params)
    mixed = jax.tree.map(lambda old, new: new if is_average(new) else old, state, fresh)
    forgotten = forget.update(params, state, params, new_rollout=True)
    assert_same_bits(forgotten, forget.update(params, mixed, params, new_rollout=False))
    assert any((a != b).any() for a, b in zip(*map(jax.tree.leaves, (forgotten, unchanged)), strict=True))


@pytest.mark.parametrize("name", COUNTING)
def test_relative_keeps_averages_and_counts_anew(name: str) -> None:
    rule = chosen(name, rollout_moments="relative").transformation()
    params, state = aged(rule)
    uncounted = jax.tree.map(lambda leaf: leaf if is_average(leaf) else jnp.zeros_like(leaf), state)
    now = rule.update(params, state, params, new_rollout=True)
    assert_same_bits(now, rule.update(params, uncounted, params, new_rollout=False))
    counts = [leaf for leaf in jax.tree.leaves(now[1]) if not is_average(leaf)]
    assert counts
    assert all(count == 1 for count in counts)


def test_adam_s_first_step_on_new_data_has_the_length_that_is_documented() -> None:
    """After a long steady gradient, with steps of length 1; the first step after a restart has this length, too."""
    m, b = 0.9, 0.999
    documented = {"reset": 1.0, "decay": (1 - m) / np.sqrt(1 - b), "relative": np.sqrt(1 - b) / (1 - m)}

    def lengths(mode: str) -> list[float]:
        rule = Ascent("adam", 1.0, epsilon=1e-15, rollout_moments=mode, moment_decay=0.0 if mode == "decay" else None)
        transformation, one = rule.transformation(), {"w": jnp.ones(())}

        def update(state: Any, new: bool | Array) -> tuple[Any, Array]:
            step, state = transformation.update(one, state, one, new_rollout=new)
            return state, step["w"]

        state, _ = jax.lax.scan(update, transformation.init(one), jnp.zeros(30_000, bool))
        return [float(update(state, new)[1]) for new in (False, True)]

    with jax.enable_x64(True):
        for mode, expected in documented.items():
            np.testing.assert_allclose(lengths(mode), [1, expected], rtol=1e-9)


# Each clock around each optimizer that it changes something for.
CLOCKED = [(name, mode) for name, row in OPTIMIZERS.items() for mode in ("reset", "decay") if row.allows(mode)]
CLOCKED += [(name, "relative") for name in COUNTING]


@pytest.mark.parametrize(("name", "mode"), quick([case for case in CLOCKED if case[0] in OF_EACH_KIND], CLOCKED))
def test_only_a_new_rollout_changes_anything(name: str, mode: str) -> None:
    """Without one, the bits are those of the optimizer; a Python bool, NumPy's and a traced one are the same."""
    rule = chosen(name, rollout_moments=mode).transformation()
    params = {"w": jnp.asarray(START, float)}
    plain = chosen(name).transformation()
    update, update_plain = jax.jit(rule.update), jax.jit(plain.update)
    fixed = jax.jit(rule.update, static_argnames="new_rollout")
    state, expected = rule.init(params), plain.init(params)
    assert_same_bits(state, expected)
    for _ in range(3):
        gradient = jax.tree.map(slope, params)
        change, state = update(gradient, state, params, new_rollout=False)
        right, expected = update_plain(gradient, expected, params)
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-7), change, right)
        params = apply_step(params, change)
    gradient = jax.tree.map(slope, params)
    results = [
        update(gradient, state, params, new_rollout=jnp.asarray(True)),
        update(gradient, state, params, new_rollout=np.True_),
        update(gradient, state, params, new_rollout=True),
    ]
    for result in results[1:]:
        assert_same_bits(result, results[0])
    by_default, never, always = (
        update(gradient, state, params),
        update(gradient, state, params, new_rollout=False),
        fixed(gradient, state, params, new_rollout=True),
    )
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-7), by_default, never)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-7), always, results[0])
    assert any((a != b).any() for a, b in zip(*map(jax.tree.leaves, (never, always)), strict=True))
    jax.tree.map(lambda x, y: np.testing.assert_equal((x.dtype, x.shape), (y.dtype, y.shape)), results[0][1], state)


@pytest.mark.parametrize("mode", ["reset", "decay", "relative"])
def test_nothing_compiles_twice(mode: str) -> None:
    traces = []

    @jax.jit
    def update(rule: Ascent, state: Any, params: Tree, new: Array) -> tuple[Tree, Any]:
        traces.append(mode)
        change, state = rule.transformation().update(params, state, params, new_rollout=new)
        return apply_step(params, change), state

    params = {"w": jnp.asarray(START, float)}
    state = chosen("adam").transformation().init(params)
    shares: list[Any] = [0.5, 0, 1] if mode == "decay" else [None] * 3
    for new, share in zip((False, True, True), shares, strict=True):
        rule = chosen("adam", rollout_moments=mode, moment_decay=share)
        params, state = update(hyperparameters.as_arrays(rule), state, params, jnp.asarray(new))
    assert len(traces) == 1


def test_the_share_that_decay_keeps_may_be_swept() -> None:
    with jax.enable_x64(True):
        rules = [chosen("adam", rollout_moments="decay", moment_decay=share) for share in (0.0, 0.3, 1.0)]
        stacked = jax.tree.map(lambda *values: jnp.stack(values), *(hyperparameters.as_arrays(rule) for rule in rules))

        def end(rule: Ascent) -> Array:
            params = {"w": jnp.asarray(START)}

            def step(carry: Any, new: Array) -> tuple[Any, None]:
                transformation = rule.transformation()
                change, state = transformation.update(jax.tree.map(slope, carry[0]), carry[1], carry[0], 0.0, new)
                return (apply_step(carry[0], change), state), None

            first = params, rule.transformation().init(params)
            return jax.lax.scan(step, first, jnp.asarray(NEW))[0][0]["w"]

        swept = jax.jit(jax.vmap(end))(stacked)
    for got, share in zip(swept, (0.0, 0.3, 1.0), strict=True):
        np.testing.assert_allclose(got, adam_by_hand(share, False)[-1], rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("around", "mode"),
    [
        (rollout_moments.reset, {"rollout_moments": "reset"}),
        (lambda inner: rollout_moments.decay(inner, 0.3), {"rollout_moments": "decay", "moment_decay": 0.3}),
        (rollout_moments.relative, {"rollout_moments": "relative"}),
    ],
)
def test_clocks_go_around_any_transformation_of_optax(around: Callable[[Any], Any], mode: dict[str, Any]) -> None:
    """Here as a part of a chain."""
    with jax.numpy_dtype_promotion("standard"):
        got, _ = climb(optax.chain(optax.identity(), around(optax.scale_by_adam(M, B, E)), optax.scale(0.1)))
    np.testing.assert_allclose(got, climb(chosen("adam", **mode).transformation())[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("rate", "momentum"), [(1.0, 0.0), (0.7, 0.5), (None, 0.4), (1.3, None)])
def test_outer_momentum_over_whole_iterations(rate: float | None, momentum: float | None) -> None:
    """Plain ascent inside: a displacement is a share of the way to the summit, and the rest is a linear recursion."""
    inner_steps, iterations = 5, 12
    rule = Ascent("sgd", 0.1, outer_learning_rate=rate, outer_momentum=momentum)
    outer = rule.outer_ascent()
    assert outer is not None
    a, m = 1.0 if rate is None else rate, momentum or 0.0
    with jax.enable_x64(True):
        inner, around = rule.transformation(), outer.transformation()
        begin = {"w": jnp.asarray(START)}

        def iterate(carry: tuple[Tree, Any], _: None) -> tuple[tuple[Tree, Any], Array]:
            begin, moments = carry
            params, state = begin, inner.init(begin)
            for _step in range(inner_steps):
                change, state = inner.update(jax.tree.map(slope, params), state, params)
                params = apply_step(params, change)
            displacement = jax.tree.map(jnp.subtract, params, begin)
            change, moments = around.update(displacement, moments, begin)
            begin = apply_step(begin, change)
            return (begin, moments), begin["w"]

        got = jax.jit(lambda: jax.lax.scan(iterate, (begin, around.init(begin)), length=iterations))()[1]

    for k, curvature in enumerate(CURVATURE):
        covered = 1 - (1 - 0.1 * curvature) ** inner_steps  # the share of the way that an iteration makes
        velocity = np.array([-covered, m])  # v' of (w - summit, v)
        position = np.array([1, 0]) + a * (np.array([-covered, 0]) + m * velocity)
        matrix = np.array([position, velocity])
        first = np.array([START[k] - SUMMIT[k], 0])
        expected = [SUMMIT[k] + (np.linalg.matrix_power(matrix, n) @ first)[0] for n in range(1, iterations + 1)]
        np.testing.assert_allclose(np.asarray(got)[:, k], expected, rtol=0, atol=1e-12)


def test_either_field_of_the_outer_step_sets_it() -> None:
    assert Ascent("adam").outer_ascent() is None
    assert Ascent("adam", outer_momentum=0.5).outer_ascent() == Ascent("nesterov", 1.0, 0.5).resolved()
    assert Ascent("adam", outer_learning_rate=0.5).outer_ascent() == Ascent("nesterov", 0.5, 0.0).resolved()
    rule = Ascent("adam", 0.1, outer_learning_rate=0.7, outer_momentum=0.9, weight_decay=0.1, l2=1.0, max_grad_norm=1.0)
    rule = with_values(rule, {"schedule": "linear", "rollout_moments": "reset"})
    assert rule.outer_ascent() == Ascent("nesterov", 0.7, 0.9).resolved()  # nothing else of the rule is done twice


def test_the_part_resolves_its_decay_and_refuses_what_does_not_fit_the_optimizer() -> None:
    assert RolloutMoments("decay").resolved("adam") == RolloutMoments("decay", 0.5)
    for part in (RolloutMoments("decay", 0.1), RolloutMoments("reset"), RolloutMoments()):
        assert part.resolved("adam") is part
    with pytest.raises(UsageError, match=r"rollout_moments 'relative' is set, but lion does not use it; .*adam"):
        RolloutMoments("relative").resolved("lion")
    with pytest.raises(UsageError, match="moment_decay is set, but rollout_moments is 'keep'; choose 'decay'"):
        RolloutMoments(moment_decay=0.5).resolved("adam")
    inner = optax.adam(0.1)
    assert RolloutMoments().around(inner) is inner
    assert RolloutMoments("reset").around(inner) is not inner
