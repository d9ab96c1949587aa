"""Published scores reproduced: a small table, really trained; what is finished is kept, what is not goes on."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import gymnasium
import numpy as np
import pytest

from rlgd.agents import presets
from rlgd.cli import jax_setup, main
from rlgd.errors import Interrupted, UsageError
from rlgd.maths import confidence
from rlgd.reproduction import jobs, scoreboard
from rlgd.reproduction import suite as suite_module
from rlgd.reproduction import workers as workers_module
from rlgd.reproduction.jobs import Job
from rlgd.reproduction.plan import SCORE, Plan, plans
from rlgd.reproduction.suite import Published, read, shipped
from rlgd.run import RunConfig, layout
from rlgd.run.layout import SUMMARY
from rlgd.system import machine

SUITE = """
title = "Tiny"
caption = "Nobody has published this."

[sources]
nobody = "made up"

[[rows]]
env = "CartPole-v1"
agent = "a2c"
total_timesteps = 512
least = 5
published = [{ source = "nobody", score = 500.25, spread = 0, total_timesteps = 1_500, note = "v0" }]

[[rows]]
env = "rlgd/CartPoleNoVelocity-v1"
agent = "a2c"
total_timesteps = 512
least = 501
published = []

[[rows]]
env = "CartPole-v1"
agent = "ppo"
total_timesteps = 512
least = 5
published = []
"""
PRESETS = """
["CartPole-v1"]
total_timesteps = 512
num_envs = 2
rollout_length = 16
hidden_sizes = [4]
tuned = { trials = 0, seeds = 1, total_timesteps = 512, note = "by hand" }

["rlgd/CartPoleNoVelocity-v1"]
total_timesteps = 256
num_envs = 2
rollout_length = 16
hidden_sizes = [4]
tuned = { trials = 0, seeds = 1, total_timesteps = 256, note = "by hand" }
"""


@pytest.fixture(autouse=True)
def _tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "tiny.toml").write_text(SUITE)
    (data / "a2c.toml").write_text(PRESETS)
    monkeypatch.setattr(suite_module, "FILES", data)
    monkeypatch.setattr(presets, "FOLDER", data)
    monkeypatch.setattr(jax_setup, "set_up", lambda settings, device, deterministic_ops: None)
    monkeypatch.chdir(tmp_path)


def plan(number: int = 0, root: str = "runs", seeds: int | None = 2) -> Plan:
    return plans(read("tiny"), Path(root), seeds)[number]


def nothing(settings: RunConfig) -> None:
    """In place of what sets a process up."""


def scores(plan: Plan) -> list[float | None]:
    return [seed.score for seed in plan.states()]


def train(plan: Plan, workers: int = 1, asked: Callable[[], int | None] = lambda: None) -> list[str | None]:
    troubles: list[str | None] = []
    workers_module.train(jobs.jobs(plan), workers, nothing, asked, lambda job, trouble: troubles.append(trouble))
    return troubles


def rlgd(*argv: str) -> int:
    return main.main(["reproduce", "tiny", *argv])


def test_the_command_trains_what_is_missing_and_writes_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert rlgd("--seeds", "2") == 1  # a row without a preset, and one that asks for too much
    out, err = capsys.readouterr()
    assert "CartPole-v1:ppo                 no preset of ppo for CartPole-v1; it has none." in err
    assert "to train: 4 runs, 1,536 steps" in err
    assert "4 of 4: rlgd/CartPoleNoVelocity-v1:a2c seed 1" in err
    table = Path("runs/reproduce/tiny/reproduce-tiny.md")
    assert f"table:       {table}" in out
    text = table.read_text()
    found = [seed.score for seed in plan(0, "runs/reproduce/tiny").states() if seed.score is not None]
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
    assert None not in scores(plan(0, "runs/reproduce/tiny"))


def test_what_was_interrupted_goes_on_to_the_same_scores() -> None:
    whole, broken = plan(root="whole"), plan(root="broken")
    assert train(whole) == [None, None]
    for times in (1, 3, 5):  # once more before it starts, between chunks, and while it is evaluated
        looks = iter([None] * times)
        with pytest.raises(Interrupted, match="the same command goes on") as caught:
            train(broken, asked=lambda looks=looks: next(looks, int(signal.SIGINT)))  # type: ignore[misc]
        assert caught.value.exit_code == 130
    state = broken.states()[0]
    assert state.begun
    assert state.score is None
    assert train(broken) == [None, None]
    assert scores(broken) == scores(whole)
    assert None not in scores(whole)


@pytest.mark.parametrize("lost", [SCORE, SUMMARY, "checkpoints"])
def test_what_a_kill_left_is_completed(lost: str) -> None:
    row = plan(seeds=1)
    train(row)
    expected = scores(row)
    directory = row.states()[0].directory
    if lost == "checkpoints":  # killed before the first one
        for path in (directory / lost).iterdir():
            path.rename(path.with_name(f"{path.name}.tmp"))
        (directory / SCORE).unlink()
    else:
        (directory / lost).unlink()
    assert [(seed.begun, seed.score) for seed in row.states()] == [(lost != "checkpoints", None)]
    assert train(row) == [None]
    assert scores(row) == expected


def test_two_processes_give_the_same_scores() -> None:
    one, two = plan(root="one"), plan(root="two")
    assert train(one) == train(two, workers=2) == [None, None]
    assert scores(one) == scores(two)


def test_processes_save_what_they_train_when_a_signal_comes() -> None:
    row = plan()
    begun = row.directory / "seed0" / layout.CONFIG
    with pytest.raises(Interrupted) as caught:
        train(row, workers=2, asked=lambda: int(signal.SIGTERM) if begun.exists() else None)
    assert caught.value.exit_code == 143
    assert train(row, workers=2)[-1:] in ([None], [])
    assert None not in scores(row)


def test_runs_with_other_settings_are_never_mixed(capsys: pytest.CaptureFixture[str]) -> None:
    assert rlgd("--seeds", "1", "--only", "CartPole-v1:a2c") == 0
    (presets.FOLDER / "a2c.toml").write_text(PRESETS.replace("[4]", "[8]", 1))  # type: ignore[attr-defined]
    assert rlgd("--seeds", "1", "--only", "CartPole-v1:a2c") == 2
    err = capsys.readouterr().err
    assert "was trained with other settings than the present preset's (hidden_sizes: [4] -> [8])" in err
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
    assert "1 of 2: CartPole-v1:a2c seed 0: training diverged" in err
    assert "| 0 of 1 | - " in out
    assert scores(plan(1, "runs/reproduce/tiny", 1)) != [None]


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


def test_an_extra_that_is_missing_is_named() -> None:
    suite = read("tiny")._replace(extra="box2d", module="no_such_module")
    with pytest.raises(UsageError, match=r"not installed: pip install 'rlgd\[box2d\]'"):
        plans(suite, Path("runs"), None)


def test_a_preset_that_trains_longer_than_the_table_allows_is_refused() -> None:
    (presets.FOLDER / "a2c.toml").write_text(PRESETS.replace("= 512", "= 513", 1))  # type: ignore[attr-defined]
    assert plan().why_not == "its preset trains 513 steps; the table allows 512."


def test_seeds_by_where_the_environment_runs() -> None:
    assert plan(seeds=None).seeds == 20
    row = plan().row._replace(env="LunarLander-v3")
    suite = read("tiny")._replace(rows=(row,))
    assert plans(suite, Path("runs"), None)[0].seeds == 5


def test_each_seed_is_scored_in_other_episodes() -> None:
    row = plan()
    train(row)
    told = [json.loads((seed.directory / SCORE).read_text()) for seed in row.states()]
    assert [score["episodes"] for score in told] == [100, 100]
    assert abs(np.diff([score["seed"] for score in told])) >= 1000


def test_where_the_table_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path("runs/reproduce/tiny")
    assert scoreboard.automatic("tiny", root, True) == root / "reproduce-tiny.md"
    monkeypatch.chdir(Path(scoreboard.__file__).resolve().parents[2])
    assert scoreboard.automatic("tiny", root, True) == Path("docs/reproduce-tiny.md")
    assert scoreboard.automatic("tiny", root, False) == root / "reproduce-tiny.md"


@pytest.mark.parametrize(
    ("score", "text"),
    [
        (Published("CleanRL", 490.04, 6.12, 500_000), "CleanRL 490.04 ± 6.12 (500k)"),
        (Published("zoo", -73.5, None, 1_000_000), "zoo -73.5 (1M)"),
        (Published("zoo", 5783.9, 1244, note="v3"), "zoo 5783.9 ± 1244 (v3)"),
        (Published("zoo", 1), "zoo 1"),
    ],
)
def test_a_published_score_in_short(score: Published, text: str) -> None:
    assert scoreboard.in_short(score) == text


def test_the_suites_that_ship_are_sound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert shipped() == ["box2d", "classic", "mujoco"]
    for name in shipped():
        suite = read(name)
        assert len({row.name for row in suite.rows}) == len(suite.rows) > 1
        for row in suite.rows:
            assert row.published
            assert {score.source for score in row.published} <= suite.sources.keys()
        for plan in plans(suite, Path("runs"), None):
            assert plan.settings is not None or plan.why_not.startswith(("no preset of", "unknown agent")), plan.why_not


def test_what_can_be_sent_to_processes() -> None:
    job = jobs.jobs(plan())[0]
    assert isinstance(job, Job)
    assert (job.row, job.env, job.seed, job.begun) == ("CartPole-v1:a2c", "CartPole-v1", 0, False)
