"""What storage does to a run: damage, disks that are full, directories that vanish, and two writers at once."""

import json
import logging
import os
import re
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import rlgd
import rlgd.envs
from rlgd.agents import A2C
from rlgd.errors import StorageFault, UsageError
from rlgd.run.checkpoints import folder, manifest
from rlgd.run.checkpoints.manifest import MANIFEST
from rlgd.run.sinks.rows import Row
from rlgd.system.files import Appender

AGENT = A2C(num_envs=4, rollout_length=16, hidden_sizes=(8,), measure_every=0)
TOTAL = 1024
FLAGS = [
    *("a2c", "--env", "CartPole-v1", "--num-envs", "4", "--rollout-length", "16", "--hidden-sizes", "8"),
    *("--measure-every", "0", "--eval-episodes", "2", "--quiet"),
]


def train(run_dir: Path, **options: Any) -> rlgd.TrainResult:
    given = {"total_timesteps": TOTAL, "eval_episodes": 2, "checkpoint_every": 256, "keep": 100} | options
    return rlgd.train(AGENT, "CartPole-v1", run_dir=run_dir, **given)


def parameters(result: rlgd.TrainResult) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(result.state.agent_state)]


@pytest.fixture(scope="module", name="written")
def _written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, rlgd.TrainResult]:
    run = tmp_path_factory.mktemp("runs") / "run"
    return run, train(run)


def copy(written: tuple[Path, rlgd.TrainResult], to: Path) -> Path:
    return Path(shutil.copytree(written[0], to / "run"))


def test_checkpoints_are_written_at_the_steps_that_were_asked_for(written: tuple[Path, rlgd.TrainResult]) -> None:
    assert folder.all_steps(written[0] / "checkpoints") == [256, 512, 768, 1024]
    assert not folder.incomplete(written[0] / "checkpoints")


def test_the_newest_are_kept(tmp_path: Path) -> None:
    train(tmp_path, keep=2)
    assert folder.all_steps(tmp_path / "checkpoints") == [768, 1024]


def test_checkpoints_change_no_bit(tmp_path: Path, written: tuple[Path, rlgd.TrainResult]) -> None:
    for number, every in enumerate((64, 100, "0.001s", "1000s")):
        other = train(tmp_path / str(number), checkpoint_every=every, eval_every=None if number else 300)
        for one, two in zip(parameters(written[1]), parameters(other), strict=True):
            np.testing.assert_array_equal(one, two)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_one_flipped_byte_in_any_file_is_noticed(
    tmp_path: Path, written: tuple[Path, rlgd.TrainResult], caplog: pytest.LogCaptureFixture
) -> None:
    run = copy(written, tmp_path)
    newest = run / "checkpoints" / "1024"
    files = [path for path in sorted(newest.rglob("*")) if path.is_file()]
    assert len(files) > 20
    for path in files:
        whole = path.read_bytes()
        for position in {0, len(whole) // 2, len(whole) - 1}:
            path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
            with pytest.raises(StorageFault, match=r"checkpoint of step 1,024 in .* is damaged: "):
                rlgd.load(run, 1024)
        caplog.clear()
        rlgd.load(run)
        (line,) = caplog.messages
        assert "the checkpoint of step 1,024" in line
        assert line.endswith("using that of step 768.")
        path.write_bytes(whole)
    rlgd.load(run, 1024)


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def halved(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def random_bytes(path: Path) -> None:
    path.write_bytes(np.random.default_rng(0).bytes(path.stat().st_size))


def linked(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def accompanied(path: Path) -> None:
    path.with_name("extra").write_text("mine")


DAMAGE: list[Callable[[Path], None]] = [Path.unlink, emptied, halved, random_bytes, linked, accompanied]


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("name", ["agent/_METADATA", "loop/manifest.ocdbt"])
def test_damage_is_named_and_resume_goes_back_to_what_holds(
    tmp_path: Path, written: tuple[Path, rlgd.TrainResult], damage: Callable[[Path], None], name: str
) -> None:
    run = copy(written, tmp_path)
    damage(run / "checkpoints" / "1024" / name)
    (run / "summary.json").unlink()  # as if it had been killed
    with pytest.raises(StorageFault, match=rf"1,024 in .* is damaged: .*({name}|extra|elsewhere)"):
        rlgd.load(run, 1024)
    resumed = rlgd.resume(run)
    assert resumed.metrics["step"][0] == 768 + 64
    for one, two in zip(parameters(written[1]), parameters(resumed), strict=True):
        np.testing.assert_array_equal(one, two)
    assert rlgd.load(run, 1024)(np.zeros(4)) in (0, 1)


@pytest.mark.parametrize(
    ("old", "new"),
    [('"step": 1024', '"step": 1088'), ('"seed": 0', '"seed": 1'), ('"rows": ', '"rows": 1'), ("\n", " \n")],
)
def test_an_edited_manifest_is_noticed(
    tmp_path: Path, written: tuple[Path, rlgd.TrainResult], old: str, new: str
) -> None:
    path = copy(written, tmp_path) / "checkpoints" / "1024" / MANIFEST
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(StorageFault, match=r"manifest\.json is not as it was written"):
        rlgd.load(tmp_path / "run", 1024)


def test_a_manifest_of_another_format_is_refused(tmp_path: Path, written: tuple[Path, rlgd.TrainResult]) -> None:
    path = copy(written, tmp_path) / "checkpoints" / "1024" / MANIFEST
    content = json.loads(path.read_text())
    del content["sha256"]
    content["format_version"], content["about"]["versions"]["rlgd"] = 99, "9.9"
    path.write_text(manifest._sealed(content))
    for load in (rlgd.load, rlgd.resume):
        with pytest.raises(UsageError, match=r"was written by rlgd 9\.9 in format 99; this one reads format 1\."):
            load(tmp_path / "run")


def test_without_a_checkpoint_there_is_nothing_to_go_on_from(
    tmp_path: Path, written: tuple[Path, rlgd.TrainResult]
) -> None:
    run = copy(written, tmp_path)
    (run / "summary.json").unlink()
    for steps in (256, 512, 768):
        shutil.rmtree(run / "checkpoints" / str(steps))
    (run / "checkpoints" / "1024" / MANIFEST).unlink()
    (run / "checkpoints" / "1088.tmp").mkdir()
    with pytest.raises(UsageError, match=r"no complete checkpoint in .*; found 2 incomplete, ignored\."):
        rlgd.resume(run)


def test_if_all_are_damaged_each_is_named(tmp_path: Path, written: tuple[Path, rlgd.TrainResult]) -> None:
    run = copy(written, tmp_path)
    for steps in (256, 512, 768, 1024):
        flip(run / "checkpoints" / str(steps) / MANIFEST)
    with pytest.raises(StorageFault, match=r"1,024 in .* 768 in .* 512 in .* 256 in "):
        rlgd.load(run)


class At:
    """Does something once, behind a step."""

    def __init__(self, step: int, what: Callable[[], Any]) -> None:
        self.step, self.what = step, what

    def write(self, row: Row) -> None:
        if row.step >= self.step:
            self.what()
            self.step = sys.maxsize

    def close(self) -> None:
        pass


def test_a_directory_that_cannot_be_written_for_a_while_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, written: tuple[Path, rlgd.TrainResult]
) -> None:
    saved, aside = tmp_path / "checkpoints", tmp_path / "aside"

    def block() -> None:
        time.sleep(1.0)  # until the checkpoint before is written
        saved.rename(aside)
        saved.write_text("a file in the way")

    def free() -> None:
        time.sleep(1.0)
        saved.unlink()
        aside.rename(saved)

    result = train(tmp_path, sinks=[At(300, block), At(800, free)])
    (warning,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "checkpoint of step 512 cannot be written" in warning.getMessage()
    assert "bytes are free. Training goes on, and tries again." in warning.getMessage()
    assert folder.all_steps(saved) == [256, 1024]
    for one, two in zip(parameters(written[1]), parameters(result), strict=True):
        np.testing.assert_array_equal(one, two)


def test_a_directory_that_vanished_is_a_storage_fault_in_the_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = tmp_path / "run"

    def vanish() -> None:
        time.sleep(1.0)  # until nothing is being written
        shutil.rmtree(run)

    with pytest.raises(StorageFault, match="checkpoint of step 1,024 cannot be written"):
        train(run, sinks=[At(300, vanish)])
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 2  # of the curves, and of checkpoints
    assert not run.exists()


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "rlgd", *arguments]


def test_a_limit_to_the_size_of_files_ends_with_exit_code_5_and_loses_nothing(tmp_path: Path) -> None:
    """The curves outgrow the limit: checkpoints go on, the last word is the exit code."""
    run = tmp_path / "run"
    flags = [*FLAGS, "--total-timesteps", "200000", "--run-dir", str(run), "--checkpoint-every", "40000"]
    limit = 100 * 1024

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    process = subprocess.run(command("train", *flags), capture_output=True, text=True, timeout=240, preexec_fn=limited)
    assert process.returncode == 5, process.stderr
    said = [line for line in process.stderr.splitlines() if line.startswith("rlgd: ")]  # JAX has its say of its cache
    assert len(said) == 2  # a warning, and the end
    assert all("File too large" in line for line in said)
    assert "Traceback" not in process.stderr
    whole = subprocess.run(command("resume", str(run), "--quiet"), capture_output=True, text=True, timeout=240)
    assert whole.returncode == 0, whole.stderr
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == sorted(line["step"] for line in lines)


UNSHARE = ["unshare", "--user", "--map-root-user", "--mount"]
can_mount = subprocess.run([*UNSHARE, "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not can_mount, reason="this system allows no mounts to its users")
def test_a_full_disk_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    disk, report = tmp_path / "disk", tmp_path / "report"
    disk.mkdir()
    run = disk / "run"
    flags = " ".join([*FLAGS, "--total-timesteps", "300000", "--checkpoint-every", "30000", "--run-dir", str(run)])
    script = f"""
mount -t tmpfs -o size=900k none {disk}
{sys.executable} -m rlgd train {flags}
echo $? > {report}
{sys.executable} -m rlgd eval {run} --episodes 1 --quiet >> {report}
mount -o remount,size=9m {disk}
{sys.executable} -m rlgd resume {run} --quiet >> {report}
"""
    process = subprocess.run([*UNSHARE, "sh", "-c", script], capture_output=True, text=True, timeout=400, check=False)
    code, evaluated, trained, *_ = report.read_text().splitlines()
    assert code == "5", process.stderr
    assert process.stderr.count("cannot be written to") == 2  # a warning, and the end
    assert "No space left on device" in process.stderr
    assert "Traceback" not in process.stderr
    assert evaluated.startswith("evaluation: mean return")
    assert trained.startswith("300,")


def test_of_two_writers_one_wins(tmp_path: Path) -> None:
    script = """
import sys, time
from pathlib import Path
from rlgd import durable
from rlgd.errors import UsageError
for number in range(20):
    while time.time() < float(sys.argv[2]) + number * 0.2:
        pass
    try:
        lock = durable.Lock(Path(sys.argv[1]) / str(number))
    except UsageError as error:
        print(2, error)
        continue
    lock.sign()
    time.sleep(0.1)
    lock.release()
    print(0)
"""
    for number in range(20):
        (tmp_path / str(number)).mkdir()
    start = str(time.time() + 5)
    argv = [sys.executable, "-c", script, str(tmp_path), start]
    both = [subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate(timeout=60)[0].splitlines() for process in both]
    for one, other in zip(*outputs, strict=True):
        assert sorted([one[0], other[0]]) == ["0", "2"]
    refusals = [line for output in outputs for line in output if line[0] == "2"]
    pids = "|".join(str(process.pid) for process in both)
    assert len(refusals) == 20
    assert all(re.search(rf"\(pid ({pids}) on .+, since \d", line) for line in refusals)


def test_a_second_writer_is_refused_while_the_first_one_trains(tmp_path: Path) -> None:
    seen: list[str] = []

    def second() -> None:
        for argv in (["train", *FLAGS, "--run-dir", str(tmp_path), "--overwrite"], ["resume", str(tmp_path)]):
            process = subprocess.run(command(*argv), capture_output=True, text=True, timeout=120, check=False)
            assert process.returncode == 2
            seen.append(process.stderr)

    train(tmp_path, sinks=[At(300, second)])
    for error in seen:
        assert f"{tmp_path} is being written by another process (pid {os.getpid()} on " in error
        assert "Traceback" not in error
    assert rlgd.resume(tmp_path).reason == "already complete"


def test_two_runs_that_want_an_automatic_name_get_two(tmp_path: Path) -> None:
    argv = command("train", *FLAGS, "--total-timesteps", "64")
    both = [subprocess.Popen(argv, cwd=tmp_path, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    directories = [process.communicate(timeout=240)[0].split("run:")[1].split()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert len(set(directories)) == 2


def test_overwriting_leaves_what_rlgd_did_not_write(tmp_path: Path) -> None:
    train(tmp_path)
    mine = ["notes.txt", "checkpoints/notes.txt", "checkpoints/77/notes.txt", "events.out.tfevents.1.other", "best.txt"]
    for name in mine:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("mine")
    train(tmp_path, overwrite=True, total_timesteps=64)
    assert [(tmp_path / name).read_text() for name in mine] == ["mine"] * len(mine)
    assert folder.all_steps(tmp_path / "checkpoints") == [64]
    assert len(list(tmp_path.glob("events.*"))) == 2


@pytest.mark.parametrize("name", ["metrics.jsonl", "summary.json", "config.json", "checkpoints"])
def test_files_that_are_no_runs_are_not_touched(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("{}")
    for overwrite in (False, True):
        with pytest.raises(UsageError, match=r"in the way|already holds a run|format_version None"):
            train(tmp_path, overwrite=overwrite)
    assert (tmp_path / name).read_text() == "{}"


def test_an_appender_writes_in_order_what_a_disk_did_not_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = Appender(tmp_path / "file")
    file.append(b"one ")
    write = os.write

    def full(descriptor: int, data: bytes) -> int:
        if len(data) > 2:
            return write(descriptor, data[:2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    file.append(b"two ")
    assert file.fault is not None
    assert "No space left on device" in file.fault
    file.append(b"three ")
    monkeypatch.undo()
    file.append(b"four")
    assert file.fault is None
    file.close()
    assert (tmp_path / "file").read_bytes() == b"one two three four"
