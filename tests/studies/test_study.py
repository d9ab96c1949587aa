"""Studies from end to end: what is written, resumed after a kill, and refused."""

import csv
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import rlgd
from rlgd.cli import jax_setup, main
from rlgd.errors import UsageError
from rlgd.studies import Question, StudyResult, resume_study
from rlgd.studies.outcome import OutcomeFile
from rlgd.system.progress import Progress
from tests.support.own_parts import set_nothing_up
from tests.support.small_study import A2C_SMALL, assert_same_training, study


def test_members_on_the_host_run_one_after_another() -> None:
    env = rlgd.envs.make("CartPole-v1", backend="host")
    result = rlgd.study(A2C_SMALL, env, {"learning_rate": [0.01, 1e38]}, seeds=2, total_timesteps=64, eval_episodes=2)
    fine, broken = result.point_results[0]
    assert (fine.diverged, broken.diverged) == (0, 1)
    assert all(np.isfinite(outcome.episode_return) for outcome in result.outcomes.values())
    assert all(outcome.training_seconds > 0 for outcome in fine.outcomes.values())


@pytest.mark.slow
def test_training_time_is_that_of_a_member_alone(whole: StudyResult) -> None:
    """Members with half the steps have half the time, and rows tell how it grew."""
    for outcome in whole.outcomes.values():
        seconds = [row.seconds for row in outcome.rows]
        assert seconds == sorted(seconds)
        assert seconds[-1] <= outcome.training_seconds * (1 + 1e-9)
    long, short = (whole.point_results[0][n] for n in (0, 1))
    assert short.seconds == pytest.approx(long.seconds / 2)
    (speed,) = whole.speeds
    assert long.seconds == pytest.approx(speed.iterations * speed.of_an_iteration.value)


def test_what_a_study_leaves(whole: StudyResult) -> None:
    directory = whole.study_dir
    assert directory is not None
    with (directory / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(whole.plan.members) == 8
    assert [int(row["member"]) for row in rows] == list(range(8))
    assert [float(row["episode_return"]) for row in rows] == [o.episode_return for o in whole.outcomes.values()]
    assert {(row["learning_rate"], row["total_timesteps"]) for row in rows} == {
        (rate, steps) for rate in ("0.01", "0.1") for steps in ("320", "160")
    }
    summary = (directory / "summary.md").read_text()
    assert whole.table() in summary
    for name in ("surface",):
        assert f"![{name}]({name}.png)" in summary
        assert (directory / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    content = json.loads((directory / "study.json").read_text())
    assert Question.from_json(content["question"], "x") == whole.plan.question
    answer = EventAccumulator(str(directory / "tensorboard" / "answer")).Reload()
    assert answer.Tags()["images"] == ["answer/surface of the return"]
    assert {path.parent.name for path in (directory / "tensorboard").glob("settings/*/events*")} == {
        f"learning_rate={rate}-total_timesteps={steps}" for rate in ("0.01", "0.1") for steps in ("320", "160")
    }
    assert not (directory / "members").exists()


def test_an_interrupted_study_is_resumed(whole: StudyResult, tmp_path: Path) -> None:
    assert whole.study_dir is not None
    (tmp_path / "study.json").write_text((whole.study_dir / "study.json").read_text())
    lines = (whole.study_dir / "members.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "members.jsonl").write_text("".join(lines[:5]) + lines[5][:100])  # the sixth is torn
    order = {json.loads(line)["member"]: place for place, line in enumerate(lines)}
    kept = {number for number, place in order.items() if place < 5}
    heard: list[Progress] = []
    result = resume_study(tmp_path, on_progress=heard.append)
    assert (heard[0].done, heard[-1].done) == (5, 8)
    assert {(progress.unit, progress.number) for progress in heard} == {("members", 8)}
    assert {progress.compiling for progress in heard} == {False, True}
    assert [progress.compile_seconds for progress in heard] == sorted(progress.compile_seconds for progress in heard)
    scores = {row.point.label: row.score.value for arm in result.point_results for row in arm if row.score}
    label = max(scores, key=lambda label: scores[label])
    assert heard[-1].best is not None
    assert heard[-1].best.label == label
    assert heard[-1].best.score == pytest.approx(scores[label])
    written = [json.loads(line)["member"] for line in (tmp_path / "members.jsonl").read_text().splitlines()]
    assert sorted(written) == list(range(8))
    stored = OutcomeFile(tmp_path).read(8)
    for number, outcome in result.outcomes.items():
        if number in kept:
            assert stored[number].training_seconds == json.loads(lines[order[number]])["training_seconds"]
        assert_same_training(outcome, whole.outcomes[number], 1e-4)
    heard.clear()
    again = resume_study(tmp_path, on_progress=heard.append, members=True)
    assert not heard
    assert again.table() == result.table()
    assert len(list((tmp_path / "members").rglob("seed*/events*"))) == 8


Shell = Callable[..., tuple[int, str, str]]


@pytest.fixture(name="shell")
def _shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Shell:
    """Runs ``rlgd study`` in an empty folder, in this process: its exit code, output and messages."""
    monkeypatch.setattr(jax_setup, "set_up", set_nothing_up)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        return main.main(["study", *arguments]), *capfd.readouterr()

    return run


def test_a_killed_study_is_resumed(tmp_path: Path, shell: Shell) -> None:
    """The process really dies, in the middle."""
    command = [sys.executable, "-m", "rlgd", "study"]
    (tmp_path / "mine.toml").write_text(
        'agent = "a2c"\nseeds = 2\ntotal_timesteps = 640\neval_episodes = 2\n'
        "[settings]\nnum_envs = 4\nrollout_length = 8\nhidden_sizes = [8]\nmeasure_every = 0\n"
        "[[arms]]\nvary = { learning_rate = [0.001, 0.01], num_envs = [2, 4] }\n"
    )
    directory = tmp_path / "study"
    arguments = ["mine.toml", "--run-dir", str(directory), "--workers", "1", "--slice-size", "1"]
    started = subprocess.Popen([*command, *arguments], cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    members = directory / "members.jsonl"
    deadline = time.monotonic() + 240
    while not members.exists() or not members.read_bytes().count(b"\n"):
        assert started.poll() is None, started.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    started.kill()
    started.communicate()
    before = members.read_bytes().count(b"\n")
    assert 1 <= before < 8
    code, out, err = shell("resume", str(directory))
    assert code == 0, err
    assert "8 / 8 members  best " in err
    assert len((directory / "results.csv").read_text().splitlines()) == 9
    assert "learning_rate=0.01 num_envs=4" in out
    assert f"--logdir {directory}/tensorboard\n" in out
    assert f"`rlgd study resume {directory} --members`" in out
    code, out, err = shell("resume", str(directory), "--members")
    assert code == 0, err
    assert "members, " not in err  # nothing is trained again
    assert f"--logdir {directory}/members\n" in out
    assert len(list((directory / "members").rglob("seed*/events*"))) == 8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vary": {}}, "varies nothing"),
        ({"vary": {"learning_rat": [0.1]}}, "did you mean 'learning_rate'"),
        ({"slice_size": 0}, "slice_size is 0"),
        ({"workers": 1.5}, "workers is 1.5"),
        ({"seeds": 0}, "seeds is 0"),
        ({"seeds": 10**6}, "members"),
    ],
)
def test_bad_arguments_end_before_anything_is_written(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        study(study_dir=tmp_path / "new", **options)
    assert not (tmp_path / "new").exists()


def test_a_plan_is_printed_and_nothing_is_done(tmp_path: Path, shell: Shell) -> None:
    code, out, _ = shell("momentum", "--dry-run", "--seeds", "3")
    assert code == 0
    assert "20 combinations in 5 arms, 3 seeds each: 60 members of ppo in CartPole-v1, rlgd/Cart" in out
    assert "program env=Pendulum-v1: 12 members" in out
    assert "5 programs to compile" in out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["momentun"], "did you mean 'momentum'"),
        (["momentum", "--seeds", "0"], "seeds is 0"),
        (["momentum", "--seeds", "1000000"], "20,000,000 members"),
        (["momentum", "--agent", "pppo"], "did you mean 'ppo'"),
        (["momentum", "--env", "CartPole-v11"], "CartPole-v1"),
        (["momentum", "--workers", "0"], "workers is 0"),
        (["missing.toml"], "cannot be read"),
        (["resume", "nowhere"], "holds no study"),
        (["resume"], "usage"),
    ],
)
def test_mistakes_get_one_message(arguments: list[str], message: str, tmp_path: Path, shell: Shell) -> None:
    code, out, err = shell(*arguments)
    assert code == 2
    assert message in err + out.lower()
    assert "Traceback" not in err
    assert not list(tmp_path.iterdir())
