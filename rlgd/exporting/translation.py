"""From a program of JAX to an ONNX graph, operation by operation.

What the policy computes is written once, in JAX: its encoding, its normalizer, its networks and its head become a graph
by the rules of the operations that they are made of, and so does a network of a user. What depends on parameters alone
is computed here, and only the numbers are written.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend import core

from rlgd.errors import UsageError
from rlgd.exporting import rules, shape_rules, sum_rules
from rlgd.exporting.graph import Graph, Value, known, repeated_shape
from rlgd.exporting.rules import Rule, repeats

OURS: dict[str, Rule] = {**rules.RULES, **shape_rules.RULES, **sum_rules.RULES}
# That run a program of theirs once, with their own inputs.
CALLS = (
    "jit", "pjit", "closed_call", "core_call", "named_call", "checkpoint", "remat", "remat2", "custom_jvp_call",
    "custom_vjp_call", "custom_vjp_call_jaxpr",
)  # fmt: skip
LOOPS = ("scan", "while", "cond")  # which call programs of their own
LONGEST_SCAN = 256  # steps, each of which is written out


class NoRuleError(UsageError):
    """An operation that cannot be written."""


def translate(
    graph: Graph,
    function: Callable[..., Any],
    inputs: Any,
    given: Mapping[str, Rule],
    labels: Mapping[int, str] | None = None,
) -> tuple[Any, list[Value]]:
    """Add a function to a graph.

    Args:
        graph: it gets the nodes.
        function: of arrays.
        inputs: the function's arguments, a tuple of trees of values.
        given: rules of the user by the name of the operation, which come before ours.
        labels: names of arrays that the function knows, by ``id``.

    Returns:
        The structure of what the function returns, and the values of its leaves.

    Raises:
        NoRuleError: naming the operation and the layer.
    """
    values, structure = jax.tree.flatten(inputs, is_leaf=lambda leaf: isinstance(leaf, Value))
    shapes = [jax.ShapeDtypeStruct(value.shape, value.dtype) for value in values]
    program, returned = jax.make_jaxpr(function, return_shape=True)(*jax.tree.unflatten(structure, shapes))
    outputs = _Translator(graph, {**OURS, **given}, labels or {}).run(
        program, values, [True] * len(program.jaxpr.outvars), ""
    )
    return jax.tree.structure(returned), outputs


class _Step(NamedTuple):
    """An operation that is needed: which of its outputs, and which of its inputs."""

    eqn: Any
    outputs: list[bool]
    inputs: list[bool]


def _plan(jaxpr: Any, wanted: Sequence[bool]) -> tuple[list[_Step], list[bool]]:
    """The operations that the wanted outputs of a program need, in order, and which of its inputs they need."""
    needed = {var for var, want in zip(jaxpr.outvars, wanted, strict=True) if want and not _literal(var)}
    steps = []
    for eqn in reversed(jaxpr.eqns):
        outputs = [var in needed for var in eqn.outvars]
        if any(outputs):
            inner = _inner(eqn)
            inputs = [True] * len(eqn.invars) if inner is None else _plan(inner.jaxpr, outputs)[1]
            needed |= {var for var, need in zip(eqn.invars, inputs, strict=True) if need and not _literal(var)}
            steps.append(_Step(eqn, outputs, inputs))
    return steps[::-1], [var in needed for var in jaxpr.invars]


def _literal(var: Any) -> bool:
    return isinstance(var, core.Literal)


def _inner(eqn: Any) -> Any:
    """The program that an operation calls once, with its own inputs; None for any other operation."""
    if eqn.primitive.name not in CALLS:
        return None
    called = next(eqn.params[name] for name in ("jaxpr", "call_jaxpr", "fun_jaxpr") if name in eqn.params)
    return called if isinstance(called, core.ClosedJaxpr) else core.ClosedJaxpr(called, ())


class _Translator:
    def __init__(self, graph: Graph, rules_by_name: Mapping[str, Rule], labels: Mapping[int, str]) -> None:
        self._graph, self._rules, self._labels = graph, rules_by_name, labels

    def run(self, program: Any, inputs: Sequence[Any], wanted: Sequence[bool], scope: str) -> list[Any]:
        """The values of a program's outputs; None for one that is not wanted."""
        jaxpr = program.jaxpr
        consts = [known(const, self._labels.get(id(const), "constant")) for const in program.consts]
        values: dict[Any, Any] = dict(zip(jaxpr.constvars, consts, strict=True))
        values |= zip(jaxpr.invars, inputs, strict=True)

        def read(var: Any) -> Value:
            return known(np.asarray(var.val, var.aval.dtype)) if _literal(var) else values[var]

        for eqn, outputs, used in _plan(jaxpr, wanted)[0]:
            arguments = [read(var) if need else None for var, need in zip(eqn.invars, used, strict=True)]
            place = "/".join(filter(None, (scope, str(eqn.source_info.name_stack))))
            values |= zip(eqn.outvars, self._results(eqn, arguments, outputs, place), strict=True)
        return [read(var) if want else None for var, want in zip(jaxpr.outvars, wanted, strict=True)]

    def _results(self, eqn: Any, inputs: list[Any], wanted: list[bool], scope: str) -> Sequence[Any]:
        rule, inner = self._rules.get(eqn.primitive.name), _inner(eqn)
        if rule is None and inner is not None:
            return self.run(inner, inputs, wanted, scope)
        if (computed := _computed(eqn, inputs, rule is not None and repeats(rule))) is not None:
            return computed
        empty = [Value("", out.aval.shape, out.aval.dtype, out.aval.shape) for out in eqn.outvars]
        if all(value.empty for value in empty):
            return empty  # of no numbers: what concatenates them leaves them out
        self._graph.scope = scope
        try:
            if rule is not None:
                made = rule(self._graph, eqn, *inputs)
                return made if isinstance(made, list) else [made]
            if eqn.primitive.name == "scan" and eqn.params["length"] in range(LONGEST_SCAN + 1):
                return self._scan(eqn, inputs, scope)
            if eqn.primitive.name == "cond":
                return self._branches(eqn, inputs, scope)
            raise NotImplementedError
        except NotImplementedError as error:
            name, how = eqn.primitive.name, f" {error}" if str(error) else ""
            raise NoRuleError(
                f"the policy cannot be written as ONNX: {_layer(scope)} computes {name!r}{how}, for which there is no "
                f"rule; give one: rlgd.export(..., rules={{{name!r}: rule}}), see docs/export.md."
            ) from error

    def _branches(self, eqn: Any, inputs: list[Value], scope: str) -> list[Value]:
        """The branch that is taken, or all of them and a choice: none has an effect."""
        which, *arguments = inputs
        branches, wanted = eqn.params["branches"], [True] * len(eqn.outvars)
        if which.known:
            taken = int(np.clip(int(which.tensor), 0, len(branches) - 1))
            return self.run(branches[taken], arguments, wanted, scope)
        graph, last = self._graph, len(branches) - 1
        number = graph.name(graph.cast(which, np.int32))
        results = [self.run(branch, arguments, wanted, scope) for branch in branches]
        chosen = []
        for values, out in zip(zip(*results, strict=True), eqn.outvars, strict=True):
            wide = np.dtype(np.int32) if out.aval.dtype == bool else out.aval.dtype
            tensors = [graph.whole(graph.cast(value, wide)) for value in values]
            tensor = tensors[last]
            for n in reversed(range(last)):
                is_it = graph.add("LessOrEqual", number, np.array(n, np.int32))
                tensor = graph.add("Where", is_it, tensors[n], tensor)
            chosen.append(graph.result(tensor, out.aval, wide))
        return chosen

    def _scan(self, eqn: Any, inputs: list[Value], scope: str) -> list[Value]:
        """All steps one after the other."""
        params, graph = eqn.params, self._graph
        program, outputs = params["jaxpr"], []
        # What is stacked, and read or made a row at a time, has an axis more outside than inside; what is carried comes
        # out as it goes in.
        carried, fixed = _alike(eqn.outvars, program.jaxpr.outvars), _alike(eqn.invars, program.jaxpr.invars)
        fixed -= carried
        consts, carry, rows = inputs[:fixed], inputs[fixed : fixed + carried], inputs[fixed + carried :]
        order = range(params["length"])
        for step in reversed(order) if params["reverse"] else order:
            row = [_row(graph, value, step) for value in rows]
            results = self.run(program, [*consts, *carry, *row], [True] * len(program.jaxpr.outvars), scope)
            carry = results[:carried]
            outputs.append(results[carried:])
        stacked = []
        outputs = outputs[::-1] if params["reverse"] else outputs
        for values, out in zip(zip(*outputs, strict=True), eqn.outvars[carried:], strict=True):
            first = (1, *values[0].shape)
            tensors = [graph.reshaped(graph.whole(value), first) for value in values]
            stacked.append(graph.result(graph.add("Concat", *tensors, axis=0), out.aval))
        return [*carry, *stacked]


def _alike(outside: Sequence[Any], inside: Sequence[Any]) -> int:
    """How many of these variables have as many axes outside of a loop as inside."""
    return sum(len(a.aval.shape) == len(b.aval.shape) for a, b in zip(outside, inside, strict=True))


def _row(graph: Graph, value: Value, step: int) -> Value:
    """One step of what a scan reads."""
    shape = value.shape[1:]
    if value.known and value.stored == value.shape:
        return known(value.tensor[step])
    begin = np.array([step], np.int64)
    tensor = graph.add("Slice", graph.whole(value), begin, begin + 1, np.array([0], np.int64))
    return Value(graph.reshaped(tensor, shape), shape, value.dtype, shape)


def _computed(eqn: Any, inputs: list[Value], by_number: bool) -> list[Value] | None:
    """The outputs, where all numbers are known; None where they are not, or depend on the size of the batch."""
    if not all(value.known for value in inputs) or eqn.primitive.name in (*LOOPS, "dim_as_value"):
        return None
    shapes, label = [out.aval.shape for out in eqn.outvars], inputs[0].label if len(inputs) == 1 else "constant"
    if by_number:
        stored = repeated_shape(*(value.stored for value in inputs))
        arrays = [np.broadcast_to(np.asarray(value.tensor), stored) for value in inputs]
        made = zip(_bound(eqn, arrays), shapes, strict=True)
        return [Value(array, shape, array.dtype, stored, label) for array, shape in made]
    static = all(isinstance(size, int) for size in itertools.chain(*shapes))
    if not static or any(value.stored != value.shape for value in inputs):
        return None
    return [known(array, label) for array in _bound(eqn, [value.tensor for value in inputs])]


def _bound(eqn: Any, arrays: Sequence[Any]) -> Sequence[Any]:
    made = eqn.primitive.bind(*arrays, **eqn.params)
    return made if eqn.primitive.multiple_results else [made]


def _layer(scope: str) -> str:
    return f"the layer {scope}" if scope else "the policy, outside of any layer,"
