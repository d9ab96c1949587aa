"""Runs ONNX models without JAX in the process: ``run_onnx.py FOLDER`` reads ``model.onnx`` and ``inputs.npz``."""

import sys
from pathlib import Path

import numpy as np
import onnxruntime

for folder in map(Path, sys.argv[1:]):
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    names = [output.name for output in session.get_outputs()]
    with np.load(folder / "inputs.npz") as inputs:
        outputs = session.run(names, dict(inputs))
    np.savez(folder / "outputs.npz", **dict(zip(names, outputs, strict=True)))
assert not {"jax", "flax", "rlgd"} & sys.modules.keys()
