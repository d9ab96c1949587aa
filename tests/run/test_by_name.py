"""``rlgd.train`` with an agent's name: what ``rlgd train NAME`` would train."""

import re
from pathlib import Path
from typing import Any

import pytest

import rlgd
from rlgd import hyperparameters as hp
from rlgd.agents import A2C, PPO, preset, presets
from rlgd.cli import main
from rlgd.errors import UsageError
from rlgd.run.config import RunConfig
from rlgd.run.config_file import read

SMALL: dict[str, Any] = {"num_envs": 4, "rollout_length": 16, "hidden_sizes": [8]}


@pytest.fixture(name="trained")
def _trained(monkeypatch: pytest.MonkeyPatch) -> list[RunConfig]:
    """The configurations that ``rlgd.train`` would train."""
    seen: list[RunConfig] = []
    monkeypatch.setattr("rlgd.run.api.execute", lambda config, *others: seen.append(config))
    return seen


def test_a_name_stands_for_its_preset(trained: list[RunConfig]) -> None:
    rlgd.train("PPO", "CartPole-v1")
    rlgd.train("ppo", "CartPole-v1", learning_rate=0.5, total_timesteps=99)
    rlgd.train("actor-critic", "rlgd/CartPoleNoVelocity-v1")
    tuned = preset("ppo", "CartPole-v1")
    assert trained[0].agent == tuned
    assert trained[0].settings.total_timesteps == presets.find("ppo", "CartPole-v1").total_timesteps
    assert trained[1].agent == hp.with_values(tuned, {"learning_rate": 0.5})
    assert trained[1].settings.total_timesteps == 99
    assert trained[2].agent == A2C()
    assert trained[2].settings.total_timesteps == 100_000


def test_an_object_is_taken_as_it_is(trained: list[RunConfig]) -> None:
    rlgd.train(PPO(), "CartPole-v1")
    assert trained[0].agent == PPO()
    assert trained[0].settings.total_timesteps == 100_000


@pytest.mark.parametrize(
    ("agent", "given", "message"),
    [
        (PPO(), {"learning_rate": 1e-3}, "learning_rate is a hyper-parameter, so the agent has it: PPO("),
        ("ppo", {"learning_rat": 1e-3}, "unknown setting of a run 'learning_rat'"),
        ("ppo", {"gamma": 2.0}, "gamma is 2.0; allowed: a number within [0, 1]"),
        ("poo", {}, "unknown agent 'poo'; did you mean 'ppo'?"),
        (PPO, {}, "expected an agent such as rlgd.agents.PPO()"),
    ],
)  # fmt: skip
def test_mistakes_are_named(agent: Any, given: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        rlgd.train(agent, "CartPole-v1", **given)


@pytest.mark.slow
def test_it_is_the_run_of_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--num-envs", "4", "--rollout-length", "16", "--hidden-sizes", "8", "--total-timesteps", "512"]
    assert not main.main(["train", "a2c", "--env", "CartPole-v1", *words, "--run-dir", str(tmp_path / "a"), "--quiet"])
    capsys.readouterr()
    rlgd.train("a2c", "CartPole-v1", total_timesteps=512, run_dir=tmp_path / "b", progress=True, **SMALL)
    assert read(tmp_path / "a", None) == read(tmp_path / "b", None)
    assert "512 / 512 steps  return " in capsys.readouterr().err
    result = rlgd.resume(tmp_path / "b", total_timesteps=1024, progress=True)
    assert result.steps == 1024
    assert "1,024 / 1,024 steps  return " in capsys.readouterr().err
