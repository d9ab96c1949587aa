"""A wheel of a user with an agent, a network, an optimizer, an environment and a sink does all that ours do."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import rlgd.envs
from rlgd import agents, envs, models
from tests.agents.test_own_agents import SMALL
from tests.plugin.rlgd_plugin.agents import ClippedA2C
from tests.plugin.rlgd_plugin.envs import Corridor
from tests.plugin.rlgd_plugin.networks import Differences
from tests.plugin.rlgd_plugin.optimizers import sign_momentum
from tests.support.own_parts import PLUGIN, Command, command_in, forget

MOST_LINES = 80  # of the plugin's Python files and its pyproject.toml, without empty ones
ALL = ["clipped-a2c", "--env", "corridor", "--network", "differences", "--optimizer", "sign-momentum"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the plugin's wheel is installed."""
    made, copy = tmp_path_factory.mktemp("wheel"), tmp_path_factory.mktemp("source") / "plugin"
    subprocess.run(["cp", "-r", str(PLUGIN), str(copy)], check=True)
    pip = [sys.executable, "-m", "pip"]
    quiet = ["--quiet", "--no-deps", "--no-index"]
    build = [*pip, "wheel", *quiet, "--no-build-isolation", "--wheel-dir", str(made), str(copy)]
    subprocess.run(build, check=True, timeout=300)
    (wheel,) = made.glob("*.whl")
    subprocess.run([*pip, "install", *quiet, "--target", str(made / "site"), str(wheel)], check=True, timeout=300)
    return made / "site"


@pytest.fixture(name="rlgd_command")
def _rlgd_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Command]:
    yield command_in(tmp_path, monkeypatch, capfd)
    forget(monkeypatch)


def test_all_kinds_are_listed_and_train_together(site: Path, tmp_path: Path, rlgd_command: Command) -> None:
    for kind, name in (("agents", "clipped-a2c"), ("networks", "differences"), ("optimizers", "sign-momentum"),
                       ("envs", "corridor"), ("sinks", "diary")):  # fmt: skip
        listed = rlgd_command("list", kind, path=site)
        assert any(line.startswith(name) and "rlgd-plugin 1.0" in line for line in listed.stdout.splitlines()), listed
    flags = [*SMALL, "--max-episode-steps", "20", "--total-timesteps", "640", "--eval-episodes", "2", "--sink", "diary"]
    trained = rlgd_command("train", *ALL, *flags, "--run-dir", "run", "--quiet", path=site)
    assert trained.returncode == 0, trained.stderr
    assert "ClippedA2C begins in corridor" in (tmp_path / "run" / "diary.txt").read_text()
    for command in (["eval", "run", "--episodes", "2"], ["resume", "run", "--total-timesteps", "1280", "--quiet"]):
        done = rlgd_command(*command, path=site)
        assert done.returncode == 0, done.stderr
    named = ["--agent", "clipped-a2c", "--env", "corridor"]
    assert "run" in rlgd_command("runs", ".", *named, path=site).stdout.splitlines()[1].split()
    unseen = rlgd_command("play", "run", "--video", "corridor.mp4", path=site)
    assert unseen.returncode == 2
    assert "corridor gives no pictures: its class has no render_init, render_image and render_close" in unseen.stderr
    # Without the package nothing of it can be read, and the first part that is missing is named.
    missing = rlgd_command("eval", "run", path=tmp_path)
    assert missing.returncode == 2
    assert "rlgd_plugin.agents:ClippedA2C" in missing.stderr


@pytest.mark.slow
def test_what_is_made_of_them_survives_kills_and_varies(site: Path, tmp_path: Path, rlgd_command: Command) -> None:
    lines = ['agent = "clipped-a2c"', 'env = "corridor"', 'network = "differences"', 'optimizer = "sign-momentum"']
    lines += ["max_episode_steps = 20", "total_timesteps = 20000", "learning_rate = 1e-4"]
    (tmp_path / "flags.toml").write_text("\n".join(lines))
    verified = rlgd_command("verify-resume", "flags.toml", path=site)
    assert "resuming is exact" in verified.stdout, verified.stderr
    (tmp_path / "parts.toml").write_text(
        '[[arms]]\nvary = { optimizer = ["adam", "sign-momentum"], network = ["mlp", "differences"] }\n'
    )
    flags = ["--env", "corridor", "--total-timesteps", "512"]
    study = rlgd_command(
        "study",
        "parts.toml",
        "--agent",
        "clipped-a2c",
        *flags,
        "--seeds",
        "2",
        "--run-dir",
        "study",
        path=site,
    )
    assert study.returncode == 0, study.stderr
    again = rlgd_command("study", "resume", "study", path=site)
    assert again.returncode == 0, again.stderr
    search = ["--search", "network=mlp,differences", "--trials", "2", "--seeds", "1", "--fresh-seeds", "1"]
    tuned = rlgd_command("tune", "clipped-a2c", *flags, *search, "--run-dir", "tune", path=site)
    assert tuned.returncode == 0, tuned.stderr


@pytest.mark.slow
def test_they_pass_the_checks_that_ship() -> None:
    models.check(Differences)
    small: dict[str, Any] = {"num_envs": 4, "rollout_length": 8, "measure_every": 1}
    parts: dict[str, Any] = {"network": Differences(8), "optimizer": sign_momentum}
    agents.check(ClippedA2C(**parts, **small))
    env = rlgd.envs.make(Corridor(), max_episode_steps=20)
    assert isinstance(env, envs.DeviceEnv)
    agents.check(ClippedA2C(**small), env)


def test_it_is_short() -> None:
    files = [*(PLUGIN / "rlgd_plugin").glob("*.py"), PLUGIN / "pyproject.toml"]
    assert sum(bool(line.strip()) for file in files for line in file.read_text().splitlines()) <= MOST_LINES


def test_the_document_shows_the_environment_of_the_plugin() -> None:
    code = (PLUGIN / "rlgd_plugin" / "envs.py").read_text()
    assert f"```python\n{code}```" in (PLUGIN.parents[1] / "docs" / "extending.md").read_text()
