"""Wrong ranks and shapes are refused in the first lines, by name, before anything broadcasts."""

import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlgd.maths import blocks, confidence, minibatches, natural_gradient, objectives, running_statistics, shapes
from rlgd.maths.distributions import Bernoulli, Beta, Categorical, DiagGaussian, MultiCategorical, TanhGaussian

ONES = jnp.ones
BOUNDS = (jnp.full(3, -1.0), ONES(3))
BATCHES: dict[str, Callable[[int], Any]] = {
    "categorical": lambda n: Categorical(ONES((n, 3))),
    "multi": lambda n: MultiCategorical(ONES((n, 5)), (2, 3)),
    "bernoulli": lambda n: Bernoulli(ONES((n, 3))),
    "gaussian": lambda n: DiagGaussian(ONES((n, 3)), jnp.zeros((n, 3))),
    "tanh": lambda n: TanhGaussian(ONES((n, 3)), jnp.zeros((n, 3)), *BOUNDS),
    "beta": lambda n: Beta(2 * ONES((n, 3)), 2 * ONES((n, 3)), *BOUNDS),
}


@pytest.mark.parametrize("name", BATCHES)
def test_distributions_refuse_other_batches(name: str) -> None:
    four, five = BATCHES[name](4), BATCHES[name](5)
    assert four.log_prob(four.sample(jax.random.key(1))).shape == four.kl(four).shape == (4,)
    with pytest.raises(ValueError, match=re.escape("x has shape (5")):
        four.log_prob(five.sample(jax.random.key(2)))
    with pytest.raises(ValueError, match=re.escape("of the other distribution has shape (5")):
        four.kl(five)


STATISTICS = running_statistics.empty((3,))
SCALE = running_statistics.empty_reward_scale(2)
LINEAR = {"w": ONES(3)}


def policy(params: Any, rows: Any) -> Categorical:
    return Categorical(rows * params["w"][None])


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "ratio": (lambda: objectives.importance_ratio(ONES(4), ONES((4, 1))), "shapes differ: log_prob (4,)"),
    "batch without rows": (lambda: running_statistics.of_batch(ONES(())), "x has shape (); expected rows"),
    "mask of a batch": (lambda: running_statistics.of_batch(ONES((4, 3)), ONES(3)), "mask has shape (3,)"),
    "merge": (lambda: running_statistics.merge(STATISTICS, running_statistics.empty((2,))), "expected (3,)"),
    "normalize": (lambda: running_statistics.normalize(STATISTICS, ONES((3, 2))), "x has shape (3, 2)"),
    "done": (lambda: running_statistics.observe_reward(SCALE, ONES((4, 2)), ONES((2, 4)), 0.9), "shapes differ"),
    "envs": (lambda: running_statistics.observe_reward(SCALE, ONES((4, 3)), ONES((4, 3)), 0.9), "expected (3,)"),
    "shuffle": (lambda: minibatches.shuffle(jax.random.key(0), 0), "size is 0; allowed: at least 1"),
    "minibatches": (
        lambda: minibatches.epochs(lambda carry, rows, n: (carry, rows), 0, ONES(10), 10, jax.random.key(0), 1, 3),
        "num_minibatches is 3, which does not divide 10 rows",
    ),
    "rows": (lambda: blocks.map_rows(lambda x: x, (ONES(4), ONES(5))), "leading axes have the lengths"),
    "no rows": (lambda: blocks.map_rows(lambda x: x, ()), "leading axes have the lengths []"),
    "weight": (lambda: blocks.weighted_sum(lambda x, s, n: x, ONES(4), ONES(5)), "leading axes have the lengths"),
    "kl": (
        lambda: natural_gradient.mean_kl(policy, LINEAR, {"w": ONES(2)}, ONES((4, 3))),
        "new has the shapes {'w': (2,)}; expected {'w': (3,)}",
    ),
    "iters": (lambda: natural_gradient.conjugate_gradient(lambda v: v, ONES(3), -1), "iters is -1"),
    "step": (
        lambda: natural_gradient.line_search(LINEAR, ONES(3), lambda p: (ONES(()), ONES(())), 0.1, 0.5, 2),
        "step has the shapes (3,)",
    ),
    "bands": (lambda: confidence.bands(np.ones(3)), "scores have shape (3,); expected two axes"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_functions_refuse_wrong_shapes(name: str) -> None:
    call, message = REFUSED[name]
    with pytest.raises(ValueError, match=re.escape(message)):
        call()


def test_the_checks_pass_what_fits() -> None:
    shapes.check_shape("x", 1.0, ())
    shapes.check_same_shape(a=ONES(3), b=None, c=ONES(3))
    shapes.check_like("tree", {"a": np.ones(2)}, {"a": ONES(2)})
    assert shapes.num_rows({"a": ONES((4, 2)), "b": None, "c": ONES(4)}) == 4
