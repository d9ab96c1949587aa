"""``check`` finds what is wrong, in one line each, and finds nothing wrong with what is sound."""

import functools
import json
import multiprocessing
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from typing import Any, ClassVar

import gymnasium
import jax
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.envs.tabular.blackjack import BlackjackFunctional
from gymnasium.experimental.functional import FuncEnv
from gymnasium.spaces import Box, Dict, Discrete, Graph, MultiBinary, MultiDiscrete, Text, Tuple
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.vector.utils import batch_space

import rlgd.envs
from rlgd.envs.check.checker import check
from rlgd.envs.check.report import Finding, Report, render
from rlgd.errors import UsageError

SAME_STEP, NEXT_STEP, DISABLED = AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED
STEPS = 40


BOX = Box(-100.0, 100.0, (3,))


class Sound(gymnasium.Env[Any, Any]):
    """Drifts by its actions and by chance; an episode terminates or is truncated after 3 to 8 steps."""

    observation_space: gymnasium.Space[Any] = BOX
    action_space: gymnasium.Space[Any] = Box(-1.0, 1.0, (2,))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.t, self.length = 0, int(self.np_random.integers(3, 9))
        self.drift = self.np_random.normal(size=2)
        return self.see(), self.tell()

    def step(self, action: Any) -> Any:
        self.t += 1
        self.drift += action + self.np_random.normal(size=2)
        return self.see(), self.pay(), *self.end(), self.tell()

    def see(self) -> Any:
        return np.array([*self.drift, self.t], np.float32)

    def pay(self) -> Any:
        return float(self.drift[0])

    def end(self) -> tuple[Any, Any]:
        over = self.t >= self.length
        return over and self.length % 2 == 0, over and self.length % 2 == 1

    def tell(self) -> Any:
        return {}


def variant(name: str = "Variant", base: type[Sound] = Sound, **methods: Any) -> type[Sound]:
    """The sound environment with something else in the place of one of its parts."""
    return type(name, (base,), methods)


def seeing(space: gymnasium.Space[Any], see: Callable[[Any], Any]) -> type[Sound]:
    return variant(observation_space=space, see=see)


def acting(space: gymnasium.Space[Any], **methods: Any) -> type[Sound]:
    def step(self: Any, action: Any) -> Any:
        assert self.action_space.contains(action), f"{action!r} is not in {self.action_space}"
        return Sound.step(self, np.sum(action) * np.ones(2))

    return variant(action_space=space, **{"step": step, **methods})


def third(usual: Callable[[Any], Any], change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Something else in the third step of an episode."""
    return lambda self: change(usual(self)) if self.t == 3 else usual(self)


def broken_obs(index: int, value: float) -> Callable[[Any], Any]:
    def change(obs: Any) -> Any:
        obs[index] = value
        return obs

    return third(Sound.see, change)


def serious(report: Report) -> list[Finding]:
    return [finding for finding in report.findings if finding.severity != "note"]


def expect(report: Report, *expected: tuple[str, str, str, str]) -> None:
    """Exactly these findings beside notes: severity, check, and what must be in where and in what."""
    found = serious(report)
    assert [finding[:2] for finding in found] == [finding[:2] for finding in expected], render(report)
    for finding, (*_, where, what) in zip(found, expected, strict=True):
        assert where in finding.where, render(report)
        assert what in finding.what, render(report)
        assert finding.remedy
        assert "\n" not in "".join(finding)
    assert report.sound == all(finding[0] != "fault" for finding in expected)


# Sound ones


class Masked(Sound):
    """One action fewer is allowed in each step, and another one is an error."""

    action_space = Discrete(9, start=3)

    def tell(self) -> Any:
        return {"action_mask": (np.arange(9) > self.t).astype(np.int8)}

    def step(self, action: Any) -> Any:
        assert self.tell()["action_mask"][action - 3]
        return super().step(np.full(2, action))


class MaskedParts(Sound):
    """The second number may not be what the first one could."""

    action_space = MultiDiscrete([2, 3])

    def tell(self) -> Any:
        return {"action_mask": np.array([True, self.t > 2, self.t <= 2, True, True])}

    def step(self, action: Any) -> Any:
        mask = self.tell()["action_mask"]
        assert mask[action[0]]
        assert mask[2 + action[1]]
        return super().step(action)


SOUND: dict[str, type[Sound]] = {
    "box": Sound,
    "discrete": acting(Discrete(3, start=-2)),
    "multi_discrete": acting(MultiDiscrete([2, 3])),
    "multi_binary": acting(MultiBinary(4)),
    "unbounded": acting(Box(-np.inf, np.inf, (2,))),
    "half_bounded": acting(Box(np.array([0.0, -np.inf], np.float32), np.array([np.inf, 5.0], np.float32))),
    "integers": acting(Box(-3, 5, (2,), np.int32)),
    "dict": seeing(
        Dict(image=Box(0, 255, (2, 2), np.uint8), speed=Box(-np.inf, np.inf, (3,), np.float64)),
        lambda self: {"image": np.full((2, 2), self.t, np.uint8), "speed": np.append(self.drift, 1.0)},
    ),
    "tuple": seeing(Tuple([Discrete(9), MultiBinary(3)]), lambda self: (self.t, np.append(self.drift, 1) > 0)),
    "one_number": seeing(Box(-100.0, 100.0, ()), lambda self: np.float32(self.drift[0])),
    "one_step": variant(end=lambda self: (True, False)),
    "masked": Masked,
    "masked_parts": MaskedParts,
    "numpy_scalars": variant(pay=lambda self: np.float32(1), end=lambda self: (np.bool_(self.t > 3), np.bool_(False))),
}


@pytest.mark.parametrize("name", SOUND)
def test_nothing_is_wrong_with_sound_environments(name: str) -> None:
    report = check(SOUND[name], worker=False, steps=STEPS)
    expect(report)
    assert report.sound
    assert not report.unfinished
    assert render(report).splitlines()[-1] == "sound"


GYMNASIUM = ("CartPole-v1", "Pendulum-v1", "FrozenLake-v1", "Taxi-v4", "Blackjack-v1", "MountainCarContinuous-v0")


@pytest.mark.parametrize("env_id", GYMNASIUM)
def test_gymnasiums_own_are_sound(env_id: str) -> None:
    limit = {"max_episode_steps": 100} if env_id == "MountainCarContinuous-v0" else {}
    report = check(env_id, worker=False, steps=250, **limit)
    assert not any(finding.check in ("endless", "autoreset") for finding in report.findings)
    expect(report)
    assert report.name == env_id
    assert "SyncVectorEnv" in report.checked
    assert ("native vector environment" in report.checked) == (env_id == "CartPole-v1")


# Faults of a single environment


class NoSeed(Sound):
    def reset(self) -> Any:  # type: ignore[override]
        return super().reset()


class ObservationOnly(Sound):
    def reset(self, **kwargs: Any) -> Any:
        return super().reset(**kwargs)[0]


class FourValues(Sound):
    def step(self, action: Any) -> Any:
        obs, reward, terminated, truncated, info = super().step(action)
        return obs, reward, terminated or truncated, info


class Raises(Sound):
    def step(self, action: Any) -> Any:
        if self.t == 2:
            raise RuntimeError("out of\norder")
        return super().step(action)


class Leaves(Sound):
    def step(self, action: Any) -> Any:
        raise SystemExit(3)


class NoCorners(Sound):
    def step(self, action: Any) -> Any:
        assert np.all(action > -1), "too low"
        return super().step(action)


class ChangesActions(Sound):
    def step(self, action: Any) -> Any:
        action *= 0.5
        return super().step(action)


class OneBuffer(Sound):
    def see(self) -> Any:
        self.buffer = getattr(self, "buffer", np.zeros(3, np.float32))
        self.buffer[:] = Sound.see(self)
        return self.buffer


class GoesOn(Sound):
    spec = EnvSpec("GoesOn-v0", max_episode_steps=5)

    def end(self) -> Any:
        return self.t >= 12, False


class NumpySeed(Sound):
    def reset(self, **kwargs: Any) -> Any:
        np.random.seed(7)  # noqa: NPY002 (that is the fault)
        return super().reset(**kwargs)


class PythonRandom(Sound):
    def pay(self) -> Any:
        return 0.0 * random.random()


class OwnGenerator(Sound):
    def reset(self, **kwargs: Any) -> Any:
        super().reset(**kwargs)
        self.drift = np.random.default_rng().normal(size=2)
        return self.see(), {}


class NoisyReward(Sound):
    def pay(self) -> Any:
        return float(np.random.default_rng().normal())


class Remembers(Sound):
    total = 0

    def pay(self) -> Any:
        self.total += 1
        return float(self.total)


class Shares(Sound):
    """All copies have one position."""

    drifts: ClassVar[list[Any]] = [np.zeros(2)]

    @property
    def drift(self) -> Any:
        return self.drifts[0]

    @drift.setter
    def drift(self, value: Any) -> None:
        self.drifts[0] = value


class Counts(Sound):
    """Every copy is another environment."""

    copies = 0

    def __init__(self) -> None:
        type(self).copies += 1
        self.bonus = float(self.copies)

    def pay(self) -> Any:
        return self.bonus


class SeedsItself(Sound):
    def reset(self, *, seed: int | None = 3, options: Any = None) -> Any:
        return super().reset(seed=3 if seed is None else seed)


class Prints(Sound):
    def reset(self, **kwargs: Any) -> Any:
        print("resetting ...")
        return super().reset(**kwargs)


class PrintsInC(Sound):
    def reset(self, **kwargs: Any) -> Any:
        os.write(1, b"resetting ...\n")
        return super().reset(**kwargs)


class NeverCloses(Sound):
    def close(self) -> None:
        raise OSError("busy")


class NoSpaces(gymnasium.Env[Any, Any]):
    pass


FAULTS: dict[str, tuple[Any, tuple[str, str, str, str]]] = {
    "nan": (variant(see=broken_obs(2, np.nan)), ("fault", "finite", "step 2, observation[2]", "is nan")),
    "inf": (variant(see=broken_obs(0, -np.inf)), ("fault", "finite", "step 2, observation[0]", "is -inf")),
    "bounds": (variant(see=broken_obs(1, 101)), ("warning", "bounds", "step 2, observation[1]", "101.0, outside of")),
    "shape": (seeing(BOX, lambda self: np.zeros((1, 3))), ("fault", "shape", "reset, observation", "(1, 3)")),
    "late_shape": (variant(see=third(Sound.see, lambda obs: obs[:2])), ("fault", "shape", "step 2", "(2,)")),
    "float64": (
        seeing(BOX, lambda self: np.append(self.drift, 1.0)),
        ("warning", "dtype", "reset, observation", "is float64"),
    ),
    "list": (seeing(BOX, lambda self: [*self.drift, 1.0]), ("warning", "dtype", "reset, observation", "is float64")),
    "ragged": (seeing(BOX, lambda self: [1, [2, 3], 4]), ("fault", "dtype", "reset, observation", "(list)")),
    "none": (seeing(BOX, lambda self: None), ("fault", "dtype", "reset, observation", "None (NoneType)")),
    "fraction": (seeing(Box(0, 9, (), np.int64), lambda self: 0.5), ("fault", "dtype", "reset", "is float64")),
    "too_large": (
        seeing(Box(-np.inf, np.inf, (1,), np.float64), lambda self: np.array([1e39 * self.t + self.drift[0]])),
        ("warning", "range", "step 0, observation[0]", "which float32 does not hold"),
    ),
    "long_integers": (
        seeing(Box(0, 2**40, (1,), np.int64), lambda self: np.array([2**25 * self.t + self.length])),
        ("warning", "range", "step 0, observation[0]", "which float32 does not hold"),
    ),
    "no_dict": (seeing(Dict(a=BOX), Sound.see), ("fault", "structure", "reset, observation", "(ndarray")),
    "keys": (seeing(Dict(a=BOX), lambda self: {"b": Sound.see(self)}), ("fault", "structure", "reset", "['b']")),
    "inner": (
        seeing(Dict(a=BOX, b=Discrete(3)), lambda self: {"a": Sound.see(self), "b": self.t}),
        ("fault", "bounds", "step 2, observation['b']", "is 3, outside of 0 to 2"),
    ),
    "no_tuple": (seeing(Tuple([BOX]), lambda self: [Sound.see(self)]), ("fault", "structure", "reset", "(list)")),
    "tuple_part": (
        seeing(Tuple([BOX, MultiBinary(2)]), lambda self: (Sound.see(self), np.array([0, self.t], np.int8))),
        ("fault", "bounds", "step 1, observation[1][1]", "is 2"),
    ),
    "reward_array": (variant(pay=lambda self: np.ones(1)), ("fault", "reward", "step 0, reward", "of shape (1,)")),
    "reward_none": (variant(pay=lambda self: None), ("fault", "reward", "step 0, reward", "NoneType")),
    "reward_complex": (variant(pay=lambda self: 1j), ("fault", "reward", "step 0, reward", "complex")),
    "reward_text": (variant(pay=lambda self: "1"), ("fault", "reward", "step 0, reward", "str")),
    "reward_nan": (variant(pay=third(Sound.pay, lambda _: np.nan)), ("fault", "reward", "step 2, reward", "is nan")),
    "reward_inf": (variant(pay=third(Sound.pay, lambda _: np.inf)), ("fault", "reward", "step 2, reward", "is inf")),
    "reward_bool": (variant(pay=lambda self: True), ("warning", "reward", "step 0, reward", "True (bool)")),
    "reward_0d": (variant(pay=lambda self: np.array(1.0)), ("warning", "reward", "step 0, reward", "of shape ()")),
    "reward_1e39": (variant(pay=third(Sound.pay, lambda _: 1e39)), ("warning", "reward", "step 2", "1e+39")),
    "terminated_none": (variant(end=lambda self: (None, self.t > 2)), ("fault", "flags", "terminated", "NoneType")),
    "truncated_int": (variant(end=lambda self: (self.t > 2, 0)), ("fault", "flags", "step 0, truncated", "0 (int)")),
    "flag_array": (variant(end=lambda self: (np.array([self.t > 2]), False)), ("fault", "flags", "terminated", "(1,)")),
    "info_none": (variant(tell=lambda self: None), ("fault", "info", "reset, info", "NoneType")),
    "no_seed": (NoSeed, ("fault", "reset", "reset", "unexpected keyword argument 'seed'")),
    "observation_only": (ObservationOnly, ("fault", "reset", "reset", "not (obs, info)")),
    "four_values": (FourValues, ("fault", "step", "step 0", "returned 4 values")),
    "raises": (Raises, ("fault", "step", "step 2, action", "raised RuntimeError: out of order (" + __file__)),
    "leaves": (Leaves, ("fault", "step", "step 0, action", "raised SystemExit: 3 (")),
    "no_corners": (NoCorners, ("fault", "step", "action array([-1., -1.]", "raised AssertionError: too low")),
    "changes_actions": (ChangesActions, ("fault", "action changed", "step 0", "changed the array of the action")),
    "one_buffer": (OneBuffer, ("fault", "aliasing", "step 0", "both are one buffer")),
    "goes_on": (GoesOn, ("fault", "time limit", "step 4", "although max_episode_steps is 5")),
    "numpy_seed": (NumpySeed, ("warning", "global random state", "reset", "has changed")),
    "python_random": (PythonRandom, ("warning", "global random state", "step 0", "has changed")),
    "own_generator": (OwnGenerator, ("fault", "determinism", "reset", "same environment, reset with the same seed")),
    "noisy_reward": (NoisyReward, ("fault", "determinism", "call 1 after the reset", "reward is")),
    "remembers": (Remembers, ("fault", "determinism", "call 1 after the reset", "in the same environment")),
    "counts": (Counts, ("fault", "determinism", "call 1 after the reset", "in a copy, reset with the same seed")),
    "shares": (Shares, ("fault", "determinism", "reset", "in a copy beside which another one runs")),
    "seeds_itself": (SeedsItself, ("warning", "starts", "reset", "begins the same episode again and again")),
    "prints": (Prints, ("warning", "output", "standard output", "has resetting ...")),
    "prints_in_c": (PrintsInC, ("warning", "output", "standard output", "has resetting ...")),
    "never_closes": (NeverCloses, ("fault", "close", "close", "raised OSError: busy")),
    "mask_shape": (
        acting(Discrete(3), tell=lambda self: {"action_mask": np.ones(2, np.int8)}),
        ("fault", "action mask", "reset, info['action_mask']", "has the shape (2,), not (3,)"),
    ),
    "mask_of_nothing": (
        acting(Discrete(3), tell=lambda self: {"action_mask": np.full(3, self.t != 2, np.int8)}),
        ("fault", "action mask", "step 1, info['action_mask']", "allows no action"),
    ),
    "mask_of_no_second": (
        acting(MultiDiscrete([2, 2]), tell=lambda self: {"action_mask": np.array([1, 0, 0, 0], bool)}),
        ("fault", "action mask", "reset, info['action_mask']", "allows no action"),
    ),
    "mask_of_weights": (
        acting(Discrete(3), tell=lambda self: {"action_mask": np.full(3, 0.5)}),
        ("fault", "action mask", "reset, info['action_mask']", "0.5"),
    ),
    "mask_comes_and_goes": (
        acting(Discrete(3), tell=lambda self: {"action_mask": np.ones(3, np.int8)} if self.t != 2 else {}),
        ("fault", "action mask", "step 1, info['action_mask']", "is missing"),
    ),
    "graph": (seeing(Graph(BOX, None), Sound.see), ("fault", "spaces", "Variant", "the observation space Graph")),
    "text": (acting(Text(3)), ("fault", "spaces", "Variant", "the action space Text")),
    "no_spaces": (NoSpaces, ("fault", "spaces", "NoSpaces", "the observation space is None")),
    "no_env": (dict, ("fault", "make", "dict", "made {}, a dict")),
    "not_made": (functools.partial(int, "x"), ("fault", "make", "int", "raised ValueError: invalid literal")),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found_and_nothing_else(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    env, expected = FAULTS[name]
    report = check(env, worker=False, steps=STEPS)
    expect(report, expected)
    assert capfd.readouterr().out == ""


def test_notes_change_nothing_about_soundness() -> None:
    alike = variant(reset=lambda self, seed=None, options=None: Sound.reset(self, seed=0))
    endless = variant(end=lambda self: (False, False))
    masked = variant(tell=lambda self: {"action_mask": np.ones(2)})
    for env, name in ((alike, "starts"), (endless, "endless"), (masked, "action mask")):
        report = check(env, worker=False, steps=STEPS)
        assert not serious(report), render(report)
        assert name in {finding.check for finding in report.findings}
        assert "note    " in render(report)


# Vectors


class Walkers(VectorEnv[Any, Any, Any]):
    """Four walkers in one array, in any autoreset mode, with one of several faults."""

    def __init__(self, mode: AutoresetMode = NEXT_STEP, fault: str = "") -> None:
        self.num_envs, self.mode, self.fault = 4, mode, fault
        self.metadata = {"autoreset_mode": mode}
        self.single_observation_space, self.single_action_space = Box(-np.inf, np.inf, (3,)), Box(-1.0, 1.0, (2,))
        self.observation_space = batch_space(self.single_observation_space, 4)
        self.action_space = batch_space(self.single_action_space, 4)
        self.state = np.zeros((4, 3))  # two coordinates and the time
        self.length, self.over = np.zeros(4), np.zeros(4, bool)
        self.buffer = np.zeros((4, 3), np.float32)
        self.resets = 0

    def begin(self, which: Any) -> None:
        if self.fault == "restarts" and which.any():
            which = np.ones(4, bool)
        count = which.sum()
        self.state[which] = np.append(self.np_random.normal(size=(count, 2)), np.zeros((count, 1)), axis=1)
        self.length[which] = self.np_random.integers(3, 9, size=count)

    def see(self) -> Any:
        if self.fault == "buffer":
            self.buffer[:] = self.state
            return self.buffer
        if self.fault == "timeless":
            return np.tanh(self.state * [1, 1, 0]).astype(np.float32)
        return self.state.astype(np.float64 if self.fault == "float64" else np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=None if self.fault == "seeds" else seed)
        mask = (options or {}).get("reset_mask", np.ones(4, bool))
        if self.fault == "reset_mask":
            mask = np.ones(4, bool)
        if options is None and self.fault != "left":
            self.over[:] = False
        self.begin(mask)
        self.resets += 1
        if self.fault == "tires" and self.resets > 28:  # when ends are played again
            self.state[:, :2] += 1
        return self.see(), {}

    def step(self, actions: Any) -> Any:
        resetting = self.over & (self.mode is NEXT_STEP)
        before = self.state.copy()
        self.state += np.append(np.full((4, 2), 0.01) + actions * (self.fault != "deaf"), np.ones((4, 1)), axis=1)
        if self.fault == "early":
            self.state[resetting] = before[resetting]
        else:
            self.begin(resetting)
        self.over = (self.state[:, 2] == self.length) if self.fault == "goes_on" else (self.state[:, 2] >= self.length)
        self.over &= ~resetting
        reward, info = np.where(resetting & (self.fault != "pays"), 0.0, 1.0), self.info(before)
        if self.fault == "early" or self.mode is SAME_STEP:
            self.begin(self.over)
        if self.fault == "drops" and (resetting.any() or (self.mode is SAME_STEP and self.over.any())):
            beside = ~(resetting | self.over)
            self.state[beside] = before[beside]
        return self.answer(actions, reward, info)

    def info(self, before: Any) -> dict[str, Any]:
        if (self.mode is not SAME_STEP and self.fault != "both") or not self.over.any():
            return {}
        final = np.full(4, None, object)
        for n in np.flatnonzero(self.over):
            final[n] = (before if self.fault == "final_before" else self.state)[n].astype(np.float32)
        info = {"final_obs": final, "final_info": {}}
        info.pop({"no_final_obs": "final_obs", "no_final_info": "final_info"}.get(self.fault, ""), None)
        if self.fault == "old_name":
            info["final_observation"] = info.pop("final_obs")
        return info

    def answer(self, actions: Any, reward: Any, info: Any) -> Any:
        obs, over = self.see(), self.over.copy()
        if self.fault == "final_reset" and "final_obs" in info:
            for n in np.flatnonzero(over):
                info["final_obs"][n] = obs[n]
        if self.fault == "nan":
            reward[2] = np.nan
        if self.fault == "actions":
            actions[:] = 0
        reward = {"column": reward[:, None], "objects": list(map(str, reward))}.get(self.fault, reward)
        terminated = over.astype(int) if self.fault == "integers" else over
        result = obs, reward, terminated, np.zeros(4, bool), [info] if self.fault == "list" else info
        return result[:4] if self.fault == "four" else result


def walkers(mode: AutoresetMode, fault: str = "", **attributes: Any) -> Walkers:
    vector = Walkers(mode, fault)
    for name, value in attributes.items():
        setattr(vector, name, value)
    return vector


def check_vector(make: Callable[..., Any], *args: Any, **kwargs: Any) -> Report:
    return check(functools.partial(make, *args, **kwargs), worker=False, steps=STEPS)


@pytest.mark.parametrize("mode", AutoresetMode)
def test_nothing_is_wrong_with_sound_vectors(mode: AutoresetMode) -> None:
    for make in (functools.partial(SyncVectorEnv, [Sound] * 3, autoreset_mode=mode), functools.partial(Walkers, mode)):
        report = check(make, worker=False, steps=STEPS)
        assert not report.findings, render(report)
        assert report.checked == ("making", "vector environment")
    report = check_vector(SyncVectorEnv, [Sound], autoreset_mode=mode)
    assert not report.findings, render(report)


def test_a_shared_buffer_of_a_vector_is_a_note() -> None:
    for report in (
        check_vector(SyncVectorEnv, [Sound] * 3, copy=False, autoreset_mode=SAME_STEP),
        check_vector(Walkers, fault="buffer"),
    ):
        assert [finding[:2] for finding in report.findings] == [("note", "aliasing")], render(report)


class Claims(SyncVectorEnv):
    def __init__(self, mode: AutoresetMode, **metadata: Any) -> None:
        super().__init__([Sound] * 3, autoreset_mode=mode)
        self.metadata = metadata


@pytest.mark.parametrize("claimed", AutoresetMode)
@pytest.mark.parametrize("mode", AutoresetMode)
def test_a_lie_about_the_autoreset_mode_is_found(mode: AutoresetMode, claimed: AutoresetMode) -> None:
    if mode is claimed:
        return
    report = check_vector(walkers, mode, metadata={"autoreset_mode": claimed})
    what = f"says {claimed}, but what it does is {mode}"
    expect(report, ("fault", "autoreset mode", "metadata['autoreset_mode']", what))
    report = check_vector(Claims, mode, autoreset_mode=claimed)
    if mode is DISABLED:  # which Gymnasium's own enforces
        expect(report, ("fault", "step", "the one after an episode's end", "raised AssertionError"))
    else:
        expect(report, ("fault", "autoreset mode", "metadata['autoreset_mode']", what))


@pytest.mark.parametrize(
    ("metadata", "what"),
    [
        ({}, "is missing"),
        (BlackjackFunctional.metadata, "what is there is called 'autoreseet-mode'"),
        ({"autoreset_mode": "SameStep"}, "is SameStep, not an AutoresetMode"),
    ],
)
def test_an_autoreset_mode_that_is_not_told_is_found_by_what_is_done(metadata: dict[str, Any], what: str) -> None:
    expect(
        check_vector(walkers, SAME_STEP, metadata=metadata),
        ("fault", "metadata", "Walkers, metadata['autoreset_mode']", what),
        ("fault", "autoreset mode", "episodes' ends, metadata['autoreset_mode']", f"what it does is {SAME_STEP}"),
    )


def test_a_mode_that_nothing_tells_is_taken_as_claimed() -> None:
    # Nothing is seen, no action matters, and every episode has one step.
    blind = variant(see=lambda self: np.zeros(3, np.float32), pay=lambda self: 0.0, end=lambda self: (True, False))
    for claimed in (SAME_STEP, DISABLED):
        report = check_vector(SyncVectorEnv, [blind] * 3, autoreset_mode=claimed)
        assert not serious(report), render(report)
    # No action matters, but what is seen is enough.
    for claimed in AutoresetMode:
        report = check_vector(Walkers, claimed, "deaf")
        assert not serious(report), render(report)


VECTOR_FAULTS: dict[str, tuple[AutoresetMode, str, tuple[str, str, str, str]]] = {
    "drops": (NEXT_STEP, "drops", ("fault", "transitions", "steps with a reset", "the others stood still")),
    "drops_same": (SAME_STEP, "drops", ("fault", "transitions", "steps with a reset", "stood still")),
    "restarts": (NEXT_STEP, "restarts", ("fault", "transitions", "steps with a reset", "began anew")),
    "pays": (NEXT_STEP, "pays", ("fault", "reward", "the step after an episode's end, reward", "pays 1.0")),
    "early": (
        NEXT_STEP,
        "early",
        ("fault", "final observation", "steps that end an episode", "final observation is lost"),
    ),
    "goes_on": (DISABLED, "goes_on", ("fault", "autoreset mode", "episodes' ends", f"it does is {DISABLED}")),
    "both": (NEXT_STEP, "both", ("fault", "autoreset mode", "episodes' ends", f"what it does is {NEXT_STEP}")),
    "timeless": (DISABLED, "timeless", ("fault", "autoreset mode", "episodes' ends", f"it does is {DISABLED}")),
    "no_final_obs": (SAME_STEP, "no_final_obs", ("fault", "final observation", "info['final_obs']", "is missing")),
    "old_name": (SAME_STEP, "old_name", ("fault", "final observation", "info['final_obs']", "is missing")),
    "final_reset": (SAME_STEP, "final_reset", ("fault", "final observation", "info['final_obs']", "next episode")),
    "final_before": (
        SAME_STEP,
        "final_before",
        ("warning", "final observation", "info['final_obs']", "before the last"),
    ),
    "no_final_info": (SAME_STEP, "no_final_info", ("warning", "final info", "info['final_info']", "is missing")),
    "reset_mask": (DISABLED, "reset_mask", ("fault", "reset mask", "reset with options", "was not to be reset")),
    "seeds": (SAME_STEP, "seeds", ("fault", "determinism", "reset", "reset with the same seed")),
    "left": (NEXT_STEP, "left", ("fault", "determinism", "call 1 after the reset", "reset with the same seed")),
    "tires": (NEXT_STEP, "tires", ("fault", "determinism", "episodes' ends", "the same seed and the same actions")),
    "nan": (NEXT_STEP, "nan", ("fault", "reward", "step 0, reward[2]", "is nan")),
    "column": (NEXT_STEP, "column", ("fault", "reward", "step 0", "of shape (4, 1)")),
    "objects": (NEXT_STEP, "objects", ("fault", "reward", "step 0", "<U3")),
    "integers": (NEXT_STEP, "integers", ("fault", "terminated", "step 0", "int64")),
    "float64": (NEXT_STEP, "float64", ("warning", "dtype", "reset, observation", "is float64")),
    "actions": (NEXT_STEP, "actions", ("fault", "action changed", "step 0", "the array of the actions")),
    "list": (NEXT_STEP, "list", ("fault", "info", "step 0", "info is [{}]")),
    "four": (NEXT_STEP, "four", ("fault", "step", "step 0", "not five values")),
}


@pytest.mark.parametrize("name", VECTOR_FAULTS)
def test_a_fault_of_a_vector_is_found_and_nothing_else(name: str) -> None:
    mode, fault, expected = VECTOR_FAULTS[name]
    claimed = SAME_STEP if fault in ("goes_on", "timeless", "both") else mode
    expect(check_vector(walkers, mode, fault, metadata={"autoreset_mode": claimed}), expected)


ATTRIBUTES: dict[str, tuple[Any, tuple[str, str, str, str]]] = {
    "num_envs": (None, ("fault", "num_envs", "Walkers", "num_envs is None")),
    "observation_space": (
        BOX,
        ("fault", "spaces", "Walkers", "observation_space is Box(-100.0, 100.0, (3,), float32)"),
    ),
    "action_space": (None, ("fault", "spaces", "Walkers", "action_space is None")),
    "single_observation_space": (Text(3), ("fault", "spaces", "Walkers", "the observation space Text")),
    "spec": (EnvSpec("Walkers-v0", max_episode_steps=2), ("fault", "time limit", "step 2", "max_episode_steps is 2")),
}


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_attributes_of_a_vector_are_compared_with_what_it_does(name: str) -> None:
    value, expected = ATTRIBUTES[name]
    expect(check_vector(walkers, NEXT_STEP, **{name: value}), expected)


def test_what_is_really_wrong_with_gymnasiums_functional_vectors() -> None:
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"), jax.debug_key_reuse(False):
        cartpole = check(gymnasium.make_vec("phys2d/CartPole-v1", 4, "vector_entry_point"), steps=20)
    expect(
        cartpole,
        ("fault", "transitions", "steps with a reset", "the others stood still"),
        # its reset leaves the mark of an end behind
        ("fault", "determinism", "call 1 after the reset", "reset with the same seed"),
    )


# Worker processes


class Killed(Sound):
    def step(self, action: Any) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)


class Exits(Sound):
    def __init__(self) -> None:
        os._exit(5)


def hangs() -> Any:
    class Hangs(gymnasium.Env[Any, Any]):
        observation_space, action_space = Discrete(2), Discrete(2)

        def reset(self, **kwargs: Any) -> Any:
            time.sleep(60)

    return Hangs


@pytest.mark.parametrize(
    ("env", "timeout", "where", "what"),
    [
        (Killed, 60, "reset and steps", "the process died: signal 9 (SIGKILL)"),
        (Exits, 60, "making", "the process died: exit code 5"),
        (hangs(), 1, "reset and steps", "did not come to an end within 1 s"),
    ],
)
def test_what_dies_or_hangs_does_so_in_the_worker_process_only(env: Any, timeout: float, where: str, what: str) -> None:
    report = check(env, timeout=timeout)
    expect(report, ("fault", "worker process", where, what))
    assert report.unfinished == ("worker process", "everything else")
    assert not multiprocessing.active_children()


def test_another_process_must_give_the_same() -> None:
    here = os.getpid()

    class Elsewhere(Sound):
        def see(self) -> Any:
            return super().see() + np.float32(os.getpid() != here)

    report = check(Elsewhere, steps=STEPS)
    expect(report, ("fault", "determinism", "the same in the worker process, reset", "in another process"))

    def only_here() -> Sound:
        assert os.getpid() == here, "not here"
        return Sound()

    expect(check(only_here, steps=STEPS), ("fault", "worker process", "reset and steps", "AssertionError: not here"))


def test_what_cannot_be_sent_is_checked_in_this_process() -> None:
    lock = threading.Lock()
    report = check(lambda: Sound() if lock else None, steps=STEPS)
    expect(report, ("warning", "worker process", "worker process, start", "cannot be sent to another process"))
    assert "SyncVectorEnv" in report.checked


def test_fewer_steps_are_taken_of_what_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlgd.envs.check.checker.SECONDS", 1e-9)
    report = check("FrozenLake-v1")
    assert not serious(report)
    assert {"worker process", "the same in the worker process"} <= set(report.checked)
    assert any(finding.remedy.startswith("no more than 1 step") for finding in report.findings), render(report)


# What is given, and what comes out


def test_an_environment_that_is_brought_stays_open() -> None:
    env = NeverCloses()
    report = check(env, steps=STEPS)
    expect(report)
    assert report.checked == ("making", "answers", "determinism")
    expect(check(Remembers(), steps=STEPS), FAULTS["remembers"][1])
    vector = Walkers(SAME_STEP)
    report = check(vector, steps=STEPS)
    expect(report)
    assert report.checked == ("making", "vector environment")
    assert not vector.closed


class Clocks(FuncEnv[Any, Any, Any, Any, Any, Any, Any]):
    """Counts to four, from a random place; ``lost``: what is observed is no number when it ends."""

    observation_space, action_space = Box(-np.inf, np.inf, (2,)), Discrete(2)

    def __init__(self, lost: bool) -> None:
        super().__init__()
        self.lost = lost

    def initial(self, rng: Any, params: Any = None) -> Any:
        return jax.numpy.append(jax.random.normal(rng, (1,)), 0.0)

    def transition(self, state: Any, action: Any, rng: Any, params: Any = None) -> Any:
        return state + jax.numpy.stack([action.astype(jax.numpy.float32), jax.numpy.ones(())])

    def observation(self, state: Any, rng: Any, params: Any = None) -> Any:
        return jax.numpy.where(self.lost & (state[1] >= 4), jax.numpy.nan, state)

    def reward(self, state: Any, action: Any, next_state: Any, rng: Any, params: Any = None) -> Any:
        return next_state[0]

    def terminal(self, state: Any, rng: Any, params: Any = None) -> Any:
        return state[1] >= 4


def test_what_runs_on_the_device_is_checked_as_a_vector() -> None:
    report = check(Clocks(lost=False), steps=STEPS)
    expect(report)
    assert report.name == "Clocks"
    assert report.checked == ("making", "vector environment")
    report = check(rlgd.envs.make(Clocks(lost=True)), steps=STEPS)
    expect(report, ("fault", "finite", "vector environment, step 3, observation[0, 0]", "is nan"))


def test_arguments_and_names_reach_gymnasium() -> None:
    report = check("CartPole", worker=False, steps=STEPS, max_episode_steps=3)
    expect(report)
    assert report.name == "CartPole-v1"
    assert not any(finding.check == "endless" for finding in report.findings)
    assert check("gymnasium.envs:FrozenLake-v1", worker=False, steps=STEPS, map_name="8x8").sound
    expect(
        check("FrozenLake-v1", worker=False, map_name="9x9"),
        ("fault", "make", "FrozenLake-v1", "raised KeyError: '9x9'"),
    )


def one(**kwargs: Any) -> Sound:
    return Sound()


def four(**kwargs: Any) -> Walkers:
    return Walkers(SAME_STEP, "final_reset")


class Home(Sound):
    """Every episode begins and ends in one place."""

    def reset(self, **kwargs: Any) -> Any:
        super().reset(**kwargs)
        self.drift[:] = 0
        return self.see(), {}

    def see(self) -> Any:
        return np.array([*self.drift, 0], np.float32) * (self.t < self.length)


def test_an_end_in_the_first_place_is_a_warning() -> None:
    report = check(Home, worker=False, steps=STEPS)
    expect(
        report, ("warning", "final observation", "info['final_obs']", "right only where episodes end where they begin")
    )


@pytest.mark.parametrize(
    ("masks", "what"),
    [(np.ones((4, 3), np.int8), None), (np.zeros((4, 3), np.int8), "allows no"), (np.ones(3), "without a row")],
)
def test_the_masks_of_a_vector_are_checked(masks: Any, what: str | None) -> None:
    class MaskedVector(SyncVectorEnv):
        def step(self, actions: Any) -> Any:
            *result, info = super().step(actions)
            return *result, info | {"action_mask": masks}

    report = check_vector(MaskedVector, [acting(Discrete(3))] * 4, autoreset_mode=SAME_STEP)
    expect(report, *[("fault", "action mask", "step 0", what)] if what else [])


def two(**kwargs: Any) -> Walkers:
    return walkers(SAME_STEP, num_envs=2)


def others(**kwargs: Any) -> Walkers:
    return walkers(SAME_STEP, single_observation_space=Discrete(3))


REGISTERED: dict[str, tuple[Any, Any, tuple[str, str, str, str]]] = {
    "both": (one, four, ("fault", "final observation", "native vector environment, episodes' ends", "next episode")),
    "vector_only": (None, four, ("fault", "final observation", "vector environment, episodes' ends", "next episode")),
    "two": (one, two, ("fault", "num_envs", "native vector environment, making", "4 environments were asked for")),
    "others": (one, others, ("fault", "spaces", "native vector environment, making", "is Discrete(3), but")),
}


@pytest.mark.parametrize("name", REGISTERED)
def test_the_registered_vector_environment_is_checked_too(name: str) -> None:
    entry_point, vector_entry_point, expected = REGISTERED[name]
    gymnasium.register("probes/Registered-v0", entry_point, vector_entry_point=vector_entry_point)
    try:
        expect(check("probes/Registered-v0", worker=False, steps=STEPS), expected)
    finally:
        del gymnasium.registry["probes/Registered-v0"]


@pytest.mark.parametrize(
    ("source", "arguments", "message"),
    [
        ("CartPol-v1", {}, "unknown environment 'CartPol-v1'; did you mean 'CartPole-v1'"),
        ("CartPole-v7", {}, "unknown environment 'CartPole-v7'; did you mean 'CartPole-v1'"),
        ("", {}, "unknown environment ''"),
        ("nomodule:CartPole-v1", {}, "No module named 'nomodule'"),
        (3, {}, "3 cannot be checked; allowed: a Gymnasium id"),
        (Sound(), {"size": 3}, "already made; the arguments size"),
        (Sound, {"seed": -1}, "seed is -1"),
        (Sound, {"steps": 0}, "steps is 0"),
    ],
)
def test_what_cannot_be_checked_is_refused(source: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check(source, **arguments)


def test_a_report_is_text_and_json() -> None:
    report = Report(
        "Env-v0",
        ("making", "answers"),
        ("determinism",),
        (
            Finding("fault", "reward", "step 3, reward", "is nan", "mend"),
            Finding("note", "starts", "reset", "all", "-"),
        ),
    )
    assert render(report).splitlines() == [
        "Env-v0",
        "  checked: making, answers",
        "  not checked to the end: determinism",
        "  fault   step 3, reward: is nan",
        "          -> mend",
        "  note    reset: all",
        "          -> -",
        "1 fault, 0 warnings",
    ]
    told = json.loads(json.dumps(report.as_dict()))
    assert told["sound"] is False
    assert told["findings"][0]["where"] == "step 3, reward"
    warned = Report("Env-v0", (), (), (Finding("warning", "dtype", "reset", "is float64", "cast"),))
    assert render(warned).splitlines()[-1] == "sound, 1 warning"
