"""What a run writes while storage fails: a warning as long as there is another try, a fault in the end."""

import json
import logging
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import rlgd
from rlgd.errors import StorageFault
from rlgd.run.checkpoints import folder
from tests.support.small_runs import FLAGS, At, command, parameters, train


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
    assert "bytes are free. Training continues, and tries again." in warning.getMessage()
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


@pytest.mark.slow
def test_a_limit_to_the_size_of_files_ends_with_exit_code_5_and_loses_nothing(tmp_path: Path) -> None:
    """The curves outgrow the limit: checkpoints continue, and the exit code tells it in the end."""
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


@pytest.mark.slow
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
