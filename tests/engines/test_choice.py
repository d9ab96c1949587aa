"""Engines: each runs jobs in processes of its own, replaces those that die, and refuses what it cannot use."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rlgd.engines import ENGINES, EngineChoice, run_jobs
from rlgd.errors import UsageError
from tests.support.engine_jobs import die, die_with_job, process_of, square
from tests.support.marks import quick

IN_TESTS = {"slurm": EngineChoice("slurm", arguments={"cluster": "local"}), "dask": EngineChoice("dask")}
IN_TESTS["ray"] = EngineChoice("ray")
# Ray is large: its cluster takes half a minute to start on a machine with much to do.
REAL = quick([name for name in ENGINES if name != "ray"], ENGINES[1:])


def choice(name: str) -> EngineChoice:
    pytest.importorskip({"slurm": "submitit", "dask": "distributed", "ray": "ray"}[name])
    return IN_TESTS[name]


@pytest.mark.parametrize("name", REAL)
def test_jobs_run_in_other_processes(name: str, tmp_path: Path) -> None:
    with choice(name).executor(2, tmp_path / "jobs") as executor:
        assert executor is not None
        processes = [one.result for one in run_jobs(executor, process_of, range(2))]
    assert os.getpid() not in processes


@pytest.mark.slow
@pytest.mark.parametrize("name", ENGINES[1:])
def test_a_job_survives_the_death_of_its_worker(name: str, tmp_path: Path) -> None:
    jobs = [(tmp_path / str(number), number) for number in range(2)]
    with choice(name).executor(2, tmp_path / "jobs") as executor:
        assert executor is not None
        ended = [one.result for one in run_jobs(executor, die_with_job, jobs)]
    assert sorted(ended) == [0, 1]


@pytest.mark.slow
@pytest.mark.parametrize("name", ENGINES[1:])
def test_a_job_that_kills_all_its_workers_is_given_up(name: str, tmp_path: Path) -> None:
    with choice(name).executor(1, tmp_path / "jobs") as executor:
        assert executor is not None
        (ended,) = run_jobs(executor, die, [None])
    assert ended.lost.startswith("its worker died 3 times, the last time with ")


@pytest.mark.slow
def test_a_cluster_outlives_any_number_of_deaths(tmp_path: Path) -> None:
    """Dask restarts no worker that dies while it starts; about one in ten of these does."""
    pytest.importorskip("distributed")
    with EngineChoice("dask").executor(1, tmp_path / "jobs") as executor:
        assert executor is not None
        for _ in range(40):
            assert executor.submit(die, 0).exception(timeout=120) is not None
        assert executor.submit(square, 3).result(timeout=120) == 9


def test_the_engine_local_has_no_executor(tmp_path: Path) -> None:
    with EngineChoice().executor(None, tmp_path / "jobs") as executor:
        assert executor is None
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "slurn"}, "did you mean 'slurm'"),
        ({"address": "tcp://host:1"}, "the engine local has none; only dask and ray take one"),
        ({"arguments": {"timeout_min": 5}}, "engine_arg 'timeout_min' is for the engine slurm, not local"),
        ({"name": "slurm", "arguments": {"cluster": "loca"}}, "submitit cannot use the cluster 'loca'"),
        ({"name": "slurm", "arguments": {"cluster": "local", "no": 1}}, "Parameter 'no'"),
        ({"name": "slurm"}, "--engine-arg cluster=local runs the jobs on this machine"),
    ],
)
def test_what_cannot_be_used_is_one_message(
    values: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if values.get("name") == "slurm":
        pytest.importorskip("submitit")
        monkeypatch.setenv("PATH", "")  # on a machine that has Slurm, too
    with pytest.raises(UsageError, match=message), EngineChoice(**values).executor(None, tmp_path / "jobs"):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ENGINES[1:])
def test_an_engine_that_is_not_installed_says_how_to_install_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda module: None)
    with pytest.raises(UsageError, match=rf"pip install 'rlgd\[{name}\]'"):
        EngineChoice(name).validate()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "address"), [("dask", "tcp://127.0.0.1:1"), ("ray", "127.0.0.1:1")])
def test_an_address_where_nothing_answers_is_given_up_soon(name: str, address: str, tmp_path: Path) -> None:
    choice(name)
    with (
        pytest.raises(UsageError, match=rf"answers at '{address}' within 10 seconds"),
        EngineChoice(name, address).executor(None, tmp_path),
    ):
        pass


def test_importing_slurms_engine_leaves_the_handlers_of_the_program_alone() -> None:
    """In a process of its own, because a module is imported once."""
    pytest.importorskip("submitit")
    code = """
import io, logging
stream = io.StringIO()
class Closing(logging.StreamHandler):
    def close(self):
        self.stream.close()
handler = Closing(stream)
import rlgd.engines.slurm
print(stream.closed, rlgd.engines.slurm.submitit.__name__)
"""
    variables = {name: value for name, value in os.environ.items() if name != "SUBMITIT_LOG_LEVEL"}
    done = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "submitit"]
