"""Vector environments: their autoreset mode, final observations, seeding and independence."""

import functools
from collections.abc import Callable
from typing import Any

import gymnasium
import jax
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.envs.tabular.blackjack import BlackjackFunctional
from gymnasium.spaces import Box, Discrete, Text
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.vector.utils import batch_space

from rlgd.envs.check import Report, check, render
from tests.support.sound_envs import BOX, STEPS, Expected, Sound, acting, expect, serious, variant

SAME_STEP, NEXT_STEP, DISABLED = AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED


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
        if self.fault == "tires" and self.resets > 28:  # when the check repeats the ends
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
        self.over = (
            (self.state[:, 2] == self.length) if self.fault == "continues" else (self.state[:, 2] >= self.length)
        )
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


def check_of(make: Callable[..., Any], *args: Any, **kwargs: Any) -> Report:
    return check(functools.partial(make, *args, **kwargs), worker=False, steps=STEPS)


@pytest.mark.parametrize("mode", AutoresetMode)
def test_a_sound_vector_has_no_findings(mode: AutoresetMode) -> None:
    for make in (functools.partial(SyncVectorEnv, [Sound] * 3, autoreset_mode=mode), functools.partial(Walkers, mode)):
        report = check(make, worker=False, steps=STEPS)
        assert not report.findings, render(report)
        assert report.checked == ("making", "vector environment")
    report = check_of(SyncVectorEnv, [Sound], autoreset_mode=mode)
    assert not report.findings, render(report)


def test_a_shared_buffer_of_a_vector_is_a_note() -> None:
    for report in (
        check_of(SyncVectorEnv, [Sound] * 3, copy=False, autoreset_mode=SAME_STEP),
        check_of(Walkers, fault="buffer"),
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
    report = check_of(walkers, mode, metadata={"autoreset_mode": claimed})
    what = f"says {claimed}, but what it does is {mode}"
    expect(report, ("fault", "autoreset mode", "metadata['autoreset_mode']", what))
    report = check_of(Claims, mode, autoreset_mode=claimed)
    if mode is DISABLED:  # Gymnasium's own vector enforces it
        expect(report, ("fault", "step", "the one after an episode's end", "raised AssertionError"))
    else:
        expect(report, ("fault", "autoreset mode", "metadata['autoreset_mode']", what))


@pytest.mark.parametrize(
    ("metadata", "what"),
    [
        ({}, "is missing"),
        (BlackjackFunctional.metadata, "there is the key 'autoreseet-mode'"),
        ({"autoreset_mode": "SameStep"}, "is SameStep, not an AutoresetMode"),
    ],
)
def test_an_autoreset_mode_that_is_not_in_the_metadata_is_found(metadata: dict[str, Any], what: str) -> None:
    expect(
        check_of(walkers, SAME_STEP, metadata=metadata),
        ("fault", "metadata", "Walkers, metadata['autoreset_mode']", what),
        ("fault", "autoreset mode", "episodes' ends, metadata['autoreset_mode']", f"what it does is {SAME_STEP}"),
    )


def test_a_mode_without_evidence_is_taken_as_claimed() -> None:
    # The observation is constant, no action matters, and every episode has one step.
    blind = variant(see=lambda self: np.zeros(3, np.float32), pay=lambda self: 0.0, end=lambda self: (True, False))
    for claimed in (SAME_STEP, DISABLED):
        report = check_of(SyncVectorEnv, [blind] * 3, autoreset_mode=claimed)
        assert not serious(report), render(report)
    # No action matters, but the observations are enough.
    for claimed in AutoresetMode:
        report = check_of(Walkers, claimed, "deaf")
        assert not serious(report), render(report)


VECTOR_FAULTS: dict[str, tuple[AutoresetMode, str, Expected]] = {
    "drops": (NEXT_STEP, "drops", ("fault", "transitions", "steps with a reset", "the others stood still")),
    "drops_same": (SAME_STEP, "drops", ("fault", "transitions", "steps with a reset", "stood still")),
    "restarts": (
        NEXT_STEP,
        "restarts",
        ("fault", "transitions", "steps with a reset", "the others were reset whenever"),
    ),
    "pays": (NEXT_STEP, "pays", ("fault", "reward", "the step after an episode's end, reward", "pays 1.0")),
    "early": (
        NEXT_STEP,
        "early",
        ("fault", "final observation", "steps that end an episode", "final observation is lost"),
    ),
    "continues": (DISABLED, "continues", ("fault", "autoreset mode", "episodes' ends", f"it does is {DISABLED}")),
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
    claimed = SAME_STEP if fault in ("continues", "timeless", "both") else mode
    expect(check_of(walkers, mode, fault, metadata={"autoreset_mode": claimed}), expected)


ATTRIBUTES: dict[str, tuple[Any, Expected]] = {
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
def test_wrong_attributes_of_a_vector_are_found(name: str) -> None:
    value, expected = ATTRIBUTES[name]
    expect(check_of(walkers, NEXT_STEP, **{name: value}), expected)


def test_the_known_faults_of_gymnasiums_functional_vectors() -> None:
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"), jax.debug_key_reuse(False):
        cartpole = check(gymnasium.make_vec("phys2d/CartPole-v1", 4, "vector_entry_point"), steps=20)
    expect(
        cartpole,
        ("fault", "transitions", "steps with a reset", "the others stood still"),
        # its reset does not clear that an episode has ended
        ("fault", "determinism", "call 1 after the reset", "reset with the same seed"),
    )


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

    report = check_of(MaskedVector, [acting(Discrete(3))] * 4, autoreset_mode=SAME_STEP)
    expect(report, *[("fault", "action mask", "step 0", what)] if what else [])


def one(**kwargs: Any) -> Sound:
    return Sound()


def four(**kwargs: Any) -> Walkers:
    return Walkers(SAME_STEP, "final_reset")


def two(**kwargs: Any) -> Walkers:
    return walkers(SAME_STEP, num_envs=2)


def others(**kwargs: Any) -> Walkers:
    return walkers(SAME_STEP, single_observation_space=Discrete(3))


REGISTERED: dict[str, tuple[Any, Any, Expected]] = {
    "both": (one, four, ("fault", "final observation", "native vector environment, episodes' ends", "next episode")),
    "vector_only": (None, four, ("fault", "final observation", "vector environment, episodes' ends", "next episode")),
    "two": (
        one,
        two,
        ("fault", "num_envs", "native vector environment, making", "made with num_envs=4, but its num_envs is 2"),
    ),
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
