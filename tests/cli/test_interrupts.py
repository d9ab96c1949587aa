"""Ctrl-C in each command: real processes, real signals, and what is said. ``tests/system/test_signals.py`` has runs."""

import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from rlgd.run.layout import CHECKPOINTS
from rlgd.system.lock import LOCK, is_claimed
from tests.support.processes import FLAGS, start, wait_for

FOREVER = ("--total-timesteps", "1000000000")  # so what waits for the end is found


def interrupted(process: "subprocess.Popen[str]", moment: Callable[[], object]) -> list[str]:
    """The last lines of a command that gets one Ctrl-C at a moment."""
    wait_for(process, moment)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 130, error
    assert "Traceback" not in error
    return error.splitlines()


@pytest.fixture(name="run", scope="module")
def _run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run."""
    run = tmp_path_factory.mktemp("runs") / "run"
    process = start("train", *FLAGS, "--total-timesteps", "256", "--run-dir", str(run))
    _, error = process.communicate(timeout=240)
    assert process.returncode == 0, error
    return run


@pytest.mark.slow
def test_a_study_ends_at_once(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(
        'agent = "a2c"\nseeds = 4\ntotal_timesteps = 100\neval_episodes = 2\n[settings]\nhidden_sizes = [8]\n'
        "[[arms]]\nvary = { total_timesteps = [100, 1_000_000_000] }\n"
    )
    study = tmp_path / "study"
    process = start("study", str(tmp_path / "mine.toml"), "--run-dir", str(study), "--slice-size", "4", "--quiet")
    members = study / "members.jsonl"  # the short ones finish, the others train
    last = f"rlgd: interrupted; what is finished is kept: `rlgd study resume {study}` continues it"
    assert interrupted(process, lambda: members.exists() and members.read_bytes()) == [last]
    assert members.read_bytes().count(b"\n") == 4
    again = start("study", "resume", str(study), "--quiet")
    assert interrupted(again, lambda: is_claimed(study / LOCK)) == [last]


@pytest.mark.slow
def test_a_search_ends_after_its_chunk(tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    search = tmp_path / "search"
    process = start(
        "tune", "a2c", "--env", "CartPole-v1", "--search", "gamma=0.9,0.99", *FOREVER, "--run-dir", str(search),
        "--quiet",
    )  # fmt: skip
    journal = search / "journal.log"
    assert interrupted(process, lambda: journal.exists() and b"param_name" in journal.read_bytes()) == [
        f"rlgd: interrupted; what is finished is kept: the same command with --run-dir {search} continues the search"
    ]


@pytest.mark.slow
def test_a_reproduction_saves_its_run(tmp_path: Path) -> None:
    process = start("reproduce", "classic", "--only", "Acrobot-v1:ppo", "--run-dir", str(tmp_path), "--quiet")
    assert interrupted(process, lambda: list(tmp_path.rglob(CHECKPOINTS))) == [
        "rlgd: stopping after this chunk (Ctrl-C again stops at once)",
        "rlgd: interrupted; the finished part is saved, and the same command resumes it",
    ]


@pytest.mark.slow
def test_an_evaluation_has_nothing_to_save(run: Path) -> None:
    process = start("eval", str(run), "--episodes", "1000000")
    assert process.stderr is not None
    began = process.stderr.readline()
    assert began == "rlgd: evaluating 1,000,000 episodes ...\n"
    assert interrupted(process, lambda: True) == ["rlgd: interrupted"]


def test_a_verification_removes_what_it_wrote(run: Path) -> None:
    process = start("verify-resume", str(run), *FOREVER)
    assert process.stderr is not None
    assert process.stderr.readline() == "  training to the end\n"
    assert interrupted(process, lambda: True) == ["rlgd: interrupted"]
