"""An ONNX graph while it is written: tensors by name, numbers that are known, and what repeats along an axis."""

import dataclasses
from typing import Any, TypeAlias

import jax
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

OPSET, IR_VERSION = 17, 8  # old enough for most readers: nothing here needs a newer one
Shape: TypeAlias = tuple[Any, ...]  # of whole numbers and, where it is not known yet, the batch's symbolic size
Known: TypeAlias = Any  # an array of NumPy or, for random keys, of JAX


@dataclasses.dataclass(frozen=True)
class Value:
    """A value of the program that is translated.

    Attributes:
        tensor: the name of a tensor of the graph, or the numbers where they are known.
        shape: what the program takes its shape to be.
        dtype: of the numbers; those of a tensor have the type that ``element_type`` gives.
        stored: the shape of ``tensor``, of the same length: 1 along an axis on which it repeats. ONNX repeats in most
            operations by itself, so that few numbers are ever copied.
        label: what a reader of the graph sees known numbers as: the parameter that they are.
    """

    tensor: str | Known
    shape: Shape
    dtype: Any
    stored: Shape
    label: str = "constant"

    @property
    def known(self) -> bool:
        """Whether the numbers are known."""
        return not isinstance(self.tensor, str)

    @property
    def empty(self) -> bool:
        """Whether there are no numbers at all."""
        return any(isinstance(size, int) and size == 0 for size in self.shape)


def known(array: Known, label: str = "constant") -> Value:
    """Numbers as a value."""
    return Value(array, array.shape, array.dtype, array.shape, label)


def computed_type(dtype: Any) -> np.dtype[Any]:
    """The type in which numbers are computed, which every runtime has: small ones are computed in wider types."""
    kind, size = np.dtype(dtype).kind, np.dtype(dtype).itemsize
    if kind in "iu":
        return np.dtype(np.int32 if (kind, size) == ("i", 4) or size < 4 else np.int64)
    return np.dtype(dtype) if kind == "b" or dtype == np.float64 else np.dtype(np.float32)


def element_type(dtype: Any) -> int:
    """ONNX's number of a type. What is bfloat16 in JAX is float32: few runtimes compute in bfloat16."""
    return int(helper.np_dtype_to_tensor_dtype(_stored_type(dtype)))


def _stored_type(dtype: Any) -> np.dtype[Any]:
    return np.dtype(np.float32 if dtype == jax.numpy.bfloat16 else dtype)


class Graph:
    """Nodes in the order of their computation.

    Args:
        batch: the symbolic size of the batch.
    """

    def __init__(self, batch: Any) -> None:
        self.batch = batch
        self.nodes: list[onnx.NodeProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self.scope = ""  # where in the networks the nodes come from
        self._numbers: dict[str, NDArray[Any]] = {}  # of constants, some of which only others are made of
        self._constants: dict[Any, str] = {}
        self._computed: dict[Any, Any] = {}
        self._taken: set[str] = set()

    def input(self, name: str, shape: Shape, dtype: Any) -> Value:
        """A new input of the graph."""
        self._taken.add(name)
        self.inputs.append(helper.make_tensor_value_info(name, element_type(dtype), self._written(shape)))
        return Value(name, shape, np.dtype(dtype), shape)

    def output(self, name: str, value: Value, dtype: Any) -> None:
        """Make a value an output of the graph, in another type if it has another."""
        tensor = self.whole(value)
        if _stored_type(value.dtype) == dtype:
            node = helper.make_node("Identity", [tensor], [name], name=name)
        else:
            node = helper.make_node("Cast", [tensor], [name], name=name, to=element_type(dtype))
        self.nodes.append(node)
        self.outputs.append(helper.make_tensor_value_info(name, element_type(dtype), self._written(value.shape)))

    def _written(self, shape: Shape) -> list[int | str]:
        return [size if isinstance(size, int) else str(size) for size in shape]

    def add(self, op: str, *inputs: str | NDArray[Any], outputs: int = 1, **attributes: Any) -> Any:
        """A new node, or the same one if it was there already.

        Args:
            op: ONNX's name of the operation.
            inputs: names of tensors, or numbers.
            outputs: how many it has.
            attributes: of the node.

        Returns:
            The name of its output, or a list of names if there are several.
        """
        read = [each if isinstance(each, str) else self.constant(each) for each in inputs]
        key = (op, *read, outputs, repr(sorted(attributes.items())))
        if key not in self._computed:
            named = self._fresh(f"{self.scope}/{op}" if self.scope else op)
            made = [named] if outputs == 1 else [f"{named}.{i}" for i in range(outputs)]
            self.nodes.append(helper.make_node(op, read, made, name=named, **attributes))
            self._computed[key] = named if outputs == 1 else made
        return self._computed[key]

    def constant(self, array: Known, label: str = "constant") -> str:
        """The name of a tensor with these numbers, which follows the label if they are new."""
        numbers = np.ascontiguousarray(np.asarray(array).astype(_stored_type(array.dtype), copy=False))
        numbers = numbers.reshape(np.shape(array))
        key = (numbers.dtype.str, numbers.shape, numbers.tobytes())
        if key not in self._constants:
            self._constants[key] = self._fresh(label)
            self._numbers[self._constants[key]] = numbers
        return self._constants[key]

    def _fresh(self, name: str) -> str:
        found, number = name, 1
        while found in self._taken:
            number += 1
            found = f"{name}_{number}"
        self._taken.add(found)
        return found

    def result(self, tensor: str, aval: Any, dtype: Any = None) -> Value:
        """A tensor as the value of a variable of the program; ``dtype`` is the tensor's type, if it is another one."""
        return self.cast(Value(tensor, aval.shape, aval.dtype if dtype is None else dtype, aval.shape), aval.dtype)

    def cast(self, value: Value, dtype: Any) -> Value:
        """The numbers in another type."""
        if value.dtype == dtype:
            return value
        if value.known:
            return dataclasses.replace(value, tensor=np.asarray(value.tensor).astype(dtype), dtype=np.dtype(dtype))
        if _stored_type(value.dtype) == _stored_type(dtype):
            return dataclasses.replace(value, dtype=np.dtype(dtype))
        tensor, last = value.tensor, np.dtype(dtype)
        if last.kind in "iu" and np.dtype(_stored_type(value.dtype)).kind == "f":
            tensor = self._within(tensor, _stored_type(value.dtype), last)
        return dataclasses.replace(value, tensor=self.add("Cast", tensor, to=element_type(dtype)), dtype=last)

    def _within(self, tensor: str, given: np.dtype[Any], last: np.dtype[Any]) -> str:
        """Floats as the nearest whole numbers that a type has, and NaN as 0: so JAX converts them."""
        least, most = np.iinfo(last).min, np.iinfo(last).max
        number = self.add("Where", self.add("IsNaN", tensor), np.array(0, given), tensor)
        number = self.add("Min", self.add("Max", number, np.array(least, given)), np.array(most, given))
        if int(np.array(most, given)) == most:
            return str(number)
        # The largest one is no float: the next float is one too many.
        return str(self.add("Min", self.add("Cast", number, to=element_type(np.int64)), np.array(most, np.int64)))

    def name(self, value: Value) -> str:
        """The name of its tensor, which has the shape ``stored``."""
        return value.tensor if isinstance(value.tensor, str) else self.constant(value.tensor, value.label)

    def whole(self, value: Value) -> str:
        """The name of a tensor that has the value's shape."""
        if value.stored == value.shape:
            return self.name(value)
        return str(self.add("Expand", self.name(value), self.sizes(value.shape)))

    def reshaped(self, tensor: str, shape: Shape) -> str:
        """A tensor in another shape, of as many numbers."""
        if tensor in self._numbers:
            return self.constant(self._numbers[tensor].reshape(shape), tensor)
        open_sizes = sum(not isinstance(size, int) for size in shape)
        if open_sizes > 1:
            return str(self.add("Reshape", tensor, self.sizes(shape)))
        written = np.array([size if isinstance(size, int) else -1 for size in shape], np.int64)
        return str(self.add("Reshape", tensor, written))

    def transposed(self, tensor: str, axes: tuple[int, ...]) -> str:
        """A tensor with its axes in another order."""
        if axes == tuple(range(len(axes))):
            return tensor
        if tensor in self._numbers:
            return self.constant(self._numbers[tensor].transpose(axes), tensor)
        return str(self.add("Transpose", tensor, perm=list(axes)))

    def sizes(self, shape: Shape) -> str | NDArray[np.int64]:
        """A shape as numbers, or as a tensor where it depends on the size of the batch."""
        if all(isinstance(size, int) for size in shape):
            return np.array(shape, np.int64)
        parts = [np.array([size], np.int64) if isinstance(size, int) else self.size(size) for size in shape]
        return parts[0] if len(parts) == 1 else self.add("Concat", *parts, axis=0)

    def size(self, size: Any) -> str:
        """A size that is a multiple of the batch's, as a tensor ``[1]``."""
        batch = str(self.add("Shape", self.inputs[0].name, start=0, end=1))
        times = next((n for n in (1, *range(2, 4097)) if size == n * self.batch), None)
        if times is None:
            raise NotImplementedError(f"with the size {size}, which is no multiple of the batch's")
        return batch if times == 1 else str(self.add("Mul", batch, np.array([times], np.int64)))

    def model(self, name: str, metadata: dict[str, str], producer: tuple[str, str]) -> onnx.ModelProto:
        """The whole, checked by ONNX's own rules."""
        read = {tensor for node in self.nodes for tensor in node.input}
        constants = [numpy_helper.from_array(x, tensor) for tensor, x in self._numbers.items() if tensor in read]
        graph = helper.make_graph(self.nodes, name, self.inputs, self.outputs, constants)
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name=producer[0],
            producer_version=producer[1],
        )
        helper.set_model_props(model, metadata)
        onnx.checker.check_model(model, full_check=True)
        return model


def repeated_shape(*shapes: Shape) -> Shape:
    """The shape of an operation on numbers of these shapes, each with itself: 1 gives way to what is not 1."""
    length = max(map(len, shapes))
    padded = [(1,) * (length - len(shape)) + shape for shape in shapes]
    return tuple(next((size for size in sizes if not _is_one(size)), 1) for sizes in zip(*padded, strict=True))


def _is_one(size: Any) -> bool:
    return isinstance(size, int) and size == 1
