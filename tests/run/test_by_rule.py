"""Settings by rule: what each rule sets where, and that nothing that was given is changed."""

import json
import re
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

import rlgd
from rlgd import envs
from rlgd import hyperparameters as hp
from rlgd.agents import PPO, REGISTRY, make_agent
from rlgd.cli import main
from rlgd.errors import UsageError
from rlgd.run import RunConfig, RunSettings, automatic, by_rule

COMMON = {"normalize_obs": True, "scale_reward": True, "gamma": 0.99}


class Picture(gymnasium.Env[Any, Any]):
    """Observes an image; episodes have no limit."""

    observation_space, action_space = Box(0, 255, (8, 8, 3), np.uint8), Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        return np.zeros((8, 8, 3), np.uint8), {}

    def step(self, action: Any) -> Any:
        return np.zeros((8, 8, 3), np.uint8), 0.0, False, False, {}


@pytest.mark.parametrize(
    ("name", "env", "settings"),
    [
        ("ppo", "CartPole-v1", COMMON),
        ("a2c", "CartPole-v1", COMMON),
        ("trpo", "Reacher-v5", COMMON | {"gamma": 0.98, "max_kl": 0.02}),
        ("reinforce", "rlgd/CartPoleNoVelocity-v1", {"scale_reward": True, "gamma": 0.99}),
        ("ppo", "Reacher-v5", COMMON | {"gamma": 0.98, "rollout_length": 256, "num_minibatches": 16}),
        ("ppo", "LunarLander-v3", COMMON | {"gamma": 0.999}),
        ("ppo", "FrozenLake-v1", {"scale_reward": True, "gamma": 0.99}),
        ("ppo", Picture, {"scale_reward": True}),
        ("a2c", "rlgd/PendulumNoVelocity-v1", COMMON | {"network": "gru"}),
        ("npg", "rlgd/PendulumNoVelocity-v1", COMMON | {"network": "gru", "num_minibatches": 8}),
    ],
)
def test_what_the_rules_say(name: str, env: Any, settings: dict[str, Any]) -> None:
    made = envs.make(env)
    assert by_rule.settings(by_rule.rules(make_agent(name), made)) == settings
    agent = automatic(name, env)
    assert agent == make_agent(name, **settings)
    RunConfig(agent, made, RunSettings()).validate()


@pytest.mark.parametrize("name", REGISTRY)
def test_every_agent_has_them(name: str) -> None:
    assert hp.changed(automatic(name, "Pendulum-v1"))["scale_reward"] is True


def test_what_is_given_is_left_alone() -> None:
    given = {"network": "lstm", "num_envs": 4, "num_minibatches": 2, "gamma": 0.5, "schedule": "cosine"}
    agent = automatic("ppo", "rlgd/CartPoleNoVelocity-v1", **given)
    values = {name: flat.value for name, flat in hp.flat_fields(agent).items()}
    assert given.items() <= values.items()
    assert values["normalize_obs"]
    assert hp.changed(automatic("npg", "rlgd/PendulumNoVelocity-v1", num_envs=4))["num_minibatches"] == 4


def test_a_rule_in_words() -> None:
    assert (
        str(by_rule.Rule({"gamma": 1 - 1 / 500, "network": "gru"}, "so it is")) == "gamma=0.998 network=gru (so it is)"
    )


SMALL = ["--num-envs", "2", "--rollout-length", "16", "--num-minibatches", "2", "--num-epochs", "1"]
SMALL += ["--hidden-sizes", "4", "--total-timesteps", "64", "--measure-every", "0"]


@pytest.mark.slow
def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "flags.toml").write_text('env = "MountainCarContinuous-v0"\nscale_reward = false\n')
    words = ["--config", str(tmp_path / "flags.toml"), "--gamma", "0.95", *SMALL, "--run-dir", str(tmp_path / "run")]
    assert main.main(["train", "ppo", "--auto", *words]) == 0
    said = capsys.readouterr().err
    assert ("by rule: ppo for MountainCarContinuous-v0: normalize_obs=True (numbers are observed)\n") in said
    assert "preset" not in said
    values = json.loads((tmp_path / "run" / "config.json").read_text())["hyperparameters"]
    expected = {"normalize_obs": True, "scale_reward": False, "gamma": 0.95, "num_epochs": 1}
    assert expected.items() <= values.items()


def test_what_does_not_fit_may_be_the_rules(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--env", "rlgd/CartPoleNoVelocity-v1", "--rollout-length", "1"]
    assert main.main(["train", "ppo", "--auto", *words]) == 2
    assert re.search(r"rollout_length is 1, so .*; allowed: at least 2\. \(by rule: ppo for ", capsys.readouterr().err)


def test_an_agent_that_is_given_has_its_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="auto chooses hyper-parameters, which this PPO has; give the agent's name"):
        rlgd.train(PPO(), "CartPole-v1", auto=True)
    seen: list[RunConfig] = []
    monkeypatch.setattr("rlgd.run.api.execute", lambda config, *others: seen.append(config))
    rlgd.train("ppo", "Pendulum-v1", auto=True, num_envs=4)
    assert seen[0].agent == automatic("ppo", "Pendulum-v1", num_envs=4)
    assert seen[0].settings.total_timesteps == 100_000
