"""The settings of a run: ranges, and that everything else about a setting derives from its one line."""

import inspect
import json
import sys
from pathlib import Path
from typing import Any

import pytest

import rlgd
from rlgd import hyperparameters as hp
from rlgd.agents import A2C
from rlgd.cli import main
from rlgd.envs import DeviceEnv, HostEnv, make
from rlgd.errors import UsageError
from rlgd.hyperparameters import hyperparameters, static
from rlgd.run import EnvSettings, RunSettings, Stopping, api, documentation, settings
from rlgd.run.settings import CheckpointInterval

AGENT = A2C(num_envs=2, rollout_length=8, hidden_sizes=(4,), measure_every=0)

WRONG: list[tuple[str, Any, str]] = [
    ("total_timesteps", 0, "a whole number within [1, inf)"),
    ("total_timesteps", 1e5, "a whole number within [1, inf)"),
    ("total_timesteps", 2**63, "a whole number below 2**63"),
    ("seed", -1, "a whole number within [0, inf)"),
    ("seed", True, "a whole number within [0, inf)"),
    ("eval_every", 0, "a whole number within [1, inf)"),
    ("eval_episodes", 0, "a whole number within [1, inf)"),
    ("keep", 0, "a whole number within [1, inf)"),
    ("patience", 0, "a whole number within [1, inf)"),
    ("env_timeout", 0.0, "a number within (0, inf)"),
    ("max_episode_steps", 0, "a whole number within [1, inf)"),
    ("checkpoint_every", "5m", "seconds, such as 60s, or steps, such as 100000"),
    ("checkpoint_every", True, "seconds, such as 60s, or steps, such as 100000"),
    ("env_args", "g=1", "a table of arguments"),
]


@pytest.mark.parametrize(("name", "value", "allowed"), WRONG, ids=lambda x: str(x)[:20])
def test_a_setting_out_of_range_is_named_with_what_is_allowed(name: str, value: Any, allowed: str) -> None:
    with pytest.raises(UsageError) as caught:
        RunSettings.of({name: value}).validate()
    assert str(caught.value) == f"{name} is {value!r}; allowed: {allowed}."


@pytest.mark.parametrize(
    ("name", "value"), [("backend", "devise"), ("vectorization", "sink"), ("act_device", "tpu"), ("keeps", 3)]
)
def test_an_unknown_name_is_answered_with_the_nearest(name: str, value: Any) -> None:
    with pytest.raises(UsageError, match="unknown"):
        RunSettings.of({name: value}).validate()


def test_the_defaults_are_valid() -> None:
    RunSettings().validate()
    RunSettings(stopping=Stopping(patience=3), env=EnvSettings(env_timeout=1.5, env_args={"g": 9.8})).validate()


@pytest.mark.parametrize(
    ("given", "interval"),
    [
        ("60s", (60.0, None)),
        ("0.5s", (0.5, None)),
        (1000, (None, 1000)),
        ("100k", (None, 100_000)),
        ("1e5", (None, 100_000)),
    ],
)
def test_an_interval_is_in_seconds_or_in_steps(given: Any, interval: tuple[Any, Any]) -> None:
    assert RunSettings(checkpoint_every=given).checkpoint_interval() == CheckpointInterval(*interval)


def test_an_environment_is_made_as_its_settings_say() -> None:
    device = EnvSettings().make("CartPole-v1")
    assert isinstance(device, DeviceEnv)
    assert EnvSettings.of(device) == EnvSettings("device", 500)
    wanted = EnvSettings("host", 7, "sync", None, {"sutton_barto_reward": True})
    host = wanted.make("CartPole-v1")
    assert isinstance(host, HostEnv)
    assert host.max_episode_steps == 7
    assert EnvSettings.of(host) == wanted
    assert EnvSettings.of(host).make("CartPole-v1") == host


def test_an_argument_with_the_name_of_a_setting_is_refused() -> None:
    with pytest.raises(UsageError, match="env_args sets backend, which is a setting of its own"):
        EnvSettings(env_args={"backend": "host"}).make("CartPole-v1")


def test_a_resumed_run_may_step_its_environments_in_another_way() -> None:
    host = make("CartPole-v1", backend="host")
    other = EnvSettings("host", vectorization="sync", env_args={"sutton_barto_reward": True}).applied_to(host)
    assert other == make("CartPole-v1", backend="host", vectorization="sync", sutton_barto_reward=True)
    with pytest.raises(UsageError, match="CartPole-v1 runs on the device"):
        EnvSettings(vectorization="sync").applied_to(make("CartPole-v1"))


def test_train_shows_every_setting_with_its_sentence() -> None:
    parameters = inspect.signature(rlgd.train).parameters
    assert rlgd.train.__doc__ is not None
    text = " ".join(rlgd.train.__doc__.split())
    for name, flat in hp.flat_fields(RunSettings()).items():
        assert f"{name}: {flat.field.metadata['doc']}" in text
        if name != "total_timesteps":
            assert parameters[name].default == flat.value
    assert parameters["total_timesteps"].default is None
    assert "settings" not in parameters


def test_an_unknown_keyword_of_train_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown setting of a run 'eval_evry'; did you mean 'eval_every'"):
        rlgd.train(AGENT, "CartPole-v1", total_timesteps=16, eval_evry=8)


@hyperparameters
class WithOneMore(RunSettings):
    """The settings of a run and a new one, which is declared here and nowhere else."""

    brightness: int = static(2, "how bright the run is", "[1, 9]", resumable=True)


@pytest.fixture(name="one_more")
def _one_more(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, module in list(sys.modules.items()):
        if name.startswith("rlgd.") and module.__dict__.get("RunSettings") is RunSettings:
            monkeypatch.setattr(module, "RunSettings", WithOneMore)
    assert settings.__dict__["RunSettings"] is WithOneMore


@pytest.mark.usefixtures("one_more")
def test_a_new_setting_takes_one_line(tmp_path: Path) -> None:
    """It is documented, checked, written, and may change on resume, as its line says."""

    def trained(agent: Any, env: Any, **settings: Any) -> None:
        """Args:
        settings: {settings}
        """

    shown = documentation.documented(trained)
    assert inspect.signature(shown).parameters["brightness"].default == 2
    assert "brightness: how bright the run is; allowed: [1, 9]." in str(shown.__doc__)

    options: dict[str, Any] = {"total_timesteps": 64, "eval_episodes": 1, "run_dir": tmp_path / "run"}
    with pytest.raises(UsageError, match=r"brightness is 10; allowed: a whole number within \[1, 9\]"):
        api.train(AGENT, "CartPole-v1", brightness=10, **options)
    api.train(AGENT, "CartPole-v1", brightness=5, **options)
    assert json.loads((tmp_path / "run" / "config.json").read_text())["settings"]["brightness"] == 5

    with pytest.raises(UsageError, match=r"brightness is 0"):
        api.resume(tmp_path / "run", brightness=0)
    api.resume(tmp_path / "run", brightness=6, total_timesteps=128)
    content = json.loads((tmp_path / "run" / "config.json").read_text())
    assert content["settings"]["brightness"] == 6
    assert content["history"][0]["changes"]["brightness"] == {"before": 5, "now": 6}


@pytest.mark.slow
@pytest.mark.usefixtures("one_more")
def test_a_new_setting_is_a_flag(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run = str(tmp_path / "run")
    words = ["train", "a2c", "--env", "CartPole-v1", "--num-envs", "2", "--hidden-sizes", "4", "--eval-episodes", "1"]
    words += ["--total-timesteps", "64", "--quiet", "--run-dir", run]
    assert main.main([*words, "--brightness", "0"]) == 2
    assert "brightness is 0; allowed: a whole number within [1, 9]" in capfd.readouterr().err
    assert main.main([*words, "--brightness", "3"]) == 0
    assert json.loads((tmp_path / "run" / "config.json").read_text())["settings"]["brightness"] == 3
    assert main.main(["resume", run, "--total-timesteps", "128", "--brightness", "4", "--quiet"]) == 0
    assert json.loads((tmp_path / "run" / "config.json").read_text())["settings"]["brightness"] == 4


def test_a_run_from_before_a_setting_existed_has_its_default(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    api.train(AGENT, "CartPole-v1", total_timesteps=64, eval_episodes=1, run_dir=tmp_path)
    request.getfixturevalue("one_more")
    resumed = api.resume(tmp_path, total_timesteps=128)
    assert resumed.steps == 128
    content = json.loads((tmp_path / "config.json").read_text())
    assert content["settings"]["brightness"] == 2
    assert set(content["history"][0]["changes"]) == {"total_timesteps"}
