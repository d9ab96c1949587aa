"""A policy of rlgd in PyTorch, without rlgd: act with it, train it further there, and bring it back.

rlgd export RUN --to onnx safetensors --out policy
python examples/without_rlgd/policy_in_torch.py policy observations.npy tuned.safetensors

It needs what requirements-torch.txt lists. The first part takes any policy, the second one with the network mlp for
Discrete actions. It prints the action at each observation as JSON, then those of the policy that was trained
further, which ``rlgd.Policy.from_safetensors("tuned.safetensors", architecture="policy/architecture.json")`` reads.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx2torch import convert
from safetensors.torch import load_file, save_file

folder, observations, tuned = map(Path, sys.argv[1:])
obs = torch.from_numpy(np.load(observations))

# The whole policy as a module: observations in, actions and logits out.
model = onnx.load(folder / "policy.onnx")
outputs = convert(model)(obs)
named = dict(zip([output.name for output in model.graph.output], outputs, strict=True))
print(json.dumps(named["action"].tolist()))

# Its layers by name, from the arrays; a kernel of JAX is a matrix of PyTorch transposed.
about = json.loads((folder / "architecture.json").read_text())["hyperparameters"]
assert (about["network"], about["activation"], about["normalize_obs"]) == ("mlp", "tanh", False)
arrays = load_file(folder / "policy.safetensors")
names = [f"policy.network.Dense_{number}" for number in range(len(about["hidden_sizes"]))]
names.append("policy.network.OutputLayer_0")
layers: list[torch.nn.Module] = []
for name in names:
    kernel, bias = arrays[f"{name}.kernel"], arrays[f"{name}.bias"]
    kernel = kernel if name != names[-1] else kernel.T  # the outputs' matrix is stored the other way round
    layer = torch.nn.Linear(*kernel.shape)
    layer.weight.data, layer.bias.data = kernel.T.clone(), bias.clone()
    layers += [layer, torch.nn.Tanh()]
network = torch.nn.Sequential(*layers[:-1])
assert (network(obs).argmax(dim=1) == named["action"]).all()

# Further training, here towards always taking action 1; then the arrays go back under their names.
optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
for _ in range(200):
    loss = torch.nn.functional.cross_entropy(network(obs), torch.ones(len(obs), dtype=torch.int64))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
for name, layer in zip(names, network[::2], strict=True):
    kernel = layer.weight.data if name == names[-1] else layer.weight.data.T
    arrays |= {f"{name}.kernel": kernel.contiguous(), f"{name}.bias": layer.bias.data}
save_file(arrays, tuned)
print(json.dumps(network(obs).argmax(dim=1).tolist()))
