"""Several processes that train one run: what one process does, written once; and what they say of bad input."""

import json
import math
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

import rlgd
from rlgd.cli import main

ROOT = Path(__file__).parents[2]
TRAIN = [
    "train", "a2c", "--env", "CartPole-v1", "--no-preset", "--num-envs", "4", "--rollout-length", "8",
    "--hidden-sizes", "4", "--measure-every", "20", "--eval-every", "640", "--eval-episodes", "2",
]  # fmt: skip
BOUND = 60  # seconds in which a process that lost another one has ended


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return int(listener.getsockname()[1])


def start(cwd: Path, arguments: list[str], *together: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "rlgd", *arguments, *together],
        cwd=cwd, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def start_two(cwd: Path, first: list[str], second: list[str] | None = None) -> "list[subprocess.Popen[str]]":
    """Two processes that train together."""
    together = ["--coordinator", f"localhost:{free_port()}", "--num-processes", "2", "--process-id"]
    commands = (first, first if second is None else second)
    return [start(cwd, command, *together, str(number)) for number, command in enumerate(commands)]


def ended(processes: "list[subprocess.Popen[str]]") -> list[tuple[int, str]]:
    """Exit codes and what was said on standard error."""
    said = [process.communicate(timeout=900) for process in processes]
    return [(process.returncode, error) for process, (_, error) in zip(processes, said, strict=True)]


def rows(run: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k != "seconds" and not k.startswith("time/")} for row in lines]


@pytest.mark.slow
def test_two_processes_train_what_one_trains_and_one_goes_on(tmp_path: Path) -> None:
    flags = [*TRAIN, "--total-timesteps", "1280"]
    for code, error in ended(start_two(tmp_path, [*flags, "--run-dir", "two", "--quiet"])):
        assert code == 0, error
    (alone,) = ended([start(tmp_path, [*flags, "--run-dir", "one", "--quiet"])])
    assert alone[0] == 0, alone[1]
    for run in ("one", "two"):
        (rest,) = ended([start(tmp_path, ["resume", run, "--total-timesteps", "1920", "--quiet"])])
        assert rest[0] == 0, rest[1]
    one, two = rows(tmp_path / "one"), rows(tmp_path / "two")
    assert len(one) == len(two)
    for row, other in zip(one, two, strict=True):
        assert row.keys() == other.keys()
        for name, value in row.items():
            assert other[name] == pytest.approx(value, rel=1e-3, abs=1e-5), name


@pytest.mark.slow
def test_each_process_steps_its_share_of_the_environments_on_the_host(tmp_path: Path) -> None:
    flags = [*TRAIN, "--backend", "host", "--measure-every", "5", "--total-timesteps", "640", "--run-dir", "run"]
    for code, error in ended(start_two(tmp_path, [*flags, "--checkpoint-every", "1s", "--quiet"])):
        assert code == 0, error
    (rest,) = ended([start(tmp_path, ["resume", "run", "--total-timesteps", "1280", "--quiet"])])
    assert rest[0] == 0, rest[1]
    found = rows(tmp_path / "run")
    assert found[-1]["step"] >= 1280  # resets of environments are rows, but not steps
    assert all(math.isfinite(row["train/entropy"]) for row in found if "train/entropy" in row)


@pytest.mark.slow
def test_two_processes_go_on_with_what_one_began(tmp_path: Path) -> None:
    (begun,) = ended([start(tmp_path, [*TRAIN, "--total-timesteps", "640", "--run-dir", "run", "--quiet"])])
    assert begun[0] == 0, begun[1]
    for code, error in ended(start_two(tmp_path, ["resume", "run", "--total-timesteps", "1280", "--quiet"])):
        assert code == 0, error
    assert rows(tmp_path / "run")[-1]["step"] == 1280


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["summary.json", "best"])
def test_processes_begin_alike_whatever_a_run_has_lost(lost: str, tmp_path: Path) -> None:
    """A run that a criterion stopped is not finished without its summary; one without its best policy knows of none."""
    flags = [*TRAIN, "--total-timesteps", "1280", "--patience", "50", "--run-dir", "run", "--quiet"]
    stops = ["--min-gradient-norm", "1e9"] if lost == "summary.json" else []
    (begun,) = ended([start(tmp_path, [*flags, *stops])])
    assert begun[0] == 0, begun[1]
    path = tmp_path / "run" / lost
    path.unlink() if path.is_file() else shutil.rmtree(path)
    more = [] if stops else ["--total-timesteps", "1920"]
    for code, error in ended(start_two(tmp_path, ["resume", "run", *more, "--quiet"])):
        assert code == 0, error


@pytest.mark.slow
def test_what_fails_in_the_first_process_ends_all_of_them_soon(tmp_path: Path) -> None:
    flags = [*TRAIN, "--total-timesteps", "320", "--run-dir", "run", "--quiet"]
    assert ended([start(tmp_path, flags)])[0][0] == 0
    began = time.monotonic()
    (first, said), (second, why) = ended(start_two(tmp_path, flags))
    assert time.monotonic() - began < BOUND
    assert (first, second) == (2, 1)
    assert "run holds a run" in said or "--overwrite" in said
    assert "process 0 could not begin" in why


@pytest.mark.slow
def test_without_a_name_one_process_chooses_the_directory(tmp_path: Path) -> None:
    for code, error in ended(start_two(tmp_path, [*TRAIN, "--total-timesteps", "320", "--quiet"])):
        assert code == 0, error
    (run,) = (tmp_path / "runs" / "CartPole-v1" / "a2c").iterdir()
    assert rows(run)[-1]["step"] == 320


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--num-envs", "3"], "num_envs is 3, which 2 devices do not divide"),
    ],
)
def test_what_processes_cannot_share_is_refused_before_anything_is_written(
    flags: list[str], message: str, tmp_path: Path
) -> None:
    for code, error in ended(start_two(tmp_path, [*TRAIN, *flags, "--total-timesteps", "320", "--run-dir", "run"])):
        assert code == 2
        assert message in error
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_processes_that_disagree_do_not_train(tmp_path: Path) -> None:
    flags = [*TRAIN, "--total-timesteps", "640", "--run-dir", "run"]
    for code, error in ended(start_two(tmp_path, flags, [*flags, "--learning-rate", "0.5"])):
        assert code == 2, error
        assert "processes disagree about the settings: 1 differ from process 0" in error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--coordinator", "localhost:1"], "--coordinator, --num-processes and --process-id belong together"),
        (["--num-processes", "2", "--process-id", "0"], "belong together"),
        (["--coordinator", "x:1", "--num-processes", "2", "--process-id", "2"], "process_id is 2; allowed: 0 to 1"),
    ],
)
def test_flags_say_which_process_this_is(flags: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main([*TRAIN, *flags]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("number", ["0", "1"])
def test_processes_that_do_not_come_are_waited_for_a_bounded_time(number: str, tmp_path: Path) -> None:
    together = ["--coordinator", f"localhost:{free_port()}", "--num-processes", "2", "--process-id", number]
    code = (
        "import sys; from rlgd.system import processes; processes.COORDINATOR_SECONDS = 3; "
        "from rlgd.cli import main; sys.exit(main.main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *TRAIN, *together, "--run-dir", "run"],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 3
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("rlgd: error")]
    assert line.endswith("did not find one another within 3 seconds.")
    assert list(tmp_path.iterdir()) == []


def test_without_a_scheduler_it_says_what_to_give(tmp_path: Path) -> None:
    (done,) = ended([start(tmp_path, [*TRAIN, "--distributed", "--run-dir", "run"])])
    assert done[0] == 2
    assert "no scheduler (Slurm, MPI, Kubernetes) says which process this is" in done[1]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1])
def test_a_signal_to_any_process_ends_the_run_with_a_checkpoint(number: int, tmp_path: Path) -> None:
    both = start_two(tmp_path, [*TRAIN, "--run-dir", "run", "--quiet", "--total-timesteps", "1000000"])
    while not (tmp_path / "run" / "metrics.jsonl").exists() or not rows(tmp_path / "run"):
        time.sleep(0.1)
        assert all(process.poll() is None for process in both)
    both[number].terminate()
    for process, (code, error) in enumerate(ended(both)):
        assert code == 128 + signal.SIGTERM, error
        assert ("interrupted at step" in error) == (process == 0)
    steps = max(int(path.name) for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert steps > 0
    (rest,) = ended([start(tmp_path, ["resume", "run", "--total-timesteps", str(steps + 320), "--quiet"])])
    assert rest[0] == 0, rest[1]


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_the_others_end_soon_after_one_is_killed_and_the_run_goes_on(killed: int, tmp_path: Path) -> None:
    flags = [*TRAIN, "--run-dir", "run", "--checkpoint-every", "320", "--quiet", "--total-timesteps"]
    both = start_two(tmp_path, [*flags, "1000000"])
    checkpoints = tmp_path / "run" / "checkpoints"
    while len(list(checkpoints.glob("*"))) < 2:
        time.sleep(0.1)
        assert all(process.poll() is None for process in both)
    both[killed].kill()
    left = both[1 - killed]
    start_of_end = time.monotonic()
    _, error = left.communicate(timeout=BOUND)
    assert time.monotonic() - start_of_end < BOUND
    assert left.returncode == 3, error
    (line,) = [line for line in error.splitlines() if line.startswith("rlgd: ")]
    # JAX may notice the end of process 0 first; it does not know whose end it is.
    assert re.match(rf"rlgd: error: (process {killed}|another process) has died, so this one ends too; `rlgd res", line)
    (rest,) = ended([start(tmp_path, ["resume", "run", "--total-timesteps", "20000", "--quiet"])])
    assert rest[0] == 0, rest[1]


@pytest.mark.slow
def test_ten_kills_change_no_bit(tmp_path: Path) -> None:
    flags = [*TRAIN, "--eval-every", "50000", "--checkpoint-every", "1s", "--total-timesteps", "200000", "--quiet"]
    flags += ["--run-dir"]
    for code, error in ended(start_two(tmp_path, [*flags, "whole"])):
        assert code == 0, error
    chance, checkpoints = random.Random(0), tmp_path / "killed" / "checkpoints"
    commands = [*flags, "killed"]
    for _ in range(10):
        both = start_two(tmp_path, commands)
        time.sleep(chance.uniform(4, 16))  # from before the first checkpoint to well into the run
        victim = chance.randrange(2)
        both[victim].kill()
        _, error = both[1 - victim].communicate(timeout=2 * BOUND)
        assert both[1 - victim].returncode in (0, 3), error
        both[victim].communicate()
        if checkpoints.exists() and any(path.name.isdigit() for path in checkpoints.iterdir()):
            commands = ["resume", "killed", "--quiet"]
        else:
            commands = [*flags, "killed", "--overwrite"]
    for code, error in ended(start_two(tmp_path, commands)):
        assert code == 0, error
    assert rows(tmp_path / "killed") == rows(tmp_path / "whole")
    one, other = (rlgd.load(tmp_path / name).actor for name in ("whole", "killed"))
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)
