"""The time of one call of a policy with two layers of 64 tanh units: rlgd's, exported from it, or the peer's."""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

WARM_UP = 200  # calls before the clock runs; the first one compiles
Call = Callable[[Any], Any]  # from observations, one or [N, ...], to actions


def rlgd_policy(env: str, as_installed: bool) -> Any:
    """A policy of PPO that has learned nothing yet, which takes as long as any."""
    import jax

    from rlgd import envs
    from rlgd.agents import PPO
    from rlgd.evaluation import Policy

    if not as_installed:
        # As the command line does where environments are stepped on the host: each call is waited for.
        jax.config.update("jax_cpu_enable_async_dispatch", False)
    agent, spec = PPO(hidden_sizes=(64, 64), activation="tanh"), envs.make(env, backend="host").spec
    return Policy(agent, spec, agent.prepared().init(spec, jax.random.key(0)).actor)


def onnx(env: str, as_installed: bool) -> Call:
    """ONNX Runtime with the file that ``rlgd.export`` writes."""
    import onnxruntime

    import rlgd

    options = onnxruntime.SessionOptions()
    if not as_installed:
        options.intra_op_num_threads = 1
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "policy.onnx"))
        rlgd.export(rlgd_policy(env, as_installed), path)
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda obs: session.run(["action"], {"obs": obs})[0]


def stablehlo(env: str, as_installed: bool) -> Call:
    """The StableHLO program that ``rlgd.export`` writes, called through JAX."""
    import rlgd
    from rlgd.exporting import load_stablehlo

    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "policy.stablehlo"))
        rlgd.export(rlgd_policy(env, as_installed), path)
        program = load_stablehlo(path)
    return lambda obs: program({"obs": obs})["action"]


def predict(env: str, as_installed: bool) -> Call:
    """Stable-Baselines3."""
    import torch  # type: ignore[import-not-found]
    from stable_baselines3 import PPO  # type: ignore[import-not-found]

    layers = {"net_arch": {"pi": [64, 64], "vf": [64, 64]}, "activation_fn": torch.nn.Tanh}
    model = PPO("MlpPolicy", env, policy_kwargs=layers, device="cpu")
    return lambda obs: model.predict(obs, deterministic=True)[0]


WAYS: dict[str, Callable[[str, bool], Call]] = {
    "policy": rlgd_policy, "onnx": onnx, "stablehlo": stablehlo, "predict": predict
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("who", choices=tuple(WAYS))
    parser.add_argument("env", help="Gymnasium id")
    parser.add_argument("batch", type=int, help="how many observations; 1: one, without a batch's axis where it may be")
    parser.add_argument("--as-installed", action="store_true", help="leave threads and JAX as they are")
    parser.add_argument("--seconds", type=float, default=2.0, help="call for so long")
    args = parser.parse_args()
    call = WAYS[args.who](args.env, args.as_installed)
    space = gymnasium.make(args.env).observation_space
    space.seed(0)
    obs: Any = np.stack([space.sample() for _ in range(args.batch)])
    if args.batch == 1 and args.who in ("policy", "predict"):
        obs = obs[0]  # exported programs take batches alone
    for _ in range(WARM_UP):
        call(obs)
    times, end = [], time.perf_counter() + args.seconds
    while (start := time.perf_counter()) < end:
        call(obs)
        times.append(time.perf_counter() - start)
    print(json.dumps({"microseconds": 1e6 * statistics.median(times)}))


if __name__ == "__main__":
    main()
