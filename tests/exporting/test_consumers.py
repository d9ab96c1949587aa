"""An exported policy in PyTorch, Keras and TensorFlow Lite, in environments of their own: ``make test-consumers``."""

import json
import subprocess
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

import rlgd
from rlgd.agents import A2C, PPO
from rlgd.exporting import export_run

ROOT = Path(__file__).parents[2]
TORCH, TENSORFLOW = (ROOT / ".consumers" / name / "bin" / "python" for name in ("torch", "tensorflow"))

pytestmark = pytest.mark.skipif(not TORCH.exists(), reason="needs what make test-consumers installs")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("consumers") / "run"
    rlgd.train("ppo", "CartPole-v1", total_timesteps=20_000, run_dir=directory, eval_episodes=1)
    return directory


def observed(path: Path, number: int = 200) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    env = gymnasium.make_vec("CartPole-v1", num_envs=number)
    env.action_space.seed(0)
    obs, _ = env.reset(seed=0)
    for _ in range(8):
        obs = env.step(env.action_space.sample())[0]
    np.save(path, obs)
    return np.asarray(obs, np.float32)


def printed(python: Path, script: str, *arguments: Path) -> list[list[int]]:
    command = [str(python), str(ROOT / "examples" / "without_rlgd" / script), *map(str, arguments)]
    lines = subprocess.run(command, check=True, capture_output=True, text=True, cwd="/").stdout.splitlines()
    return [json.loads(line) for line in lines if line.startswith("[")]


def test_pytorch_acts_trains_further_and_gives_back(run: Path, tmp_path: Path) -> None:
    folder = export_run(run, tmp_path / "policy", to=("onnx", "safetensors"))
    obs, tuned = observed(tmp_path / "obs.npy"), tmp_path / "tuned.safetensors"
    acted, later = printed(TORCH, "policy_in_torch.py", folder, tmp_path / "obs.npy", tuned)
    assert acted == rlgd.load(run)(obs).tolist()
    assert 0 < sum(acted) < len(acted)
    back = rlgd.Policy.from_safetensors(tuned, architecture=folder / "architecture.json")
    assert back(obs).tolist() == later
    assert sum(later) > sum(acted)


def test_keras_and_tensorflow_lite_act_alike(run: Path, tmp_path: Path) -> None:
    folder = export_run(run, tmp_path / "policy", to=("safetensors",))
    command = [str(TENSORFLOW), "-m", "rlgd", "export", str(run), "--to", "tflite", "--out", str(tmp_path / "lite")]
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
    (tmp_path / "lite" / "policy.tflite").rename(folder / "policy.tflite")
    obs = observed(tmp_path / "obs.npy")
    keras, lite = printed(TENSORFLOW, "policy_in_tensorflow.py", folder, tmp_path / "obs.npy")
    assert keras == lite == rlgd.load(run)(obs).tolist()


LITE = """
import sys, json, numpy as np, tensorflow as tf
runner = tf.lite.Interpreter(sys.argv[1]).get_signature_runner("serving_default")
with np.load(sys.argv[2]) as inputs:
    given = dict(inputs)
outputs = runner(**given)
np.savez(sys.argv[3], **outputs)
"""


@pytest.mark.parametrize("network", ["mlp", "lstm"])
def test_policies_with_a_memory_in_tensorflow_lite(tmp_path: Path, network: str) -> None:
    agent = (A2C if network != "mlp" else PPO)(network=network, num_envs=8, rollout_length=8, normalize_obs=True)
    rlgd.train(agent, "Pendulum-v1", total_timesteps=64, run_dir=tmp_path / "run", eval_episodes=1)
    command = [str(TENSORFLOW), "-m", "rlgd", "export", str(tmp_path / "run"), "--to", "tflite"]
    subprocess.run([*command, "--out", str(tmp_path / "lite")], check=True, capture_output=True, cwd=ROOT)
    policy = rlgd.load(tmp_path / "run")
    obs = np.array([[0.3, -0.5, 1.0]], np.float32)
    inputs: dict[str, Any] = {"obs": obs}
    if network != "mlp":
        size = policy.agent.prepared().networks(policy.spec).policy.memory_size
        inputs |= {"first": np.ones(1, bool), "memory": np.zeros((1, size or 0), np.float32)}
    np.savez(tmp_path / "inputs.npz", **inputs)
    paths = [str(tmp_path / name) for name in ("lite/policy.tflite", "inputs.npz", "outputs.npz")]
    subprocess.run([str(TENSORFLOW), "-c", LITE, *paths], check=True, capture_output=True, cwd="/")
    with np.load(tmp_path / "outputs.npz") as outputs:
        np.testing.assert_allclose(outputs["action"], policy(obs), rtol=1e-5, atol=1e-5)


def test_what_tensorflow_lite_cannot_run_is_refused(tmp_path: Path) -> None:
    agent = PPO(network="attention", num_envs=8, rollout_length=8, measure_every=0)
    rlgd.train(agent, "Pendulum-v1", total_timesteps=64, run_dir=tmp_path / "run", eval_episodes=1)
    command = [str(TENSORFLOW), "-m", "rlgd", "export", str(tmp_path / "run"), "--to", "tflite"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2
    assert "error: TensorFlow Lite cannot hold this policy, which ONNX can: " in done.stderr
    assert not (tmp_path / "run" / "export").exists()
