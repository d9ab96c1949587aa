"""Environments that break on command. Worker processes import this module: it imports no JAX."""

import ctypes
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete, Tuple

HANG = 600.0  # seconds
OBS = Box(-1.0, 1.0, (2,))


class Faulty(gymnasium.Env[Any, Any]):
    """Replaces step ``step`` (counted from 0) of environment ``index`` by ``FAULTS[what]`` of a sound step.

    The seed of the first reset is the environment's index; the next environment has the fault ``also``. Episodes are
    ``length`` steps long. ``note`` is a file to which each process writes its id and whether it has imported JAX.
    """

    observation_space, action_space = OBS, Discrete(3, start=1)

    def __init__(
        self,
        what: str = "nothing",
        index: int = 1,
        step: int = 2,
        length: int = 5,
        also: str = "nothing",
        note: str | None = None,
    ) -> None:
        self.faults = {(index, step): what, (index + 1, step): also}
        self.length, self.note = length, note
        self.index, self.steps, self.t = -1, 0, 0

    def _noted(self) -> None:
        if self.note is not None:
            with open(self.note, "a") as file:
                file.write(f"{os.getpid()} {'jax' in sys.modules}\n")

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        if self.index < 0:
            self.index = seed or 0
            self._noted()
        self.t = 0
        if self._fault == "reset":
            raise RuntimeError("cannot begin")
        return self.np_random.uniform(-1, 1, 2).astype(np.float32), {}

    @property
    def _fault(self) -> str:
        return self.faults.get((self.index, self.steps), "nothing")

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action), f"{action!r} is no action"
        fault = self._fault
        self.steps, self.t = self.steps + 1, self.t + 1
        obs = self.np_random.uniform(-1, 1, 2).astype(np.float32)
        sound: Any = (obs, float(action), self.t >= self.length, False, {})
        return FAULTS[fault](*sound) if fault in FAULTS else sound


def _raise(*sound: Any) -> Any:
    raise RuntimeError("out of order")


def _raise_unsendable(*sound: Any) -> Any:
    class Local(Exception):
        def __reduce__(self) -> Any:
            raise TypeError("stays here")

    raise Local("cannot be sent")


def _segfault(*sound: Any) -> Any:
    ctypes.string_at(0)


def _hang(*sound: Any) -> Any:
    time.sleep(HANG)


def _exit(*sound: Any) -> Any:
    os._exit(7)


def _obs(change: Callable[[Any], Any]) -> Callable[..., Any]:
    return lambda obs, *rest: (change(obs), *rest)


def _reward(reward: Any) -> Callable[..., Any]:
    return lambda obs, _, *rest: (obs, reward, *rest)


# what each fault makes of a sound step
FAULTS: dict[str, Callable[..., Any]] = {
    "raise": _raise,
    "unsendable": _raise_unsendable,
    "segfault": _segfault,
    "exit": _exit,
    "hang": _hang,
    "nan observation": _obs(lambda obs: obs * np.nan),
    "infinite observation": _obs(lambda obs: obs + np.inf),
    "huge observation": _obs(lambda obs: obs.astype(np.float64) + 1e300),
    "long observation": _obs(lambda obs: np.append(obs, obs)),
    "short observation": _obs(lambda obs: obs[:1]),
    "complex observation": _obs(lambda obs: obs.astype(complex)),
    "ragged observation": _obs(lambda obs: [[1.0], [1.0, 2.0]]),
    "no observation": _obs(lambda obs: None),
    "nan reward": _reward(float("nan")),
    "infinite reward": _reward(-float("inf")),
    "no reward": _reward(None),
    "array reward": _reward(np.ones(1)),
    "complex reward": _reward(1j),
    "text reward": _reward("1.0"),
    "four values": lambda obs, reward, terminated, *_: (obs, reward, terminated, {}),
    "no info": lambda *sound: (*sound[:-1], None),
}


class Wandering(gymnasium.Env[Any, Any]):
    """Ends in any step by chance, terminated or truncated or both; half of its infos have an action mask."""

    observation_space, action_space = OBS, Discrete(3, start=1)

    def __init__(self, ends: float = 0.2) -> None:
        self.ends = ends

    def _obs(self) -> Any:
        return self.np_random.uniform(-1, 1, 2).astype(np.float32)

    def _info(self) -> dict[str, Any]:
        mask = np.append(self.np_random.integers(0, 2, 2, dtype=np.int8), np.int8(1))
        return {"action_mask": mask, "unsendable": threading.Lock()} if self.np_random.random() < 0.5 else {}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self._obs(), self._info()

    def step(self, action: Any) -> Any:
        terminated, truncated = self.np_random.random(2) < self.ends
        return self._obs(), float(action) + self.np_random.random(), terminated, truncated, self._info()


class Slow(Faulty):
    """Takes 3 ms a step, like a physics engine."""

    def step(self, action: Any) -> Any:
        time.sleep(0.003)
        return super().step(action)


class Tree(gymnasium.Env[Any, Any]):
    """Observes a tree of arrays, and gives an action mask in every other step; ``fault`` breaks a part of these."""

    observation_space = Dict(
        {
            "camera": Box(0, 255, (2, 3), np.uint8),
            "joints": Tuple((Box(-np.inf, np.inf, (2,), np.float64), Discrete(5, start=2))),
        }
    )
    action_space = MultiDiscrete([2, 3])

    def __init__(self, fault: str = "none", masks: bool = True) -> None:
        self.fault, self.masks, self.t = fault, masks, 0

    def _answer(self) -> tuple[Any, dict[str, Any]]:
        joints: Any = self.np_random.normal(size=2)
        camera = self.np_random.integers(0, 256, (2, 3), dtype=np.uint8)
        number = np.int64(2 + self.t % 5)
        if self.t == 2 and self.fault == "nan":
            joints = joints * np.nan
        if self.t == 2 and self.fault == "dtype":
            number = np.float64(0.5)  # type: ignore[assignment]
        obs = {"camera": camera, "joints": (joints, number)}
        if self.t == 2 and self.fault == "structure":
            del obs["camera"]
        mask = (np.array([1, self.t % 2], np.int8), np.array([0, 1, 1], np.int8))
        if self.fault == "mask":
            mask = (np.array([0, 0], np.int8), mask[1])
        return obs, {"action_mask": mask} if self.masks and self.t % 2 == 0 else {}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.t = 0
        return self._answer()

    def step(self, action: Any) -> Any:
        self.t += 1
        obs, info = self._answer()
        return obs, float(np.sum(action)), False, self.t == 3, info


class Reusing(gymnasium.Env[Any, Any]):
    """Returns the same array each time, and writes the next observation into it: the step of the episode."""

    observation_space, action_space = Box(0.0, np.inf, (1,)), Discrete(2)

    def __init__(self, length: int = 2) -> None:
        self.length, self.obs = length, np.zeros(1, np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.obs[:] = 0
        return self.obs, {}

    def step(self, action: Any) -> Any:
        self.obs += 1
        return self.obs, 0.0, False, bool(self.obs[0] >= self.length), {}


class Locked(Faulty):
    """Can neither be copied nor sent to another process."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()
