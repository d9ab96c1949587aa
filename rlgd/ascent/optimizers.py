"""The optimizers: a table of what optax has, with one meaning for every field.

Every row is built from pieces of optax, or from optax's aliases where these apply the step size last. Rows descend:
``Ascent`` negates the gradient. ``Rule`` decays the weights, except for the few methods that must do so themselves.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from rlgd.ascent.fisher import SOPHIA_GAMMA, kfac, sophia
from rlgd.ascent.formulas import (
    LBFGS_MEMORY,
    Descent,
    adafactor,
    adam_like,
    adan,
    ademamix,
    adopt,
    lars,
    lbfgs,
    mars,
    muon,
    rmsprop,
    rmsprop_centred,
    scaled,
    schedule_free_adamw,
    schedule_free_sgd,
    sm3,
    yogi,
)
from rlgd.ascent.learning_rate_free import cocob, dadapt_adam, dog, dowg, mechanic, prodigy
from rlgd.ascent.second_order import shampoo, soap
from rlgd.errors import UsageError
from rlgd.pytrees import Scalar

ADABELIEF_ROOT = 1e-16  # what AdaBelief adds to its second moment


class Floor(NamedTuple):
    """Where an adaptive method keeps its second moment, and how epsilon bounds the denominator.

    Attributes:
        name: the second moment's name in the optimizer's state.
        bound: from epsilon to the second moment up to which epsilon decides the step.
        counter: the name of the number t of updates, if the second moment is divided by 1 - b^t first; else empty.
    """

    name: str
    bound: Callable[[Scalar], Scalar]
    counter: str = ""


class Optimizer(NamedTuple):
    """A row of the table of optimizers.

    Attributes:
        formula: the step that is added, for the gradient g of the objective at the parameters w, step size a, momentum
            m, second-moment coefficient b and epsilon e. A prime corrects the bias of an average that began at 0:
            v' = v / (1 - m^t), s' = s / (1 - b^t).
        build: makes the optax transformation from the step size and the fields named in ``defaults``.
        defaults: the fields that the optimizer uses, with the values that replace None.
        paper: the source of the formula.
        moment: the name of the first moment in the optimizer's state; empty if it keeps none.
        sums_gradients: momentum adds gradients up instead of averaging them. A steady gradient then moves the
            parameters by learning_rate / (1 - momentum) in each step.
        floor: how epsilon bounds the step, for methods that divide each parameter's step by a second moment.
        relative: to count updates from each new rollout on (Adam-Rel) shortens the first steps, as in Adam.
        decays: the method decays the weights itself: ``build`` takes ``weight_decay``.
        excludes: fields and settings that have no effect on it, or a wrong one.
        positive: fields that may not be 0.
        by_array: the steps, or the state, depend on how the parameters are distributed over arrays.
        learning_rate: the one that it brings, where that is a factor of a step size that the method estimates.
        fisher: what the update reads of the Fisher matrix: "diagonal", "layers" (that, and the factors of dense
            layers), or nothing.
    """

    formula: str
    build: Callable[..., Descent]
    defaults: dict[str, float]
    paper: str
    moment: str = ""
    sums_gradients: bool = False
    floor: Floor | None = None
    relative: bool = False
    decays: bool = False
    excludes: tuple[str, ...] = ()
    positive: tuple[str, ...] = ()
    by_array: bool = False
    learning_rate: float | None = None
    fisher: str = ""

    def uses(self, field: str) -> bool:
        """Whether a field of the rule has an effect."""
        return field in self.defaults

    @property
    def schedules_momentum(self) -> bool:
        """Whether its momentum may change over the run."""
        return self.uses("momentum") and "momentum_schedule" not in self.excludes

    def allows(self, rollout_moments: str) -> bool:
        """Whether a value of ``rollout_moments`` makes sense for it."""
        return self.relative if rollout_moments == "relative" else rollout_moments not in self.excludes


def _square(epsilon: Scalar) -> Scalar:
    return epsilon * epsilon


def _itself(epsilon: Scalar) -> Scalar:
    return epsilon


ADAM_DEFAULTS = {"momentum": 0.9, "second_moment": 0.999, "epsilon": 1e-8}
ADAM: dict[str, Any] = {"moment": "mu", "floor": Floor("nu", _square, "count")}
# They grow from the start of a run: after a restart, and where a share is kept, they would begin again far too small.
ESTIMATES: dict[str, Any] = {"learning_rate": 1.0, "excludes": ("reset", "decay")}

OPTIMIZERS: dict[str, Optimizer] = {
    "sgd": Optimizer("a g", optax.sgd, {}, "Robbins & Monro 1951", excludes=("reset", "decay")),  # nothing to forget
    "momentum": Optimizer(
        "a v;  v = m v + g",
        lambda learning_rate, momentum: scaled(learning_rate, optax.trace(decay=momentum)),
        {"momentum": 0.9},
        "Polyak 1964 (heavy ball)",
        moment="trace",
        sums_gradients=True,
    ),
    "nesterov": Optimizer(
        "a (m v + g);  v = m v + g",
        lambda learning_rate, momentum: scaled(learning_rate, optax.trace(decay=momentum, nesterov=True)),
        {"momentum": 0.9},
        "Nesterov 1983; Sutskever et al. 2013",
        moment="trace",
        sums_gradients=True,
    ),
    "rmsprop": Optimizer(
        "a v;  v = m v + g / sqrt(s + e);  s = b s + (1 - b) g^2",
        rmsprop,
        {"momentum": 0.0, "second_moment": 0.9, "epsilon": 1e-8},
        "Tieleman & Hinton 2012",
        moment="trace",
        sums_gradients=True,
        floor=Floor("nu", _itself),
    ),
    "rmsprop_centred": Optimizer(
        "a v;  v = m v + g / sqrt(s - u^2 + e);  s = b s + (1 - b) g^2;  u = b u + (1 - b) g",
        rmsprop_centred,
        {"momentum": 0.0, "second_moment": 0.9, "epsilon": 1e-8},
        "Graves 2013, arXiv 1308.0850",
        moment="trace",
        sums_gradients=True,
    ),
    "adagrad": Optimizer(
        "a g / sqrt(s + e);  s = s + g^2, from 0.1",
        lambda learning_rate, epsilon: optax.adagrad(learning_rate, eps=epsilon),
        {"epsilon": 1e-7},
        "Duchi, Hazan & Singer 2011",
        floor=Floor("sum_of_squares", _itself),
    ),
    "adadelta": Optimizer(
        "a d;  d = g sqrt(u + e) / sqrt(s + e);  s = b s + (1 - b) g^2;  u = b u + (1 - b) d^2",
        lambda learning_rate, second_moment, epsilon: optax.adadelta(learning_rate, second_moment, epsilon),
        {"second_moment": 0.9, "epsilon": 1e-6},
        "Zeiler 2012, arXiv 1212.5701",
        floor=Floor("e_g", _itself),
    ),
    "adam": Optimizer(
        "a v' / (sqrt(s') + e);  v = m v + (1 - m) g;  s = b s + (1 - b) g^2",
        adam_like(optax.adam),
        ADAM_DEFAULTS,
        "Kingma & Ba 2015, arXiv 1412.6980",
        **ADAM,
        relative=True,
    ),
    "adamw": Optimizer(
        "adam's step - a weight_decay w",
        adam_like(optax.adam),
        ADAM_DEFAULTS | {"weight_decay": 1e-4},
        "Loshchilov & Hutter 2019, arXiv 1711.05101",
        **ADAM,
        relative=True,
    ),
    "nadam": Optimizer(
        "a (m v'' + (1 - m) g') / (sqrt(s') + e);  v, s as in adam;  v'' = v / (1 - m^(t+1));  g' = g / (1 - m^t)",
        adam_like(optax.nadam),
        ADAM_DEFAULTS,
        "Dozat 2016",
        **ADAM,
        relative=True,
    ),
    "nadamw": Optimizer(
        "nadam's step - a weight_decay w",
        adam_like(optax.nadam),
        ADAM_DEFAULTS | {"weight_decay": 1e-4},
        "Dozat 2016; Loshchilov & Hutter 2019",
        **ADAM,
        relative=True,
    ),
    "amsgrad": Optimizer(
        "a v' / (sqrt(max of all s' so far) + e);  v, s as in adam",
        adam_like(optax.amsgrad),
        ADAM_DEFAULTS,
        "Reddi, Kale & Kumar 2018, arXiv 1904.09237",
        moment="mu",
        floor=Floor("nu_max", _square),
    ),
    "adamax": Optimizer(
        "a v' / s;  v as in adam;  s = max(b s, |g| + e)",
        adam_like(optax.adamax),
        ADAM_DEFAULTS,
        "Kingma & Ba 2015, arXiv 1412.6980",
        moment="mu",
        floor=Floor("nu", lambda epsilon: 2 * epsilon),
    ),
    "radam": Optimizer(
        "adam's step times r(t);  a v' while t is too small (5 or so updates) to know s",
        adam_like(optax.radam),
        ADAM_DEFAULTS,
        "Liu et al. 2020, arXiv 1908.03265",
        **ADAM,
    ),
    "adabelief": Optimizer(
        "a v' / (sqrt(s') + e);  v as in adam;  s = b s + (1 - b) (g - v)^2 + 1e-16",
        adam_like(optax.adabelief, eps_root=ADABELIEF_ROOT),
        {"momentum": 0.9, "second_moment": 0.999, "epsilon": 1e-16},
        "Zhuang et al. 2020, arXiv 2010.07468",
        **ADAM,
        relative=True,
        positive=("momentum",),  # with 0 no gradient is a surprise: g - v is always 0
    ),
    "adan": Optimizer(
        "a (v' + 0.92 d') / (sqrt(s') + e);  v as in adam;  d averages g - g_before by 0.92;  "
        "s = b s + (1 - b) (g + 0.92 (g - g_before))^2",
        adan,
        {"momentum": 0.98, "second_moment": 0.99, "epsilon": 1e-8},
        "Xie et al. 2022, arXiv 2208.06677",
        moment="m",
        floor=Floor("n", _square, "t"),
    ),
    "yogi": Optimizer(
        "a v' / (sqrt(s') + e);  v as in adam;  s = s - (1 - b) sign(s - g^2) g^2, from 1e-6",
        yogi,
        {"momentum": 0.9, "second_moment": 0.999, "epsilon": 1e-3},
        "Zaheer et al. 2018",
        **ADAM,
        relative=True,
    ),
    "lion": Optimizer(
        "a sign(m v + (1 - m) g);  then v = b v + (1 - b) g  (b, second_moment, averages gradients, not squares)",
        lambda learning_rate, momentum, second_moment: optax.lion(
            learning_rate, b1=momentum, b2=second_moment, weight_decay=0.0
        ),
        {"momentum": 0.9, "second_moment": 0.99},
        "Chen et al. 2023, arXiv 2302.06675",
        moment="mu",
    ),
    "signum": Optimizer(
        "a sign(v);  v = m v + (1 - m) g",
        lambda learning_rate, momentum: scaled(learning_rate, optax.ema(momentum, debias=False), optax.scale_by_sign()),
        {"momentum": 0.9},
        "Bernstein et al. 2018, arXiv 1802.04434",
        moment="ema",
    ),
    "novograd": Optimizer(
        "a v;  v = m v + g / (sqrt(s) + e);  s = |g|^2 at first, then b s + (1 - b) |g|^2, a number for each array",
        adam_like(optax.novograd),
        {"momentum": 0.9, "second_moment": 0.25, "epsilon": 1e-6},
        "Ginsburg et al. 2019, arXiv 1905.11286",
        moment="mu",
        sums_gradients=True,
        by_array=True,
    ),
    "lamb": Optimizer(
        "a |w| d / |d| for each array;  d = adam's v' / (sqrt(s') + e);  a d where w = 0",
        adam_like(optax.lamb),
        {"momentum": 0.9, "second_moment": 0.999, "epsilon": 1e-6},
        "You et al. 2020, arXiv 1904.00962",
        **ADAM,
        by_array=True,
    ),
    "lars": Optimizer(
        "a v;  v = m v + 0.001 |w| g / |g| for each array;  v = m v + g where w = 0",
        lars,
        {"momentum": 0.9},
        "You, Gitman & Ginsburg 2017, arXiv 1708.03888",
        moment="trace",
        sums_gradients=True,
        by_array=True,
    ),
    "sm3": Optimizer(
        "a v;  v = m v + (1 - m) g / sqrt(s + 1e-8);  s = g^2 + the least of the row's and the column's largest s "
        "so far, for vectors the sum of all g^2",
        sm3,
        {"momentum": 0.9},
        "Anil et al. 2019, arXiv 1901.11150",
        moment="nu",  # optax's name for it
        by_array=True,
    ),
    "adafactor": Optimizer(
        "a v;  v = m v + (1 - m) max(rms(w), 0.001) d;  d = g / sqrt(s), shortened to rms 1;  "
        "s averages g^2 + e by 1 - t^-0.8, large arrays' by rows and columns",
        adafactor,
        {"momentum": 0.0, "epsilon": 1e-30},
        "Shazeer & Stern 2018, arXiv 1804.04235",
        moment="ema",
        by_array=True,
    ),
    "muon": Optimizer(
        "a sqrt(max(1, columns / rows)) orthogonalized(m v'' + (1 - m) g') for matrices, v as in nadam, but the "
        "first and the last;  nadam's step for these and the rest",
        muon,
        {"momentum": 0.95, "second_moment": 0.999, "epsilon": 1e-8},
        "Jordan et al. 2024 (kellerjordan.github.io/posts/muon)",
        moment="mu",
        by_array=True,
    ),
    "schedule_free_sgd": Optimizer(
        "from w to m x + (1 - m) z;  z = z + a (g - weight_decay w);  x averages all z, weighted by the square of "
        "the largest a so far",
        schedule_free_sgd,
        {"momentum": 0.9},
        "Defazio et al. 2024, arXiv 2405.15682",
        decays=True,
        # x is computed from the parameters and z with the present momentum, so momentum must not change.
        excludes=("momentum_schedule",),
        positive=("momentum",),
    ),
    "schedule_free_adamw": Optimizer(
        "from w to m x + (1 - m) z;  z = z + a (g / (sqrt(s') + e) - weight_decay w);  x averages all z, "
        "weighted by the square of the largest a so far",
        schedule_free_adamw,
        {"momentum": 0.9, "second_moment": 0.999, "epsilon": 1e-8, "weight_decay": 1e-4},
        "Defazio et al. 2024, arXiv 2405.15682",
        floor=Floor("nu", _square, "count"),
        decays=True,
        # x is computed from the parameters and z with the present momentum, so momentum must not change.
        excludes=("momentum_schedule",),
        positive=("momentum",),
    ),
    "ademamix": Optimizer(
        "a (v' + 5 u) / (sqrt(s') + e);  v, s as in adam;  u averages g by 0.999",
        ademamix,
        ADAM_DEFAULTS,
        "Pagliardini, Ablin & Grangier 2024, arXiv 2409.03137",
        moment="m1",
        floor=Floor("nu", _square, "count"),
    ),
    "adopt": Optimizer(
        "a v;  v = m v + (1 - m) d;  d = g / max(sqrt(s), e), within +-(t - 1)^(1/4);  then s = b s + (1 - b) g^2;  "
        "s = g^2 at first, without a step",
        adopt,
        {"momentum": 0.9, "second_moment": 0.9999, "epsilon": 1e-6},
        "Taniguchi et al. 2024, arXiv 2411.02853",
        moment="mu",
        floor=Floor("nu", _square),
        excludes=("reset",),  # the first update after a restart moves nothing
    ),
    "mars": Optimizer(
        "a v' / (sqrt(s') + e);  v, s as in adam, of c / max(1, |c|);  c = g + 0.025 m / (1 - m) (g - g_before)",
        mars,
        {"momentum": 0.95, "second_moment": 0.99, "epsilon": 1e-8},
        "Yuan et al. 2024, arXiv 2411.10438",
        **ADAM,
    ),
    "shampoo": Optimizer(
        "a L^(-1/4) v R^(-1/4) for matrices;  a v / sqrt(s) for vectors;  v = m v + (1 - m) g;  L sums g g^T, R g^T g, "
        "from e I, s sums g^2, from e;  the roots are renewed in the first 10 updates and in every 10th",
        shampoo,
        {"momentum": 0.9, "epsilon": 1e-6},
        "Gupta, Koren & Singer 2018, arXiv 1802.09568",
        moment="mu",
        by_array=True,
    ),
    "soap": Optimizer(
        "a P u Q^T;  u = P^T v' Q / (sqrt(s') + e);  v as in adam;  s averages (P^T g Q)^2 by b;  in each 10th update "
        "P = QR(L P), Q = QR(R Q), from I;  L averages g g^T, R g^T g by b;  adam for vectors",
        soap,
        {"momentum": 0.95, "second_moment": 0.95, "epsilon": 1e-8},
        "Vyas et al. 2024, arXiv 2409.11321",
        moment="mu",
        floor=Floor("nu", _square, "t"),
        by_array=True,
    ),
    "sophia": Optimizer(
        "a v / max(0.05 s, e), within +-a;  v = m v + (1 - m) g;  s averages f by b;  f estimates the diagonal of the "
        "Fisher matrix",
        sophia,
        {"momentum": 0.965, "second_moment": 0.99, "epsilon": 1e-12},
        "Liu et al. 2023, arXiv 2305.14342",
        moment="mu",
        floor=Floor("nu", lambda epsilon: epsilon / SOPHIA_GAMMA),
        fisher="diagonal",
    ),
    "kfac": Optimizer(
        "a (A' + p sqrt(e) I)^-1 v (G' + sqrt(e) / p I)^-1 for dense layers;  v as in sophia;  A, G average by b the "
        "factors of the layer's Fisher matrix, of its inputs and its outputs' gradients;  p^2 = trace(A') size(G) / "
        "(trace(G') size(A));  inverses are renewed as in shampoo;  a v / (s' + e) for the rest, s as in sophia",
        kfac,
        {"momentum": 0.9, "second_moment": 0.95, "epsilon": 1e-2},
        "Martens & Grosse 2015, arXiv 1503.05671; Wu et al. 2017, arXiv 1708.05144",
        moment="mu",
        excludes=("reset", "decay"),  # inverses of one minibatch are noise, and a share of one is another curvature
        by_array=True,
        fisher="layers",
    ),
    "prodigy": Optimizer(
        "a k d v / (sqrt(s) + d e);  v averages d g by m, s averages (d g)^2 by b;  k = sqrt(1 - b^t) / (1 - m^t);  "
        "d is the largest p / |q|_1 so far, from 1e-6;  p = sqrt(b) p + a k d^2 <g, w - w_start>;  "
        "q = sqrt(b) q + a k d^2 g",
        prodigy,
        ADAM_DEFAULTS,
        "Mishchenko & Defazio 2024, arXiv 2306.06101",
        moment="mu",
        **ESTIMATES,
    ),
    "dadapt_adam": Optimizer(
        "v / (sqrt(s) + e);  v averages a k d g by m, s averages g^2 by b;  k = sqrt(1 - b^t) / (1 - m^t);  "
        "d is the largest p / |q|_1 so far, from 1e-6;  p = c p + a k d <g, q / (sqrt(s) + e)>, q and s from before;  "
        "q = c q + (1 - c) a k d g;  c = sqrt(b)",
        dadapt_adam,
        ADAM_DEFAULTS,
        "Defazio & Mishchenko 2023, arXiv 2301.07733",
        moment="exp_avg",
        **ESTIMATES,
    ),
    "dog": Optimizer(
        "a r g / sqrt(s + e);  r is the largest |w - w_start| so far, from 1e-6 (1 + |w_start|);  s sums |g|^2",
        dog,
        {"epsilon": 1e-8},
        "Ivgi, Hinder & Carmon 2023, arXiv 2302.12022",
        **ESTIMATES,
    ),
    "dowg": Optimizer(
        "a r^2 g / (sqrt(s) + e);  r^2 is the largest |w - w_start|^2 so far, from e;  s sums r^2 |g|^2",
        dowg,
        {"epsilon": 1e-4},
        "Khaled, Mishchenko & Jin 2023, arXiv 2305.16284",
        **ESTIMATES,
    ),
    "mechanic": Optimizer(
        "a times the change of (sum of r) x;  x sums adam's steps v' / (sqrt(s') + e);  six rates r, which forget "
        "by c = 0.9, 0.99, ...:  r = (1e-6 / 6 n + max(0, p)) / (sqrt(q) + 1e-8);  n = max(c n, |h| + 1e-8);  "
        "q = c^2 q + h^2;  p = c p + r h, h within +-n, r and n from before;  h = <g - 0.01 (sum of r) |g| / |w| w, x>",
        mechanic,
        ADAM_DEFAULTS,
        "Cutkosky, Defazio & Mehta 2023, arXiv 2306.00144",
        **ADAM,
        **ESTIMATES,
    ),
    "cocob": Optimizer(
        "a times the change of x;  x = u (n + p) / (n max(q + n, 100 n));  u sums g, q sums |g|;  "
        "n is the largest |g|, from e;  p = max(0, p + x g), x from before",
        cocob,
        {"epsilon": 1e-8},
        "Orabona & Tommasi 2017, arXiv 1705.07795",
        **ESTIMATES,
    ),
    "lbfgs": Optimizer(
        f"a H g, or a g / max(1, |g|) at first and where H g is not uphill;  H: the inverse curvature that the last "
        f"{LBFGS_MEMORY} steps showed",
        lbfgs,
        {},
        "Liu & Nocedal 1989",
        excludes=("decay",),  # it remembers positions: a share of them is another curvature
        by_array=True,
    ),
}


def without_effect(field: str, optimizer: str, has_effect: Callable[[Optimizer], bool]) -> UsageError:
    """The error for a field that is set, but has no effect on the optimizer; names those on which it has one."""
    users = ", ".join(name for name, row in OPTIMIZERS.items() if has_effect(row))
    return UsageError(f"{field} is set, but {optimizer} does not use it; leave it out, or choose one of {users}.")


def _held(state: Any, name: str) -> list[Any]:
    """The values with this name in an optimizer's state. Parameters with the same name do not count."""

    def is_part_of_state(path: Any, value: Any) -> bool:
        return isinstance(path[-1], optax.tree_utils.NamedTupleKey)

    return [value for _, value in optax.tree.get_all_with_path(state, name, is_part_of_state)]


def first_moment(row: Optimizer, state: Any) -> Any:
    """The average (or sum) of past gradients of the objective in the optimizer's state; None without one."""
    if not (key := row.moment):
        return None

    def masked(leaf: Any) -> bool:
        return isinstance(leaf, optax.MaskedNode)

    # Muon has one tree for matrices and one for the rest; each is masked where the other has the values.
    merged, *others = _held(state, key)
    for other in others:
        merged = jax.tree.map(lambda a, b: b if masked(a) else a, merged, other, is_leaf=masked)
    return jax.tree.map(jnp.negative, merged)


def epsilon_share(row: Optimizer, state: Any, second_moment: Scalar | None, epsilon: Scalar | None) -> Array | None:
    """The share of parameters with a step that epsilon decides, in [0, 1]: their second moment is not above it.

    None for optimizers that do not divide each parameter's step by a second moment.
    """
    floor = row.floor
    if floor is None or epsilon is None:
        return None
    moments = jax.tree.leaves(_held(state, floor.name)[0])
    bound = floor.bound(epsilon)
    if floor.counter and second_moment is not None:
        updates = _held(state, floor.counter)[0].astype(moments[0].dtype)
        bound = bound * (1 - jnp.power(second_moment, updates))
    low = sum(jnp.sum(moment <= bound) for moment in moments)
    return jnp.asarray(low, moments[0].dtype) / sum(moment.size for moment in moments)
