"""A policy as an ONNX model."""

from collections.abc import Mapping
from typing import Any

import jax
import onnxruntime

from rlgd import __version__
from rlgd.errors import UsageError
from rlgd.exporting.description import strict_json
from rlgd.exporting.graph import Graph
from rlgd.exporting.interface import Interface
from rlgd.exporting.rules import Rule
from rlgd.exporting.translation import translate
from rlgd.pytrees import named_leaves


def onnx_model(interface: Interface, about: Mapping[str, Any], given: Mapping[str, Rule]) -> bytes:
    """A policy as the bytes of an ONNX model, checked by ONNX's own rules and by acting with it.

    Args:
        interface: the policy.
        about: what the model's metadata say of it, each as JSON.
        given: rules of the user by the name of JAX's operation.

    Raises:
        UsageError: if an operation has no rule, or a wrong one of the user.
    """
    (batch,) = jax.export.symbolic_shape("batch")
    graph = Graph(batch)
    inputs = {port.name: graph.input(port.name, (batch, *port.shape), port.dtype) for port in interface.inputs}
    stored = {p.name: graph.cast(inputs[p.name], interface.stored_dtype(p)) for p in interface.inputs}
    labels = {id(array): name for name, array in named_leaves(interface.actor).items()}
    structure, values = translate(graph, interface, (stored,), given, labels)
    outputs = jax.tree.unflatten(structure, values)
    for port in interface.outputs:
        graph.output(port.name, outputs[port.name], port.dtype)
    metadata = {name: value if isinstance(value, str) else strict_json(value) for name, value in about.items()}
    content = graph.model("policy", metadata, ("rlgd", __version__)).SerializeToString()
    session = onnxruntime.InferenceSession(content)
    wanted = [port.name for port in interface.outputs]
    if differs := interface.check(lambda inputs: dict(zip(wanted, session.run(wanted, inputs), strict=True)), batch=16):
        why = "a rule that was given is wrong" if given else "this is a fault of rlgd; please report it"
        raise UsageError(f"the ONNX model does not act as the policy does: {differs}; {why}.")
    return content
