"""Services as they are offline: what reaches their own files and databases, read back."""

import json
import os
import struct
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from rlgd import envs
from rlgd.run import RunConfig
from rlgd.run.config import Membership
from rlgd.run.layout import SERVICES
from rlgd.run.sinks import services
from tests.support.marks import quick
from tests.support.small_runs import AGENT, FLAGS, TOTAL, command, train

MODULES = {"wandb": "wandb", "mlflow": "mlflow", "comet": "comet_ml", "trackio": "trackio"}


class Seen(NamedTuple):
    """What a service has of a run."""

    id: str
    values: dict[str, Any]  # hyper-parameters
    place: tuple[str, str]  # group and job type
    tags: list[str]
    curve: list[tuple[int, str, float]]  # step, metric, value
    final: dict[str, Any]
    status: str | None


@pytest.fixture(autouse=True)
def _offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "WANDB_MODE": "offline",
        "WANDB_DIR": str(tmp_path / "wandb"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / 'mlflow.db'}",
        "COMET_START_ONLINE": "0",
        "COMET_OFFLINE_DIRECTORY": str(tmp_path / "comet"),
        "COMET_ERROR_TRACKING_ENABLE": "0",
        "TRACKIO_DIR": str(tmp_path / "trackio"),
    }.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "wandb").mkdir()


def needs(service: str) -> None:
    pytest.importorskip(MODULES[service], exc_type=ImportError)


def wandb_records(path: Path) -> Iterator[Any]:
    """The records of a file of W&B: LevelDB's log format, in blocks of 32 KiB after a header of 7 bytes."""
    from wandb.proto import wandb_internal_pb2

    messages: Any = wandb_internal_pb2  # made while it is imported
    data, at, parts = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:  # no room for a header: the block is filled up
            at += 32768 - at % 32768
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        parts, at = parts + data[at + 7 : at + 7 + length], at + 7 + length
        if kind in (1, 4):  # whole, or the last part
            record = messages.Record()
            record.ParseFromString(parts)
            parts = b""
            yield record


def read_wandb(folder: Path) -> list[Seen]:
    runs: dict[str, Seen] = {}
    for path in sorted(folder.glob("wandb/wandb/offline-run-*/*.wandb")):
        records = list(wandb_records(path))
        told = next(record.run for record in records if record.WhichOneof("record_type") == "run")
        runs.setdefault(told.run_id, Seen(told.run_id, {}, (told.run_group, told.job_type), [*told.tags], [], {}, None))
        seen = runs[told.run_id]
        for record in records:
            match record.WhichOneof("record_type"):
                case "config":
                    seen.values.update({item.key: json.loads(item.value_json) for item in record.config.update})
                case "run":
                    seen.values.update({item.key: json.loads(item.value_json) for item in record.run.config.update})
                case "history":
                    row = {(*i.nested_key, i.key)[0]: json.loads(i.value_json) for i in record.history.item}
                    curve = [(row["_step"], name, x) for name, x in row.items() if not name.startswith("_")]
                    seen.curve.extend(curve)
                case "summary":
                    kept = {(*i.nested_key, i.key)[0]: i.value_json for i in record.summary.update}
                    seen.final.update({k: json.loads(x) for k, x in kept.items() if k.startswith("final/")})
                case "exit":
                    runs[told.run_id] = seen = seen._replace(status=str(record.exit.exit_code))
    return list(runs.values())


def read_mlflow(folder: Path) -> list[Seen]:
    from mlflow import MlflowClient

    client = MlflowClient()
    found = []
    for experiment in client.search_experiments(filter_string="name = 'rlgd'"):
        for run in client.search_runs([experiment.experiment_id]):
            history = [m for name in run.data.metrics for m in client.get_metric_history(run.info.run_id, name)]
            curve = [(m.step, m.key, m.value) for m in history if not m.key.startswith("final/")]
            final = {m.key: m.value for m in history if m.key.startswith("final/")} | run.data.tags
            place = run.data.tags["group"], run.data.tags["job_type"]
            tags = run.data.tags["tags"].split(", ")
            found.append(Seen(run.info.run_id, run.data.params, place, tags, curve, final, run.info.status))
    return found


def read_comet(folder: Path) -> list[Seen]:
    runs: dict[str, Seen] = {}
    for path in sorted(folder.glob("comet/*.zip"), key=lambda path: path.stat().st_mtime):
        with zipfile.ZipFile(path) as archive:
            about = json.loads(archive.read("experiment.json"))
            messages = [json.loads(line) for line in archive.read("messages.json").splitlines()]
        of = {kind: [m["payload"] for m in messages if m["type"] == kind] for kind in ("parameter_msg", "metric_msg")}
        others = {m["payload"]["key"]: m["payload"]["value"] for m in messages if m["type"] == "log_other"}
        values = {p["param"]["paramName"]: p["param"]["paramValue"] for p in of["parameter_msg"]}
        # What Comet measures itself, such as the duration of the process, has no slash in its name.
        metrics = [p["metric"] for p in of["metric_msg"] if "/" in p["metric"]["metricName"]]
        curve = [
            (m["step"], m["metricName"], m["metricValue"]) for m in metrics if not m["metricName"].startswith("sys.")
        ]
        seen = Seen(
            about["offline_id"], values, (others["group"], others["job_type"]), about["tags"], curve, others, None
        )
        before = runs.get(seen.id)
        runs[seen.id] = seen if before is None else seen._replace(curve=before.curve + curve)
    return list(runs.values())


def read_trackio(folder: Path) -> list[Seen]:
    """In a process of its own: trackio asks for its folder when it is imported."""
    code = """
import json
from trackio.sqlite_storage import SQLiteStorage as Storage
runs = Storage.get_runs("rlgd")
print(json.dumps([[run, Storage.get_run_config("rlgd", run), Storage.get_logs("rlgd", run)] for run in runs]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found = []
    for name, values, rows in json.loads(done.stdout.splitlines()[-1]):
        flat = [(row["step"], k, x) for row in rows for k, x in row.items() if k not in ("step", "timestamp")]
        curve = [point for point in flat if not point[1].startswith("final/")]
        final = {k: x for _, k, x in flat if k.startswith("final/")}
        place = values.get("_Group") or values.get("_group"), values["job_type"]
        found.append(Seen(name, values, place, values["tags"].split(", "), curve, final, None))
    return found


READ = {"wandb": read_wandb, "mlflow": read_mlflow, "comet": read_comet, "trackio": read_trackio}
ENDED = {"wandb": "0", "mlflow": "FINISHED", "comet": None, "trackio": None}


def rows_of(run: Path) -> list[tuple[int, str, float]]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [(row["step"], k, x) for row in rows for k, x in row.items() if k not in ("step", "seconds")]


def steady(points: list[tuple[int, str, float]]) -> list[tuple[int, str, float]]:
    """Without what is another in every execution."""
    return sorted(point for point in points if not point[1].startswith("time/"))


def in_a_process(tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A command as a user calls it: services keep much in their process, and end with it."""
    done = subprocess.run(
        command(*words), cwd=tmp_path, env={**os.environ}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.parametrize("service", quick(["trackio"], MODULES))
def test_a_run_is_there_with_everything_and_a_resumed_one_goes_on(service: str, tmp_path: Path) -> None:
    needs(service)
    run = tmp_path / "run"
    flags = [*FLAGS, "--eval-every", "512", "--run-dir", str(run), "--json"]
    done = in_a_process(tmp_path, "train", *flags, "--total-timesteps", str(TOTAL), "--sink", service)
    assert json.loads(done.stdout)["reason"] == "total_timesteps"  # and nothing else is on the standard output
    (seen,) = READ[service](tmp_path)
    assert steady(seen.curve) == steady(rows_of(run))
    assert str(seen.values["learning_rate"]) == "0.001"
    assert str(seen.values["seed"]) == "0"
    assert seen.place[0].startswith("a2c CartPole-v1 1024 num_envs=4")
    assert seen.place[1] == "train"
    assert {"a2c", "CartPole-v1", "seed0"} <= {*seen.tags}
    summary = json.loads((run / "summary.json").read_text())
    assert float(seen.final["final/mean_return"]) == summary["evaluation"]["mean_return"]
    assert seen.final["final/reason"] == "total_timesteps"
    assert seen.status == ENDED[service]
    in_a_process(tmp_path, "resume", str(run), "--total-timesteps", str(2 * TOTAL), "--json", "--sink", service)
    (again,) = READ[service](tmp_path)
    assert again.id == seen.id
    assert steady(again.curve) == steady(rows_of(run))
    assert float(again.final["final/steps"]) == 2 * TOTAL


@pytest.mark.slow
@pytest.mark.parametrize("service", MODULES)
def test_a_member_of_a_study_is_in_its_group(service: str, tmp_path: Path) -> None:
    needs(service)
    code = f"""
from tests.run.sinks.test_services import member
from rlgd.run.api import execute
execute(member(), sinks=[{service!r}])
"""
    subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": os.getcwd()}, check=True, timeout=300)
    (seen,) = READ[service](tmp_path)
    assert seen.place == ("momentum", "adam momentum=0.9")
    assert {"a2c", "CartPole-v1", "seed3", "momentum", "adam momentum=0.9"} <= {*seen.tags}


def member() -> RunConfig:
    config = RunConfig(AGENT, envs.make("CartPole-v1"), part_of=Membership("momentum", "adam momentum=0.9"))
    return config.with_settings(seed=3, total_timesteps=128)


def test_what_an_earlier_process_has_sent_is_not_sent_again(tmp_path: Path) -> None:
    first = services.Memory(tmp_path, "one")
    assert not first.resumed
    assert first.is_new(0)
    first.keep()
    for step in (64, 128, 128):
        assert first.is_new(step)
        first.keep(step)
    other = services.Memory(tmp_path, "other")
    other.id = "7"
    other.keep(999)
    with (tmp_path / SERVICES).open("a") as file:
        file.write('{"service": "one", "id": "../../x", "step": 5}\n{"serv')  # forged, and torn by a kill
    again = services.Memory(tmp_path, "one")
    assert (again.id, again.resumed) == (first.id, True)
    assert [again.is_new(step) for step in (64, 128, 129)] == [False, False, True]
    assert services.Memory(tmp_path, "other").id == "7"
    assert services.Memory(None, "one").id != first.id


def test_an_overwritten_run_is_a_new_one_everywhere(tmp_path: Path) -> None:
    train(tmp_path)
    services.Memory(tmp_path, "one").keep(5)
    train(tmp_path, overwrite=True)
    assert not (tmp_path / SERVICES).exists()


@pytest.mark.parametrize(
    ("reason", "status"),
    [("total_timesteps", "finished"), ("sink", "finished"), ("patience", "finished"), ("interrupted", "interrupted"),
     ("Diverged: too far", "failed"), ("diverged", "failed")],
)  # fmt: skip
def test_a_run_ends_as_its_summary_says(reason: str, status: str) -> None:
    assert services.status({"reason": reason}) == status


def test_results_are_flat() -> None:
    summary = {
        "reason": "x",
        "why": "",
        "steps": 3,
        "evaluation": {"env": "E", "mean_return": 1.5},
        "best": {"step": 1},
    }
    expected = {"final/reason": "x", "final/steps": 3, "final/env": "E", "final/mean_return": 1.5}
    assert services.results(summary) == expected
