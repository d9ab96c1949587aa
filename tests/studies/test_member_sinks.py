"""Members of a study, and of trials of a search, as runs of sinks."""

import logging
import re
from pathlib import Path
from typing import Any

import pytest

import rlgd
from rlgd.cli import main
from rlgd.errors import UsageError
from rlgd.run import RunConfig
from rlgd.run.description import hyperparameters
from rlgd.run.sinks.rows import Row
from tests.support.small_study import study


class Runs:
    """Keeps the runs that it saw, one object for all."""

    def __init__(self) -> None:
        self.runs: list[dict[str, Any]] = []

    def begin(self, config: RunConfig, run_dir: Path | None) -> None:
        assert run_dir is None
        self.runs.append({"config": config, "rows": []})

    def write(self, row: Row) -> None:
        self.runs[-1]["rows"].append(row)

    def close(self, summary: dict[str, Any]) -> None:
        self.runs[-1]["summary"] = summary


def which(config: RunConfig) -> tuple[float, int]:
    return hyperparameters(config)["learning_rate"], config.settings.seed


def places(seen: Runs) -> list[tuple[str, str, int]]:
    return sorted((*run["config"].part_of, run["config"].settings.seed) for run in seen.runs)


def test_every_member_is_a_run_in_the_group_of_its_study(tmp_path: Path) -> None:
    seen = Runs()
    result = study(vary={"learning_rate": [0.01, 0.1]}, name="rates", study_dir=tmp_path / "first", sinks=[seen])
    assert places(seen) == [("rates first", f"learning_rate={rate}", seed) for rate in (0.01, 0.1) for seed in (0, 1)]
    by_place = {which(run["config"]): run for run in seen.runs}
    for number, member in enumerate(result.plan.members):
        run = by_place[which(member)]
        outcome = result.outcomes[number]
        assert [row.step for row in run["rows"]] == [row.step for row in outcome.rows]
        assert [row.values for row in run["rows"]] == [row.values for row in outcome.rows]
        assert run["summary"]["evaluation"]["mean_return"] == outcome.episode_return
        assert run["summary"]["reason"] == "total_timesteps"


def test_a_member_that_two_arms_need_is_sent_once() -> None:
    seen = Runs()
    arms = [rlgd.studies.Arm(name="all", vary={"learning_rate": [0.01, 0.1]}),
            rlgd.studies.Arm(name="one", vary={"learning_rate": [0.1]})]  # fmt: skip
    study(vary=None, arms=arms, seeds=1, sinks=[seen])
    assert [arm for _, arm, _ in places(seen)] == ["all learning_rate=0.01", "all learning_rate=0.1"]


def test_a_class_sees_each_member_for_itself_and_one_that_fails_is_reported_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    objects = []

    class Each:
        def begin(self, config: RunConfig, run_dir: Path | None) -> None:
            objects.append(self)

    class Broken:
        name = "broken"

        def write(self, row: Row) -> None:
            raise OSError("no network")

    result = study(vary={"learning_rate": [0.01]}, sinks=[Each, Broken])
    assert len(objects) == len({id(each) for each in objects}) == len(result.outcomes) == 2
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "without the sink broken" in warning


def test_that_no_sink_stops_a_member_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    class Impatient:
        def write(self, row: Row) -> rlgd.Stop:
            return rlgd.Stop("seen enough")

    result = study(vary={"learning_rate": [0.01]}, sinks=[Impatient])
    assert [outcome.reason for outcome in result.outcomes.values()] == ["total_timesteps"] * 2
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert re.search(r"asked for a stop \(seen enough\).* none is stopped; let a criterion end members", warning)


def test_on_the_host_too_and_a_resumed_study_sends_what_is_new(tmp_path: Path) -> None:
    first, then = Runs(), Runs()
    options: dict[str, Any] = {"vary": {"learning_rate": [0.01]}, "seeds": 2, "total_timesteps": 64}
    env = rlgd.envs.make("CartPole-v1", backend="host")
    rlgd.study("a2c", env, study_dir=tmp_path, eval_episodes=1, sinks=[first], **options)
    assert len(first.runs) == 2
    lines = (tmp_path / "members.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "members.jsonl").write_text(lines[0])
    rlgd.studies.resume_study(tmp_path, env=env, sinks=[then])
    assert len(then.runs) == 1


@pytest.mark.parametrize(("given", "message"), [("csv", "in a run's directory, and here is none"), ("cvs", "'csv'")])
def test_what_cannot_see_a_member_is_refused(given: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        study(study_dir=tmp_path / "study", sinks=[given])
    assert not (tmp_path / "study").exists()


@pytest.mark.slow
def test_the_command_line_sends_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "seen.py").write_text(
        "class Log:\n"
        "    def begin(self, config, run_dir):\n"
        "        print(*config.part_of, config.settings.seed, file=open('seen.txt', 'a'))\n"
    )
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rates.toml").write_text("[[arms]]\nvary = { learning_rate = [0.01] }\n")
    flags = ["--agent", "a2c", "--env", "CartPole-v1", "--seeds", "2", "--total-timesteps", "512", "--json"]
    assert main.main(["study", "rates.toml", *flags, "--run-dir", "study", "--sink", "seen:Log"]) == 0
    assert sorted((tmp_path / "seen.txt").read_text().splitlines()) == [
        f"rates study learning_rate=0.01 {seed}" for seed in (0, 1)
    ]
