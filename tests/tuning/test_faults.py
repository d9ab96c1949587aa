"""What goes wrong in a search: trials that diverge, environments that break, directories that fill or disappear."""

import contextlib
import json
import math
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

import rlgd
from rlgd.agents import A2C, PPO
from rlgd.cli import jax_setup, main
from rlgd.errors import Diverged, EnvironmentFault, StorageFault, UsageError
from rlgd.tuning import TuneResult
from rlgd.tuning.journal import JOURNAL
from rlgd.tuning.running import MAX_FAILURES
from rlgd.tuning.trials import Task

SMALL = PPO(num_envs=2, rollout_length=8, num_minibatches=2, num_epochs=1, hidden_sizes=(8,))
ON_HOST = A2C(num_envs=2, rollout_length=8, hidden_sizes=(8,))


def tune(directory: Path, env: Any = "Pendulum-v1", agent: Any = SMALL, **options: Any) -> TuneResult:
    given: dict[str, Any] = {
        "search": {"learning_rate": [1e-3, 1e30]}, "trials": 4, "seeds": 1, "fresh_seeds": 0, "total_timesteps": 64,
        "eval_episodes": 1, "tune_dir": directory,
    }  # fmt: skip
    return rlgd.tune(agent, env, **(given | options))


class Broken(gymnasium.Env[Any, Any]):
    """Raises in ``step`` while ``broken`` is set."""

    observation_space, action_space = Box(-1.0, 1.0, (2,)), Discrete(2)
    broken = False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> Any:
        if Broken.broken:
            raise RuntimeError("out of order")
        return np.zeros(2, np.float32), float(action), bool(self.np_random.random() < 0.3), False, {}


@pytest.fixture(name="broken_env")
def _broken_env(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(Broken, "broken", False)
    return rlgd.envs.make(Broken, backend="host")


def rows_of(table: str) -> list[list[str]]:
    """The cells of a table in Markdown."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line[:1] == "|"]


@pytest.mark.slow
def test_diverged_trials_are_marked_and_cannot_win(tmp_path: Path) -> None:
    seen: list[tuple[Any, ...]] = []
    result = tune(tmp_path, trials=8, on_trial=lambda *trial: seen.append(trial))
    by_rate: dict[float, set[str]] = {}
    for trial in result.trials:
        by_rate.setdefault(trial["values"]["learning_rate"], set()).add(trial["state"])
    assert by_rate[1e30] == {"diverged"}
    assert by_rate[1e-3] <= {"complete", "pruned"}
    assert result.best == {"learning_rate": 1e-3}
    for trial, (number, state, score, values) in zip(result.trials, seen, strict=True):
        assert (number, state, values) == (trial["number"], trial["state"], trial["values"])
        assert math.isnan(score) == math.isnan(trial["score"]) == (state == "diverged")
        assert ("not finite" in trial["why"]) == (state == "diverged")
    number = next(trial["number"] for trial in result.trials if trial["state"] == "diverged")
    assert [str(number), "- (diverged)", "1e+30"] in rows_of(result.table())
    assert f"- trial {number} (diverged): " in (tmp_path / "summary.md").read_text()


def test_one_diverged_seed_of_a_trial_suffices_on_the_host_too(broken_env: Any, tmp_path: Path) -> None:
    result = tune(tmp_path, broken_env, ON_HOST, seeds=2, search={"learning_rate": [1e-3, 1e38]}, trials=6)
    states = {(trial["values"]["learning_rate"], trial["state"]) for trial in result.trials}
    assert states == {(1e-3, "complete"), (1e38, "diverged")}


def test_if_all_trials_diverge_one_message_says_so(tmp_path: Path) -> None:
    with pytest.raises(Diverged, match=r"no trial has a score \(3 diverged\); the last one, trial 2: .*not finite"):
        tune(tmp_path, search={"learning_rate": {"log": [1e25, 1e35]}}, trials=3)
    assert not (tmp_path / "best.json").exists()


def test_fresh_seeds_that_diverge_are_counted(tmp_path: Path) -> None:
    task = Task(ON_HOST, rlgd.envs.make("CartPole-v1", backend="host"), 32, 1, 1, 2)
    fresh, diverged = task.fresh_score({"learning_rate": 1e38}, lambda done: None)
    assert diverged == 2
    result = TuneResult({"learning_rate": 1e38}, 1.0, fresh, diverged, (), tmp_path)
    assert result.table().endswith("]; 2 diverged")
    assert task.fresh_score({"learning_rate": 1e-3}, lambda done: None)[1] == 0


def test_a_trial_that_fails_is_recorded_and_the_search_continues(
    broken_env: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plan = iter([True, False, True, False, False])
    Broken.broken = next(plan)
    result = tune(
        tmp_path, broken_env, ON_HOST, search={"gamma": [0.9, 0.99]}, trials=3,
        on_trial=lambda *_: setattr(Broken, "broken", next(plan, False)),
    )  # fmt: skip
    assert [trial["state"] for trial in result.trials] == ["failed", "complete", "failed", "complete", "complete"]
    assert "out of order" in result.trials[0]["why"]
    assert ["0", "- (failed)"] in [row[:2] for row in rows_of(result.table())]
    assert "- trial 0 (failed): " in result.table()
    assert [record.message.split(":")[0] for record in caplog.records] == ["trial 0 failed", "trial 2 failed"]


def test_too_many_failures_end_the_search_and_the_same_search_continues(broken_env: Any, tmp_path: Path) -> None:
    Broken.broken, seen = True, []
    search = {"gamma": [0.9, 0.99]}

    def on_trial(number: int, state: str, score: float, values: dict[str, Any]) -> None:
        seen.append(state)

    with pytest.raises(EnvironmentFault, match=rf"because {MAX_FAILURES} trials failed; the last one, trial 4: .*out"):
        tune(tmp_path, broken_env, ON_HOST, search=search, on_trial=on_trial)
    assert seen == ["failed"] * MAX_FAILURES
    Broken.broken = False
    result = tune(tmp_path, broken_env, ON_HOST, search=search, trials=2, on_trial=on_trial)
    assert seen[MAX_FAILURES:] == ["complete"] * 2
    assert len(result.trials) == MAX_FAILURES + 2


def test_an_environment_that_breaks_with_fresh_seeds_leaves_the_search(broken_env: Any, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match="out of order"):
        tune(
            tmp_path, broken_env, ON_HOST, search={"gamma": [0.9]}, trials=1, fresh_seeds=1,
            on_trial=lambda *_: setattr(Broken, "broken", True),
        )  # fmt: skip
    assert json.loads((tmp_path / "best.json").read_text())["gamma"] == 0.9


COMMAND = [
    *(sys.executable, "-m", "rlgd", "tune", "a2c", "--env", "CartPole-v1"),
    *("--seeds", "1", "--fresh-seeds", "0", "--total-timesteps", "32", "--num-envs", "2", "--rollout-length", "8"),
    *("--hidden-sizes", "4", "--eval-episodes", "1", "--measure-every", "0", "--json"),
]
SEARCH = ("--search", "learning_rate=log:1e-4,1e-1")


def shell(directory: Path, *more: str, **options: Any) -> "subprocess.CompletedProcess[str]":
    command = [*COMMAND, *SEARCH, "--run-dir", str(directory), *more]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, **options)


def said(process: "subprocess.CompletedProcess[str]") -> str:
    """The one message of a command that failed."""
    lines = [line for line in process.stderr.splitlines() if line.startswith("rlgd: ")]
    assert "Traceback" not in process.stderr
    assert len(lines) == 1, process.stderr
    return lines[0]


def limited() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))


@pytest.mark.slow
def test_a_limit_to_the_size_of_files_ends_a_search_with_exit_code_5_and_loses_nothing(tmp_path: Path) -> None:
    full = shell(tmp_path, "--trials", "30", preexec_fn=limited)
    assert full.returncode == 5
    assert "File too large" in said(full)
    again = shell(tmp_path, "--trials", "30", preexec_fn=limited)
    assert again.returncode == 5
    assert "File too large" in said(again)
    before = (tmp_path / JOURNAL).read_text()
    assert before.endswith("\n")
    done = shell(tmp_path, "--trials", "30")
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["trials"]) == 30
    assert (tmp_path / JOURNAL).read_text().startswith(before)


UNSHARE = ["unshare", "--user", "--map-root-user", "--mount"]
can_mount = subprocess.run([*UNSHARE, "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.slow
@pytest.mark.skipif(not can_mount, reason="this system allows no mounts to its users")
def test_a_full_disk_ends_a_search_with_exit_code_5_and_it_continues_with_room(tmp_path: Path) -> None:
    disk, report = tmp_path / "disk", tmp_path / "report"
    disk.mkdir()
    command = " ".join([*COMMAND, *SEARCH, "--trials", "20", "--run-dir", str(disk / "search")])
    script = f"""
mount -t tmpfs -o size=16k none {disk}
{command}
echo $? >> {report}
{command}
echo $? >> {report}
mount -o remount,size=9m {disk}
{command} >> {report}
echo $? >> {report}
"""
    process = subprocess.run([*UNSHARE, "sh", "-c", script], capture_output=True, text=True, timeout=400, check=False)
    full, again, answer, code = report.read_text().splitlines()
    assert (full, again, code) == ("5", "5", "0"), process.stderr
    lines = [line for line in process.stderr.splitlines() if line.startswith("rlgd: ")]
    assert len(lines) == 2
    assert all("No space left on device" in line for line in lines)
    assert "Traceback" not in process.stderr
    assert len(json.loads(answer)["trials"]) == 20


def at_trial(number: int, what: Callable[[], object]) -> Callable[..., None]:
    def on_trial(now: int, *_: object) -> None:
        if now == number:
            what()

    return on_trial


@pytest.mark.parametrize("lost", ["removed", "moved", "journal removed", "journal garbage"])
def test_a_directory_that_is_lost_is_one_fault(lost: str, broken_env: Any, tmp_path: Path) -> None:
    directory = tmp_path / "search"

    def lose() -> None:
        match lost:
            case "removed":
                shutil.rmtree(directory)
            case "moved":
                directory.rename(tmp_path / "moved")
            case "journal removed":
                (directory / JOURNAL).unlink()
            case "journal garbage":
                with (directory / JOURNAL).open("a") as file:
                    file.write("garbage\n")

    for when in (1, 2):  # in the middle, and after the last trial
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(directory)
        with pytest.raises(StorageFault, match="search"):
            tune(
                directory, broken_env, ON_HOST, search={"gamma": [0.9, 0.99]}, trials=3,
                on_trial=at_trial(when, lose),
            )  # fmt: skip
        shutil.rmtree(tmp_path / "moved", ignore_errors=True)


def test_a_cut_journal_is_continued(broken_env: Any, tmp_path: Path) -> None:
    search = {"gamma": [0.9, 0.99]}
    whole = tune(tmp_path / "whole", broken_env, ON_HOST, search=search, trials=3)
    content = (tmp_path / "whole" / JOURNAL).read_bytes()
    for left in (len(content) // 3, len(content) // 2, len(content) - 3):
        directory = tmp_path / str(left)
        directory.mkdir()
        (directory / JOURNAL).write_bytes(content[:left])
        result = tune(directory, broken_env, ON_HOST, search=search, trials=3)
        counted = [trial for trial in result.trials if trial["state"] != "failed"]
        assert len(counted) == 3
        assert result.search_score >= min(trial["score"] for trial in whole.trials)


@pytest.mark.parametrize("name", ["best.json", "summary.md", "history.png"])
def test_no_result_is_written_through_a_link(name: str, broken_env: Any, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.write_text("mine")
    search: dict[str, Any] = {"gamma": [0.9, 0.99]}

    def link() -> None:
        (tmp_path / "tune" / name).symlink_to(theirs)

    with pytest.raises(StorageFault, match="there is a symbolic link"):
        tune(tmp_path / "tune", broken_env, ON_HOST, search=search, trials=2, on_trial=at_trial(1, link))
    with pytest.raises(UsageError, match=f"{name} is a symbolic link"):
        tune(tmp_path / "tune", broken_env, ON_HOST, search=search, trials=2)
    assert theirs.read_text() == "mine"


def test_the_command_says_what_diverged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(jax_setup, "set_up", lambda *_, **__: None)
    command = [*COMMAND[COMMAND.index("tune") :], "--optimizer", "sgd", "--run-dir"]
    some = ["--search", "learning_rate=0.001,1e38", "--trials", "4"]
    assert main.main([*command, str(tmp_path / "some"), *some]) == 0
    answer = json.loads(capfd.readouterr().out)
    assert {trial["state"] for trial in answer["trials"]} == {"complete", "diverged"}
    diverged = next(trial for trial in answer["trials"] if trial["state"] == "diverged")
    assert diverged["score"] is None
    assert diverged["why"]
    assert main.main([*command, str(tmp_path / "none"), "--search", "learning_rate=1e38", "--trials", "1"]) == 4
    assert "no trial has a score (1 diverged)" in capfd.readouterr().err


@pytest.mark.parametrize("name", ["trials", "seeds", "total_timesteps", "eval_episodes", "fresh_seeds", "seed"])
@pytest.mark.parametrize("value", [True, np.True_, 1.0, "3", -1, None])
def test_numbers_are_whole(name: str, value: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"{name} is .*; allowed: a whole number from"):
        tune(tmp_path / "none", **{name: value})
    assert not (tmp_path / "none").exists()


def test_numbers_may_be_of_numpy(broken_env: Any, tmp_path: Path) -> None:
    numbers = {"trials": 1, "seeds": 1, "total_timesteps": 32, "eval_episodes": 1, "fresh_seeds": 0, "seed": 3}
    given = {name: np.int64(value) for name, value in numbers.items()}
    result = tune(tmp_path, broken_env, ON_HOST, search={"gamma": [0.9]}, **given)
    assert len(result.trials) == 1
    again = tune(tmp_path, broken_env, ON_HOST, search={"gamma": [0.9]}, **numbers)
    assert again.trials == result.trials
