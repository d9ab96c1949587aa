"""The runs below a directory: listed, compared, as data frames, and removed."""

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import rlgd
from rlgd.cli import main
from rlgd.errors import UsageError
from rlgd.run import catalog, pruning
from rlgd.system.lock import Lock
from tests.support.small_runs import copy

Written = tuple[Path, rlgd.TrainResult]
Make = Callable[..., Path]


@pytest.fixture(name="make")
def _make(written: Written, tmp_path: Path) -> Make:
    """Makes a run of a few settings and a mean return, below ``tmp_path / "runs"``."""

    def make(name: str, mean_return: float | None, reason: str = "total_timesteps", **settings: Any) -> Path:
        directory = copy(written, tmp_path / "made" / name)
        place = tmp_path / "runs" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        directory.rename(place)
        content = json.loads((place / "config.json").read_text())
        for key, value in settings.items():
            part = next(content[part] for part in ("hyperparameters", "settings") if key in content[part])
            part[key] = value
        (place / "config.json").write_text(json.dumps(content))
        summary = json.loads((place / "summary.json").read_text()) | {"reason": reason}
        summary["evaluation"]["mean_return"] = mean_return
        if mean_return is None:
            (place / "summary.json").unlink()
        else:
            (place / "summary.json").write_text(json.dumps(summary))
        return place

    return make


@pytest.fixture(name="runs")
def _runs(make: Make, tmp_path: Path) -> Path:
    make("a/0", 100.0, learning_rate=0.1, seed=0)
    make("a/1", 200.0, learning_rate=0.1, seed=1)
    make("b/0", 300.0, learning_rate=0.2, seed=0)
    make("b/1", None, learning_rate=0.2, seed=1)
    (tmp_path / "runs" / "notes").mkdir()
    (tmp_path / "runs" / "notes" / "text").write_text("no run")
    return tmp_path / "runs"


def names(records: list[catalog.RunRecord], root: Path) -> list[str]:
    return [str(record.directory.relative_to(root)) for record in records]


def test_runs_are_found_with_their_settings_and_outcomes(runs: Path) -> None:
    records = catalog.find(runs)
    assert names(records, runs) == ["a/0", "a/1", "b/0", "b/1"]
    first, last = records[0], records[-1]
    assert (first.settings["agent"], first.settings["env"], first.settings["learning_rate"]) == (
        "a2c",
        "CartPole-v1",
        0.1,
    )
    assert (first.state, first.outcome()["steps"], first.outcome()["mean_return"]) == ("total_timesteps", 1024, 100.0)
    assert last.state == catalog.UNFINISHED
    assert math.isnan(last.outcome()["mean_return"])
    assert tuple(first.outcome()) == catalog.OUTCOMES
    assert [row.step for row in first.rows()][-1] == 1024
    assert names(catalog.find(runs / "a" / "0"), runs) == ["a/0"]
    assert catalog.chosen(records, agent="A2C", env="CartPole-v1") == records
    assert catalog.chosen(records, agent="ppo") == []
    with pytest.raises(UsageError, match="is no directory; runs are in runs/"):
        catalog.find(runs / "nowhere")


def test_a_damaged_run_is_named_and_left_out(runs: Path, caplog: pytest.LogCaptureFixture) -> None:
    (runs / "a" / "0" / "config.json").write_text("{")
    assert names(catalog.find(runs), runs) == ["a/1", "b/0", "b/1"]
    assert "a/0/config.json is damaged" in caplog.text
    (runs / "b" / "1" / "run.lock").unlink()
    (runs / "b" / "1" / "run.lock").symlink_to(runs / "notes" / "text")
    assert names(catalog.find(runs), runs) == ["a/1", "b/0"]
    assert "b/1/run.lock" in caplog.text
    (runs / "a" / "1" / "summary.json").write_text('{"evaluation": 3, "steps": "many"}')
    (runs / "a" / "1" / "metrics.jsonl").write_text('{"step": 1}\n{"step": 5, "seconds": 1.0, "x": 2}\n{"st')
    record = catalog.find(runs)[0]
    assert math.isnan(record.outcome()["steps"])
    assert [(row.step, row.values) for row in record.rows()] == [(5, {"x": 2.0})]


def test_a_run_that_is_being_written_is_running(runs: Path) -> None:
    lock = Lock(runs / "a" / "0")
    lock.sign()
    assert [record.state for record in catalog.find(runs)][:2] == [catalog.RUNNING, "total_timesteps"]
    lock.release()
    assert catalog.find(runs)[0].state == "total_timesteps"


def test_runs_that_differ_by_their_seed_alone_are_compared_together(runs: Path) -> None:
    comparison = catalog.compare(catalog.find(runs))
    assert comparison.names == ["learning_rate"]
    values = [(values, names(group, runs), catalog.mean_return(group)) for values, group in comparison.groups]
    assert values == [([0.2], ["b/0", "b/1"], 300.0), ([0.1], ["a/0", "a/1"], 150.0)]
    assert catalog.compare([]).groups == []


def test_data_frames(runs: Path) -> None:
    pytest.importorskip("pandas")
    frame = rlgd.runs(runs)
    assert list(frame.index) == [str(runs / name) for name in ("a/0", "a/1", "b/0", "b/1")]
    assert frame.groupby("learning_rate")["mean_return"].mean().to_dict() == {0.1: 150.0, 0.2: 300.0}
    assert {"env", "gamma", "total_timesteps", *catalog.OUTCOMES} <= {*frame.columns}
    curves = rlgd.runs(str(runs), curves=True)
    assert {"run", "step", "seconds", "train/objective"} <= {*curves.columns}
    assert curves.groupby("run")["step"].max().to_list() == [1024] * 4
    (runs / "empty").mkdir()
    assert rlgd.runs(runs / "empty").empty


@pytest.mark.parametrize(
    ("wish", "going"),
    [
        ({"unfinished": True}, ["b/1"]),
        ({"below": 200.0}, ["a/0"]),
        ({"keep": 1}, ["a/0", "a/1", "b/1"]),
        ({"keep": 1, "below": 250.0}, ["a/0", "a/1"]),
        ({"older_than": 1.0}, ["a/1"]),
        ({"older_than": 1.0, "unfinished": True}, []),
    ],
)
def test_all_that_is_wished_must_apply(wish: dict[str, Any], going: list[str], runs: Path) -> None:
    long_ago = time.time() - 2 * pruning.DAY
    for place, _, files in os.walk(runs / "a" / "1"):
        for name in files:
            os.utime(Path(place, name), (long_ago, long_ago))
    assert names(pruning.chosen(catalog.find(runs), pruning.Wish(**wish)), runs) == going


def test_a_wish_has_to_be_one() -> None:
    with pytest.raises(UsageError, match="nothing says which runs to remove"):
        pruning.chosen([], pruning.Wish())
    with pytest.raises(UsageError, match="keep is -1; allowed: a number from 0"):
        pruning.chosen([], pruning.Wish(keep=-1))


def test_only_what_rlgd_wrote_is_removed(runs: Path) -> None:
    (runs / "a" / "0" / "notes.txt").write_text("mine")
    pruning.remove(runs / "a" / "0")
    pruning.remove(runs / "a" / "1")
    assert [path.name for path in (runs / "a").iterdir()] == ["0"]
    assert [path.name for path in (runs / "a" / "0").iterdir()] == ["notes.txt"]


def test_a_running_run_is_never_removed(runs: Path) -> None:
    lock = Lock(runs / "a" / "0")
    lock.sign()
    assert "a/0" not in names(pruning.chosen(catalog.find(runs), pruning.Wish(keep=0)), runs)
    with pytest.raises(UsageError, match="is being written by another process"):
        pruning.remove(runs / "a" / "0")
    lock.release()
    assert (runs / "a" / "0" / "config.json").exists()


def test_the_commands(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def said(*words: str) -> str:
        assert main.main(["runs", *words]) == 0
        return capsys.readouterr().out

    lines = said(str(runs), "--sort", "return").splitlines()
    assert [line.split()[0] for line in lines] == ["run", "b/0", "a/1", "a/0", "b/1"]
    assert lines[1].split()[1:7] == ["a2c", "CartPole-v1", "0", "total_timesteps", "1,024", "300.0"]
    assert [row["mean_return"] for row in json.loads(said(str(runs), "--json"))] == [100.0, 200.0, 300.0, None]
    lines = said("compare", str(runs), "--agent", "a2c").splitlines()
    assert [line.split() for line in lines] == [
        ["learning_rate", "runs", "finished", "return", "from", "to"],
        ["0.2", "2", "1", "300.0", "300.0", "300.0"],
        ["0.1", "2", "2", "150.0", "100.0", "200.0"],
    ]
    rows = json.loads(said("compare", str(runs), "--json"))
    assert [(row["learning_rate"], len(row["runs"]), row["mean_return"]) for row in rows] == [
        (0.2, 2, 300),
        (0.1, 2, 150),
    ]
    foretold = said("prune", str(runs), "--keep", "1")
    assert foretold.count("would remove") == 3
    assert "3 runs, " in foretold
    assert "; --yes removes them" in foretold
    assert len(catalog.find(runs)) == 4
    assert json.loads(said("prune", str(runs), "--unfinished", "--json")) == {
        "removed": False,
        "runs": [str(runs / "b/1")],
    }
    assert said("prune", str(runs), "--keep", "1", "--yes").count("removed ") == 3
    assert names(catalog.find(runs), runs) == ["b/0"]


def test_listing_runs_imports_no_jax(runs: Path) -> None:
    code = "import sys; from rlgd.cli import main; main.main(sys.argv[1:]); assert 'jax' not in sys.modules"
    words = ["runs", str(runs), "--agent", "a2c", "--sort", "return"]
    listed = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=60)
    assert (listed.returncode, len(listed.stdout.splitlines())) == (0, 5), listed.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["prune", "."], "holds no run."),
        ([".", "--agent", "ppo", "--env", "X"], "holds no run of ppo in X."),
        (["nowhere"], "nowhere is no directory"),
        ([".", "--sort", "size"], "unknown order 'size'"),
    ],
)
def test_mistakes_of_the_commands(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main.main(["runs", *words]) == 2
    assert message in capsys.readouterr().err
