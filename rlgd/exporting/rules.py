"""What each operation of JAX is in ONNX. A rule gets the graph, the operation with its parameters, and its inputs."""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from rlgd.exporting.graph import Graph, Value, computed_type, repeated_shape

Rule: TypeAlias = Callable[..., Any]  # (graph, equation, *inputs) -> the value of its output, or a list of them

# Operations with one result for each number, and for numbers side by side.
DIRECT = {
    "abs": "Abs", "acos": "Acos", "acosh": "Acosh", "add": "Add", "asin": "Asin", "asinh": "Asinh", "atan": "Atan",
    "atanh": "Atanh", "ceil": "Ceil", "cos": "Cos", "cosh": "Cosh", "div": "Div", "erf": "Erf", "exp": "Exp",
    "floor": "Floor", "log": "Log", "logistic": "Sigmoid", "mul": "Mul", "neg": "Neg", "pow": "Pow",
    "sign": "Sign", "sin": "Sin", "sinh": "Sinh", "sqrt": "Sqrt", "sub": "Sub", "tan": "Tan", "tanh": "Tanh",
}  # fmt: skip
# With true and false: what they are of two truth values, and what they are of numbers.
LOGIC = {"and": "And", "or": "Or", "xor": "Xor", "not": "Not"}
EXTREMES = {"max": ("Or", "Max"), "min": ("And", "Min")}
COMPARISONS = {"eq": "Equal", "gt": "Greater", "ge": "GreaterOrEqual", "lt": "Less", "le": "LessOrEqual"}
INT32 = 6  # onnx.TensorProto.INT32
# That change nothing here.
IDENTITIES = ("copy", "copy_p", "stop_gradient", "optimization_barrier", "reduce_precision", "sharding_constraint")


def each_number(compute: Callable[..., str]) -> Rule:
    """The rule of an operation number by number: what repeats is not copied.

    Args:
        compute: ``(graph, equation, *tensors) -> tensor``, in a type that every runtime computes in.
    """

    def rule(graph: Graph, eqn: Any, *values: Value) -> Value:
        aval, inputs = eqn.outvars[0].aval, [graph.cast(value, computed_type(value.dtype)) for value in values]
        stored = repeated_shape(*(value.stored for value in inputs))
        tensor = compute(graph, eqn, *(graph.name(value) for value in inputs))
        made = computed_type(aval.dtype)
        return graph.cast(Value(tensor, aval.shape, made, stored), aval.dtype)

    rule.repeats = True  # type: ignore[attr-defined]
    return rule


def _direct(op: str) -> Rule:
    return each_number(lambda graph, eqn, *tensors: graph.add(op, *tensors))


def _logic(op: str) -> Rule:
    def compute(graph: Graph, eqn: Any, *tensors: str) -> str:
        if eqn.invars[0].aval.dtype != bool:
            raise NotImplementedError("on whole numbers")
        return graph.add(op, *tensors)

    return each_number(compute)


def _extreme(of_truth: str, of_numbers: str) -> Rule:
    def compute(graph: Graph, eqn: Any, *tensors: str) -> str:
        return graph.add(of_truth if eqn.outvars[0].aval.dtype == bool else of_numbers, *tensors)

    return each_number(compute)


def _comparison(op: str) -> Rule:
    def compute(graph: Graph, eqn: Any, *tensors: str) -> str:
        if eqn.invars[0].aval.dtype == bool and op != "Equal":
            tensors = tuple(graph.add("Cast", tensor, to=INT32) for tensor in tensors)
        return graph.add(op, *tensors)

    return each_number(compute)


def _different(graph: Graph, eqn: Any, a: str, b: str) -> str:
    return graph.add("Not", graph.add("Equal", a, b))


def _number(graph: Graph, eqn: Any, value: float) -> Any:
    """A number in the type of the operation."""
    return np.array(value, computed_type(eqn.outvars[0].aval.dtype))


def _integer_pow(graph: Graph, eqn: Any, x: str) -> str:
    exponent = eqn.params["y"]
    if exponent == 2:
        return graph.add("Mul", x, x)
    return graph.add("Reciprocal", x) if exponent == -1 else graph.add("Pow", x, _number(graph, eqn, exponent))


def _round(graph: Graph, eqn: Any, x: str) -> str:
    if int(eqn.params["rounding_method"]) == 1:  # to the nearest even number
        return graph.add("Round", x)
    away = graph.add("Floor", graph.add("Add", graph.add("Abs", x), _number(graph, eqn, 0.5)))
    return graph.add("Mul", graph.add("Sign", x), away)


def _is_finite(graph: Graph, eqn: Any, x: str) -> str:
    return graph.add("Not", graph.add("Or", graph.add("IsInf", x), graph.add("IsNaN", x)))


def _clamp(graph: Graph, eqn: Any, low: str, x: str, high: str) -> str:
    return graph.add("Min", graph.add("Max", x, low), high)


def _select(graph: Graph, eqn: Any, which: str, *cases: str) -> str:
    if len(cases) > 2 or eqn.invars[0].aval.dtype != bool:
        chosen = cases[-1]
        for number in reversed(range(len(cases) - 1)):
            chosen = graph.add("Where", graph.add("Equal", which, np.array(number, np.int32)), cases[number], chosen)
        return chosen
    if_not, if_so = cases
    if eqn.outvars[0].aval.dtype == bool:  # few runtimes have Where for truth values
        unless = graph.add("And", graph.add("Not", which), if_not)
        return graph.add("Or", graph.add("And", which, if_so), unless)
    return graph.add("Where", which, if_so, if_not)


def _convert(graph: Graph, eqn: Any, x: Value) -> Value:
    return graph.cast(x, eqn.outvars[0].aval.dtype)


def _size(graph: Graph, eqn: Any) -> Value:
    """A size that depends on the batch, as a number."""
    aval = eqn.outvars[0].aval
    tensor = graph.reshaped(graph.size(eqn.params["dim"]), ())
    return graph.result(tensor, aval, np.dtype(np.int64))


def _count(graph: Graph, eqn: Any, *sizes: Value) -> Value:
    """0, 1, 2, ... along an axis."""
    aval, axis = eqn.outvars[0].aval, eqn.params["dimension"]
    stored = tuple(size if place == axis else 1 for place, size in enumerate(aval.shape))
    if isinstance(aval.shape[axis], int):
        return Value(np.arange(aval.shape[axis], dtype=aval.dtype).reshape(stored), aval.shape, aval.dtype, stored)
    end = graph.reshaped(graph.size(aval.shape[axis]), ())
    tensor = graph.reshaped(graph.add("Range", np.array(0, np.int64), end, np.array(1, np.int64)), stored)
    return graph.cast(Value(tensor, aval.shape, np.dtype(np.int64), stored), aval.dtype)


def _same(graph: Graph, eqn: Any, *values: Value) -> list[Value]:
    return list(values)


RULES: dict[str, Rule] = {
    **{name: _direct(op) for name, op in DIRECT.items()},
    **{name: _logic(op) for name, op in LOGIC.items()},
    **{name: _extreme(*ops) for name, ops in EXTREMES.items()},
    **{name: _comparison(op) for name, op in COMPARISONS.items()},
    **dict.fromkeys(IDENTITIES, _same),
    "ne": each_number(_different),
    "integer_pow": each_number(_integer_pow),
    "square": each_number(lambda graph, eqn, x: graph.add("Mul", x, x)),
    "rsqrt": each_number(lambda graph, eqn, x: graph.add("Reciprocal", graph.add("Sqrt", x))),
    "exp2": each_number(lambda graph, eqn, x: graph.add("Pow", _number(graph, eqn, 2), x)),
    "log1p": each_number(lambda graph, eqn, x: graph.add("Log", graph.add("Add", x, _number(graph, eqn, 1)))),
    "expm1": each_number(lambda graph, eqn, x: graph.add("Sub", graph.add("Exp", x), _number(graph, eqn, 1))),
    "erfc": each_number(lambda graph, eqn, x: graph.add("Sub", _number(graph, eqn, 1), graph.add("Erf", x))),
    "rem": each_number(lambda graph, eqn, a, b: graph.add("Mod", a, b, fmod=1)),
    "round": each_number(_round),
    "is_finite": each_number(_is_finite),
    "clamp": each_number(_clamp),
    "select_n": each_number(_select),
    "convert_element_type": _convert,
    "dim_as_value": _size,
    "iota": _count,
}


def repeats(rule: Rule) -> bool:
    """Whether a rule computes number by number."""
    return getattr(rule, "repeats", False)
