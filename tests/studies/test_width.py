"""The width of a slice belongs to the group, so that a member has the same bits whoever trains beside it."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import pytest

import rlgd
from rlgd.agents import A2C, PPO
from rlgd.agents.base.agent import Agent
from rlgd.errors import UsageError
from rlgd.run.config import RunConfig
from rlgd.run.settings import RunSettings
from rlgd.studies import Outcome, StudyResult, execution, resume_study
from rlgd.studies.programs import Programs
from rlgd.studies.width import MOST, ROWS, width_of
from rlgd.system import machine, ram
from tests.support.small_study import A2C_SMALL, STEPS

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("num_envs", "width"), [(1, 4), (8, 4), (16, 4), (17, 3), (32, 2), (33, 1), (1000, 1)])
def test_the_width_follows_from_the_environments(num_envs: int, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """And from nothing that another machine or another time has otherwise."""
    assert (ROWS["cpu"], MOST["cpu"]) == (64, 4)
    monkeypatch.setattr(execution, "num_cores", lambda: 64)
    monkeypatch.setattr(machine, "num_cores", lambda: 64)
    monkeypatch.setattr(ram, "free_bytes", lambda: 1.0)
    config = RunConfig(A2C(num_envs=num_envs), rlgd.envs.make("CartPole-v1"), RunSettings(1000))
    assert width_of(config) == width


def test_large_states_make_a_slice_narrower() -> None:
    config = RunConfig(PPO(num_envs=16, rollout_length=2_000_000), rlgd.envs.make("CartPole-v1"), RunSettings(1000))
    assert width_of(config) == 1


def bits(outcome: Outcome) -> str:
    """Everything but the seconds; as text, in which NaN equals itself."""
    rows = [(row.step, {k: v for k, v in row.values.items() if not k.startswith("time/")}) for row in outcome.rows]
    return repr((outcome.episode_return, outcome.episode_length, outcome.steps, outcome.reason, rows))


def by_rate(result: StudyResult) -> dict[tuple[float, int], str]:
    """The bits of members by their learning rate and seed."""
    members = result.plan.members
    return {
        (float(members[n].agent.ascent.rule.learning_rate), members[n].settings.seed): bits(outcome)
        for n, outcome in result.outcomes.items()
    }


def study(agent: Agent, rates: list[float], **options: Any) -> dict[tuple[float, int], str]:
    given: dict[str, Any] = {"seeds": 3, "total_timesteps": STEPS, "eval_episodes": 3}
    return by_rate(rlgd.study(agent, "CartPole-v1", {"learning_rate": rates}, **(given | options)))


def compare(agent: Agent) -> None:
    """A member alone, beside one that diverges, in another place, and on one or two workers."""
    alone = study(agent, [1e-3], seeds=1)
    three = study(agent, [1e-3])
    assert alone.items() <= three.items()
    for rates, workers in (([1e-3, 1e37], 1), ([1e-2, 1e37, 1e-3, 1e-4], 2)):
        assert three.items() <= study(agent, rates, workers=workers).items()
    assert len(set(three.values())) == 3  # or nothing was compared


def test_a_member_has_the_same_bits_whoever_trains_beside_it() -> None:
    compare(A2C_SMALL)


@pytest.mark.slow
@pytest.mark.parametrize("agent", ["a2c", "ppo", "trpo", "reinforce"])
def test_so_it_is_with_the_compilers_own_settings(agent: str) -> None:
    """Under those of the tests it fuses other operations, which decides the last bit."""
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    text = f"from tests.studies.test_width import compare, make; compare(make({agent!r}))"
    subprocess.run([sys.executable, "-c", text], cwd=ROOT, env=environment, check=True, timeout=600)


def make(name: str) -> Agent:
    return rlgd.agents.make_agent(name, num_envs=8, hidden_sizes=(16,), measure_every=3)


def on_devices(agent: Agent) -> None:
    """What two devices give is what one gives."""
    assert len(jax.devices()) == 2
    used = set()
    compiled = Programs.compiled

    def spy(self: Programs, name: str, *args: Any) -> Any:
        program = compiled(self, name, *args)
        used.update(jax.tree.leaves(program.input_shardings)[0].device_set)
        return program

    Programs.compiled = spy  # type: ignore[method-assign]
    one = study(agent, [1e-3, 1e37])
    assert len(used) == 1
    assert study(agent, [1e-3, 1e37], devices=2) == one
    assert len(used) == 2
    assert len(set(one.values())) == 6
    with pytest.raises(UsageError, match="devices is 3, but JAX finds 2 cpu devices"):
        study(agent, [1e-3], devices=3)


@pytest.mark.slow
@pytest.mark.parametrize("agent", ["a2c", "ppo"])
def test_two_devices_give_the_bits_of_one(agent: str) -> None:
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "2"}
    text = f"from tests.studies.test_width import make, on_devices; on_devices(make({agent!r}))"
    subprocess.run([sys.executable, "-c", text], cwd=ROOT, env=environment, check=True, timeout=600)


def test_on_the_host_devices_have_nothing_to_do() -> None:
    with pytest.raises(UsageError, match="devices is 2, but CartPole-v1 runs on the host"):
        rlgd.study("a2c", rlgd.envs.make("CartPole-v1", backend="host"), {"gamma": [0.9]}, devices=2)


@pytest.mark.slow
def test_a_resumed_study_keeps_its_slice_size(tmp_path: Path) -> None:
    vary = {"learning_rate": [0.01, 0.1]}
    given: dict[str, Any] = {"seeds": 2, "total_timesteps": 64, "eval_episodes": 2}
    result = rlgd.study(A2C_SMALL, "CartPole-v1", vary, **given, slice_size=3, study_dir=tmp_path / "study")
    before = (tmp_path / "study" / "results.csv").read_bytes()
    members = tmp_path / "study" / "members.jsonl"
    members.write_bytes(members.read_bytes().splitlines(keepends=True)[0])
    with pytest.raises(UsageError, match=r"slice_size is 2, but .* was begun with slice_size 3; leave it out"):
        resume_study(tmp_path / "study", slice_size=2)
    again = resume_study(tmp_path / "study")
    assert {n: bits(o) for n, o in again.outcomes.items()} == {n: bits(o) for n, o in result.outcomes.items()}
    assert (tmp_path / "study" / "results.csv").read_bytes() == before


def test_a_slice_that_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlgd.training.footprint.check", lambda *_: None)
    monkeypatch.setattr(ram, "free_bytes", lambda: 1e4)
    with pytest.raises(UsageError, match=r"4 members side by side take \S+ MiB, but 0 MiB are free .* --slice-size"):
        study(A2C_SMALL, [1e-3])
