"""A single environment: one fault is found and nothing else, and nothing is wrong with a sound one."""

import functools
import os
import random
from collections.abc import Callable
from typing import Any, ClassVar

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.spaces import Box, Dict, Discrete, Graph, MultiBinary, MultiDiscrete, Text, Tuple

from rlgd.envs.check import check, render
from tests.support.sound_envs import BOX, STEPS, Expected, Sound, acting, expect, seeing, serious, third, variant


class Masked(Sound):
    """One action fewer is allowed in each step, and another one is an error."""

    action_space = Discrete(9, start=3)

    def info(self) -> Any:
        return {"action_mask": (np.arange(9) > self.t).astype(np.int8)}

    def step(self, action: Any) -> Any:
        assert self.info()["action_mask"][action - 3]
        return super().step(np.full(2, action))


class MaskedParts(Sound):
    """The second number has other masks than the first one."""

    action_space = MultiDiscrete([2, 3])

    def info(self) -> Any:
        return {"action_mask": np.array([True, self.t > 2, self.t <= 2, True, True])}

    def step(self, action: Any) -> Any:
        mask = self.info()["action_mask"]
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
def test_a_sound_environment_has_no_findings(name: str) -> None:
    report = check(SOUND[name], worker=False, steps=STEPS)
    expect(report)
    assert report.sound
    assert not report.unfinished
    assert render(report).splitlines()[-1] == "sound"


GYMNASIUM = ("CartPole-v1", "Pendulum-v1", "FrozenLake-v1", "Taxi-v4", "Blackjack-v1", "MountainCarContinuous-v0")


@pytest.mark.parametrize("env_id", GYMNASIUM)
def test_gymnasiums_own_environments_are_sound(env_id: str) -> None:
    limit = {"max_episode_steps": 100} if env_id == "MountainCarContinuous-v0" else {}
    report = check(env_id, worker=False, steps=250, **limit)
    assert not any(finding.check in ("endless", "autoreset") for finding in report.findings)
    expect(report)
    assert report.name == env_id
    assert "SyncVectorEnv" in report.checked
    assert ("native vector environment" in report.checked) == (env_id == "CartPole-v1")


class OneBuffer(Sound):
    def see(self) -> Any:
        self.buffer = getattr(self, "buffer", np.zeros(3, np.float32))
        self.buffer[:] = Sound.see(self)
        return self.buffer


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


class Remembers(Sound):
    total = 0

    def pay(self) -> Any:
        self.total += 1
        return float(self.total)


class NeverCloses(Sound):
    def close(self) -> None:
        raise OSError("busy")


class NoSpaces(gymnasium.Env[Any, Any]):
    pass


def before_reset(action: Callable[[], Any]) -> type[Sound]:
    return variant(reset=lambda self, **given: (action(), Sound.reset(self, **given))[1])


def before_step(check: Callable[[Any, Any], Any], **attributes: Any) -> type[Sound]:
    return variant(step=lambda self, action: (check(self, action), Sound.step(self, action))[1], **attributes)


def four_values(self: Any, action: Any) -> Any:
    obs, reward, terminated, truncated, info = Sound.step(self, action)
    return obs, reward, terminated or truncated, info


def seed_numpy() -> None:
    np.random.seed(7)  # noqa: NPY002 (that is the fault)


def out_of_order(self: Any, action: Any) -> None:
    if self.t == 2:
        raise RuntimeError("out of\norder")


def leave(self: Any, action: Any) -> None:
    raise SystemExit(3)


def no_corners(self: Any, action: Any) -> None:
    assert np.all(action > -1), "too low"


def change_action(self: Any, action: Any) -> None:
    action *= 0.5


def own_generator(self: Any, **given: Any) -> Any:
    Sound.reset(self, **given)
    self.drift = np.random.default_rng().normal(size=2)
    return self.see(), {}


def seeds_itself(self: Any, *, seed: int | None = 3, options: Any = None) -> Any:
    return Sound.reset(self, seed=3 if seed is None else seed)


def broken_obs(index: int, value: float) -> type[Sound]:
    def change(obs: Any) -> Any:
        obs[index] = value
        return obs

    return variant(see=third(Sound.see, change))


def limited() -> type[Sound]:
    spec = EnvSpec("Limited-v0", max_episode_steps=5)
    return variant(spec=spec, end=lambda self: (self.t >= 12, False))


FAULTS: dict[str, tuple[Any, Expected]] = {
    "nan": (broken_obs(2, np.nan), ("fault", "finite", "step 2, observation[2]", "is nan")),
    "inf": (broken_obs(0, -np.inf), ("fault", "finite", "step 2, observation[0]", "is -inf")),
    "bounds": (broken_obs(1, 101), ("warning", "bounds", "step 2, observation[1]", "101.0, outside of")),
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
        ("warning", "range", "step 0, observation[0]", "which float32 cannot represent"),
    ),
    "long_integers": (
        seeing(Box(0, 2**40, (1,), np.int64), lambda self: np.array([2**25 * self.t + self.length])),
        ("warning", "range", "step 0, observation[0]", "which float32 cannot represent"),
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
    "info_none": (variant(info=lambda self: None), ("fault", "info", "reset, info", "NoneType")),
    "no_seed": (
        variant(reset=lambda self: Sound.reset(self)),
        ("fault", "reset", "reset", "unexpected keyword argument 'seed'"),
    ),
    "observation_only": (
        variant(reset=lambda self, **given: Sound.reset(self, **given)[0]),
        ("fault", "reset", "reset", "not (obs, info)"),
    ),
    "four_values": (variant(step=four_values), ("fault", "step", "step 0", "returned 4 values")),
    "raises": (
        before_step(out_of_order),
        ("fault", "step", "step 2, action", "raised RuntimeError: out of order (" + __file__),
    ),
    "leaves": (before_step(leave), ("fault", "step", "step 0, action", "raised SystemExit: 3 (")),
    "no_corners": (
        before_step(no_corners),
        ("fault", "step", "action array([-1., -1.]", "raised AssertionError: too low"),
    ),
    "changes_actions": (
        before_step(change_action),
        ("fault", "action changed", "step 0", "changed the array of the action"),
    ),
    "one_buffer": (OneBuffer, ("fault", "aliasing", "step 0", "both are one buffer")),
    "longer_than_its_limit": (limited(), ("fault", "time limit", "step 4", "although max_episode_steps is 5")),
    "numpy_seed": (before_reset(seed_numpy), ("warning", "global random state", "reset", "has changed")),
    "python_random": (
        variant(pay=lambda self: 0.0 * random.random()),
        ("warning", "global random state", "step 0", "has changed"),
    ),
    "own_generator": (
        variant(reset=own_generator),
        ("fault", "determinism", "reset", "same environment, reset with the same seed"),
    ),
    "noisy_reward": (
        variant(pay=lambda self: float(np.random.default_rng().normal())),
        ("fault", "determinism", "call 1 after the reset", "reward is"),
    ),
    "remembers": (Remembers, ("fault", "determinism", "call 1 after the reset", "in the same environment")),
    "counts": (Counts, ("fault", "determinism", "call 1 after the reset", "in a copy, reset with the same seed")),
    "shares": (Shares, ("fault", "determinism", "reset", "in a copy while another one runs")),
    "seeds_itself": (
        variant(reset=seeds_itself),
        ("warning", "starts", "reset", "the same first observation again and again"),
    ),
    "prints": (
        before_reset(lambda: print("resetting ...")),
        ("warning", "output", "standard output", "has resetting ..."),
    ),
    "prints_in_c": (
        before_reset(lambda: os.write(1, b"resetting ...\n")),
        ("warning", "output", "standard output", "has resetting ..."),
    ),
    "never_closes": (NeverCloses, ("fault", "close", "close", "raised OSError: busy")),
    "mask_shape": (
        acting(Discrete(3), info=lambda self: {"action_mask": np.ones(2, np.int8)}),
        ("fault", "action mask", "reset, info['action_mask']", "has the shape (2,), not (3,)"),
    ),
    "mask_of_nothing": (
        acting(Discrete(3), info=lambda self: {"action_mask": np.full(3, self.t != 2, np.int8)}),
        ("fault", "action mask", "step 1, info['action_mask']", "allows no action"),
    ),
    "mask_of_no_second": (
        acting(MultiDiscrete([2, 2]), info=lambda self: {"action_mask": np.array([1, 0, 0, 0], bool)}),
        ("fault", "action mask", "reset, info['action_mask']", "allows no action"),
    ),
    "mask_of_weights": (
        acting(Discrete(3), info=lambda self: {"action_mask": np.full(3, 0.5)}),
        ("fault", "action mask", "reset, info['action_mask']", "0.5"),
    ),
    "mask_comes_and_goes": (
        acting(Discrete(3), info=lambda self: {"action_mask": np.ones(3, np.int8)} if self.t != 2 else {}),
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
    masked = variant(info=lambda self: {"action_mask": np.ones(2)})
    for env, name in ((alike, "starts"), (endless, "endless"), (masked, "action mask")):
        report = check(env, worker=False, steps=STEPS)
        assert not serious(report), render(report)
        assert name in {finding.check for finding in report.findings}
        assert "note    " in render(report)
