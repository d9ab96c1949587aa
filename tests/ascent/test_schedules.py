"""Schedules: each shape against its formula, their bounds, and what is refused."""

import math
import re
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlgd.ascent import Schedules, schedules
from rlgd.ascent.schedules import SHAPES, factor, parse
from rlgd.errors import UsageError

GRID = np.linspace(0, 1, 41)

# What is left of the run after a warmup takes the same formulas.
FORMULAS: dict[str, Callable[[float], float]] = {
    "constant": lambda p: 1.0,
    "linear": lambda p: 1 - p,
    "linear:0.25": lambda p: 1 - 0.75 * p,
    "linear:3": lambda p: 1 + 2 * p,
    "cosine": lambda p: (1 + math.cos(math.pi * p)) / 2,
    "cosine:0.1": lambda p: 0.1 + 0.9 * (1 + math.cos(math.pi * p)) / 2,
    "exponential:0.01": lambda p: 0.01**p,
    "exponential:2": lambda p: 2**p,
    "piecewise:0=1,1=0.5": lambda p: 1 - 0.5 * p,
    "piecewise:0.2=1,0.6=0.2,0.9=2": lambda p: float(np.interp(p, [0.2, 0.6, 0.9], [1, 0.2, 2])),
    "piecewise:0.33=0.7": lambda p: 0.7,
    "piecewise:0.51=1,0.51=0.1": lambda p: 1.0 if p < 0.51 else 0.1,
    "piecewise:0=0,0.31=1,0.31=0.5,0.71=0.5,0.71=2,1=0": lambda p: (
        p / 0.31 if p < 0.31 else 0.5 if p < 0.71 else 2 * (1 - p) / 0.29
    ),
}
every_text = pytest.mark.parametrize("text", FORMULAS)


@every_text
def test_each_shape_follows_its_formula(text: str) -> None:
    with jax.enable_x64(True):
        got = factor(text, jnp.asarray(GRID))
        np.testing.assert_allclose(got, [FORMULAS[text](p) for p in GRID], rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(factor(text, jnp.asarray(GRID)), got, rtol=2e-6, atol=1e-6)


@every_text
@pytest.mark.parametrize("share", [0.105, 0.5, 0.995])
def test_a_warmup_rises_to_1_and_leaves_the_rest_of_the_run_to_the_schedule(text: str, share: float) -> None:
    """The shares of the schedule after it are shares of the rest."""
    expected = [p / share if p < share else FORMULAS[text]((p - share) / (1 - share)) for p in GRID]
    with jax.enable_x64(True):
        np.testing.assert_allclose(factor(f"warmup:{share}+{text}", jnp.asarray(GRID)), expected, rtol=1e-9, atol=1e-12)


def test_a_warmup_alone_stays_at_1_and_one_of_no_length_is_none() -> None:
    np.testing.assert_allclose(factor("warmup:0.4", jnp.asarray([0, 0.1, 0.4, 0.7, 1])), [0, 0.25, 1, 1, 1], rtol=1e-6)
    np.testing.assert_array_equal(factor("warmup:0+linear", jnp.asarray(GRID)), factor("linear", jnp.asarray(GRID)))
    np.testing.assert_allclose(factor("warmup:1+linear", jnp.asarray([0, 0.5, 1])), [0, 0.5, 1])


def test_every_shape_is_shown_above() -> None:
    assert {text.partition(":")[0] for text in FORMULAS} == {*SHAPES, "piecewise"}
    for name in (*SHAPES, "piecewise", "warmup"):
        assert name in schedules.SYNTAX
    assert {"piecewise", "warmup"} == set(schedules.COMBINED)
    assert all(shape.formula for shape in SHAPES.values())


@every_text
def test_shares_outside_the_run_count_as_its_ends(text: str) -> None:
    for name in (text, f"warmup:0.3+{text}"):
        np.testing.assert_array_equal(factor(name, jnp.asarray([-1e6, -0.1])), factor(name, jnp.zeros(2)))
        np.testing.assert_array_equal(factor(name, jnp.asarray([1.1, 1e6])), factor(name, jnp.ones(2)))


@pytest.mark.parametrize("text", ["piecewise:0.5=1,0.5=0.25", "piecewise:0=1,0.5=1,0.5=0.25,1=0.25"])
def test_a_step_has_happened_at_its_share(text: str) -> None:
    np.testing.assert_array_equal(factor(text, jnp.asarray([0.0, 0.49, 0.5, 0.51, 1.0])), [1, 1, 0.25, 0.25, 0.25])


def test_a_step_at_either_end_of_the_run_has_happened_there() -> None:
    np.testing.assert_allclose(factor("piecewise:0=5,0=1,1=0.5", jnp.asarray([0.0, 1.0])), [1, 0.5])
    np.testing.assert_allclose(factor("piecewise:0=1,1=0.5,1=0.25", jnp.asarray([0.0, 1.0])), [1, 0.25])


@every_text
def test_progress_may_be_traced_and_of_any_shape(text: str) -> None:
    """Under jit, under vmap, as one number: the same factors, of JAX's default float type."""
    traces = []

    @jax.jit
    def traced(progress: jax.Array) -> jax.Array:
        traces.append(progress)
        return factor(f"warmup:0.2+{text}", progress)

    progress = jnp.asarray(GRID[:40]).reshape(5, 8)
    together = traced(progress)
    assert together.shape == (5, 8)
    assert together.dtype == jnp.float32
    np.testing.assert_allclose(jax.vmap(jax.vmap(lambda p: factor(f"warmup:0.2+{text}", p)))(progress), together, 1e-6)
    np.testing.assert_allclose(factor(f"warmup:0.2+{text}", float(progress[1, 2])), together[1, 2], rtol=1e-6)
    traced(progress + 0.1)
    assert len(traces) == 1


numbers = st.floats(0, 5).map(lambda x: round(x, 3))
shares = st.floats(0, 1).map(lambda x: round(x, 3))
points = st.lists(st.tuples(shares, numbers), min_size=1, max_size=5).map(
    lambda pairs: ",".join(f"{share}={value}" for share, value in sorted(pairs, key=lambda pair: pair[0]))
)
plain = st.one_of(
    st.sampled_from(["constant", "linear", "cosine"]),
    st.tuples(st.sampled_from(["linear", "cosine"]), numbers).map(lambda pair: f"{pair[0]}:{pair[1]}"),
    numbers.filter(bool).map(lambda end: f"exponential:{end}"),
    points.map(lambda text: f"piecewise:{text}"),
)
texts = st.one_of(plain, st.tuples(shares, plain).map(lambda pair: f"warmup:{pair[0]}+{pair[1]}"))


@given(text=texts)
def test_bounds_hold_every_factor(text: str) -> None:
    least, most = parse(text).bounds
    factors = np.asarray(factor(text, jnp.linspace(0, 1, 1001)))
    assert np.isfinite(factors).all()
    assert least - 1e-6 <= factors.min()
    assert factors.max() <= most + 1e-5


@every_text
def test_bounds_are_the_least_and_the_largest_factor(text: str) -> None:
    steps = [share + side for share, _ in parse(text).points for side in (-1e-9, 1e-9)]
    with jax.enable_x64(True):
        for name, least in ((text, parse(text).bounds[0]), (f"warmup:0.3+{text}", 0.0)):
            at = jnp.asarray([*GRID, *steps, 0.3 - 1e-9, *(0.3 + 0.7 * share for share in (*GRID, *steps))])
            factors = np.asarray(factor(name, at))
            most = parse(name).bounds[1]
            np.testing.assert_allclose([factors.min(), factors.max()], [least, most], rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("liner", "unknown schedule 'liner'; did you mean 'linear'"),
        ("Cosine", "unknown schedule 'Cosine'; did you mean 'cosine'"),
        ("warmup", "unknown schedule 'warmup'; did you mean 'warmup:SHARE'"),
        ("", "unknown schedule ''; known: .*constant.*piecewise.*warmup:SHARE"),
        ("0.5", "unknown schedule '0.5'; known: "),
        ("constant:0.5", "a constant takes no number"),
        ("constant:", "a constant takes no number"),
        ("linear:", "'' is not a number"),
        ("linear:x", "'x' is not a number"),
        ("linear:0.1:0.2", "'0.1:0.2' is not a number"),
        ("linear:-0.1", r"-0.1 does not lie in \[0, 1e\+06\]"),
        ("linear:nan", r"nan does not lie in \[0, 1e\+06\]"),
        ("cosine:inf", r"inf does not lie in \[0, 1e\+06\]"),
        ("cosine:1e400", r"1e400 does not lie in \[0, 1e\+06\]"),
        ("exponential", "exponential needs a number, its factor at the end"),
        ("exponential:0", "an exponential never reaches 0"),
        ("piecewise", "each point is SHARE=FACTOR"),
        ("piecewise:", "each point is SHARE=FACTOR"),
        ("piecewise:0.5", "each point is SHARE=FACTOR"),
        ("piecewise:0=1,", "each point is SHARE=FACTOR"),
        ("piecewise:0=1,1", "each point is SHARE=FACTOR"),
        ("piecewise:a=1", "'a' is not a number"),
        ("piecewise:0.5=", "'' is not a number"),
        ("piecewise:0.5=1=2", "'1=2' is not a number"),
        ("piecewise:1.5=1", r"1.5 does not lie in \[0, 1\]"),
        ("piecewise:0.5=-1", r"-1 does not lie in \[0, 1e\+06\]"),
        ("piecewise:0.5=1,0.4=1", "the shares have to rise"),
        ("warmup:", "'' is not a number"),
        ("warmup:x+linear", "'x' is not a number"),
        ("warmup:1.5+linear", r"1.5 does not lie in \[0, 1\]"),
        ("warmup:-0.5", r"-0.5 does not lie in \[0, 1\]"),
        ("warmup:0.1+liner", "unknown schedule 'liner'; did you mean 'linear'"),
        ("warmup:0.1+exponential", "exponential needs a number"),
        ("warmup:0.1+warmup:0.1", "unknown schedule 'warmup'"),
    ],
)
def test_mistakes_are_refused_with_what_was_given_and_what_is_allowed(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as refusal:
        parse(text)
    if "unknown" not in message:
        assert str(refusal.value).startswith(f"schedule {text!r}: ")
        assert re.search(f"allowed: {re.escape(schedules.SYNTAX)}", str(refusal.value))
    with pytest.raises(UsageError):
        factor(text, 0.5)


pieces = st.sampled_from(
    [*SHAPES, "piecewise", "warmup", ":", "=", ",", "+", "0", "0.5", "1e400", "nan", "-1", "_", " "]
)


@given(text=st.one_of(st.text(), st.lists(pieces, max_size=8).map("".join)))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        schedule = parse(text)
    except UsageError:
        return
    assert all(map(math.isfinite, schedule.bounds))
    assert np.isfinite(factor(text, 0.5))


def test_the_part_applies_one_schedule_to_each_of_its_numbers() -> None:
    part = Schedules("linear", "cosine:0.5")
    part.check()
    assert part.momentum_changes
    assert not Schedules("linear").momentum_changes
    np.testing.assert_allclose(part.learning_rate_at(0.2, 0.25), 0.15, rtol=1e-6)
    np.testing.assert_allclose(part.momentum_at(0.8, 1.0), 0.4, rtol=1e-6)
    for wrong in (Schedules("liner"), Schedules("linear", "liner")):
        with pytest.raises(UsageError, match="unknown schedule 'liner'; did you mean 'linear'"):
            wrong.check()
