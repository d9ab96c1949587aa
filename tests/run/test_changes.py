"""What a resumed run may change, and the settings that decide a result."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from rlgd.agents import A2C
from rlgd.envs import HostEnv
from rlgd.errors import UsageError
from rlgd.run.cadence import cadence
from rlgd.run.changes import Change, differences, other_settings, resumable, with_changes
from rlgd.run.config import RunConfig
from rlgd.run.config_file import to_json, write_config
from rlgd.run.settings import EnvSettings, RunSettings

AGENT = A2C(num_envs=2, rollout_length=8, hidden_sizes=(4,), measure_every=0)
CONFIG = RunConfig(AGENT, HostEnv("CartPole-v1", 500), RunSettings(total_timesteps=1024))
HERE = Path("run")


def content(config: RunConfig, **changes: Any) -> dict[str, Any]:
    """A configuration as checkpoints have it."""
    return json.loads(json.dumps(to_json(config, cadence(config)) | {"numbers": {}} | changes))


def with_agent(**changes: Any) -> RunConfig:
    return dataclasses.replace(CONFIG, agent=dataclasses.replace(AGENT, **changes))


def test_shapes_and_the_seed_are_not_resumable() -> None:
    allowed = resumable(AGENT) | resumable(RunSettings())
    assert {"learning_rate", "gamma", "total_timesteps", "keep", "env_timeout"} <= allowed
    assert not {"num_envs", "hidden_sizes", "optimizer", "seed", "backend"} & allowed


def test_changes_have_the_values_of_both_sides() -> None:
    after = with_agent(gamma=0.9).with_settings(total_timesteps=2048)
    changes = differences(HERE, content(CONFIG), content(after))
    assert {*changes} == {Change("gamma", 0.99, 0.9), Change("total_timesteps", 1024, 2048)}
    assert str(Change("gamma", 0.99, 0.9)) == "gamma: 0.99 -> 0.9"


def test_another_machine_and_other_versions_are_changes_that_are_allowed() -> None:
    versions = content(CONFIG)["versions"] | {"jax": "0.0.1"}
    names = [
        change.name for change in differences(HERE, content(CONFIG, device="tpu", versions=versions), content(CONFIG))
    ]
    assert sorted(names) == ["device", "version of jax"]


def test_everything_that_cannot_change_is_named() -> None:
    after = with_agent(hidden_sizes=(8,), gamma=0.9).with_settings(seed=1)
    with pytest.raises(UsageError) as caught:
        differences(HERE, content(CONFIG), content(after))
    assert "hidden_sizes: checkpoint [4], requested [8]" in str(caught.value)
    assert "seed: checkpoint 0, requested 1" in str(caught.value)
    assert "gamma" not in str(caught.value)


def test_what_decides_no_result_is_no_other_setting(tmp_path: Path) -> None:
    write_config(tmp_path, CONFIG, cadence(CONFIG), [])
    assert other_settings(tmp_path, CONFIG.with_settings(keep=9, checkpoint_every="5s")) == []
    assert other_settings(tmp_path, CONFIG.with_settings(seed=1)) == [Change("seed", 0, 1)]


def test_values_go_to_the_agent_or_to_the_settings() -> None:
    after = with_changes(CONFIG, {"gamma": 0.9, "keep": 5, "env_timeout": 2.0, "seed": 0})
    assert after.agent == dataclasses.replace(AGENT, gamma=0.9)
    assert after.settings == CONFIG.with_settings(keep=5, env_timeout=2.0).settings
    assert isinstance(CONFIG.env, HostEnv)
    assert after.env == dataclasses.replace(CONFIG.env, timeout=2.0)
    assert after.settings.env == EnvSettings(env_timeout=2.0)


def test_what_cannot_be_changed_is_refused() -> None:
    with pytest.raises(UsageError, match=r"resumed run: num_envs: checkpoint 2, requested 4; seed: checkpoint 0, req"):
        with_changes(CONFIG, {"num_envs": 4, "seed": 1, "gamma": 0.9})
