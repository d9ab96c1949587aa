"""A policy as a TensorFlow Lite model, for one observation at a time, as on a robot or a telephone.

JAX's own bridge to TensorFlow writes it: that needs TensorFlow, which nothing else of rlgd does.
"""

import tempfile
from typing import Any

from rlgd.errors import UsageError
from rlgd.exporting.interface import Interface


def tflite_model(interface: Interface) -> bytes:
    """A policy as the bytes of a model whose signature ``serving_default`` has the interface's names.

    Raises:
        UsageError: if TensorFlow is not installed, or cannot write the policy.
    """
    try:
        import tensorflow
        from jax.experimental import jax2tf
    except ImportError as error:
        raise UsageError(f"tflite needs TensorFlow: pip install 'rlgd[tflite]' ({error}).") from error
    function = tensorflow.function(jax2tf.convert(interface), autograph=False)
    inputs = {
        port.name: tensorflow.TensorSpec((1, *port.shape), interface.stored_dtype(port), name=port.name)
        for port in interface.inputs
    }
    module = tensorflow.Module()
    module.policy = function
    with tempfile.TemporaryDirectory() as folder:
        tensorflow.saved_model.save(module, folder, signatures=function.get_concrete_function(inputs))
        try:
            content = bytes(tensorflow.lite.TFLiteConverter.from_saved_model(folder).convert())
            runner = tensorflow.lite.Interpreter(model_content=content).get_signature_runner("serving_default")
            differs = interface.check(lambda given: runner(**_stored(interface, given)), batch=1)
        except Exception as error:  # whatever its converter and its interpreter raise: they have faults
            differs = str(error).strip().splitlines()[0]
    if differs:
        raise UsageError(f"TensorFlow Lite cannot hold this policy, which ONNX can: {differs}.")
    return content


def _stored(interface: Interface, given: dict[str, Any]) -> dict[str, Any]:
    return {port.name: given[port.name].astype(interface.stored_dtype(port)) for port in interface.inputs}
