"""Studies: members equal runs alone, whatever the slicing; few programs; what is written; going on after a kill."""

import csv
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import rlgd
from rlgd.agents import A2C
from rlgd.ascent import Ascent
from rlgd.errors import StorageFault, UsageError
from rlgd.exact import TabularMDP
from rlgd.run.cadence import cadence
from rlgd.studies import Arm, Question, api, findings, publish
from rlgd.studies.directory import create
from rlgd.studies.outcome import ROWS, Members, Outcome
from rlgd.studies.plan import plan
from rlgd.studies.programs import ProgramCache, Programs

A2C_SMALL = A2C(num_envs=4, rollout_length=8, hidden_sizes=(8,), measure_every=0, ascent=Ascent("sgd", momentum=None))
STEPS = 320
VARY: dict[str, Any] = {"learning_rate": [0.01, 0.1], "total_timesteps": [STEPS, STEPS // 2]}


def study(**options: Any) -> publish.StudyResult:
    given: dict[str, Any] = {"vary": VARY, "seeds": 2, "total_timesteps": STEPS, "eval_episodes": 3}
    return rlgd.study(A2C_SMALL, "CartPole-v1", **(given | options))


@pytest.fixture(name="whole", scope="module")
def _whole(tmp_path_factory: pytest.TempPathFactory) -> publish.StudyResult:
    return study(study_dir=tmp_path_factory.mktemp("studies") / "whole", metrics=["train/entropy"])


def assert_same_training(one: Outcome, other: Outcome, rtol: float) -> None:
    assert (one.steps, one.reason, len(one.rows)) == (other.steps, other.reason, len(other.rows))
    for ours, theirs in zip(one.rows, other.rows, strict=True):
        assert ours.step == theirs.step
        names = [name for name in ours.values if not name.startswith("time/")]
        for name in names:
            np.testing.assert_allclose(ours.values[name], theirs.values[name], rtol=rtol, atol=rtol)


@pytest.mark.parametrize("slice_size", [1, 3])
def test_slices_change_nothing(whole: publish.StudyResult, slice_size: int) -> None:
    other = study(slice_size=slice_size, workers=1)
    for number, outcome in whole.outcomes.items():
        assert_same_training(outcome, other.outcomes[number], 1e-4)


def test_exact_members_have_the_bits_of_the_run_alone() -> None:
    together, one_by_one = study(exact=True), study(exact=True, slice_size=1)
    for number, outcome in together.outcomes.items():
        assert_same_training(outcome, one_by_one.outcomes[number], 0)
        settings = together.plan.members[number]
        alone = rlgd.train(
            settings.agent,
            "CartPole-v1",
            total_timesteps=settings.settings.total_timesteps,
            seed=settings.settings.seed,
        )
        rows = findings.curve(outcome, "train/entropy")
        entropy = alone.metrics["train/entropy"].astype(np.float64)
        every = cadence(settings, ROWS).row_length
        means = [entropy[start : start + every].mean() for start in range(0, len(entropy), every)]
        np.testing.assert_array_equal(rows[:, 2], means)
        assert outcome.steps == alone.steps


def test_a_member_equals_the_run_alone_to_rounding(whole: publish.StudyResult) -> None:
    for number in (0, 5):
        settings = whole.plan.members[number]
        alone = rlgd.train(
            settings.agent,
            "CartPole-v1",
            total_timesteps=settings.settings.total_timesteps,
            seed=settings.settings.seed,
        )
        first = findings.curve(whole.outcomes[number], "train/entropy")[:3, 2]
        np.testing.assert_allclose(first, alone.metrics["train/entropy"][:3], rtol=1e-4)


def test_a_group_compiles_once_and_slices_share_it(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Programs] = []
    original = Programs.__init__

    def spy(self: Programs, *args: Any) -> None:
        made.append(self)
        original(self, *args)

    monkeypatch.setattr(Programs, "__init__", spy)
    vary = {"learning_rate": [0.01, 0.02, 0.03], "num_envs": [2, 4]}
    result = study(vary=vary, slice_size=2, workers=2, total_timesteps=64)
    assert len(result.outcomes) == 12
    assert len(made) == len(result.plan.groups) == 2
    assert all(programs.traces == {"begin": 1, "advance": 1, "evaluate": 1} for programs in made)


def test_a_slice_that_does_not_fit_is_made_smaller() -> None:
    settings = plan(Question((Arm(vary={"gamma": [0.9]}),), agent="a2c", total_timesteps=64)).members[0]
    need = Programs(settings, 8, False).memory()
    cache = ProgramCache(settings, 8, False, need * 0.7)
    assert cache.programs().size == 4
    assert cache.programs() is cache.programs()
    assert cache.programs().memory() < need * 0.7


def test_a_member_that_diverges_changes_nothing_for_the_others(whole: publish.StudyResult) -> None:
    vary = {"learning_rate": [0.01, 1e38]}
    result = study(vary=vary, metrics=["train/entropy"])
    fine, broken = result.findings[0]
    assert (fine.diverged, broken.diverged) == (0, 1)
    assert all("was not finite in iteration" in outcome.why for outcome in broken.outcomes.values())
    for seed, outcome in fine.outcomes.items():
        assert_same_training(outcome, whole.outcomes[seed], 1e-4)
    # It counts with its last finite policy.
    assert all(np.isfinite(outcome.episode_return) for outcome in broken.outcomes.values())
    assert "nan" not in result.table()
    assert "| 100%" in result.table()


def test_criteria_end_members_one_by_one() -> None:
    vary = {"patience": [1, 2, 50]}
    result = study(vary=vary, cases=None, arms=[Arm("p", {"eval_every": 32, "learning_rate": 1e-9}, vary)])
    one, two, never = result.findings[0]
    assert {o.reason for o in one.outcomes.values()} == {"patience"}
    assert {o.reason for o in never.outcomes.values()} == {"total_timesteps"}
    for first, second in zip(one.outcomes.values(), two.outcomes.values(), strict=True):
        assert first.steps < second.steps <= STEPS
        assert first.training_seconds < second.training_seconds
    alone = rlgd.train(
        result.plan.members[0].agent, rlgd.envs.make("CartPole-v1", backend="device"), total_timesteps=STEPS,
        eval_every=32, eval_episodes=3, patience=1,
    )  # fmt: skip
    assert alone.steps == one.outcomes[0].steps


def test_the_end_is_evaluated_and_divergence_stays_the_reason() -> None:
    settings = {"eval_every": 200, "patience": 1, "target_return": 1.0}
    result = study(vary=None, arms=[Arm("p", settings, {"learning_rate": [1e38]}), Arm("q", {"eval_every": 200}, VARY)])
    for outcome in result.findings[0][0].outcomes.values():
        assert outcome.reason == "diverged"
        assert np.isfinite(outcome.episode_return)
    for outcome in result.findings[1][0].outcomes.values():
        assert [row.step for row in outcome.rows if "eval/episode_return" in row.values] == [224, STEPS]


def test_members_on_the_host_run_one_after_another() -> None:
    env = rlgd.envs.make("CartPole-v1", backend="host")
    result = rlgd.study(A2C_SMALL, env, {"learning_rate": [0.01, 1e38]}, seeds=2, total_timesteps=64, eval_episodes=2)
    fine, broken = result.findings[0]
    assert (fine.diverged, broken.diverged) == (0, 1)
    assert all(np.isfinite(outcome.episode_return) for outcome in result.outcomes.values())
    assert all(outcome.training_seconds > 0 for outcome in fine.outcomes.values())


def test_training_time_is_shared_by_steps(whole: publish.StudyResult) -> None:
    """Members with half the steps have half the time, and rows tell how it grew; in all it is what was measured."""
    for outcome in whole.outcomes.values():
        seconds = [row.seconds for row in outcome.rows]
        assert seconds == sorted(seconds)
        assert seconds[-1] <= outcome.training_seconds * (1 + 1e-9)
    long, short = (whole.findings[0][n] for n in (0, 1))
    assert short.seconds == pytest.approx(long.seconds / 2)
    assert whole.study_dir is not None
    measured = sum(o.training_seconds for o in Members(whole.study_dir).read(8).values())
    assert sum(o.training_seconds for o in whole.outcomes.values()) == pytest.approx(measured)


def test_what_a_study_leaves(whole: publish.StudyResult) -> None:
    directory = whole.study_dir
    assert directory is not None
    with (directory / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(whole.plan.members) == 8
    assert [int(row["member"]) for row in rows] == list(range(8))
    assert [float(row["episode_return"]) for row in rows] == [o.episode_return for o in whole.outcomes.values()]
    assert {(row["learning_rate"], row["total_timesteps"]) for row in rows} == {
        (rate, steps) for rate in ("0.01", "0.1") for steps in ("320", "160")
    }
    summary = (directory / "summary.md").read_text()
    assert whole.table() in summary
    for name in ("surface",):
        assert f"![{name}]({name}.png)" in summary
        assert (directory / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    content = json.loads((directory / "study.json").read_text())
    assert Question.of(content["question"], "x") == whole.plan.question
    accumulator = EventAccumulator(str(directory / "tensorboard"))
    accumulator.Reload()
    assert accumulator.Tags()["images"] == ["figures/surface"]
    runs = sorted(path.parent for path in (directory / "tensorboard").rglob("seed*/events*"))
    assert len(runs) == 8
    first = directory / "tensorboard" / "learning_rate=0.01-total_timesteps=320" / "seed0"
    one = EventAccumulator(str(first)).Reload()
    assert one.Scalars("eval/episode_return")[-1].value == pytest.approx(whole.outcomes[0].episode_return)


def test_a_study_that_was_cut_short_goes_on_where_it_was(whole: publish.StudyResult, tmp_path: Path) -> None:
    assert whole.study_dir is not None
    (tmp_path / "study.json").write_text((whole.study_dir / "study.json").read_text())
    lines = (whole.study_dir / "members.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "members.jsonl").write_text("".join(lines[:5]) + lines[5][:100])  # the sixth is torn
    order = {json.loads(line)["member"]: place for place, line in enumerate(lines)}
    kept = {number for number, place in order.items() if place < 5}
    told: list[int] = []
    result = api.resume_study(tmp_path, watch=lambda done, of, seconds: told.append(done))
    assert told[-1] == 8
    assert min(told) > 5
    written = [json.loads(line)["member"] for line in (tmp_path / "members.jsonl").read_text().splitlines()]
    assert sorted(written) == list(range(8))
    stored = Members(tmp_path).read(8)
    for number, outcome in result.outcomes.items():
        if number in kept:
            assert stored[number].training_seconds == json.loads(lines[order[number]])["training_seconds"]
        assert_same_training(outcome, whole.outcomes[number], 1e-4)
    again = api.resume_study(tmp_path, watch=lambda done, of, seconds: told.append(-1))
    assert -1 not in told
    assert again.table() == result.table()


def test_a_killed_study_goes_on(tmp_path: Path) -> None:
    """The process really dies, in the middle."""
    command = [sys.executable, "-m", "rlgd", "study"]
    (tmp_path / "mine.toml").write_text(
        'agent = "a2c"\nseeds = 2\ntotal_timesteps = 640\neval_episodes = 2\n'
        "[settings]\nnum_envs = 4\nrollout_length = 8\nhidden_sizes = [8]\nmeasure_every = 0\n"
        "[[arms]]\nvary = { learning_rate = [0.001, 0.01], num_envs = [2, 4] }\n"
    )
    directory = tmp_path / "study"
    arguments = ["mine.toml", "--run-dir", str(directory), "--workers", "1", "--slice-size", "1"]
    started = subprocess.Popen([*command, *arguments], cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    members = directory / "members.jsonl"
    deadline = time.monotonic() + 240
    while not members.exists() or not members.read_bytes().count(b"\n"):
        assert started.poll() is None, started.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    started.kill()
    started.communicate()
    before = members.read_bytes().count(b"\n")
    assert 1 <= before < 8
    done = subprocess.run(
        [*command, "resume", str(directory)], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "8 of 8 members" in done.stderr
    assert len((directory / "results.csv").read_text().splitlines()) == 9
    assert "learning_rate=0.01 num_envs=4" in done.stdout


def test_damage_is_named(whole: publish.StudyResult, tmp_path: Path) -> None:
    assert whole.study_dir is not None
    with pytest.raises(UsageError, match="holds no study"):
        api.resume_study(tmp_path)
    text = (whole.study_dir / "study.json").read_text()
    study_json = tmp_path / "study.json"
    for content, error, message in (
        ("{", StorageFault, "is not JSON"),
        (text.replace('"format_version": 1', '"format_version": 9'), UsageError, "format_version 9"),
        (text.replace('"question"', '"questions"', 1), StorageFault, "is damaged"),
    ):
        study_json.write_text(content)
        with pytest.raises(error, match=message):
            api.resume_study(tmp_path)
    study_json.write_text(text)
    for line in ("no json", '{"member": 99, "rows": []}', json.dumps({"member": 99} | RECORD)):
        (tmp_path / "members.jsonl").write_text(line + "\n")
        with pytest.raises(StorageFault, match=r"members\.jsonl"):
            api.resume_study(tmp_path)
    with pytest.raises(UsageError, match="already holds a study"):
        create(tmp_path, whole.plan.question, False)


RECORD = {
    "episode_return": 1.0, "episode_length": 1.0, "steps": 1, "training_seconds": 1.0, "reason": "", "why": "",
    "rows": [],
}  # fmt: skip


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vary": {}}, "varies nothing"),
        ({"vary": {"learning_rat": [0.1]}}, "did you mean 'learning_rate'"),
        ({"slice_size": 0}, "slice_size is 0"),
        ({"workers": 1.5}, "workers is 1.5"),
        ({"seeds": 0}, "seeds is 0"),
        ({"seeds": 10**6}, "members"),
    ],
)
def test_bad_arguments_end_before_anything_is_written(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        study(study_dir=tmp_path / "new", **options)
    assert not (tmp_path / "new").exists()


def test_the_distance_to_the_optimum_where_it_is_known() -> None:
    """Two actions, of which one pays."""
    problem = TabularMDP(np.ones((1, 2, 1)), np.array([[0.0, 1.0]]), np.ones(1), 0.9, horizon=3)
    env = rlgd.envs.make(problem.env, max_episode_steps=3)
    agent = A2C(num_envs=8, rollout_length=6, hidden_sizes=(), gamma=0.9, measure_every=0)
    result = rlgd.study(agent, env, {"learning_rate": [1e-6, 0.3]}, seeds=2, total_timesteps=4800, eval_episodes=2)
    still, learned = result.findings[0]
    best = problem.optimum().objective
    assert still.distance is not None
    assert learned.distance is not None
    assert still.distance.value == pytest.approx(best / 2, rel=0.1)
    assert learned.distance.value < 0.1 * best
    assert "distance to the optimum" in result.table()


def shell(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "rlgd", "study", *arguments], cwd=cwd, capture_output=True, text=True)


def test_a_plan_is_printed_and_nothing_is_done(tmp_path: Path) -> None:
    done = shell("momentum", "--dry-run", "--seeds", "3", cwd=tmp_path)
    assert done.returncode == 0
    assert "40 combinations in 6 arms, 3 seeds each: 102 members of PPO in CartPole-v1" in done.stdout
    assert "program optimizer=nesterov: 30 members" in done.stdout
    assert "3 programs to compile" in done.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["momentun"], "did you mean 'momentum'"),
        (["momentum", "--seeds", "0"], "seeds is 0"),
        (["momentum", "--seeds", "1000000"], "40,000,000 members"),
        (["momentum", "--agent", "pppo"], "did you mean 'ppo'"),
        (["momentum", "--env", "CartPole-v11"], "CartPole-v1"),
        (["momentum", "--workers", "0"], "workers is 0"),
        (["missing.toml"], "cannot be read"),
        (["resume", "nowhere"], "holds no study"),
        (["resume"], "usage"),
    ],
)
def test_mistakes_get_one_message(arguments: list[str], message: str, tmp_path: Path) -> None:
    done = shell(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr + done.stdout.lower()
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())
