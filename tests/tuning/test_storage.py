"""A search in a storage of Optuna: real databases and processes, some of them killed, and URLs that are no use."""

import contextlib
import json
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import optuna
import pytest

import rlgd
from rlgd.agents import A2C
from rlgd.cli import jax_setup, main
from rlgd.errors import StorageFault, UsageError
from rlgd.tuning import storage as storage_module
from rlgd.tuning.journal import counted_trials
from rlgd.tuning.sharing import BEST, ELSEWHERE, SharedSearch
from rlgd.tuning.storage import InStorage

SMALL = A2C(num_envs=2, rollout_length=8, hidden_sizes=(8,), measure_every=0)
SECRET = "ge:heim"
WRITTEN = "ge%3Aheim"  # the same in a URL

# Runs trials that take no training, with fast heartbeats; a trial whose number is given stops there for good.
WORKER = """
import sys, time
from pathlib import Path
from rlgd.tuning import storage
from rlgd.tuning.sharing import SharedSearch
storage.HEARTBEAT, storage.GRACE = 1, 3
shared = SharedSearch.open(Path(sys.argv[2]), {}, 0, storage.InStorage(sys.argv[1], "search"))
while True:
    with shared.next_trial(int(sys.argv[3])) as trial:
        if trial is None:
            break
        value = trial.suggest_float("x", 0, 1)
        print(trial.number, flush=True)
        if str(trial.number) in sys.argv[4:]:
            time.sleep(1000)
        shared.end(trial, "complete", value, "")
"""


@pytest.fixture(name="url")
def _url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'search.db'}"


@pytest.fixture(name="fast")
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Heartbeats that a test can wait for; the clock of SQLite counts whole seconds."""
    monkeypatch.setattr(storage_module, "HEARTBEAT", 1)
    monkeypatch.setattr(storage_module, "GRACE", 3)


def opened(directory: Path, url: str, name: str = "search", seed: int = 0, **identity: Any) -> SharedSearch:
    return SharedSearch.open(directory, identity, seed, InStorage(url, name))


def worker(url: str, directory: Path, limit: int, *stops: int) -> "subprocess.Popen[str]":
    arguments = [sys.executable, "-c", WORKER, url, str(directory), str(limit), *map(str, stops)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def states(shared: SharedSearch) -> list[str]:
    return [trial.state.name for trial in shared.study.get_trials()]


def run(shared: SharedSearch, limit: int) -> None:
    while True:
        with shared.next_trial(limit) as trial:
            if trial is None:
                return
            shared.end(trial, "complete", trial.suggest_float("x", 0, 1), "")


@pytest.mark.slow
def test_a_killed_process_of_another_machine_neither_counts_nor_blocks(url: str, tmp_path: Path) -> None:
    """The two have no directory in common."""
    stuck = worker(url, tmp_path / "one", 3, 1)
    assert stuck.stdout is not None
    assert [stuck.stdout.readline() for _ in range(2)] == ["0\n", "1\n"]
    other = worker(url, tmp_path / "other", 3)
    assert other.stdout is not None
    assert other.stdout.readline() == "2\n"
    time.sleep(5)  # longer as a trial without heartbeats is waited for
    assert other.poll() is None  # two have ended and one is running: enough, as long as that one lives
    stuck.kill()
    stuck.communicate()
    out, error = other.communicate(timeout=120)
    assert other.returncode == 0, error
    assert out.split() == ["3"]
    assert states(opened(tmp_path / "look", url)) == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]


@pytest.mark.usefixtures("fast")
def test_a_process_that_is_killed_before_its_first_heartbeat_does_not_block(url: str, tmp_path: Path) -> None:
    shared = opened(tmp_path / "one", url)
    shared.study.ask()  # as if killed here
    run(opened(tmp_path / "other", url), 1)
    assert states(shared) == ["FAIL", "COMPLETE"]


def test_a_trial_that_an_exception_leaves_does_not_keep_others_waiting(url: str, tmp_path: Path) -> None:
    shared = opened(tmp_path / "one", url)
    with contextlib.suppress(KeyboardInterrupt), shared.next_trial(1):
        raise KeyboardInterrupt
    run(opened(tmp_path / "other", url), 1)  # at once: heartbeats last a minute here
    assert states(shared) == ["FAIL", "COMPLETE"]


@pytest.mark.usefixtures("fast")
def test_a_trial_that_is_silent_for_too_long_is_lost(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = opened(tmp_path / "one", url)
    monkeypatch.setattr(storage_module, "HEARTBEAT", 1000)  # as if the machine slept
    with one.next_trial(1) as trial:
        assert trial is not None
        run(opened(tmp_path / "other", url), 1)
        with pytest.raises(StorageFault, match="trial 0 is lost: it wrote nothing to the storage for 3 seconds"):
            one.end(trial, "complete", 1.0, "")
    assert states(one) == ["FAIL", "COMPLETE"]


def test_processes_without_a_common_lock_end_exactly_as_many_trials_as_asked_for(url: str, tmp_path: Path) -> None:
    faults: list[Exception] = []

    def work(number: int) -> None:
        try:
            run(opened(tmp_path / str(number), url), 12)
        except Exception as error:
            faults.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]  # they begin it together, too
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert states(opened(tmp_path / "look", url)).count("COMPLETE") == 12


def test_values_are_those_of_a_search_in_a_directory(url: str, tmp_path: Path) -> None:
    journal = SharedSearch.open(tmp_path / "journal", {}, 3)
    run(journal, 12)
    run(opened(tmp_path / "one", url, seed=3), 5)
    stored = opened(tmp_path / "other", url, seed=3)
    run(stored, 12)
    assert [t.params for t in counted_trials(stored.study)] == [t.params for t in counted_trials(journal.study)]


def test_another_search_is_refused(url: str, tmp_path: Path) -> None:
    opened(tmp_path / "one", url, seeds=1)
    with pytest.raises(UsageError, match=r"the study 'search' in the storage sqlite:.*holds another search: seeds: 1, "
                                         r"now 2\. Give another study_name"):  # fmt: skip
        opened(tmp_path / "other", url, seeds=2)
    opened(tmp_path / "other", url, "second", seeds=2)
    with pytest.raises(UsageError, match="one has the results of the search 'search'; name another directory"):
        opened(tmp_path / "one", url, "second", seeds=2)
    with pytest.raises(UsageError, match="one has the results of a search in a storage"):
        SharedSearch.open(tmp_path / "one", {}, 0)
    SharedSearch.open(tmp_path / "journal", {}, 0)
    with pytest.raises(UsageError, match="journal holds a search of its own"):
        opened(tmp_path / "journal", url, seeds=1)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / BEST).write_text("mine")
    with pytest.raises(UsageError, match=r"best\.json is in the way"):
        opened(tmp_path / "mine", url, seeds=1)


def test_a_study_of_somebody_else_is_refused_and_one_that_a_kill_left_empty_is_taken(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage_module, "IDENTITY_SECONDS", 0.5)
    optuna.create_study(storage=url, study_name="theirs").optimize(lambda trial: 1.0, n_trials=1)
    optuna.create_study(storage=url, study_name="least", direction="minimize")
    for name in ("theirs", "least"):
        with pytest.raises(UsageError, match=f"has a study '{name}' of something else"):
            opened(tmp_path / name, url, name)
    optuna.create_study(storage=url, study_name="empty", direction="maximize")
    run(opened(tmp_path / "empty", url, "empty"), 1)


def tune(directory: Path, **options: Any) -> Any:
    given: dict[str, Any] = {
        "search": {"learning_rate": {"log": [1e-4, 1e-1]}}, "trials": 3, "seeds": 1, "fresh_seeds": 1,
        "total_timesteps": 64, "eval_episodes": 1, "tune_dir": directory,
    }  # fmt: skip
    return rlgd.tune(SMALL, "CartPole-v1", **(given | options))


@pytest.mark.slow
def test_a_search_from_end_to_end(url: str, tmp_path: Path) -> None:
    there = tune(tmp_path / "there", storage=url, study_name="cartpole")
    again = tune(tmp_path / "again", storage=url, study_name="cartpole", trials=4, fresh_seeds=0)
    assert again.trials[:3] == there.trials
    written = {path.name for path in (tmp_path / "there").iterdir()}
    assert written == {"best.json", "summary.md", "history.png", "search.lock", ELSEWHERE}
    for path in (tmp_path / "there").iterdir():
        assert b"sqlite" not in path.read_bytes()
    assert json.loads((tmp_path / "there" / ELSEWHERE).read_text()) == {"study_name": "cartpole"}
    with pytest.raises(UsageError, match="seeds: 1, now 2"):
        tune(tmp_path / "more", storage=url, study_name="cartpole", seeds=2)


@pytest.mark.slow
def test_a_storage_that_fails_while_it_is_used_is_a_fault(url: str, tmp_path: Path) -> None:
    def break_it(*_: Any) -> None:
        with contextlib.closing(sqlite3.connect(tmp_path / "search.db")) as database:
            database.execute("DROP TABLE trial_user_attributes")

    with pytest.raises(StorageFault, match=r"the storage sqlite:.*search\.db failed: no such table"):
        tune(tmp_path / "here", storage=url, on_trial=break_it)


def test_the_name_is_the_directory_s(url: str, tmp_path: Path) -> None:
    tune(tmp_path / "mine", storage=url, fresh_seeds=0, trials=1)
    assert optuna.get_all_study_names(url) == ["mine"]
    with pytest.raises(UsageError, match="study_name is 'x', but there is no storage"):
        tune(tmp_path / "other", study_name="x")
    with pytest.raises(UsageError, match="give study_name"):
        tune(tmp_path / "other", storage=url, study_name=" ")


BAD: list[tuple[str, str]] = [
    ("nonsense", "is no URL of a database"),
    ("", "is no URL of a database"),
    (f"redis://bob:{WRITTEN}@host/0", "is no URL of a database"),
    (f"firebird://bob:{WRITTEN}@host/x", "is no URL of a database"),
    (f"journal://bob:{WRITTEN}@host", "is no URL of a database"),
    (f"postgresql://bob:{WRITTEN}@host:port/x", "is no URL of a database"),
    ("sqlite://", "is in the memory of one process"),
    ("sqlite:///:memory:", "is in the memory of one process"),
    (f"sqlite://bob:{WRITTEN}@host/x.db", "storage sqlite://host/x.db cannot be used"),
    ("sqlite:////nowhere/x.db", "storage sqlite:////nowhere/x.db cannot be used: unable to open database file"),
]


@pytest.mark.parametrize(("url", "message"), BAD)
def test_a_url_that_is_no_use_gets_one_message_without_its_password(url: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message) as raised:
        opened(tmp_path / "here", url)
    for secret in (SECRET, WRITTEN, "bob"):
        assert secret not in str(raised.value)
    assert raised.value.__cause__ is None


def test_a_missing_driver_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(jax_setup, "set_up", lambda *_, **__: None)
    command = ["tune", "a2c", "--env", "CartPole-v1", "--search", "gamma=0.9,0.99", "--trials", "1"]
    command += ["--run-dir", str(tmp_path / "here"), "--storage"]
    assert main.main([*command, f"firebird://bob:{WRITTEN}@host/x"]) == 2
    out, err = capfd.readouterr()
    assert "is no URL of a database" in err
    said, driver = out + err, "psycopg2"
    try:
        __import__(driver)
    except ImportError:
        assert main.main([*command, f"postgresql+{driver}://bob:{WRITTEN}@127.0.0.1:1/x"]) == 2
        out, err = capfd.readouterr()
        assert f"postgresql+{driver}://127.0.0.1:1/x needs a driver: No module named '{driver}'; install it" in err
        said += out + err
    for secret in ("Traceback", WRITTEN, SECRET):
        assert secret not in said


def test_a_database_that_another_one_keeps_locked_is_not_waited_for(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage_module, "ANSWER_SECONDS", 1.0)
    with contextlib.closing(sqlite3.connect(tmp_path / "search.db")) as database:
        database.execute("BEGIN EXCLUSIVE")
        with pytest.raises(UsageError, match="does not answer within 1 seconds"):
            opened(tmp_path / "here", url)


def test_servers_that_do_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One refuses the connection, one takes it and says nothing."""
    pytest.importorskip("pymysql")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setattr(storage_module, "ANSWER_SECONDS", 2.0)
        with pytest.raises(UsageError, match="does not answer within 2 seconds") as raised:
            opened(tmp_path / "here", f"mysql+pymysql://bob:{WRITTEN}@127.0.0.1:{port}/x")
        assert SECRET not in str(raised.value)
    monkeypatch.setattr(storage_module, "ANSWER_SECONDS", 60.0)
    with pytest.raises(UsageError, match=r"cannot be used: .*Connection refused") as raised:
        opened(tmp_path / "here", f"mysql+pymysql://bob:{WRITTEN}@127.0.0.1:{port}/x")
    assert SECRET not in str(raised.value)
