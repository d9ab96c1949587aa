"""Parameters and optimizer states joined in vectors while many steps are made: few kernels instead of one an array."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax.flatten_util import ravel_pytree

from rlgd.ascent.ascent import Ascent
from rlgd.system.layout import layout


class Form(NamedTuple):
    """How parameters are kept, and the optimizer's state with them: as they are, or each tree as one vector.

    Attributes:
        join: from a tree like the parameters, such as a gradient, to this form.
        split: back to a tree.
        join_state: from the optimizer's state for a tree to its state for this form.
        split_state: back.
    """

    join: Callable[[Any], Any]
    split: Callable[[Any], Any]
    join_state: Callable[[Any], Any]
    split_state: Callable[[Any], Any]


def form(ascent: Ascent, params: Any) -> Form:
    """Vectors where they are faster and the optimizer's steps do not depend on arrays; else trees as they are."""
    dtypes = {leaf.dtype for leaf in jax.tree.leaves(params)}
    if not layout().joins_params or ascent.rule.row.by_array or len(dtypes) != 1:
        return Form(_same, _same, _same, _same)
    vector, split = ravel_pytree(params)
    init = ascent.transformation().init
    of_vector: Any = jax.tree.structure(jax.eval_shape(init, vector))
    of_tree: Any = jax.tree.structure(jax.eval_shape(init, params))
    like_params: Any = jax.tree.structure(params)

    def join(tree: Any) -> Any:
        return ravel_pytree(tree)[0]

    def join_state(state: Any) -> Any:
        parts = of_vector.flatten_up_to(state)
        return of_vector.unflatten(join(part) if jax.tree.structure(part) == like_params else part for part in parts)

    def split_state(state: Any) -> Any:
        parts = [split(part) if part.shape == vector.shape else part for part in jax.tree.leaves(state)]
        return of_tree.unflatten(leaf for part in parts for leaf in jax.tree.leaves(part))

    return Form(join, split, join_state, split_state)


def _same(tree: Any) -> Any:
    return tree
