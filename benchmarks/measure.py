"""What every worker does: train for a few seconds after a warm-up, print one line of JSON."""

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete

IMAGES = "Images-v0"


class Images(gymnasium.Env[np.ndarray, Any]):
    """Frames of the size of Atari's, made before, so that a step costs nothing. An episode has 200 steps."""

    observation_space, action_space = Box(0, 255, (84, 84, 4), np.uint8), Discrete(6)

    def __init__(self) -> None:
        self.frames = np.random.default_rng(0).integers(0, 256, (64, 84, 84, 4)).astype(np.uint8)
        self.t = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.t = 0
        return self.frames[0], {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.t += 1
        return self.frames[(self.t + action) % 64], float(action == 0), self.t == 200, False, {}


gymnasium.register(IMAGES, lambda **_: Images())


def arguments() -> argparse.Namespace:
    """What the driver asks a worker for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("env", help="Gymnasium id")
    parser.add_argument("num_envs", type=int)
    parser.add_argument("--backend", choices=("device", "host"), default="device", help="where rlgd steps environments")
    parser.add_argument("--overlap", action="store_true", help="rlgd learns while it collects, on the host")
    parser.add_argument("--rollout-length", type=int, default=128)
    parser.add_argument("--seconds", type=float, default=3.0, help="train for at least so long")
    return parser.parse_args()


def report(train: Callable[[], int], seconds: float) -> None:
    """Print the speed of ``train``, which returns the environment steps it did; its first call is the warm-up."""
    train()
    start, steps, elapsed = time.perf_counter(), 0, 0.0
    while elapsed < seconds:
        steps += train()
        elapsed = time.perf_counter() - start
    print(json.dumps({"steps_per_second": steps / elapsed}))
