"""Studies in rounds: who gets more seeds, what is written about it, and that a kill changes nothing."""

import csv
import dataclasses
import io
import itertools
import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlgd.errors import UsageError
from rlgd.studies import Arm, Outcome, Question, figures, read_question, resume_study
from rlgd.studies.directory import MEMBERS, RESULTS, STUDY
from rlgd.studies.page import summary_page
from rlgd.studies.plan import Plan, make_plan
from rlgd.studies.question import shipped_questions
from rlgd.studies.rounds import forecast, judge, separations
from rlgd.studies.seed_statistics import point_results
from rlgd.studies.tables import arm_tables, records
from tests.support.processes import start, wait_for
from tests.support.small_study import outcome, study

GAMMA = Arm("gamma", {}, {"gamma": [0.5, 0.9, 0.99]})
TRACE = Arm("trace", {"gamma": 0.5}, {"gae_lambda": [0.95, 0.5]})  # its first point is the first of the other arm
LEVEL = {(0.5, 0.95): 10.0, (0.9, 0.95): 400.0, (0.99, 0.95): 402.0, (0.5, 0.5): 100.0}


def planned(**options: Any) -> Plan:
    question = Question((GAMMA, TRACE), agent="a2c", seeds=20, total_timesteps=100, until_separated=0.05)
    return make_plan(dataclasses.replace(question, **options))


def trained(plan: Plan, member: int) -> Outcome:
    """A return that depends on the point and a little on the seed."""
    config: Any = plan.members[member]
    noise = 7 * math.sin(3.0 * member) + math.sin(config.settings.seed)
    mean = LEVEL[config.agent.gamma, config.agent.gae_lambda]
    return outcome(mean + noise, 100, ((50, 1.0), (100, mean)))


def in_rounds(plan: Plan, outcomes: dict[int, Outcome], choose: Callable[[list[int]], list[int]]) -> list[set[int]]:
    """Train until the study has ended; the members that were asked for at each step."""
    asked = []
    while missing := judge(plan, outcomes).missing:
        asked.append(set(missing))
        outcomes.update({member: trained(plan, member) for member in choose(list(missing))})
    return asked


@pytest.fixture(name="ended", scope="module")
def _ended() -> tuple[Plan, dict[int, Outcome], list[set[int]]]:
    plan = planned()
    outcomes: dict[int, Outcome] = {}
    asked = in_rounds(plan, outcomes, lambda missing: missing)
    return plan, outcomes, asked


def test_what_is_worse_gets_no_more_seeds(ended: tuple[Plan, dict[int, Outcome], list[set[int]]]) -> None:
    plan, outcomes, asked = ended
    first = plan.question.rounds.seeds[0]
    assert first == 6
    seeds = [[sum(n in outcomes for n in members) for _, members in points] for points in plan.points]
    assert seeds[0][0] == seeds[1][0] == seeds[1][1] == first  # beaten in both arms; alone in its arm
    assert seeds[0][1] == seeds[0][2] > first
    assert asked[0] == {n for points in plan.points for _, members in points for n in members[:first]}
    for earlier, later in itertools.pairwise(asked):
        assert not earlier & later
    gamma, trace = separations(plan, outcomes)
    assert gamma[0] is not None
    assert gamma[0].seeds == first
    assert gamma[0].better in {"gamma=0.9", "gamma=0.99"}
    assert gamma[1:] == [None, None]
    assert trace == [(first, "gae_lambda=0.5"), None]


def test_decisions_do_not_depend_on_the_order_or_on_what_else_is_known(
    ended: tuple[Plan, dict[int, Outcome], list[set[int]]],
) -> None:
    """Members that end one by one in any order, and members that nobody needs, leave the study as it is."""
    plan, outcomes, _ = ended
    chance = random.Random(0)
    one_by_one: dict[int, Outcome] = {}
    in_rounds(plan, one_by_one, lambda missing: [chance.choice(missing)])
    assert one_by_one == outcomes
    everything = {member: trained(plan, member) for member in range(len(plan.members))}
    assert judge(plan, everything).missing == ()
    assert separations(plan, everything) == separations(plan, outcomes)


def test_tables_and_figures_say_what_was_decided(ended: tuple[Plan, dict[int, Outcome], list[set[int]]]) -> None:
    plan, outcomes, _ = ended
    results = point_results(plan, outcomes)
    text = arm_tables(plan, results)
    assert "| worse than" in text
    assert ", after 6 seeds" in text
    page = summary_page(plan, results, (), ())
    assert f"at most 20 seeds, until points separate (P = 0.05): {len(outcomes)} of 80 members." in page
    assert "for a number of seeds that is fixed" in page
    rows = records(plan, outcomes)
    assert (rows[0]["arms"], rows[0]["separated_after"]) == ("gamma; trace", "6; 6")
    assert rows[0]["worse_than"].endswith("; gae_lambda=0.5")
    assert (rows[-1]["worse_than"], rows[-1]["separated_after"]) == ("", "")
    assert set(figures.draw(plan, results)) == {"return-against-steps", "return-against-seconds", "return-by-value"}
    without = dataclasses.replace(plan, question=dataclasses.replace(plan.question, until_separated=None))
    assert "worse than" not in arm_tables(without, point_results(without, outcomes))
    assert "separated_after" not in records(without, outcomes)[0]


def test_a_surface_says_it_too() -> None:
    arm = Arm("both", {}, {"gamma": [0.5, 0.9], "gae_lambda": [0.5, 0.95]})
    plan = make_plan(Question((arm,), agent="a2c", seeds=10, until_separated=0.05))
    level = {0: 10.0, 1: 20.0, 2: 400.0, 3: 401.0}
    outcomes: dict[int, Outcome] = {}
    while missing := judge(plan, outcomes).missing:
        outcomes |= {n: outcome(level[n // 10] + 5 * math.sin(n), 100) for n in missing}
    assert [how is not None for how in separations(plan, outcomes)[0]] == [True, True, False, False]
    assert set(figures.draw(plan, point_results(plan, outcomes))) == {"surface"}


def test_the_plan_says_the_rounds() -> None:
    assert "each combination has 6, 8, 11, 15 and 20 seeds" in forecast(planned())
    assert "each combination has 5 seeds" in forecast(planned(seeds=5))
    assert forecast(planned(until_separated=None)) == ""


@pytest.mark.parametrize("error", [0, 1, -0.1, 1.5, math.nan, math.inf, "0.05", True])
def test_a_probability_that_is_none_is_refused(error: Any) -> None:
    with pytest.raises(UsageError, match=r"until_separated is .*allowed: a probability in \(0, 1\)"):
        planned(until_separated=error)


def test_too_few_seeds_are_refused() -> None:
    with pytest.raises(UsageError, match="seeds is 2; with until_separated allowed: a whole number from 3"):
        planned(seeds=2)
    with pytest.raises(UsageError, match=r"5 combinations 4 seeds cannot separate .* give at least 5 seeds"):
        planned(seeds=4)
    assert planned(seeds=5).question.rounds.seeds == (5,)
    with pytest.raises(UsageError, match="no arm has two of them"):
        Question((Arm(cases={"one": {}}),), until_separated=0.05)


@pytest.mark.parametrize("name", shipped_questions())
def test_the_studies_that_ship_have_rounds_in_their_full_setting(name: str) -> None:
    question = dataclasses.replace(read_question(name, full=True), until_separated=0.05)
    assert question.rounds.seeds[0] <= question.seeds / 2


def test_a_study_from_python_records_its_probability(tmp_path: Path) -> None:
    options: dict[str, Any] = {"vary": {"learning_rate": [0.01, 0.1]}, "seeds": 6, "until_separated": 0.3}
    result = study(study_dir=tmp_path, **options)
    content = json.loads((tmp_path / STUDY).read_text())
    assert content["question"]["until_separated"] == 0.3
    again = resume_study(tmp_path)
    assert again.plan.question == result.plan.question
    assert again.records() == result.records()
    assert judge(again.plan, again.outcomes).missing == ()


TOML = """
agent = "a2c"
seeds = 12
total_timesteps = 20_000
eval_episodes = 2
[settings]
num_envs = 4
rollout_length = 8
hidden_sizes = [8]
measure_every = 0
[[arms]]
vary = { learning_rate = [0.003, 0.01, 0.03, 100.0] }
"""


@pytest.mark.slow
def test_a_study_that_is_killed_decides_as_one_that_never_was(tmp_path: Path) -> None:
    """SIGKILL in the first round and again in a later one."""
    (tmp_path / "mine.toml").write_text(TOML)
    one_by_one = ("--workers", "1", "--slice-size", "1", "--quiet")
    rounds = ("--until-separated", "0.1", *one_by_one)
    study_dir, whole = tmp_path / "study", tmp_path / "whole"
    done = start("study", str(tmp_path / "mine.toml"), "--run-dir", str(whole), *rounds)
    assert done.communicate(timeout=400) is not None
    assert done.returncode == 0

    def lines(directory: Path) -> int:
        path = directory / MEMBERS
        return path.read_bytes().count(b"\n") if path.exists() else 0

    process = start("study", str(tmp_path / "mine.toml"), "--run-dir", str(study_dir), *rounds)
    for enough in (3, 4 * 5 + 1):
        wait_for(process, lambda enough=enough: lines(study_dir) >= enough)  # type: ignore[misc]
        assert process.poll() is None, process.communicate()
        process.kill()
        process.communicate(timeout=60)
        assert enough <= lines(study_dir) < lines(whole)
        process = start("study", "resume", str(study_dir), *one_by_one)
    _, error = process.communicate(timeout=400)
    assert process.returncode == 0, error

    def rows(directory: Path) -> list[dict[str, str]]:
        text = csv.DictReader(io.StringIO((directory / RESULTS).read_text()))
        return [{name: value for name, value in row.items() if "seconds" not in name} for row in text]

    assert rows(study_dir) == rows(whole)
    worse = {row["learning_rate"] for row in rows(whole) if row["worse_than"]}
    assert "100.0" in worse
    assert len(rows(whole)) < 4 * 12
