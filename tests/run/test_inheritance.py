"""``init``: a new run continues from what another one has learned, in another environment."""

import json
import re
import unittest.mock
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import rlgd
from rlgd.agents import A2C, PPO, REINFORCE, Agent
from rlgd.ascent import Ascent
from rlgd.cli import main
from rlgd.envs import make
from rlgd.errors import UsageError
from rlgd.run import config_file, inheritance, loading
from rlgd.run.config import RunConfig
from rlgd.run.inherited import Inherited
from rlgd.run.settings import RunSettings
from rlgd.training import federation
from tests.support.small_runs import At

AGENT_FIELDS: dict[str, Any] = {
    "num_envs": 4, "rollout_length": 16, "hidden_sizes": (8,), "normalize_obs": True, "scale_reward": True,
    "measure_every": 0,
}  # fmt: skip
AGENT = A2C(**AGENT_FIELDS)
SETTINGS: dict[str, Any] = {"total_timesteps": 256, "eval_episodes": 2}


@pytest.fixture(scope="module", name="run")
def _run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, rlgd.TrainResult]:
    directory = tmp_path_factory.mktemp("runs") / "run"
    return directory, rlgd.train(AGENT, "CartPole-v1", run_dir=directory, **SETTINGS)


def begun(agent: Agent, env: Any, init: Any, **settings: Any) -> Any:
    """The agent's state before the first iteration of a run with ``init``."""
    chosen = RunSettings(init=inheritance.described(init), **settings)
    config = RunConfig(agent, make(env), chosen, init=init if isinstance(init, rlgd.Policy) else None)
    config.validate()
    config = inheritance.read(config.for_devices(1))
    assert isinstance(config.init, Inherited)
    new = federation.init(config.agent.prepared(), config.env.spec, jax.random.key(9))
    return config.init.taken_over_by(config.agent, config.settings, new), new


def equal(a: Any, b: Any) -> bool:
    """Whether two trees have the same arrays."""
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


SHORT = make("CartPole-v1", max_episode_steps=20)
HOST = make("CartPole-v1", backend="host")


@pytest.mark.parametrize("env", [SHORT, HOST], ids=["device", "host"])
def test_a_run_hands_over_its_parameters_and_normalizers(env: Any, run: tuple[Path, rlgd.TrainResult]) -> None:
    old = run[1].state.agent_state
    state, new = begun(AGENT, env, run[0])
    assert equal(state.params, old.params)
    assert equal(state.obs_statistics, old.obs_statistics)
    assert equal(state.reward_statistics.statistics, old.reward_statistics.statistics)
    assert equal(state.reward_statistics.running, np.zeros(4))
    assert equal(state.opt_state, new.opt_state)
    assert not equal(state.opt_state, old.opt_state)


def test_the_optimizer_is_kept_and_the_normalizers_are_new(run: tuple[Path, rlgd.TrainResult]) -> None:
    old = run[1].state.agent_state
    state, new = begun(AGENT, SHORT, str(run[0]), init_optimizer=True, init_normalizers=False)
    assert equal(state.params, old.params)
    assert equal(state.opt_state, old.opt_state)
    assert equal((state.obs_statistics, state.reward_statistics), (new.obs_statistics, new.reward_statistics))


@pytest.mark.parametrize("as_file", [True, False])
def test_a_policy_hands_over_what_it_has(as_file: bool, run: tuple[Path, rlgd.TrainResult], tmp_path: Path) -> None:
    policy = run[1].policy
    policy.save(tmp_path / "policy")
    state, new = begun(AGENT, SHORT, tmp_path / "policy" if as_file else policy)
    assert equal(state.actor, policy.actor)
    assert equal(state.params.value, new.params.value)
    assert equal(state.reward_statistics, new.reward_statistics)


def test_other_numbers_of_environments_and_other_agents_take_over(run: tuple[Path, rlgd.TrainResult]) -> None:
    old = run[1].state.agent_state
    ppo = PPO(num_envs=8, rollout_length=32, hidden_sizes=(8,), normalize_obs=True, measure_every=0)
    state, _ = begun(ppo, SHORT, run[0])
    assert equal(state.params, old.params)
    assert state.reward_statistics is None
    state, _ = begun(REINFORCE(hidden_sizes=(8,), normalize_obs=True), SHORT, run[1].policy)
    assert equal(state.actor, old.actor)


@pytest.mark.slow
def test_climbers_begin_and_end_alike(run: tuple[Path, rlgd.TrainResult], tmp_path: Path) -> None:
    old = run[1].state.agent_state
    federated = A2C(**AGENT_FIELDS, ascent=Ascent(sync_every=2, climbers=2, outer_momentum=0.5))
    state, _ = begun(federated, SHORT, run[0])
    for n in range(2):
        assert equal(jax.tree.map(lambda leaf, n=n: leaf[n], state.params), old.params)
    assert equal(state.actor, old.actor)
    result = rlgd.train(federated, "CartPole-v1", run_dir=tmp_path / "run", init=run[0], **SETTINGS)
    state, _ = begun(AGENT, SHORT, tmp_path / "run")
    assert equal(state.actor, result.policy.actor)
    state, _ = begun(federated, SHORT, tmp_path / "run", init_optimizer=True)
    assert equal(state.opt_state, result.state.agent_state.opt_state)
    with pytest.raises(UsageError, match=r"init does not fit A2C: opt_state\.policy"):
        begun(AGENT, SHORT, tmp_path / "run", init_optimizer=True)


@pytest.mark.parametrize(
    ("changes", "settings", "message"),
    [
        ({"hidden_sizes": (16,)}, {}, "init does not fit A2C: hidden_sizes: there [8], here [16]."),
        ({"activation": "relu"}, {}, "activation: there tanh, here relu"),
        ({"normalize_obs": False}, {}, "normalize_obs: there True, here False"),
        ({"ascent": Ascent("sgd")}, {"init_optimizer": True}, "optimizer: there adam, here sgd"),
    ],
)
def test_what_does_not_fit_is_named(
    changes: dict[str, Any], settings: dict[str, Any], message: str, run: tuple[Path, rlgd.TrainResult]
) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        begun(A2C(**AGENT_FIELDS | changes), SHORT, run[0], **settings)


def test_mistakes_are_named(run: tuple[Path, rlgd.TrainResult], tmp_path: Path) -> None:
    directory, result = run
    with pytest.raises(UsageError, match=r"Acrobot-v1 does not fit the earlier policy: its obs is"):
        begun(AGENT, "Acrobot-v1", directory)
    with pytest.raises(UsageError, match="init is a policy, which has none; give the run"):
        begun(AGENT, SHORT, result.policy, init_optimizer=True)
    for settings in ({"init_optimizer": True}, {"init_normalizers": False}):
        with pytest.raises(UsageError, match="is set, but init is not: there is nothing to begin with"):
            begun(AGENT, SHORT, None, **settings)
    with pytest.raises(UsageError, match="holds no run"):
        rlgd.train(AGENT, SHORT, init=tmp_path / "nothing", run_dir=tmp_path / "run", **SETTINGS)
    assert not (tmp_path / "run").exists()
    with pytest.raises(UsageError, match=r"there is no checkpoint .*/checkpoints/7; .*/checkpoints has: 256"):
        begun(AGENT, SHORT, directory / "checkpoints" / "7")
    with pytest.raises(UsageError, match="init is 3; allowed: the path of a run"):
        rlgd.train(AGENT, SHORT, init=3, **SETTINGS)  # type: ignore[arg-type]


def interrupt() -> None:
    raise KeyboardInterrupt


@pytest.mark.slow
def test_it_is_recorded_and_resumed_exactly(run: tuple[Path, rlgd.TrainResult], tmp_path: Path) -> None:
    """A run that was stopped ends with the bits of one that was not, whatever has become of what it began with."""
    result = rlgd.train(AGENT, SHORT, init=run[1].policy, run_dir=tmp_path / "whole", **SETTINGS)
    given = SETTINGS | {"run_dir": tmp_path / "half", "eval_every": 128, "sinks": [At(128, interrupt)]}
    with pytest.raises(KeyboardInterrupt):
        rlgd.train(AGENT, SHORT, init=run[1].policy, **given)
    resumed = rlgd.resume(tmp_path / "half", env=SHORT)
    assert equal(resumed.state.agent_state.params, result.state.agent_state.params)
    recorded = json.loads((tmp_path / "whole" / "config.json").read_text())["settings"]["init"]
    assert re.fullmatch(r"an object: Policy\(A2C, Discrete actions\), SHA-256 [0-9a-f]{64}", recorded)
    with pytest.raises(UsageError, match="which is in no file; give it again: init=policy"):
        rlgd.train(AGENT, SHORT, init=recorded, **SETTINGS)


def test_the_command_line_names_the_checkpoint(
    run: tuple[Path, rlgd.TrainResult],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = ["--num-envs", "4", "--rollout-length", "16", "--hidden-sizes", "8", "--normalize-obs", "--no-preset"]
    words += ["--total-timesteps", "128", "--eval-episodes", "2", "--quiet", "--env", "CartPole-v1"]
    first = ["--init", str(run[0]), "--init-optimizer", "--run-dir", str(tmp_path / "first")]
    with unittest.mock.patch.object(inheritance, "load_state", wraps=loading.load_state) as reads:
        assert main.main(["train", "a2c", *words, *first]) == 0
    assert reads.call_count == 1
    settings = config_file.read_settings(tmp_path / "first")
    assert settings.init == str(run[0] / "checkpoints" / "256")
    assert settings.init_optimizer
    again = ["--config", str(tmp_path / "first" / "config.json"), "--run-dir", str(tmp_path / "again"), "--quiet"]
    assert main.main(["train", "a2c", *again]) == 0
    states = [config_file.read(tmp_path / name, None) for name in ("first", "again")]
    assert states[0] == states[1]
    policies = [rlgd.load(tmp_path / name) for name in ("first", "again")]
    assert equal(policies[0].actor, policies[1].actor)
    capsys.readouterr()
    monkeypatch.chdir(tmp_path)
    assert main.main(["train", "a2c", *words, "--init", str(run[0]), "--hidden-sizes", "4"]) == 2
    assert not (tmp_path / "runs").exists()
    assert "init does not fit A2C: hidden_sizes: there [8], here [4]" in capsys.readouterr().err
