"""The rules of operations that take many numbers to one: sums, products of matrices, convolutions, pooling."""

import math
from typing import Any

import numpy as np

from rlgd.exporting.graph import Graph, Value, computed_type
from rlgd.exporting.rules import Rule


def _reduced(op: str) -> Rule:
    """The rule of a reduction along axes; true and false count as 1 and 0."""

    def rule(graph: Graph, eqn: Any, x: Value) -> Value:
        aval, axes = eqn.outvars[0].aval, list(eqn.params["axes"])
        wide = np.dtype(np.int32) if x.dtype == bool else computed_type(x.dtype)
        tensor = graph.whole(graph.cast(x, wide))
        if op == "ReduceSum":
            tensor = graph.add(op, tensor, np.array(axes, np.int64), keepdims=0)
        else:
            tensor = graph.add(op, tensor, axes=axes, keepdims=0)
        return graph.result(tensor, aval, wide)

    return rule


def _best(op: str) -> Rule:
    def rule(graph: Graph, eqn: Any, x: Value) -> Value:
        aval, (axis,) = eqn.outvars[0].aval, eqn.params["axes"]
        wide = np.dtype(np.int32) if x.dtype == bool else computed_type(x.dtype)
        tensor = graph.add(op, graph.whole(graph.cast(x, wide)), axis=axis, keepdims=0)
        return graph.result(tensor, aval, np.dtype(np.int64))

    return rule


def _cumulative_sum(graph: Graph, eqn: Any, x: Value) -> Value:
    aval, wide = eqn.outvars[0].aval, computed_type(x.dtype)
    tensor = graph.whole(graph.cast(x, wide))
    axis = np.array(eqn.params["axis"], np.int64)
    tensor = graph.add("CumSum", tensor, axis, reverse=int(eqn.params["reverse"]))
    return graph.result(tensor, aval, wide)


def _dot_general(graph: Graph, eqn: Any, a: Value, b: Value) -> Value:
    """A product of matrices, for each place of the axes that both have."""
    aval, ((summed_a, summed_b), (common_a, common_b)) = eqn.outvars[0].aval, eqn.params["dimension_numbers"]
    rows = tuple(axis for axis in range(len(a.shape)) if axis not in (*summed_a, *common_a))
    columns = tuple(axis for axis in range(len(b.shape)) if axis not in (*summed_b, *common_b))
    wide = computed_type(aval.dtype)
    left, right = (graph.whole(graph.cast(x, wide)) for x in (a, b))
    left = graph.transposed(left, (*common_a, *rows, *summed_a))
    right = graph.transposed(right, (*common_b, *summed_b, *columns))
    if not common_a and len(summed_a) == len(columns) == 1:
        tensor = graph.add("MatMul", left, right)
        return graph.result(tensor, aval, wide)
    common = tuple(a.shape[axis] for axis in common_a)
    shared = math.prod(a.shape[axis] for axis in summed_a)
    left = graph.reshaped(left, (*common, math.prod(a.shape[axis] for axis in rows), shared))
    right = graph.reshaped(right, (*common, shared, math.prod(b.shape[axis] for axis in columns)))
    tensor = graph.reshaped(graph.add("MatMul", left, right), aval.shape)
    return graph.result(tensor, aval, wide)


def _convolution(graph: Graph, eqn: Any, x: Value, kernel: Value) -> Value:
    params, aval = eqn.params, eqn.outvars[0].aval
    if params["batch_group_count"] != 1 or any(each != 1 for each in params["lhs_dilation"]):
        raise NotImplementedError("with a dilated input, or groups of the batch")
    of_input, of_kernel, of_output = params["dimension_numbers"]
    wide = computed_type(aval.dtype)
    tensor = graph.add(
        "Conv",
        graph.transposed(graph.whole(graph.cast(x, wide)), tuple(of_input)),
        graph.transposed(graph.whole(graph.cast(kernel, wide)), tuple(of_kernel)),
        strides=list(params["window_strides"]),
        pads=_ends(params["padding"]),
        dilations=list(params["rhs_dilation"]),
        group=params["feature_group_count"],
    )
    back = tuple(int(axis) for axis in np.argsort(of_output))
    return graph.result(graph.transposed(tensor, back), aval, wide)


def _ends(padding: Any) -> list[int]:
    return [int(low) for low, _ in padding] + [int(high) for _, high in padding]


def _pooled(op: str) -> Rule:
    """The rule of the largest number, or the sum, in each window of two axes at most, which come between others."""

    def rule(graph: Graph, eqn: Any, x: Value) -> Value:
        params, aval = eqn.params, eqn.outvars[0].aval
        windows, strides, padding = params["window_dimensions"], params["window_strides"], params["padding"]
        inner = [axis for axis, (size, step) in enumerate(zip(windows, strides, strict=True)) if (size, step) != (1, 1)]
        # Batch and channels stay; of other axes without a window, the first ones have windows of 1.
        spare = [axis for axis in range(1, len(windows)) if axis not in inner][: max(len(windows) - 2 - len(inner), 0)]
        inner = sorted([*inner, *spare])
        outer = [axis for axis in range(len(windows)) if axis not in inner]
        if (
            len(outer) != 2
            or not inner
            or any(each != 1 for each in (*params["base_dilation"], *params["window_dilation"]))
        ):
            raise NotImplementedError("of dilated windows, or with other axes than batch, places and channels")
        order, wide = (*outer, *inner), np.dtype(np.float32)
        attributes: dict[str, Any] = {
            "kernel_shape": [windows[axis] for axis in inner],
            "strides": [strides[axis] for axis in inner],
            "pads": _ends([padding[axis] for axis in inner]),
        }
        if op == "AveragePool":
            attributes["count_include_pad"] = 1
        tensor = graph.add(op, graph.transposed(graph.whole(graph.cast(x, wide)), order), **attributes)
        if op == "AveragePool":
            count = math.prod(windows[axis] for axis in inner)
            tensor = graph.add("Mul", tensor, np.array(count, wide))
        back = tuple(int(axis) for axis in np.argsort(order))
        return graph.result(graph.transposed(tensor, back), aval, wide)

    return rule


RULES: dict[str, Rule] = {
    "reduce_sum": _reduced("ReduceSum"),
    "reduce_max": _reduced("ReduceMax"),
    "reduce_min": _reduced("ReduceMin"),
    "reduce_prod": _reduced("ReduceProd"),
    "reduce_and": _reduced("ReduceMin"),
    "reduce_or": _reduced("ReduceMax"),
    "argmax": _best("ArgMax"),
    "argmin": _best("ArgMin"),
    "cumsum": _cumulative_sum,
    "dot_general": _dot_general,
    "conv_general_dilated": _convolution,
    "reduce_window_max": _pooled("MaxPool"),
    "reduce_window_sum": _pooled("AveragePool"),
}
