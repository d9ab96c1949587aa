"""Numbers in the infos of environments on the host, in every autoreset mode and way of stepping."""

import json
from pathlib import Path
from typing import Any

import gymnasium
import jax
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import rlgd
from rlgd.agents import A2C, REINFORCE
from rlgd.agents.base.agent import Agent
from rlgd.envs import HostEnv, make
from rlgd.envs.host.host_vector import HostVector
from rlgd.errors import EnvironmentFault, UsageError

LENGTH = 4  # steps of an episode


class Telling(gymnasium.Env[Any, Any]):
    """Every second episode is a success; ``level`` is the number of the step, ``odd`` is given in odd steps only."""

    observation_space, action_space = Box(-1, 1, (2,), np.float32), Discrete(2)

    def __init__(self, level: Any = None) -> None:
        self.level, self.episodes = level, 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.steps, self.episodes = 0, self.episodes + 1
        return np.zeros(2, np.float32), {"level": -100.0, "is_success": True}  # of a reset, which nobody counts

    def step(self, action: Any) -> Any:
        self.steps += 1
        ends = self.steps == LENGTH
        info: dict[str, Any] = {"level": self.steps if self.level is None else self.level, "other": "text"}
        if ends:
            info["is_success"] = self.episodes % 2 == 0
        if self.steps % 2:
            info["odd"] = np.float32(self.steps)
        return np.zeros(2, np.float32), 1.0, ends, False, info


def agent(kind: type[Agent], **options: Any) -> Agent:
    return kind(num_envs=2, hidden_sizes=(4,), measure_every=0, **options)


def values(run: Path) -> dict[str, list[float]]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    names = ("rollout/success_rate", "info/level", "info/odd", "info/missing")
    return {name: [row[name] for row in rows if name in row] for name in names}


@pytest.mark.parametrize("vectorization", ["sync", "async"])
@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP])
def test_every_step_counts_once_and_a_success_where_an_episode_ends(vectorization: str, mode: AutoresetMode) -> None:
    env = HostEnv(
        "Telling", vectorization=vectorization, autoreset_mode=mode, source=Telling, log_info=("level", "odd")
    )
    vector = env.open(3)
    try:
        vector.reset(0)
        while sum(vector.infos._counts.values()) < 3 * 6 * LENGTH:  # four episodes: each step once, each odd one twice
            vector.infos.add(vector.step(np.zeros(3, np.int64)))
        taken = vector.infos.take()
    finally:
        vector.close()
    assert taken["rollout/successes"] == 3 * 2
    assert taken["info/level"] == np.mean([1, 2, 3, 4])
    assert taken["info/odd"] == 2.0
    assert vector.infos.take()["rollout/successes"] == 0
    assert np.isnan(vector.infos.take()["info/level"])


def test_a_running_vector_environment_tells_too() -> None:
    vector = SyncVectorEnv([Telling] * 2, autoreset_mode=AutoresetMode.DISABLED)
    host = HostVector(vector, make(Telling).spec, "Telling", log_info=["level"])
    host.reset(0)
    for _ in range(2 * LENGTH):
        host.infos.add(host.step(np.zeros(2, np.int64)))
    taken = host.infos.take()
    assert taken["rollout/successes"] == 2
    assert taken["info/level"] == 2.5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "options", "rate"),
    # Whole episodes begin with a reset, and the environment resets itself at their end: it counts only even ones.
    [(A2C, {"rollout_length": 8}, 0.5), (REINFORCE, {}, 1.0)],
    ids=["steps", "whole episodes"],
)
def test_a_run_records_what_is_asked_for_and_a_resumed_one_something_else(
    kind: type[Agent], options: dict[str, Any], rate: float, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    given: dict[str, Any] = {"total_timesteps": 64, "eval_episodes": 1}
    names = ("level", "odd", "missing")
    env = make(Telling, max_episode_steps=32, log_info=names)
    rlgd.train(agent(kind, **options), env, run_dir=run, **given)
    seen = values(run)
    assert seen["info/missing"] == []
    assert {*seen["info/level"]} == {2.5}
    assert {*seen["info/odd"]} == {2.0}
    assert np.mean(seen["rollout/success_rate"]) == rate
    assert json.loads((run / "config.json").read_text())["settings"]["log_info"] == [*names]
    before = len(seen["info/odd"])
    rlgd.resume(run, env=env, total_timesteps=128, log_info=("level",))
    assert len(values(run)["info/odd"]) == before
    assert len(values(run)["info/level"]) > before


def test_without_names_only_successes_are_read(tmp_path: Path) -> None:
    rlgd.train(agent(A2C, rollout_length=8), Telling, total_timesteps=64, eval_episodes=1, run_dir=tmp_path)
    seen = values(tmp_path)
    assert seen["rollout/success_rate"]
    assert not seen["info/level"]


@pytest.mark.parametrize("level", ["high", np.zeros(2), int])
def test_what_is_no_number_is_a_fault_that_names_it(level: Any) -> None:
    env = HostEnv("Telling", source=lambda: Telling(level), log_info=("level",))
    with pytest.raises(EnvironmentFault, match=r"gave the info 'level' as .*, which is no number"):
        rlgd.train(agent(A2C, rollout_length=8), env, total_timesteps=64)


class TellingOnDevice(rlgd.envs.functional.CartPole):
    """Says how far it is from the middle, and that an episode is a success where it ends on the right."""

    def state_info(self, state: Any, params: Any = None) -> dict[str, Any]:
        return {"far": abs(state[0]), "is_success": state[0] > 0, "whole": state}


@pytest.mark.slow
@pytest.mark.parametrize("kind", [A2C, REINFORCE])
def test_on_the_device_the_same_is_recorded(kind: Any, tmp_path: Path) -> None:
    env, small = TellingOnDevice(), agent(kind, **({"rollout_length": 64} if kind is A2C else {}))
    plain = rlgd.train(small, "CartPole-v1", total_timesteps=1024)
    told = rlgd.train(
        small, env, total_timesteps=1024, log_info=("far",), max_episode_steps=500, run_dir=tmp_path / "run"
    )
    for one, other in zip(*(jax.tree.leaves(each.state.agent_state.params) for each in (plain, told)), strict=True):
        np.testing.assert_array_equal(one, other)  # to be recorded changes nothing
    assert np.all(told.metrics["info/far"] > 0)
    assert np.all(told.metrics["rollout/successes"] <= told.metrics["rollout/episodes"])
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    rates = [row["rollout/success_rate"] for row in rows if "rollout/success_rate" in row]
    assert rates
    assert 0 < np.mean(rates) < 1
    rest = rlgd.resume(tmp_path / "run", env=env, total_timesteps=2048, log_info=())
    assert "info/far" not in rest.metrics


def test_what_an_environment_on_the_device_does_not_give_is_named() -> None:
    assert isinstance(make("CartPole-v1", log_info=("level",)), HostEnv)
    with pytest.raises(UsageError, match="names 'level'; the numbers that CartPole gives are: none"):
        make(rlgd.envs.functional.CartPole(), log_info=("level",))
    with pytest.raises(UsageError, match=r"names 'whole'; .* are: 'far', 'is_success'"):
        make(TellingOnDevice(), log_info=("whole",))
    for wrong in ("level", ("",), (3,)):
        with pytest.raises(UsageError, match="log_info is"):
            rlgd.train(A2C(), "CartPole-v1", total_timesteps=64, log_info=wrong)
