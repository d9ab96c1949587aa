"""The presets that ship: each is sound, and the command line takes it where no flag says otherwise."""

from pathlib import Path
from typing import Any

import gymnasium
import jax
import pytest

import rlgd.agents
from rlgd import envs
from rlgd.agents import PPO, REGISTRY, make_agent, presets
from rlgd.agents.presets import Preset
from rlgd.cli import main, train
from rlgd.envs.functional.registration import GAME_IDS
from rlgd.envs.suites.catalog import SUITES
from rlgd.errors import UsageError
from rlgd.run import RunConfig, RunSettings
from rlgd.run.cadence import cadence

PRESETS = [preset for name in REGISTRY for preset in presets.of_agent(name).values()]


@pytest.mark.parametrize("preset", PRESETS, ids=[f"{preset.agent} {preset.env}" for preset in PRESETS])
def test_a_preset_that_ships_is_sound(preset: Preset) -> None:
    if preset.env.endswith("*"):
        pytest.importorskip("ale_py")  # registers the games
        preset = preset._replace(env="ALE/Seaquest-v5")
        assert presets.find(preset.agent, preset.env) == preset
    prefix = preset.env.partition(":")[0]
    if prefix in SUITES:
        pytest.importorskip(SUITES[prefix].module)
    agent = rlgd.agents.preset(preset.agent, preset.env)
    assert preset.env in {*gymnasium.registry, *GAME_IDS.values()} or prefix in SUITES
    assert envs.full_id(preset.env) == preset.env
    default = make_agent(preset.agent)
    for name, value in preset.settings.items():
        assert make_agent(preset.agent, **{name: value}) != default, f"{name} is the agent's default"
    for number in (preset.total_timesteps, preset.tuned.seeds, preset.tuned.total_timesteps):
        assert type(number) is int
        assert number > 0
    assert type(preset.tuned.trials) is int
    assert type(preset.tuned.note) is str
    assert preset.tuned.trials or preset.tuned.note
    with jax.debug_key_reuse(prefix != "playground"):  # which uses keys twice, by the checker's measure
        RunConfig(agent, envs.make(preset.env), RunSettings(preset.total_timesteps)).validate()


def test_every_file_is_an_agents() -> None:
    assert {Path(file.name).stem for file in presets.FOLDER.iterdir() if file.name.endswith(".toml")} <= REGISTRY.keys()


def test_a_preset_as_an_agent() -> None:
    settings = presets.find("ppo", "Pendulum-v1").settings
    assert settings["gamma"] == 0.9
    assert rlgd.agents.preset("PPO", "Pendulum-v1") == make_agent("ppo", **settings)
    with pytest.raises(UsageError, match=r"no preset of ppo for Taxi-v4; there are some for .*Pendulum-v1"):
        rlgd.agents.preset("ppo", "Taxi-v4")
    with pytest.raises(UsageError, match=r"unknown agent 'pp0'; did you mean 'ppo'"):
        rlgd.agents.preset("pp0", "Taxi-v4")


@pytest.fixture(name="asked")
def _asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The options of the run that ``rlgd train`` would start."""
    asked: list[Any] = []

    def run(options: train.Options) -> int:
        asked.append(options)
        return 0

    monkeypatch.setattr(train, "run", run)
    return asked


IGNORES = "; --no-preset ignores it"


@pytest.mark.parametrize(
    ("argv", "gamma", "total_timesteps", "origin"),
    [
        ("", 0.9, 200_000, f"preset: ppo for Pendulum-v1 (200,000 steps){IGNORES}"),
        ("--gamma 0.5", 0.5, 200_000, f"preset: ppo for Pendulum-v1 (200,000 steps), but for --gamma{IGNORES}"),
        ("--total-timesteps=5k", 0.9, 5_000, f"preset: ppo for Pendulum-v1, but for --total-timesteps{IGNORES}"),
        ("--total-timesteps 5k --gamma 0.5", 0.5, 5_000, None),
        ("--no-preset", 0.99, 100_000, None),
        ("--env=Pendulum", 0.9, 200_000, f"preset: ppo for Pendulum-v1 (200,000 steps){IGNORES}"),
        ("--env Taxi-v4", 0.99, 100_000, "no preset of ppo for Taxi-v4: the agent's defaults"),
        ("--config flags.toml", 0.8, 200_000, f"preset: ppo for Pendulum-v1 (200,000 steps), but for --gamma{IGNORES}"),
        ("--config none.toml", 0.99, 100_000, None),
        ("--config none.toml --preset", 0.9, 200_000, f"preset: ppo for Pendulum-v1 (200,000 steps){IGNORES}"),
    ],
)
def test_flags_come_before_the_preset(
    argv: str,
    gamma: float,
    total_timesteps: int,
    origin: str | None,
    asked: list[Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    of_pendulum = Preset("ppo", "Pendulum-v1", 200_000, {"gamma": 0.9}, presets.Tuning(0, 1, 1, "a test's"))
    monkeypatch.setattr(presets, "of_agent", lambda agent: {"Pendulum-v1": of_pendulum})
    monkeypatch.chdir(tmp_path)
    Path("flags.toml").write_text('env = "Pendulum-v1"\ngamma = 0.8\n')
    Path("none.toml").write_text('env = "Pendulum-v1"\npreset = false\n')
    env = [] if "env" in argv or "config" in argv else ["--env", "Pendulum-v1"]
    assert main.main(["train", "ppo", *env, *argv.split()]) == 0
    (options,) = asked
    assert options.hyperparameters == PPO(gamma=gamma)
    assert options.settings.total_timesteps == total_timesteps
    assert (options.origin.sentence if options.origin else None) == origin


def test_a_runs_configuration_leaves_nothing_to_the_preset(asked: list[Any], tmp_path: Path) -> None:
    from rlgd.run import config_file

    agent = PPO(num_envs=2, rollout_length=16, num_minibatches=1)
    config = RunConfig(agent, envs.make("Pendulum-v1"), RunSettings(64))
    config_file.write_config(tmp_path, config, cadence(config), [])
    assert main.main(["train", "ppo", "--config", str(tmp_path / "config.json")]) == 0
    (options,) = asked
    assert (options.hyperparameters, options.settings.total_timesteps, options.origin) == (agent, 64, None)


def test_help_shows_the_presets_values(capsys: pytest.CaptureFixture[str]) -> None:
    for argv, gamma in ((["--env", "Pendulum-v1"], "0.9"), ([], "0.99")):
        assert main.main(["train", "ppo", *argv, "--help"]) == 0
        assert f"in [0, 1] (default: {gamma})" in " ".join(capsys.readouterr().out.split())


def test_they_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["list", "presets"]) == 0
    out = capsys.readouterr().out
    for preset in PRESETS:
        assert any(line.split()[:2] == [preset.agent, preset.env] for line in out.splitlines())


def test_how_one_was_found_in_words() -> None:
    assert str(presets.Tuning(40, 3, 300_000)) == "40 trials, each 3 seeds, 300,000 steps"
    assert str(presets.Tuning(1, 1, 300_000)) == "1 trial, each 1 seed, 300,000 steps"
