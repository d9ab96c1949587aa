"""Agents of users: named on the command line, in Python and by entry points; files alone import nothing."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import rlgd
from rlgd import plugins
from rlgd.agents import A2C, check, make_agent
from rlgd.agents.base.agent import Agent
from rlgd.errors import UsageError
from tests.plugin.rlgd_plugin.agents import ClippedA2C
from tests.support.own_parts import PLUGIN, Command, command_in, forget

ROOT = Path(__file__).parents[2]
NAME = "rlgd_plugin.agents:ClippedA2C"
SMALL = ["--num-envs", "4", "--rollout-length", "8", "--hidden-sizes", "4", "--measure-every", "0"]


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    forget(monkeypatch)
    yield
    forget(monkeypatch)


@pytest.fixture(name="rlgd_command")
def _rlgd_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    return command_in(tmp_path, monkeypatch, capfd)


SIZES: dict[str, Any] = {"num_envs": 4, "rollout_length": 8, "hidden_sizes": (4,), "measure_every": 0}


def small() -> ClippedA2C:
    return ClippedA2C(**SIZES)


def trained(run_dir: Path, agent: Agent | None = None) -> Path:
    """The configuration of a run."""
    rlgd.train(agent or A2C(**SIZES), "CartPole-v1", total_timesteps=64, run_dir=run_dir, eval_episodes=1)
    return run_dir / "config.json"


@pytest.mark.slow  # tests/test_plugin.py checks it in two environments
def test_an_agent_of_a_user_keeps_the_contract() -> None:
    check(small())


def test_the_document_shows_this_agent() -> None:
    code = (PLUGIN / "rlgd_plugin" / "agents.py").read_text()
    assert f"```python\n{code}```" in (ROOT / "docs" / "extending.md").read_text()
    assert len([line for line in code.splitlines() if line]) <= 40


def test_a_run_is_trained_by_name_and_resumed_where_the_package_is_trusted(
    tmp_path: Path, rlgd_command: Command
) -> None:
    flags = ["--env", "CartPole-v1", "--adv-clip", "1.5", *SMALL, "--total-timesteps", "640", "--run-dir", "run"]
    flags += ["--network", "rlgd_plugin.networks:Differences"]
    flags += ["--optimizer", "rlgd_plugin.optimizers:sign_momentum", "--learning-rate", "1e-4"]
    begun = rlgd_command("train", NAME, *flags, "--eval-episodes", "2", "--quiet")
    assert begun.returncode == 0, begun.stderr
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (config["agent"], config["hyperparameters"]["adv_clip"]) == (NAME, 1.5)
    for command in (["eval", "run", "--episodes", "2"], ["resume", "run", "--total-timesteps", "1280"]):
        refused = rlgd_command(*command)
        assert refused.returncode == 2
        assert f"the agent {NAME!r} is not part of rlgd, and a file alone imports no code" in refused.stderr
        assert "--trust rlgd_plugin" in refused.stderr
        done = rlgd_command(*command, "--trust", "rlgd_plugin")
        assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_verify_resume_study_and_tune_take_an_agent_of_a_user(tmp_path: Path, rlgd_command: Command) -> None:
    (tmp_path / "flags.toml").write_text(f'agent = "{NAME}"\nenv = "CartPole-v1"\ntotal_timesteps = 20000\n')
    assert rlgd_command("verify-resume", "flags.toml").returncode == 2
    verified = rlgd_command("verify-resume", "flags.toml", "--trust", "rlgd_plugin")
    assert verified.returncode == 0, verified.stderr
    assert "resuming is exact" in verified.stdout
    flags = ["--seeds", "2", "--total-timesteps", "512"]
    (tmp_path / "clip.toml").write_text("[[arms]]\nvary = { adv_clip = [0.5, 2.0] }\n")
    study = rlgd_command("study", "clip.toml", "--agent", NAME, "--env", "CartPole-v1", *flags, "--run-dir", "study")
    assert study.returncode == 0, study.stderr
    assert rlgd_command("study", "resume", "study").returncode == 2
    again = rlgd_command("study", "resume", "study", "--trust", "rlgd_plugin")
    assert again.returncode == 0, again.stderr
    search = ["--search", "adv_clip=log:0.1,10", "--trials", "2", "--fresh-seeds", "1", *flags, "--run-dir", "tune"]
    tuned = rlgd_command("tune", NAME, "--env", "CartPole-v1", *search)
    assert tuned.returncode == 0, tuned.stderr


@pytest.mark.slow
def test_in_python_the_class_is_given_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rlgd.train(small(), "CartPole-v1", total_timesteps=64, run_dir=tmp_path / "run", eval_episodes=1)
    monkeypatch.setattr(plugins, "_used", {})  # as in another process
    with pytest.raises(UsageError, match=r"a file alone imports no code; .* agent=ClippedA2C"):
        rlgd.load(tmp_path / "run")
    with pytest.raises(UsageError, match="but 'a2c' was given"):
        rlgd.load(tmp_path / "run", agent=A2C)
    policy = rlgd.load(tmp_path / "run", agent=ClippedA2C)
    assert isinstance(policy.agent, ClippedA2C)
    monkeypatch.setattr(plugins, "_used", {})
    rest = rlgd.resume(tmp_path / "run", agent=ClippedA2C, total_timesteps=128)
    assert rest.steps == 128


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("rlgd_plugin.agents:Nope", "cannot be imported: .* has no attribute 'Nope'"),
        ("no_such_package:Agent", "cannot be imported: No module named 'no_such_package'"),
        ("json:JSONDecoder", "expected a class of agents, derived from rlgd.agents.Agent"),
        ("rlgd.agents:Agent", "lacks gradient, passes, update"),
        ("clipped", "unknown agent 'clipped'"),
    ],
)
def test_a_name_that_is_no_agent(name: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(PLUGIN))
    with pytest.raises(UsageError, match=message):
        make_agent(name)


def test_a_folder_here_replaces_no_installed_package(tmp_path: Path) -> None:
    (tmp_path / "rlgd_plugin").mkdir()
    (tmp_path / "rlgd_plugin" / "__init__.py").write_text("open('PWNED', 'w').close()\n")
    code = f"""
import sys
sys.path.remove("")  # as rlgd's own script starts
from rlgd.agents import agent_class
from rlgd.plugins import trust
trust("rlgd_plugin")
print(sys.modules[agent_class({NAME!r}).__module__].__file__)
"""
    variables = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{PLUGIN}"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).is_relative_to(PLUGIN)
    assert not (tmp_path / "PWNED").exists()


@pytest.mark.slow
def test_an_installed_package_brings_agents_but_takes_no_name_of_ours(tmp_path: Path, rlgd_command: Command) -> None:
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    copy = tmp_path / "plugin"
    subprocess.run(["cp", "-r", str(PLUGIN), str(copy)], check=True)
    subprocess.run([*pip, "--target", str(site), str(copy)], check=True, timeout=300)
    listed = rlgd_command("list", "agents", path=site)
    assert listed.returncode == 0, listed.stderr
    (row,) = [line for line in listed.stdout.splitlines() if line.startswith("clipped-a2c")]
    assert "rlgd_plugin.agents:ClippedA2C" in row
    assert "of rlgd-plugin 1.0" in row
    assert "the agent 'ppo' of rlgd-plugin is left out: the name is taken" in listed.stderr
    assert "differences" in rlgd_command("list", "networks", path=site).stdout
    assert "sign-momentum" in rlgd_command("list", "optimizers", path=site).stdout
    flags = ["--env", "CartPole-v1", *SMALL, "--total-timesteps", "64", "--eval-episodes", "1", "--run-dir", "run"]
    flags += ["--network", "differences", "--optimizer", "sign-momentum", "--momentum", "0.5"]
    begun = rlgd_command("train", "clipped-a2c", *flags, "--quiet", path=site)
    assert begun.returncode == 0, begun.stderr
    played = rlgd_command("eval", "run", "--episodes", "1", path=site)
    assert played.returncode == 0, played.stderr


@pytest.mark.parametrize(
    "where",
    [
        "run",
        "study",
        "network of a study",
        "network of a file",
        *(pytest.param(f"{part} of a run", marks=pytest.mark.slow) for part in ("network", "optimizer")),
    ],
)
def test_a_file_imports_nothing(where: str, tmp_path: Path, rlgd_command: Command) -> None:
    (tmp_path / "evil.py").write_text("open('PWNED', 'w').close()\nclass Agent: pass\n")
    commands = [["eval", "run"], ["resume", "run"], ["play", "run"], ["verify-resume", "run"]]
    if where == "network of a run":
        path = trained(tmp_path / "run")
        path.write_text(path.read_text().replace('"network": "mlp"', '"network": "evil:Agent"'))
    elif where == "optimizer of a run":
        path = trained(tmp_path / "run")
        path.write_text(path.read_text().replace('"optimizer": "adam"', '"optimizer": "evil:Agent"'))
    elif where == "network of a study":
        (tmp_path / "evil.toml").write_text('agent = "a2c"\n[[arms]]\nvary = { network = ["mlp", "evil:Agent"] }\n')
        commands = [["study", "evil.toml", "--dry-run"]]
    elif where == "network of a file":
        (tmp_path / "evil.toml").write_text('network = "evil:Agent"\n')
        commands = [["train", "a2c", "--env", "CartPole-v1", "--config", "evil.toml"]]
    elif where == "run":
        path = trained(tmp_path / "run", small())
        path.write_text(path.read_text().replace("tests.plugin.rlgd_plugin.agents:ClippedA2C", "evil:Agent"))
    else:
        (tmp_path / "evil.toml").write_text('agent = "evil:Agent"\n[[arms]]\nvary = { gamma = [0.9, 0.99] }\n')
        commands = [["study", "evil.toml", "--dry-run"]]
    for command in commands:
        done = rlgd_command(*command, path=tmp_path)
        assert done.returncode == 2, done.stderr
        assert "a file alone imports no code" in done.stderr
    assert not (tmp_path / "PWNED").exists()


@pytest.mark.parametrize("kind", ["env", "network"])
def test_a_file_names_nothing_that_a_trusted_package_has_from_elsewhere(
    kind: str, tmp_path: Path, rlgd_command: Command
) -> None:
    (tmp_path / "sound.py").write_text("import os\nfrom subprocess import run\n")
    path = trained(tmp_path / "run")
    content = json.loads(path.read_text())
    if kind == "env":
        content["env"]["id"] = "sound:run"
        content["settings"] |= {"backend": "host", "env_args": {"args": ["touch", "PWNED"]}}
    else:
        content["hyperparameters"]["network"] = "sound:os.abort"
    path.write_text(json.dumps(content))
    for command in ("eval", "resume"):
        done = rlgd_command(command, "run", "--trust", "sound", path=tmp_path)
        assert done.returncode == 2
        assert "which is not part of the package that you trust" in done.stderr
    assert not (tmp_path / "PWNED").exists()
