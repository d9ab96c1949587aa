"""``config.json``: nothing is lost on the way to the disk and back, and the format before is read."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import gymnasium
import pytest

from rlgd.agents import A2C
from rlgd.envs import DeviceEnv, Env, HostEnv, make
from rlgd.envs.host.host_env import autoreset_mode_named
from rlgd.errors import StorageFault, UsageError
from rlgd.run import RunConfig, RunSettings, Stopping, config_file
from rlgd.run.cadence import cadence
from rlgd.run.changes import differences
from rlgd.run.settings import EnvSettings

AGENT = A2C(num_envs=2, rollout_length=8, hidden_sizes=(4, 3), measure_every=0)
SETTINGS = RunSettings(
    total_timesteps=320,
    seed=7,
    eval_every=64,
    eval_episodes=3,
    stopping=Stopping(target_return=10.0, patience=4),
    checkpoint_every=128,
    keep=2,
)
HOST = make("CartPole-v1", backend="host", vectorization="sync", max_episode_steps=9, sutton_barto_reward=True)
assert isinstance(HOST, HostEnv)
ENVS: dict[str, Env] = {
    "device": make("CartPole-v1"),
    "limited": make("Pendulum-v1", max_episode_steps=5),
    "host": HOST,
    "timeout": make("CartPole-v1", backend="host", env_timeout=2.5),
    "autoreset": dataclasses.replace(HOST, autoreset_mode=autoreset_mode_named("NEXT_STEP")),
}


def write(directory: Path, config: RunConfig) -> dict[str, Any]:
    config_file.write_config(directory, config, cadence(config), [])
    content: dict[str, Any] = json.loads((directory / "config.json").read_text())
    return content


def as_json(config: RunConfig) -> Any:
    return json.loads(json.dumps(config_file.to_json(config, cadence(config)) | {"history": []}))


def same(env: Env, other: Env) -> bool:
    """A twin with its registered limit given is another object than the one without: what it is must be the same."""
    if isinstance(env, HostEnv):
        return env == other
    return isinstance(other, DeviceEnv) and (env.env_id, env.spec) == (other.env_id, other.spec)


@pytest.mark.parametrize("name", ENVS)
def test_a_configuration_comes_back_as_it_was(name: str, tmp_path: Path) -> None:
    config = RunConfig(AGENT, ENVS[name], SETTINGS)
    content = write(tmp_path, config)
    back = config_file.read(tmp_path, None)
    assert same(back.env, config.env)
    assert back.agent == AGENT
    assert dataclasses.replace(back.settings, env=EnvSettings()) == SETTINGS
    assert back.chunk_length == cadence(back).chunk_length == cadence(config).chunk_length
    assert as_json(back) == content
    assert config_file.read_settings(tmp_path) == back.settings


FORMAT_5_ENVS: list[tuple[dict[str, Any], Env]] = [
    ({"id": "CartPole-v1", "backend": "device", "max_episode_steps": 500}, ENVS["device"]),
    (
        {
            "id": "CartPole-v1",
            "backend": "host",
            "max_episode_steps": 9,
            "kwargs": '{"sutton_barto_reward": true}',
            "vectorization": "sync",
            "timeout": None,
        },
        HOST,
    ),
]


def as_format_5(content: dict[str, Any], env: dict[str, Any]) -> dict[str, Any]:
    old = {name: value for name, value in content.items() if name != "settings"}
    settings = content["settings"]
    own = ("total_timesteps", "seed", "eval_every", "eval_episodes", "act_device", "checkpoint_every", "keep")
    criteria = ("target_return", "patience", "min_gradient_norm", "min_objective_change", "max_seconds")
    old |= {name: settings[name] for name in own} | {"stopping": {name: settings[name] for name in criteria}}
    return old | {"format_version": 5, "env": env}


@pytest.mark.parametrize(("stored", "env"), FORMAT_5_ENVS, ids=["device", "host"])
def test_the_format_before_is_read(stored: dict[str, Any], env: Env, tmp_path: Path) -> None:
    config = RunConfig(AGENT, env, SETTINGS)
    new = write(tmp_path, config)
    old = as_format_5(new, stored)
    (tmp_path / "config.json").write_text(json.dumps(old))
    back = config_file.read(tmp_path, None)
    assert same(back.env, env)
    assert back.agent == AGENT
    assert back.settings == config_file.read_settings(tmp_path)
    assert dataclasses.replace(back.settings, env=EnvSettings()) == SETTINGS
    assert as_json(back) == new
    kinds = {"numbers": {"dtype": "float32"}}
    assert differences(tmp_path, old | kinds, new | kinds) == []


def test_another_format_is_refused(tmp_path: Path) -> None:
    content = write(tmp_path, RunConfig(AGENT, ENVS["device"], SETTINGS))
    (tmp_path / "config.json").write_text(json.dumps(content | {"format_version": 4}))
    with pytest.raises(UsageError, match=r"has format_version 4; this rlgd reads 5 or 6"):
        config_file.read(tmp_path, None)


@pytest.mark.parametrize("name", ["agent", "hyperparameters", "env", "settings", "spec", "chunk_length"])
def test_what_is_missing_is_damage(name: str, tmp_path: Path) -> None:
    content = write(tmp_path, RunConfig(AGENT, ENVS["device"], SETTINGS))
    del content[name]
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(StorageFault, match=rf"config\.json is damaged: .*{name}"):
        config_file.read(tmp_path, None)


def test_an_environment_that_only_its_user_has_must_be_named(tmp_path: Path) -> None:
    class Own(gymnasium.Env[Any, Any]):
        observation_space = gymnasium.spaces.Box(-1.0, 1.0, (1,))
        action_space = gymnasium.spaces.Discrete(2)

    env = make(Own, max_episode_steps=5)
    write(tmp_path, RunConfig(AGENT, env, SETTINGS))
    with pytest.raises(UsageError, match="cannot be made from a file; name it"):
        config_file.read(tmp_path, None)
    assert config_file.read(tmp_path, Own).env == env  # the time limit is the run's
    assert not isinstance(env, DeviceEnv)
