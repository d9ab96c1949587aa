"""A policy as a TensorFlow Lite model, for one observation at a time, as on a robot or a telephone.

JAX's own bridge to TensorFlow writes it: that needs TensorFlow, which nothing else of rlgd does.
"""

import tempfile

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
            return bytes(tensorflow.lite.TFLiteConverter.from_saved_model(folder).convert())
        except tensorflow.lite.experimental.ConverterError as error:
            raise UsageError(
                f"TensorFlow Lite cannot hold this policy: {str(error).strip().splitlines()[0]}"
            ) from error
