"""The rules of operations that move numbers: reshape, slice, gather and the like."""

import dataclasses
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlgd.exporting.graph import Graph, Shape, Value, computed_type, known
from rlgd.exporting.rules import INT32, Rule

BOOL = 9  # onnx.TensorProto.BOOL


def _broadcast(graph: Graph, eqn: Any, x: Value, *sizes: Value) -> Value:
    """The numbers get axes of size 1; nothing is copied."""
    shape = eqn.outvars[0].aval.shape
    stored = [1] * len(shape)
    for axis, place in enumerate(eqn.params["broadcast_dimensions"]):
        stored[place] = x.stored[axis]
    if x.known:
        return Value(np.reshape(np.asarray(x.tensor), tuple(stored)), shape, x.dtype, tuple(stored), x.label)
    tensor = x.tensor if tuple(stored) == x.stored else graph.reshaped(x.tensor, tuple(stored))
    return Value(tensor, shape, x.dtype, tuple(stored))


def _reshape(graph: Graph, eqn: Any, x: Value, *sizes: Value) -> Value:
    aval = eqn.outvars[0].aval
    if len(x.shape) == len(aval.shape) and all(a is b or a == b for a, b in zip(x.shape, aval.shape, strict=True)):
        return x
    return graph.result(graph.reshaped(graph.whole(x), aval.shape), aval)


def _transpose(graph: Graph, eqn: Any, x: Value) -> Value:
    axes = tuple(eqn.params["permutation"])
    stored = tuple(x.stored[axis] for axis in axes)
    return Value(graph.transposed(graph.name(x), axes), eqn.outvars[0].aval.shape, x.dtype, stored)


def _squeeze(graph: Graph, eqn: Any, x: Value) -> Value:
    stored = tuple(size for axis, size in enumerate(x.stored) if axis not in eqn.params["dimensions"])
    return Value(graph.reshaped(graph.name(x), stored), eqn.outvars[0].aval.shape, x.dtype, stored)


def _concatenate(graph: Graph, eqn: Any, *parts: Value) -> Value:
    tensors = [graph.whole(part) for part in parts if not part.empty]
    tensor = tensors[0] if len(tensors) == 1 else graph.add("Concat", *tensors, axis=eqn.params["dimension"])
    return graph.result(tensor, eqn.outvars[0].aval)


def _stack(graph: Graph, eqn: Any, *parts: Value) -> Value:
    aval, axis = eqn.outvars[0].aval, eqn.params["axis"]
    shape = (*aval.shape[:axis], 1, *aval.shape[axis + 1 :])
    tensors = [graph.reshaped(graph.whole(part), shape) for part in parts]
    return graph.result(graph.add("Concat", *tensors, axis=axis), aval)


def _tile(graph: Graph, eqn: Any, x: Value) -> Value:
    aval = eqn.outvars[0].aval
    return graph.result(graph.add("Tile", graph.whole(x), np.array(eqn.params["reps"], np.int64)), aval)


def _sort(graph: Graph, eqn: Any, key: Value, *others: Value) -> list[Value]:
    """In the order of the first; those that are alike stay in their order."""
    if eqn.params["num_keys"] != 1:
        raise NotImplementedError("by several keys")
    axis = eqn.params["dimension"]
    size, wide = np.array([key.shape[axis]], np.int64), computed_type(key.dtype)
    first = graph.whole(graph.cast(key, wide))
    values, places = graph.add("TopK", first, size, outputs=2, axis=axis, largest=0, sorted=1)
    found = [graph.result(values, eqn.outvars[0].aval, wide)]
    for out, other in zip(eqn.outvars[1:], others, strict=True):
        found.append(graph.result(graph.add("GatherElements", graph.whole(other), places, axis=axis), out.aval))
    return found


def _top_k(graph: Graph, eqn: Any, x: Value) -> list[Value]:
    wide, (values_aval, places_aval) = computed_type(x.dtype), (out.aval for out in eqn.outvars)
    axis = eqn.params.get("axis", len(x.shape) - 1)
    tensors = graph.add(
        "TopK", graph.whole(graph.cast(x, wide)), np.array([eqn.params["k"]], np.int64), outputs=2, axis=axis
    )
    return [graph.result(tensors[0], values_aval, wide), graph.result(tensors[1], places_aval, np.dtype(np.int64))]


def _sliced(graph: Graph, x: Value, begins: Any, ends: Any, steps: Any = None) -> str:
    """The numbers between places, along the axes where some are left out."""
    steps = steps or (1,) * len(begins)
    cut = [
        axis
        for axis, size in enumerate(x.shape)
        if not (begins[axis] == 0 and steps[axis] == 1 and (ends[axis] is size or ends[axis] == size))
    ]
    tensor = graph.whole(x)
    if not cut:
        return tensor
    begin, end, step = (np.array([each[axis] for axis in cut], np.int64) for each in (begins, ends, steps))
    return str(graph.add("Slice", tensor, begin, end, np.array(cut, np.int64), step))


def _slice(graph: Graph, eqn: Any, x: Value) -> Value:
    params = eqn.params
    tensor = _sliced(graph, x, params["start_indices"], params["limit_indices"], params["strides"])
    return graph.result(tensor, eqn.outvars[0].aval)


def _dynamic_slice(graph: Graph, eqn: Any, x: Value, *begins: Value) -> Value:
    aval, sizes = eqn.outvars[0].aval, eqn.params["slice_sizes"]
    axes = [axis for axis, size in enumerate(sizes) if not (size is x.shape[axis] or size == x.shape[axis])]
    return graph.result(_from_places(graph, x, {axis: begins[axis] for axis in axes}, sizes), aval)


def _from_places(graph: Graph, x: Value, begins: dict[int, Value], sizes: Shape) -> str:
    """A slice of these sizes that begins at a place, along some axes; the place is moved so that the slice fits."""
    if all(begin.known for begin in begins.values()):
        first, end = [0] * len(sizes), list(x.shape)
        for axis, begin in begins.items():
            first[axis] = int(np.clip(int(begin.tensor), 0, x.shape[axis] - sizes[axis]))
            end[axis] = first[axis] + sizes[axis]
        return _sliced(graph, x, first, end)
    tensor = graph.whole(x)
    for axis, begin in begins.items():
        place = graph.reshaped(graph.name(graph.cast(begin, np.int64)), (1,))
        last = np.array([x.shape[axis] - sizes[axis]], np.int64)
        place = graph.add("Min", graph.add("Max", place, np.array([0], np.int64)), last)
        end = graph.add("Add", place, np.array([sizes[axis]], np.int64))
        tensor = graph.add("Slice", tensor, place, end, np.array([axis], np.int64))
    return tensor


def _split(graph: Graph, eqn: Any, x: Value) -> list[Value]:
    sizes = np.array(eqn.params["sizes"], np.int64)
    tensors = graph.add("Split", graph.whole(x), sizes, outputs=len(sizes), axis=eqn.params["axis"])
    tensors = [tensors] if len(sizes) == 1 else tensors
    return [graph.result(tensor, out.aval) for tensor, out in zip(tensors, eqn.outvars, strict=True)]


def _pad(graph: Graph, eqn: Any, x: Value, filling: Value) -> Value:
    aval, padding = eqn.outvars[0].aval, eqn.params["padding_config"]
    if any(low < 0 or high < 0 or inner for low, high, inner in padding):
        raise NotImplementedError("with numbers removed, or put between")
    wide = computed_type(x.dtype)
    ends = np.array([low for low, _, _ in padding] + [high for _, high, _ in padding], np.int64)
    x, filling = graph.cast(x, wide), graph.cast(filling, wide)
    tensor = graph.add("Pad", graph.whole(x), ends, graph.name(filling))
    return graph.result(tensor, aval, wide)


def _reverse(graph: Graph, eqn: Any, x: Value) -> Value:
    axes = np.array(eqn.params["dimensions"], np.int64)
    begins, ends = np.full(len(axes), -1), np.full(len(axes), np.iinfo(np.int64).min)
    return graph.result(graph.add("Slice", graph.whole(x), begins, ends, axes, begins), eqn.outvars[0].aval)


def _gather(graph: Graph, eqn: Any, x: Value, places: Value) -> Value:
    """Of JAX's general form: slices from one place, rows at many places of one axis, and a number of each row."""
    aval, sizes, numbers = eqn.outvars[0].aval, eqn.params["slice_sizes"], eqn.params["dimension_numbers"]
    axes, dropped = numbers.start_index_map, numbers.collapsed_slice_dims
    if len(places.shape) == 1 and not numbers.operand_batching_dims:
        if not places.known:
            raise NotImplementedError("at a place that is computed")
        begins = {axis: known(np.asarray(place)) for axis, place in zip(axes, places.tensor, strict=True)}
        tensor = _from_places(graph, x, begins, sizes)
        kept = tuple(size for axis, size in enumerate(sizes) if axis not in dropped)
        return graph.result(graph.reshaped(tensor, kept) if dropped else tensor, aval)
    if axes != dropped:
        x, places = _same_slice(graph, x, places, axes, dropped, sizes)
        axes = dropped
    if not axes or (numbers.operand_batching_dims and len(axes) > 1):
        raise NotImplementedError("of slices at many places")
    tensor, place = graph.whole(x), axes[0]
    if len(axes) > 1:  # one axis of all their combinations, the first one
        others = tuple(axis for axis in range(len(x.shape)) if axis not in axes)
        together = (math.prod(x.shape[axis] for axis in axes), *(x.shape[axis] for axis in others))
        tensor, place = graph.reshaped(graph.transposed(tensor, (*axes, *others)), together), 0
    wanted = _flat_places(graph, places, tuple(x.shape[axis] for axis in axes))
    if numbers.operand_batching_dims:
        if len(numbers.operand_batching_dims) != len(x.shape) - 1 or len(aval.shape) != len(x.shape):
            raise NotImplementedError("of several numbers of each row")
        return graph.result(graph.add("GatherElements", tensor, wanted, axis=place), aval)
    tensor = graph.add("Gather", tensor, wanted, axis=place)
    # ONNX puts the axes of the places where the axis was; JAX says where the others come.
    count = len(places.shape) - 1
    rows = iter([*range(place), *range(place + count, len(aval.shape))])
    found = iter(range(place, place + count))
    order = tuple(next(rows) if axis in numbers.offset_dims else next(found) for axis in range(len(aval.shape)))
    tensor = graph.transposed(tensor, order)
    if "FILL" not in str(eqn.params["mode"]) or places.known:
        return graph.result(tensor, aval)
    sizes = tuple(x.shape[axis] for axis in axes)
    return _filled(graph, eqn, graph.result(tensor, aval), _inside(graph, places, sizes))


def _nearest(graph: Graph, places: Value, sizes: tuple[int, ...]) -> str:
    """The places ``[..., len(sizes)]`` of the array that are nearest to these."""
    tensor = graph.whole(graph.cast(places, np.int64))
    return str(graph.add("Min", graph.add("Max", tensor, np.array(0, np.int64)), np.array(sizes, np.int64) - 1))


def _inside(graph: Graph, places: Value, sizes: tuple[int, ...]) -> str:
    """Which places ``[..., len(sizes)]`` are places of the array."""
    same = graph.add("Equal", graph.whole(graph.cast(places, np.int64)), _nearest(graph, places, sizes))
    same = graph.add("Cast", same, to=INT32)
    return str(graph.add("Cast", graph.add("ReduceMin", same, axes=[-1], keepdims=0), to=BOOL))


def _filled(graph: Graph, eqn: Any, found: Value, inside: str) -> Value:
    """The numbers, and what JAX gives in place of those that are not there."""
    numbers, dtype = eqn.params["dimension_numbers"], np.dtype(found.dtype)
    filling = eqn.params["fill_value"]
    if filling is None:
        filling = np.nan if dtype.kind == "f" else np.iinfo(dtype).min if dtype.kind == "i" else np.iinfo(dtype).max
    shape = tuple(1 if axis in numbers.offset_dims else size for axis, size in enumerate(found.shape))
    where = graph.reshaped(inside, shape)
    return dataclasses.replace(found, tensor=graph.add("Where", where, found.tensor, np.array(filling, dtype)))


def _same_slice(
    graph: Graph, x: Value, places: Value, axes: tuple[int, ...], dropped: tuple[int, ...], sizes: Shape
) -> tuple[Value, Value]:
    """The slice that is the same at all places, along the axes that are kept; and the places along the others."""
    if not places.known:
        raise NotImplementedError("of slices at many places")
    numbers = np.asarray(places.tensor)
    begins = {axis: numbers[..., i] for i, axis in enumerate(axes) if axis not in dropped}
    if any((begin != begin.flat[0]).any() for begin in begins.values()):
        raise NotImplementedError("of slices at many places")
    shape = tuple(sizes[axis] if axis in begins else size for axis, size in enumerate(x.shape))
    tensor = _from_places(graph, x, {axis: known(begin.flat[0]) for axis, begin in begins.items()}, shape)
    return Value(tensor, shape, x.dtype, shape), known(numbers[..., [axes.index(axis) for axis in dropped]])


def _flat_places(graph: Graph, places: Value, sizes: tuple[int, ...]) -> str | NDArray[np.int64]:
    """Places ``[..., len(sizes)]`` along several axes, as places along one axis of their combinations."""
    steps = [math.prod(sizes[number + 1 :]) for number in range(len(sizes))]
    if places.known:
        return np.clip(np.asarray(places.tensor, np.int64), 0, np.array(sizes) - 1) @ np.array(steps, np.int64)
    flat = graph.add("Mul", _nearest(graph, places, sizes), np.array(steps, np.int64))
    return str(graph.add("ReduceSum", flat, np.array([-1], np.int64), keepdims=0))


RULES: dict[str, Rule] = {
    "broadcast_in_dim": _broadcast,
    "reshape": _reshape,
    "transpose": _transpose,
    "squeeze": _squeeze,
    "concatenate": _concatenate,
    "tile": _tile,
    "sort": _sort,
    "top_k": _top_k,
    "stack": _stack,
    "slice": _slice,
    "dynamic_slice": _dynamic_slice,
    "split": _split,
    "pad": _pad,
    "rev": _reverse,
    "gather": _gather,
}
