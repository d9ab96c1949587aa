"""A policy of rlgd in Keras and in TensorFlow Lite, without rlgd.

rlgd export RUN --to safetensors tflite --out policy
python examples/without_rlgd/policy_in_tensorflow.py policy observations.npy

It needs what requirements-tensorflow.txt lists. The first part takes a policy with the network mlp for Discrete
actions, the second one any policy without a memory and with one array as its observation. Each prints the action at
each observation as JSON.
"""

import json
import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from safetensors.numpy import load_file

folder, observations = map(Path, sys.argv[1:])
obs = np.load(observations)

# Keras: the same layers, with the arrays by their names.
about = json.loads((folder / "architecture.json").read_text())["hyperparameters"]
assert (about["network"], about["normalize_obs"]) == ("mlp", False)
arrays = load_file(folder / "policy.safetensors")
layers = [keras.layers.Dense(width, activation=about["activation"]) for width in about["hidden_sizes"]]
outputs = keras.layers.Dense(len(arrays["policy.network.OutputLayer_0.bias"]))
network = keras.Sequential([keras.Input(obs.shape[1:]), *layers, outputs])
for number, layer in enumerate(layers):
    layer.set_weights([arrays[f"policy.network.Dense_{number}.{part}"] for part in ("kernel", "bias")])
outputs.set_weights([arrays["policy.network.OutputLayer_0.kernel"].T, arrays["policy.network.OutputLayer_0.bias"]])
print(json.dumps(np.argmax(network(obs), axis=1).tolist()))

# TensorFlow Lite: one observation at a time, as on a robot or a telephone.
policy = tf.lite.Interpreter(str(folder / "policy.tflite")).get_signature_runner("serving_default")
print(json.dumps([int(policy(obs=one[None])["action"][0]) for one in obs]))
