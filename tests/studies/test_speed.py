"""What a member costs alone: measured as a run alone is, and what its seconds become with it."""

import dataclasses
import itertools
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

import rlgd
from rlgd.agents import REINFORCE
from rlgd.errors import EnvironmentFault, StorageFault
from rlgd.run.sinks.rows import Row
from rlgd.studies import Outcome, StudyResult, resume_study, speed
from rlgd.studies.speed import ROUNDS, Speed, measure, timed
from rlgd.training import chunks
from tests.support.small_study import A2C_SMALL, STEPS, outcome

ITERATIONS = STEPS // 32


def test_each_group_is_timed_in_every_round(whole: StudyResult) -> None:
    speeds = measure(whole.plan, whole.outcomes)
    assert [one.program for one in speeds] == [group.label for group in whole.plan.groups]
    for one in speeds:
        assert one.iterations == ITERATIONS  # a run shorter than a chunk is timed whole
        assert len(one.seconds) == ROUNDS
        low, high = min(one.seconds), max(one.seconds)
        assert 0 < low <= one.of_an_iteration.low <= one.of_an_iteration.value <= one.of_an_iteration.high <= high


def test_a_second_is_that_of_a_run_alone(whole: StudyResult, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a clock that ticks at each reading: a chunk reads it twice, so its training takes one second."""
    ticks = itertools.count()
    monkeypatch.setattr(chunks, "time", SimpleNamespace(perf_counter=lambda: float(next(ticks))))
    monkeypatch.setattr("rlgd.training.runners.DeviceRunner.compile_seconds", 0.0)
    (one,) = measure(whole.plan, whole.outcomes)
    alone = rlgd.train(A2C_SMALL, "CartPole-v1", total_timesteps=STEPS)
    found = timed(whole.plan, whole.outcomes, [one])
    (member,) = {o.training_seconds for n, o in found.items() if o.steps == STEPS}
    assert member == pytest.approx(alone.training_seconds) == pytest.approx(1)


def test_seconds_are_those_of_the_iterations(whole: StudyResult) -> None:
    (group,), half = whole.plan.groups, Speed("all", 10, (0.5,) * ROUNDS)
    rows = (
        Row(40, 9.0, {"rollout/episodes": 1.0}),
        Row(40, 9.0, {"eval/episode_return": 1.0}),
        Row(50, 9.5, {"rollout/episodes": 0.0}),
    )
    counted = dataclasses.replace(outcome(), rows=rows, iterations=2, training_seconds=9.5)
    old = dataclasses.replace(counted, iterations=0)
    found = timed(whole.plan, {group.members[1]: counted, group.members[0]: old}, [half])
    assert list(found) == sorted(found)
    assert found[group.members[0]] == old  # of an earlier version, which did not count
    again = found[group.members[1]]
    assert again.training_seconds == 1.0
    assert [row.seconds for row in again.rows] == [0.5, 0.5, 1.0]
    assert [row.values for row in again.rows] == [row.values for row in rows]


def test_programs_are_compared_round_by_round() -> None:
    """A round that takes twice as long for both says nothing of their ratio."""
    seconds = (1.0, 2.0, 1.0, 4.0, 1.0, 1.0)
    ratio = Speed("b", 1, tuple(3 * x for x in seconds)).relative_to(Speed("a", 1, seconds))
    assert ratio == (3, 3, 3)


def test_the_member_that_is_timed_is_the_middle_one_of_those_that_did_not_diverge(whole: StudyResult) -> None:
    (group,) = whole.plan.groups
    broken: dict[int, Outcome] = {
        n: dataclasses.replace(outcome(), reason="diverged", iterations=99) for n in group.members
    }
    assert speed._typical(group.members, broken) in group.members
    for number, iterations in zip(group.members[3:6], (1, 5, 9), strict=True):
        broken[number] = dataclasses.replace(outcome(), iterations=iterations)
    assert speed._typical(group.members, broken) == group.members[4]


def copied(whole: StudyResult, directory: Path) -> Path:
    assert whole.study_dir is not None
    for name in ("study.json", "members.jsonl", "speed.json"):
        (directory / name).write_bytes((whole.study_dir / name).read_bytes())
    return directory / "speed.json"


def test_a_study_that_is_published_again_measures_nothing(
    whole: StudyResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied(whole, tmp_path)
    monkeypatch.setattr(speed, "measure", None)
    again = resume_study(tmp_path)
    assert again.speeds == whole.speeds
    assert again.times() == whole.times()


@pytest.mark.parametrize(
    "change",
    [
        {"groups": [{"program": "all", "iterations": 10, "seconds": []}]},
        {"groups": [{"program": "all", "iterations": 10, "seconds": [0.0] * ROUNDS}]},
        {"groups": [{"program": "all", "iterations": 10, "seconds": [float("nan")] * ROUNDS}]},
        {"groups": 3},
    ],
)
def test_a_damaged_file_is_refused(whole: StudyResult, change: dict[str, object], tmp_path: Path) -> None:
    path = copied(whole, tmp_path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(StorageFault, match=r"speed.json is damaged"):
        resume_study(tmp_path)


@pytest.mark.parametrize("change", [{"program": "another"}, {"seconds": [1.0]}])
def test_another_version_measures_again(whole: StudyResult, change: dict[str, object], tmp_path: Path) -> None:
    path = copied(whole, tmp_path)
    content = json.loads(path.read_text())
    content["groups"][0] |= change
    path.write_text(json.dumps(content))
    (measured,) = resume_study(tmp_path).speeds
    assert (measured.program, len(measured.seconds)) == ("all", ROUNDS)
    assert speed.read(tmp_path, whole.plan) == (measured,)


def test_what_an_earlier_version_trained_is_not_measured(
    whole: StudyResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied(whole, tmp_path).unlink()
    lines = [json.loads(line) for line in (tmp_path / "members.jsonl").read_text().splitlines()]
    for line in lines:
        del line["iterations"]
    (tmp_path / "members.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    monkeypatch.setattr(speed, "measure", None)
    again = resume_study(tmp_path)
    assert again.speeds == ()
    assert {n: o.training_seconds for n, o in again.outcomes.items()} == {
        line["member"]: line["training_seconds"] for line in lines
    }


def test_a_measurement_that_fails_costs_no_result(
    whole: StudyResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    copied(whole, tmp_path).unlink()

    def die(*_: object) -> None:
        raise EnvironmentFault("the process died")

    monkeypatch.setattr("rlgd.studies.api.measure_speeds", die)
    assert resume_study(tmp_path).speeds == ()
    assert "members have the seconds of their slices: the process died" in caplog.text
    assert (tmp_path / "summary.md").exists()


@pytest.mark.slow
def test_whole_episodes_are_timed_to_the_end() -> None:
    """Iterations take longer as episodes grow."""
    agent = REINFORCE(num_envs=2, hidden_sizes=(8,), measure_every=0)
    result = rlgd.study(agent, "CartPole-v1", {"gamma": [0.9]}, seeds=3, total_timesteps=3_000, eval_episodes=2)
    (one,) = result.speeds
    assert one.iterations == sorted(outcome.iterations for outcome in result.outcomes.values())[1]
