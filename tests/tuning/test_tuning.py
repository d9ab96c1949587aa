"""Searches from end to end: which values they try, prune and resume, and how they score the best values."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rlgd
import rlgd.envs
from rlgd.agents import A2C
from rlgd.ascent import Ascent
from rlgd.errors import UsageError
from rlgd.maths.confidence import interquartile_mean
from rlgd.studies.programs import Programs
from rlgd.system.progress import Progress
from rlgd.tuning import TuneResult
from rlgd.tuning.sharing import HISTORY
from rlgd.tuning.space import values_in_words

SMALL = A2C(num_envs=4, rollout_length=8, hidden_sizes=(8,), measure_every=0, ascent=Ascent("adam"))
SEARCH: dict[str, Any] = {"learning_rate": {"log": [1e-6, 1e-1]}, "hidden_sizes": [(8,), (4, 4)]}
STEPS, TRIALS = 640, 10


def tune(directory: Path, **options: Any) -> TuneResult:
    given: dict[str, Any] = {
        "search": SEARCH,
        "trials": TRIALS,
        "seeds": 2,
        "fresh_seeds": 3,
        "total_timesteps": STEPS,
        "eval_episodes": 2,
        "tune_dir": directory,
    }
    return rlgd.tune(SMALL, **({"env": "CartPole-v1"} | given | options))


@pytest.fixture(name="found", scope="module")
def _found(tmp_path_factory: pytest.TempPathFactory) -> TuneResult:
    return tune(tmp_path_factory.mktemp("tune") / "whole")


@pytest.mark.slow
def test_the_best_of_all_trials_wins(found: TuneResult) -> None:
    assert [trial["number"] for trial in found.trials] == list(range(TRIALS))
    complete = [trial for trial in found.trials if trial["state"] == "complete"]
    assert found.search_score == max(trial["score"] for trial in complete)
    assert found.best in [trial["values"] for trial in complete]
    for trial in found.trials:
        assert 1e-6 <= trial["values"]["learning_rate"] <= 1e-1
        assert trial["values"]["hidden_sizes"] in SEARCH["hidden_sizes"]


def test_scores_are_those_of_the_same_members_in_a_study(found: TuneResult) -> None:
    """The score in the search is from the first seeds, the fresh one from the seeds after them."""
    study = rlgd.study(
        SMALL,
        "CartPole-v1",
        cases={"best": found.best},
        total_timesteps=STEPS,
        seeds=5,
        eval_episodes=2,
        slice_size=1,
    )
    returns = [study.outcomes[n].episode_return for n in range(5)]
    assert found.search_score == pytest.approx(interquartile_mean(returns[:2]))
    assert found.fresh is not None
    assert found.fresh.value == pytest.approx(interquartile_mean(returns[2:]))
    assert found.fresh.low <= found.fresh.value <= found.fresh.high


def test_a_trial_that_is_worse_than_most_is_pruned(tmp_path: Path) -> None:
    """The greedy policy of a run that does not learn has the same return at every rung; no trial is pruned unseen."""
    seen: list[tuple[int, str]] = []
    result = tune(
        tmp_path,
        search={"learning_rate": [0.0, 0.01]},
        trials=16,
        total_timesteps=6400,
        fresh_seeds=0,
        on_trial=lambda number, state, score, values: seen.append((number, state)),
    )
    states = [trial["state"] for trial in result.trials]
    assert seen == list(enumerate(states))
    assert states[:5] == ["complete"] * 5
    assert "pruned" in states
    assert result.best == {"learning_rate": 0.01}
    assert result.fresh is None


def test_trials_of_one_structure_share_what_is_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Programs] = []
    create = Programs.__init__

    def counted(self: Programs, *args: Any) -> None:
        made.append(self)
        create(self, *args)

    monkeypatch.setattr(Programs, "__init__", counted)
    tune(tmp_path, trials=6, fresh_seeds=0)
    assert len(made) == 2  # one for each of hidden_sizes
    for programs in made:
        assert programs.traces["advance"] == 1


def test_what_is_written_trains_the_winner(found: TuneResult) -> None:
    flags = json.loads((found.tune_dir / "best.json").read_text())
    assert flags["env"] == "CartPole-v1"
    assert flags["total_timesteps"] == STEPS
    assert flags["num_envs"] == 4
    assert flags["learning_rate"] == found.best["learning_rate"]
    table = found.table()
    pictures = [f"![{path.stem}]({path.name})" for path in sorted(found.tune_dir.glob("*.png"))]
    assert pictures[0] == f"![history]({HISTORY})"
    assert (found.tune_dir / "summary.md").read_text() == "\n\n".join([table, *pictures]) + "\n"
    assert f"score in the search: {found.search_score:.1f}" in table
    assert "score on fresh seeds: " in table


@pytest.mark.slow
def test_a_search_tells_how_far_it_is(tmp_path: Path) -> None:
    heard: list[Progress] = []
    found = tune(tmp_path, search={"learning_rate": [1e-3, 1e-2]}, trials=3, on_progress=heard.append)
    trials, fresh = ([progress for progress in heard if progress.unit == unit] for unit in ("trials", "fresh seeds"))
    assert heard == trials + fresh
    assert [(heard[0].done, heard[0].number, heard[0].best), trials[-1].done] == [(0, 3, None), 3]
    assert [(fresh[0].done, fresh[0].number), fresh[-1].done] == [(0, 3), 3]
    assert heard[-1].best == (values_in_words(found.best), found.search_score)
    for part in (trials, fresh):
        assert {progress.compiling for progress in part} == {False, True}
    seconds = [progress.compile_seconds for progress in heard]
    assert seconds == sorted(seconds)


def test_a_search_is_resumed(found: TuneResult, tmp_path: Path) -> None:
    (tmp_path / "journal.log").write_bytes((found.tune_dir / "journal.log").read_bytes())
    seen: list[int] = []
    more = tune(tmp_path, trials=TRIALS + 2, on_trial=lambda number, *_: seen.append(number))
    assert seen == [TRIALS, TRIALS + 1]
    assert more.trials[:TRIALS] == found.trials
    again = tune(tmp_path, trials=TRIALS + 2, on_trial=lambda number, *_: seen.append(-1))
    assert -1 not in seen
    np.testing.assert_equal(again.trials, more.trials)
    with pytest.raises(UsageError, match=r"holds another search: seeds: 2, now 1\. Name another directory"):
        tune(tmp_path, seeds=1)


@pytest.mark.slow
def test_processes_share_a_search(tmp_path: Path) -> None:
    command = [
        *(sys.executable, "-m", "rlgd", "tune", "a2c", "--env", "CartPole-v1"),
        *("--search", "learning_rate=log:1e-4,1e-1"),
        *("--trials", "6", "--seeds", "1", "--fresh-seeds", "2", "--total-timesteps", "640", "--num-envs", "4"),
        *("--rollout-length", "8", "--hidden-sizes", "8", "--eval-episodes", "2", "--run-dir", str(tmp_path), "--json"),
    ]  # fmt: skip
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    answers = []
    for process in processes:
        out, error = process.communicate(timeout=300)
        assert process.returncode == 0, error
        answers.append(json.loads(out))
    assert [trial["number"] for trial in answers[0]["trials"]] == list(range(6))
    assert answers[0] == answers[1]
    trained = subprocess.run(
        [sys.executable, "-m", "rlgd", "train", "a2c", "--config", str(tmp_path / "best.json"),
         "--run-dir", str(tmp_path / "run"), "--quiet"],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert trained.returncode == 0, trained.stderr
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    best = json.loads((tmp_path / "best.json").read_text())
    assert config["hyperparameters"]["learning_rate"] == best["learning_rate"]


def test_on_the_host_members_are_trained_one_after_another(tmp_path: Path) -> None:
    env = rlgd.envs.make("CartPole-v1", backend="host")
    result = tune(tmp_path, env=env, search={"gamma": [0.9, 0.99]}, trials=2, total_timesteps=64)
    assert [trial["state"] for trial in result.trials] == ["complete"] * 2
    assert result.fresh is not None


def test_values_that_do_not_fit_together_do_not_count(tmp_path: Path) -> None:
    search = {"optimizer": ["sgd", "adam"], "momentum": [0.5, 0.9]}
    result = tune(tmp_path, search=search, trials=6, fresh_seeds=0)
    states = {(trial["values"]["optimizer"], trial["state"]) for trial in result.trials}
    assert ("sgd", "misfit") in states
    assert not {("sgd", "complete"), ("adam", "misfit")} & states
    with pytest.raises(UsageError, match=r"no trial has a score \(2 misfit\); the last one, trial 1: momentum"):
        tune(tmp_path / "none", search={**search, "optimizer": ["sgd"]}, trials=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"search": {}}, "nothing is searched over"),
        ({"search": {"learnin_rate": [1, 2]}}, "did you mean 'learning_rate'"),
        ({"search": {"learning_rate": []}}, "learning_rate varies over no values"),
        ({"search": {"learning_rate": 0.1}}, r"learning_rate varies over 0\.1; expected a list"),
        ({"search": {"learning_rate": {"log": [0, 1]}}}, "numbers above zero"),
        ({"search": {"learning_rate": {"linear": [1, 0]}}}, "expected a lower and then a higher number"),
        ({"search": {"learning_rate": {"loc": [0, 1]}}}, "expected a list, or"),
        ({"trials": 0}, "trials is 0"),
        ({"seeds": True}, "seeds is True"),
        ({"fresh_seeds": -1}, "fresh_seeds is -1"),
        ({"total_timesteps": 0}, "total_timesteps is 0"),
        ({"env": "CartPole-v11"}, "CartPole"),
    ],
)
def test_a_mistake_ends_before_anything_is_written(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        tune(tmp_path / "none", **options)
    assert not (tmp_path / "none").exists()
