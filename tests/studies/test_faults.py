"""A study's directory: one writer, no file of somebody else, and storage that fails."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rlgd
from rlgd.cli import jax_setup, main
from rlgd.errors import StorageFault, UsageError
from rlgd.studies import Arm, StudyResult, resume_study
from rlgd.studies.directory import FIGURES, MEMBER_CURVES, MEMBERS, RESULTS, STUDY, SUMMARY, TENSORBOARD, writing
from rlgd.studies.publish import publish
from rlgd.system.lock import held
from tests.support.small_study import A2C_SMALL, study

TOML = """
agent = "a2c"
seeds = 6
total_timesteps = 640
eval_episodes = 2
[settings]
num_envs = 4
rollout_length = 8
hidden_sizes = [8]
measure_every = 0
[[arms]]
vary = { learning_rate = [0.001, 0.01] }
"""


def copy(whole: StudyResult, to: Path) -> Path:
    assert whole.study_dir is not None
    return Path(shutil.copytree(whole.study_dir, to))


def unfinished(whole: StudyResult, to: Path) -> Path:
    """A copy that lacks one member."""
    directory = copy(whole, to)
    lines = (directory / MEMBERS).read_text().splitlines(keepends=True)
    (directory / MEMBERS).write_text("".join(lines[:-1]))
    return directory


def contents(directory: Path) -> dict[str, bytes]:
    files = (path for path in sorted(directory.rglob("*")) if path.is_file() and not path.is_symlink())
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}


def shell(*arguments: str, **options: Any) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "rlgd", "study", *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, **options)


@pytest.mark.slow
def test_one_process_writes_a_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Both a second resume and a second start are refused while it runs, and it ends as if nobody had asked."""
    (tmp_path / "mine.toml").write_text(TOML)
    directory = tmp_path / "study"
    monkeypatch.setattr(jax_setup, "set_up", lambda *_, **__: None)
    monkeypatch.chdir(tmp_path)
    arguments = ("mine.toml", "--run-dir", str(directory), "--seeds", "3", "--workers", "1", "--slice-size", "1")
    first = shell(*arguments, cwd=tmp_path)
    deadline = time.monotonic() + 120
    while not (directory / STUDY).exists():
        assert first.poll() is None, first.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    others, said = [], []
    for words in (("resume", str(directory)), arguments):
        others.append(main.main(["study", *words]))
        said.append(capfd.readouterr().err)
    assert first.poll() is None, "it ended before the others tried"
    assert others == [2, 2], said
    assert f"is being written by another process (pid {first.pid} " in said[0]
    assert "already holds a study" in said[1]
    _, error = first.communicate(timeout=240)
    assert first.returncode == 0, error
    assert len((directory / MEMBERS).read_text().splitlines()) == 6


@pytest.mark.slow
def test_of_several_that_start_at_once_one_wins(whole: StudyResult, tmp_path: Path) -> None:
    directory, question = tmp_path / "study", whole.plan.question
    with writing(directory, question, False, resumed=False):
        with pytest.raises(UsageError, match="already holds a study"), writing(directory, question, False, False):
            pass
        with pytest.raises(UsageError, match="being written by another"), writing(directory, question, False, True):
            pass
    with held(tmp_path), pytest.raises(UsageError, match="being written by another"):
        study(study_dir=tmp_path)
    assert not (tmp_path / STUDY).exists()


NAMES = [MEMBERS, RESULTS, SUMMARY, *(f"{name}.png" for name in FIGURES)]
FOLDERS = [TENSORBOARD, MEMBER_CURVES]


@pytest.mark.parametrize("name", [STUDY, *NAMES, *FOLDERS])
def test_nothing_that_others_wrote_is_touched(name: str, whole: StudyResult, tmp_path: Path) -> None:
    """A link, a FIFO or a folder in place of a file, in a new directory and in a study; and a file before a study."""
    theirs = tmp_path / "theirs"
    theirs.write_text("mine")
    kinds: dict[str, Callable[[Path], Any]] = {
        "a symbolic link": lambda path: path.symlink_to(theirs),
        "a FIFO": os.mkfifo,
        "a folder": Path.mkdir,
        "a file": lambda path: path.write_text("mine"),
    }
    kinds.pop("a folder" if name in FOLDERS else "a file")
    for number, (kind, make) in enumerate(kinds.items()):
        new = tmp_path / f"new{number}"
        new.mkdir()
        make(new / name)
        with pytest.raises(UsageError, match=f"{name} is {kind}"):
            study(study_dir=new)
        assert [path.name for path in new.iterdir()] == [name]
        old = unfinished(whole, tmp_path / f"old{number}")
        shutil.rmtree(old / name, ignore_errors=True)
        (old / name).unlink(missing_ok=True)
        make(old / name)
        if name == STUDY and kind != "a symbolic link":
            continue  # a FIFO and a folder are no study at all
        before = contents(old)
        with pytest.raises((UsageError, StorageFault)):
            resume_study(old)
        assert contents(old) == before
    if name != STUDY:
        new = tmp_path / "new"
        new.mkdir()
        Path.mkdir(new / name) if name in FOLDERS else (new / name).write_text("mine")
        with pytest.raises(UsageError, match=f"{name} is in the way, and belongs to no study"):
            study(study_dir=new)
        assert [path.name for path in new.iterdir()] == [name]
    assert theirs.read_text() == "mine"


def test_what_others_keep_among_the_curves_stays(whole: StudyResult, tmp_path: Path) -> None:
    directory = unfinished(whole, tmp_path / "study")
    group = directory / TENSORBOARD / "answer"
    (group / "notes.txt").write_text("mine")
    (directory / TENSORBOARD / "events.out.tfevents.mine").write_text("mine")
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "events.out.tfevents.1.host.1234567890123456789").write_text("mine")
    (directory / TENSORBOARD / "link").symlink_to(tmp_path / "theirs")
    resume_study(directory)
    assert (group / "notes.txt").read_text() == "mine"
    assert (directory / TENSORBOARD / "events.out.tfevents.mine").read_text() == "mine"
    assert len(list((tmp_path / "theirs").iterdir())) == 1
    assert len(list((directory / TENSORBOARD).glob("settings/*/events*"))) == 4
    assert len(list(group.glob("events.out.tfevents.*image*"))) == 1


def test_no_curve_is_written_through_a_link(whole: StudyResult, tmp_path: Path) -> None:
    directory = unfinished(whole, tmp_path / "study")
    group = directory / TENSORBOARD / "answer"
    shutil.rmtree(group)
    (tmp_path / "theirs").mkdir()
    group.symlink_to(tmp_path / "theirs")
    with pytest.raises(StorageFault, match="there is a symbolic link"):
        resume_study(directory)
    assert not list((tmp_path / "theirs").iterdir())
    group.unlink()
    assert len(resume_study(directory).outcomes) == 8  # what was trained is kept


def test_a_case_cannot_lead_out_of_the_directory(tmp_path: Path) -> None:
    cases = {"..": {"gamma": 0.9}, ".": {"gamma": 0.99}, "../../x": {"gamma": 0.5}}
    rlgd.study(
        A2C_SMALL, "CartPole-v1", arms=[Arm(cases=cases)], seeds=1, total_timesteps=32, eval_episodes=1,
        study_dir=tmp_path / "a" / "study",
    )  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["study"]
    assert not list((tmp_path / "a" / "study").glob("seed*"))


def test_members_that_cannot_be_written_are_a_fault(whole: StudyResult, tmp_path: Path) -> None:
    directory = copy(whole, tmp_path / "study")
    lines = (directory / MEMBERS).read_text().splitlines(keepends=True)
    (directory / MEMBERS).write_text("".join(lines[:1]))  # two slices are left

    def lose(*_: object) -> None:
        (directory / MEMBERS).unlink(missing_ok=True)

    with pytest.raises(StorageFault, match=r"members\.jsonl cannot be written: it was removed"):
        resume_study(directory, workers=1, on_progress=lose)


LINES = [
    *(b"[]", b"5", b'"text"', b"\xff\xfe", b"[" * 100_000),
    *(b'{"member": [], "rows": []}', b'{"member": 0, "rows": 5}'),
]


@pytest.mark.parametrize("line", LINES, ids=range(len(LINES)))
def test_damaged_members_are_one_fault(line: bytes, whole: StudyResult, tmp_path: Path) -> None:
    directory = unfinished(whole, tmp_path / "study")
    with (directory / MEMBERS).open("ab") as file:
        file.write(line + b"\n")
    with pytest.raises(StorageFault, match=r"members\.jsonl"):
        resume_study(directory)


UNSHARE = ["unshare", "--user", "--map-root-user", "--mount"]
can_mount = subprocess.run([*UNSHARE, "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.slow
@pytest.mark.skipif(not can_mount, reason="this system allows no mounts to its users")
def test_a_full_disk_ends_a_study_with_exit_code_5_and_it_continues_with_room(tmp_path: Path) -> None:
    disk, report = tmp_path / "disk", tmp_path / "report"
    disk.mkdir()
    (tmp_path / "mine.toml").write_text(TOML)
    command = f"{sys.executable} -m rlgd study"
    script = f"""
mount -t tmpfs -o size=32k none {disk}
{command} {tmp_path / "mine.toml"} --run-dir {disk / "study"} --workers 1 --slice-size 2 --quiet
echo $? >> {report}
{command} resume {disk / "study"} --quiet
echo $? >> {report}
mount -o remount,size=9m {disk}
{command} resume {disk / "study"} --quiet > {tmp_path / "table"}
echo $? >> {report}
wc -l < {disk / "study" / MEMBERS} >> {report}
"""
    process = subprocess.run([*UNSHARE, "sh", "-c", script], capture_output=True, text=True, timeout=400, check=False)
    assert report.read_text().split() == ["5", "5", "0", "12"], process.stderr
    said = [line for line in process.stderr.splitlines() if line.startswith("rlgd: ")]
    assert len(said) == 2
    assert all("No space left on device" in line for line in said)
    assert "Traceback" not in process.stderr


def test_figures_have_the_names_that_belong_to_a_study(whole: StudyResult, tmp_path: Path) -> None:
    publish(whole, tmp_path)
    assert {path.stem for path in tmp_path.glob("*.png")} <= set(FIGURES)


@pytest.mark.parametrize("name", ["seeds", "total_timesteps", "eval_episodes", "slice_size", "workers"])
def test_numbers_are_whole(name: str) -> None:
    given: dict[str, Any] = {"vary": {"gamma": [0.9]}, "total_timesteps": 32, "seeds": 1, "eval_episodes": 1}
    for value in (True, np.True_, 1.5, "3", 0):
        with pytest.raises(UsageError, match=f"{name} is .*; allowed: a whole number from 1"):
            study(**(given | {name: value}))


def test_numbers_may_be_of_numpy() -> None:
    one = np.int64(1)
    numbers = {"seeds": one, "total_timesteps": np.int64(32), "eval_episodes": one, "slice_size": one, "workers": one}
    assert len(study(vary={"gamma": [0.9]}, **numbers).outcomes) == 1


def test_a_grid_may_have_numbers_of_numpy() -> None:
    grid: Any = {"linear": np.array([0.5, 0.9]), "points": np.int64(3)}
    assert Arm(vary={"gamma": grid}).vary["gamma"] == (0.5, 0.7, 0.9)
    for grid in ({"linear": [False, True], "points": 3}, {"linear": [0, 1], "points": True}):
        with pytest.raises(UsageError):
            Arm(vary={"gamma": grid})
