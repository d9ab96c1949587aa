"""``rlgd reproduce``: a small table, really trained; finished runs are kept, and unfinished ones are resumed."""

import json
import os
from pathlib import Path

import gymnasium
import pytest

from rlgd.agents import presets
from rlgd.cli import main
from rlgd.maths import confidence
from rlgd.system import machine
from tests.support.tiny_suite import PRESETS, runs_of, scores


def rlgd(*argv: str) -> int:
    return main.main(["reproduce", "tiny", *argv])


def test_the_command_trains_what_is_missing_and_writes_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert rlgd("--seeds", "2") == 1  # a row without a preset, and one that asks for too much
    out, err = capsys.readouterr()
    assert "CartPole-v1:ppo                 no preset of ppo for CartPole-v1\n" in err
    assert "to train: 4 runs, 1,536 steps" in err
    assert "  rlgd/CartPoleNoVelocity-v1:a2c seed 1: " in err
    assert "  4 / 4 runs  best " in err
    table = Path("runs/reproduce/tiny/reproduce-tiny.md")
    assert f"table:       {table}" in out
    text = table.read_text()
    found = [run.score for run in runs_of(0, "runs/reproduce/tiny").seed_runs() if run.score is not None]
    value, low, high = confidence.interval(found)
    line = next(line for line in text.splitlines() if line.startswith("| CartPole-v1 "))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[:4] == ["CartPole-v1", "a2c", "512", "2"]
    assert cells[4:8] == [f"{value:.1f} [{low:.1f}, {high:.1f}]", f"{min(found):.1f}", "5", "2 of 2"]
    assert cells[9] == "nobody 500.25 ± 0 (1.5k, v0)"
    assert "| CartPole-v1                | ppo   | 512   | 0 of 2 | -" in text
    assert "- nobody: made up." in text
    assert "- CartPole-v1, a2c: num_envs=2, hidden_sizes=[4], rollout_length=16\n" in text
    assert f"gymnasium {gymnasium.__version__} on {machine.device_name()}. Nobody has published this." in text

    assert rlgd("--seeds", "2", "--only", "CartPole-v1", "--json") == 1
    out, err = capsys.readouterr()
    assert err == ""
    answer = json.loads(out)
    assert [(row["env"], row["agent"]) for row in answer["rows"]] == [("CartPole-v1", "a2c"), ("CartPole-v1", "ppo")]
    assert list(answer["rows"][0]["scores"].values()) == found
    assert answer["rows"][0]["interquartile_mean"] == {"value": value, "low": low, "high": high}
    assert [row["reached"] for row in answer["rows"]] == [True, False]
    assert table.read_text() == text  # the other rows are there as before


def test_what_is_finished_is_not_trained_again(capsys: pytest.CaptureFixture[str]) -> None:
    assert rlgd("--seeds", "1", "--only", "CartPole-v1:a2c") == 0
    files = sorted(Path("runs").rglob("*.json"))
    before = {path: path.stat().st_mtime_ns for path in files}
    capsys.readouterr()
    assert rlgd("--seeds", "2", "--only", "CartPole-v1:a2c", "--dry-run") == 0
    assert "512 steps, 2 seeds: 1 finished, 1 to train\nto train: 1 run, 512 steps" in capsys.readouterr().out
    assert rlgd("--seeds", "2", "--only", "CartPole-v1:a2c") == 0
    assert {path: path.stat().st_mtime_ns for path in files} == before
    assert None not in scores(runs_of(0, "runs/reproduce/tiny"))


@pytest.mark.slow
def test_settings_by_rule_have_a_place_and_a_table_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--seeds", "1", "--only", "CartPole-v1:a2c")
    assert rlgd("--auto", *words) == 0
    table = Path("runs/reproduce/tiny-auto/reproduce-tiny-auto.md")
    assert f"table:       {table}" in capsys.readouterr().out
    text = table.read_text()
    assert "Written by `rlgd reproduce tiny --auto`: " in text
    assert "By rule, as `rlgd train --auto` chooses them; a setting that is not named has the agent's default." in text
    assert "- CartPole-v1, a2c: normalize_obs=True, scale_reward=True\n" in text
    assert "- rlgd/CartPoleNoVelocity-v1, a2c: network=gru, normalize_obs=True, scale_reward=True" in text
    assert not Path("runs/reproduce/tiny").exists()
    assert rlgd("--auto", *words, "--dry-run") == 0
    assert "512 steps, 1 seed: 1 finished" in capsys.readouterr().out.replace("1 seeds", "1 seed")


def test_runs_with_other_settings_are_never_mixed(capsys: pytest.CaptureFixture[str]) -> None:
    assert rlgd("--seeds", "1", "--only", "CartPole-v1:a2c") == 0
    (presets.FOLDER / "a2c.toml").write_text(PRESETS.replace("[4]", "[8]", 1))  # type: ignore[attr-defined]
    assert rlgd("--seeds", "1", "--only", "CartPole-v1:a2c") == 2
    err = capsys.readouterr().err
    assert "was trained with other settings than the present ones (hidden_sizes: [4] -> [8])" in err
    assert "name another place by --run-dir" in err
    assert rlgd("--seeds", "1", "--only", "rlgd/CartPoleNoVelocity-v1") == 1  # its neighbour is no obstacle
    text = Path("runs/reproduce/tiny/reproduce-tiny.md").read_text()
    assert "not counted, runs/reproduce/tiny/CartPole-v1-a2c/seed0 was trained with other settings" in text
    assert rlgd("--seeds", "1", "--only", "CartPole-v1:a2c", "--run-dir", "elsewhere") == 0
    assert Path("elsewhere/reproduce-tiny.md").exists()


def test_a_seed_that_fails_is_reported_and_the_others_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    diverging = 'optimizer = "sgd"\nlearning_rate = 1e30\nmax_grad_norm = 1e30\n'
    (presets.FOLDER / "a2c.toml").write_text(PRESETS.replace("num_envs", f"{diverging}num_envs", 1))  # type: ignore[attr-defined]
    assert rlgd("--seeds", "1", "--quiet") == 1
    out, err = capsys.readouterr()
    assert "  CartPole-v1:a2c seed 0: training diverged" in err
    assert "| 0 of 1 | - " in out
    assert scores(runs_of(1, "runs/reproduce/tiny", 1)) != [None]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["reproduce", "tinny"], "unknown suite 'tinny'; did you mean 'tiny'"),
        (["reproduce", "tiny", "--only", "CartPole-v1:a3c"], "did you mean 'CartPole-v1:a2c'"),
        (["reproduce", "tiny", "--only", "CartPole-v1:ppo"], "CartPole-v1:ppo cannot be trained: no preset of ppo"),
        (["reproduce", "tiny", "--seeds", "0"], "seeds is 0; allowed: a whole number from 1."),
        (["reproduce", "tiny", "--workers", "0"], "workers is 0; allowed: a whole number from 1."),
        (["reproduce", "tiny", "--out", "data"], "the table data cannot be written"),
        (["reproduce", "tiny", "--out", "data/tiny.toml/x.md"], "cannot be written: "),
    ],
    ids=lambda value: " ".join(value[1:]) if isinstance(value, list) else "",
)
def test_a_mistake_costs_no_training(argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(argv) == 2
    assert message in capsys.readouterr().err
    assert os.listdir() == ["data"]


def test_a_suite_of_which_nothing_can_be_trained_leaves_no_table(capsys: pytest.CaptureFixture[str]) -> None:
    Path("data/a2c.toml").unlink()
    assert rlgd("--dry-run") == 0
    assert "to train: 0 runs, 0 steps" in capsys.readouterr().out
    assert rlgd() == 2
    assert "no row of tiny can be trained yet." in capsys.readouterr().err
    assert os.listdir() == ["data"]
