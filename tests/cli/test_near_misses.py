"""Command lines that are nearly right are answered with the right one, and that one works."""

import re
import shlex
from pathlib import Path

import pytest

from rlgd.agents import REGISTRY, make_agent
from rlgd.cli import commands, main, near_misses, parser
from rlgd.cli.options import flags_of
from rlgd.cli.train import Options
from rlgd.run import RunSettings
from tests.support import small_runs


def answer(line: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert main.main(shlex.split(line)) == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "right"),
    [
        ("train ppo CartPole-v1", "train ppo --env CartPole-v1"),
        ("train ppo CartPole-v1 --seed 3", "train ppo --env CartPole-v1"),
        ("train CartPole-v1", "train ppo --env CartPole-v1"),
        ("train minatar:Breakout-v1", "train ppo --env minatar:Breakout-v1"),
        ("ppo --env CartPole-v1 --seed 3", "train ppo --env CartPole-v1 --seed 3"),
        ("A2C --env CartPole-v1", "train A2C --env CartPole-v1"),
        ("tune ppo CartPole-v1", "tune ppo --env CartPole-v1"),
        ("tune CartPole-v1 --search momentum=0,0.9", "tune ppo --env CartPole-v1"),
        ("train --env CartPole-v1", "train ppo --env CartPole-v1"),
        ("study CartPole-v1", "study momentum --env CartPole-v1"),
        ("evolve Pendulum-v1", "evolve ppo --env Pendulum-v1"),
    ],
)
def test_the_right_line_is_given_and_can_be_read(line: str, right: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = answer(line, capsys)
    assert f"`rlgd {right}`" in text
    name, words = commands.find(right.split())
    parser.parse(name, commands.COMMANDS[name].load().Options, words)


@pytest.mark.parametrize("name", near_misses.ELSEWHERE)
def test_a_flag_of_another_program_is_answered_with_ours(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    right = near_misses.ELSEWHERE[name]
    flags = flags_of(Options(hyperparameters=make_agent("ppo"), settings=RunSettings()))
    assert right in flags
    assert name not in flags
    dashed = f"-{name}" if len(name) == 1 else f"--{name.replace('_', '-')}"
    for value in (f"{dashed} 3", f"{dashed}=3"):
        text = answer(f"train ppo {value}", capsys)
        assert f"there is no {dashed}; what you mean is --{right.replace('_', '-')}." in text


def test_the_size_of_a_batch_is_not_the_number_of_its_parts(capsys: pytest.CaptureFixture[str]) -> None:
    assert "num_envs * rollout_length / batch size" in answer("train ppo --batch-size 64", capsys)


def test_paths_are_quoted_and_a_mistake_stands_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small_runs.train(tmp_path / "my runs" / "one")
    text = answer(f"eval '{tmp_path}/my runs' --checkpiont best", capsys)
    assert f"`rlgd eval '{tmp_path}/my runs' --help` shows all flags." in text
    assert "takes" not in text


def test_what_is_no_run_is_passed_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small_runs.train(tmp_path / "run")
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "config.json").write_text("{}")
    (tmp_path / "gone").mkdir()
    (tmp_path / "gone" / "config.json").symlink_to(tmp_path / "nowhere")
    assert main.main(["eval", str(tmp_path), "--episodes", "1"]) == 0
    assert f"eval takes {tmp_path}/run, the newest run below" in capsys.readouterr().err


def test_what_nobody_can_mean_is_only_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert "Unrecognized options: 100k." in answer("train ppo 100k", capsys)
    assert "Unrecognized options: run2." in answer("runs compare run1 run2", capsys)
    assert "Unrecognized options: --colour, red." in answer("train ppo --env CartPole-v1 --colour red", capsys)
    assert "Unrecognized options: red." in answer("train ppo --env CartPole-v1 red", capsys)
    assert "unknown agent 'dqn'" in answer("train dqn --env CartPole-v1", capsys)


def test_help_and_version_are_commands_too(capsys: pytest.CaptureFixture[str]) -> None:
    for ours, theirs in (("--help", "help"), ("train --help", "help train"), ("--version", "version")):
        assert main.main(ours.split()) == 0
        expected = capsys.readouterr().out
        assert main.main(theirs.split()) == 0
        assert capsys.readouterr().out == expected


def test_three_examples_come_without_a_word(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main([]) == 2
    examples = re.findall(r"^  rlgd (.*)$", capsys.readouterr().out, re.MULTILINE)
    assert len(examples) == 3
    for example in examples:
        name, words = commands.find(example.split())
        parser.parse(name, commands.COMMANDS[name].load().Options, words)


def test_a_directory_of_runs_stands_for_its_newest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for seed in range(2):
        small_runs.train(tmp_path / "runs" / "a folder" / f"seed{seed}", seed=seed)
    lines = (
        "eval runs --episodes 1",
        "eval 'runs/a folder' --episodes 1",
        "resume runs",
        "export runs --to safetensors",
    )
    for line in lines:
        assert main.main(shlex.split(line)) == 0
        told = capsys.readouterr().err
        assert f"{line.split()[0]} takes runs/a folder/seed1, the newest run below " in told
    assert main.main(["eval", "runs", "--episodes", "1", "--quiet"]) == 0
    assert "takes" not in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert "empty holds no run" in answer("eval empty", capsys)


def test_a_users_environment_in_an_agents_place_is_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    kinds = {
        "Functional": "from gymnasium.experimental.functional import FuncEnv\nclass Functional(FuncEnv): pass",
        "Plain": "import gymnasium\nclass Plain(gymnasium.Env): pass",
        "RANDOM": "import rlgd\nRANDOM = rlgd.envs.randomized('CartPole-v1', {'half_length': (0.4, 0.6)})",
    }
    for name, text in kinds.items():
        (tmp_path / f"walk_{name.lower()}.py").write_text(text)
        word = f"walk_{name.lower()}:{name}"
        assert f"the agent comes first: `rlgd train ppo --env {word}`." in answer(f"train {word}", capsys)
        assert f"the study comes first: `rlgd study momentum --env {word}`." in answer(f"study {word}", capsys)
    (tmp_path / "walk_far.py").write_text("class Far: pass")
    assert "expected a class of agents" in answer("train walk_far:Far", capsys)
    assert "cannot be imported" in answer("train walk_nowhere:Walk", capsys)


def test_agents_are_not_taken_for_environments() -> None:
    for name in (*REGISTRY, "PPO", "module:Class"):
        assert near_misses.agent("train", name) == name
