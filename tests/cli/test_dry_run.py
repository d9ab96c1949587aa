"""``rlgd train --dry-run``: everything about a run but the run."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from rlgd.cli import dry_run as dry_run_module
from rlgd.cli import jax_setup, main
from rlgd.cli.parser import parse
from rlgd.cli.train import Options
from rlgd.envs import make
from rlgd.run import RunConfig

SMALL = ["--num-envs", "2", "--hidden-sizes", "4", "--measure-every", "0"]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(jax_setup, "set_up", lambda *_, **__: None)
    monkeypatch.chdir(tmp_path)


def dry_run(*flags: str) -> int:
    return main.main(["train", *flags, "--dry-run"])


@pytest.mark.parametrize(
    ("agent", "flags", "what"),
    [
        ("a2c", ["--env", "CartPole-v1", "--learning-rate", "0.5"], "training, .* iterations at a time"),
        (
            "ppo",
            ["--env", "Pendulum-v1", "--backend", "host", "--env-arg", "g=9.5"],
            "update",
        ),
        ("reinforce", ["--env", "CartPole-v1", "--max-episode-steps", "20", "--baseline", "none"], "training"),
        ("ppo", ["--env", "Pendulum-v1", "--backend", "host", "--network", "gru", "--num-minibatches", "2"], "update"),
        ("a2c", ["--env", "CartPole-v1", "--max-grad-norm", "None", "--patience", "3"], "training"),
        ("a2c", ["--env", "Pendulum-v1", "--backend", "host", "--env-arg", "render_mode=null", "g=1e1"], "update"),
        ("a2c", ["--env", "CartPole-v1", "--backend", "host", "--overlap"], "update"),
        ("reinforce", ["--env", "Acrobot-v1", "--backend", "host", "--max-episode-steps", "20"], "update"),
    ],
)
def test_what_is_printed_is_a_file_of_flags_for_the_same_run(
    agent: str, flags: list[str], what: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert dry_run(agent, *flags, *SMALL) == 0
    out, error = capsys.readouterr()
    assert error == ""
    assert list(tmp_path.iterdir()) == []
    (line,) = [line for line in out.splitlines() if line.startswith("# program")]
    assert re.search(rf"{what}.*: compiled in \d+\.\d s, \d+\.\d MiB while it runs", line)
    assert re.search(r"# [\d,]+\.\d GiB are free\n", out)
    assert tomllib.loads(out)["hidden_sizes"] == [4]
    (tmp_path / "flags.toml").write_text(out)
    again = parse("train", Options, [agent, "--config", "flags.toml", "--no-preset"])
    before = parse("train", Options, [agent, *flags, *SMALL])
    assert (again.hyperparameters, again.settings, again.env) == (before.hyperparameters, before.settings, before.env)


def test_what_is_said_is_a_comment_whatever_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    show = dry_run_module.show
    options = parse("train", Options, ["a2c", "--env", "CartPole-v1", *SMALL])
    config = RunConfig(options.hyperparameters, make("CartPole-v1"), options.settings)
    assert show(config, "a2c", options, "a line\nand another\x85one") == 0
    assert tomllib.loads(capsys.readouterr().out)["agent"] == "a2c"


def test_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert dry_run("a2c", "--env", "CartPole-v1", *SMALL, "--json") == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert document["rows_per_iteration"] == 2 * 5
    assert document["flags"]["env"] == "CartPole-v1"
    (program,) = document["programs"]
    assert program["compile_seconds"] > 0
    assert program["memory_bytes"] > 0
    assert document["free_bytes"] > program["memory_bytes"]


@pytest.mark.parametrize("backend", ["device", "host"])
def test_what_is_measured_is_a_program_of_its_own(backend: str, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--env", "CartPole-v1", "--backend", backend, *SMALL[:4]]
    assert dry_run("a2c", *flags, "--measure-every", "7") == 0
    names = re.findall(r"# program \((.*)\): compiled", capsys.readouterr().out)
    assert len(names) == 2
    assert names[1] == "what is measured, in 1 of 7 iterations"
