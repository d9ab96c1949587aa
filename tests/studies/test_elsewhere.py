"""Studies on executors: the same bytes as in threads, whoever trains and whatever dies."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import rlgd
from rlgd.engines import EngineChoice
from rlgd.errors import EnvironmentFault, UsageError
from rlgd.studies import api, resume_study
from rlgd.studies.execution import Execution
from rlgd.studies.plan import make_plan
from tests.support.engine_jobs import DiesOnce, die
from tests.support.small_study import A2C_SMALL, STEPS, study

ENGINES = {"slurm": EngineChoice("slurm", arguments={"cluster": "local"}), "dask": EngineChoice("dask")}
ENGINES["ray"] = EngineChoice("ray")
MODULES = {"slurm": "submitit", "dask": "distributed", "ray": "ray"}
VARY: dict[str, list[Any]] = {
    "learning_rate": [0.01, 1e37],
    "num_envs": [2, 4],
}  # a member that diverges, and two programs
SEEDS = 5  # so that each program has a slice that is full and one that is not
RESULTS = "results.csv"


def train(directory: Path, executor: Executor | None, set_up: Any = None) -> bytes:
    """The study of this file; returns ``results.csv``."""
    plan = study_plan()
    api.execute(plan, directory, Execution(executor=executor, set_up=set_up))
    return (directory / RESULTS).read_bytes()


def study_plan() -> Any:
    question = rlgd.studies.Question(
        (rlgd.studies.Arm(vary=VARY),), agent="a2c", settings={"rollout_length": 8, "hidden_sizes": (8,)}, seeds=SEEDS,
        total_timesteps=STEPS, eval_episodes=2,
    )  # fmt: skip
    return make_plan(question)


@pytest.fixture(name="expected", scope="module")
def _expected(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    found = set()
    for workers in (1, 2):
        directory = tmp_path_factory.mktemp("studies") / str(workers)
        api.execute(study_plan(), directory, Execution(workers=workers))
        found.add((directory / RESULTS).read_bytes())
        assert b"seconds" not in (directory / RESULTS).read_bytes()
        assert (directory / "times.csv").read_text().splitlines()[0] == "member,training_seconds,seconds_to_target"
    (content,) = found
    assert content.count(b"\n") == 1 + 4 * SEEDS
    return content


@pytest.mark.slow
def test_threads_of_an_executor_give_the_same_bytes(expected: bytes, tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        assert train(tmp_path / "study", pool) == expected


@pytest.mark.slow
def test_a_pool_of_processes_gives_the_same_bytes(expected: bytes, tmp_path: Path) -> None:
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        assert train(tmp_path / "study", pool) == expected


@pytest.mark.slow
@pytest.mark.parametrize("name", ["slurm", "dask"])
def test_an_agent_and_an_environment_travel(name: str, tmp_path: Path) -> None:
    pytest.importorskip(MODULES[name])
    given: dict[str, Any] = {"vary": {"learning_rate": [0.01]}, "seeds": 2, "total_timesteps": 64, "eval_episodes": 2}
    env = rlgd.envs.make("CartPole-v1", max_episode_steps=20)
    here = rlgd.study(A2C_SMALL, env, **given)
    with ENGINES[name].executor(1, tmp_path / "jobs") as executor:
        there = rlgd.study(A2C_SMALL, env, **given, executor=executor)
    assert here.records() == there.records()


@pytest.mark.slow
@pytest.mark.parametrize("name", MODULES)
def test_each_engine_gives_the_same_bytes(name: str, expected: bytes, tmp_path: Path) -> None:
    pytest.importorskip(MODULES[name])
    with ENGINES[name].executor(2, tmp_path / "study" / "jobs") as executor:
        assert train(tmp_path / "study", executor) == expected


@pytest.mark.slow
@pytest.mark.parametrize("name", MODULES)
def test_a_slice_whose_worker_is_killed_is_trained_again(name: str, expected: bytes, tmp_path: Path) -> None:
    pytest.importorskip(MODULES[name])
    with ENGINES[name].executor(1, tmp_path / "study" / "jobs") as executor:
        assert train(tmp_path / "study", executor, DiesOnce(tmp_path / "died")) == expected
    assert (tmp_path / "died").exists()


@pytest.mark.slow
def test_a_slice_whose_workers_always_die_ends_the_study_which_can_be_resumed(expected: bytes, tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    with (
        ENGINES["dask"].executor(1, tmp_path / "jobs") as executor,
        pytest.raises(
            EnvironmentFault, match=r"given up after 2 restarts: its worker died 3 times.*study resume"
        ) as caught,
    ):
        train(tmp_path / "study", executor, die)
    assert caught.value.exit_code == 3
    resume_study(tmp_path / "study")
    assert (tmp_path / "study" / RESULTS).read_bytes() == expected


def test_members_on_the_host_are_jobs_of_their_own() -> None:
    env = rlgd.envs.make("CartPole-v1", backend="host")
    given: dict[str, Any] = {"vary": {"gamma": [0.9, 0.99]}, "seeds": 2, "total_timesteps": 64, "eval_episodes": 2}
    here = rlgd.study(A2C_SMALL, env, **given)
    with ThreadPoolExecutor(1) as pool:
        there = rlgd.study(A2C_SMALL, env, **given, executor=pool)
    assert here.records() == there.records()


def test_an_environment_that_cannot_travel_is_refused() -> None:
    import threading

    from rlgd.envs.functional.cartpole import CartPole

    env = CartPole()
    object.__setattr__(env, "lock", threading.Lock())
    with ThreadPoolExecutor(1) as pool, pytest.raises(UsageError, match="cannot be sent to another process"):
        rlgd.study(A2C_SMALL, env, {"gamma": [0.9]}, total_timesteps=64, executor=pool)


def test_an_executor_is_checked_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="executor is 'dask'"):
        study(executor="dask", study_dir=tmp_path / "study")
    assert not (tmp_path / "study").exists()


TOML = """
agent = "a2c"
seeds = 5
total_timesteps = 320
eval_episodes = 2
[settings]
rollout_length = 8
hidden_sizes = [8]
[[arms]]
vary = { learning_rate = [0.01, 1e37], num_envs = [2, 4] }
"""


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_a_signal_cancels_the_jobs_and_leaves_a_study_to_resume(
    number: signal.Signals, code: int, expected: bytes, tmp_path: Path
) -> None:
    """SIGKILL leaves the jobs alone, which nobody hears any more."""
    pytest.importorskip("submitit")
    (tmp_path / "mine.toml").write_text(TOML)
    directory, members = tmp_path / "study", tmp_path / "study" / "members.jsonl"
    command = [sys.executable, "-m", "rlgd", "study"]
    engine = ["--engine", "slurm", "--engine-arg", "cluster=local", "--workers", "1", "--quiet"]
    process = subprocess.Popen(
        [*command, str(tmp_path / "mine.toml"), "--run-dir", str(directory), *engine],
        text=True, stderr=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    while process.poll() is None and not (members.exists() and members.read_bytes()):
        time.sleep(0.05)
    os.kill(process.pid, number)
    _, error = process.communicate(timeout=300)  # beside other work
    assert process.returncode == code, error
    if code > 0:
        assert f"interrupted; what is finished is kept: `rlgd study resume {directory}` continues it" in error
    done = members.read_bytes().count(b"\n")
    assert 0 < done < 4 * SEEDS
    subprocess.run([*command, "resume", str(directory), *engine], check=True, timeout=300, capture_output=True)
    assert (directory / RESULTS).read_bytes() == expected
