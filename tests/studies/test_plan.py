"""Plans: the members of a study, each checked before anything runs, and the groups that share a program."""

import json
from typing import Any

import pytest

from rlgd.errors import UsageError
from rlgd.studies import Arm, Question, read_question
from rlgd.studies.plan import make_plan
from rlgd.studies.question import shipped_questions
from tests.support.marks import quick


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"momentun": 0.5}, "unknown hyper-parameter 'momentun'; did you mean 'momentum'"),
        ({"gamma": 1.5}, "gamma is 1.5; allowed: a number within"),
        ({"max_seconds": 3.0}, "max_seconds cannot vary"),
        ({"seed": 3}, "seed cannot vary"),
        ({"optimizer": "sgd", "momentum": 0.9}, "momentum"),
        ({"total_timesteps": 0}, "total_timesteps is 0"),
        ({"patience": 0}, "patience is 0"),
    ],
)
def test_members_are_checked_before_anything_runs(settings: dict[str, Any], message: str) -> None:
    question = Question((Arm("a", settings, {"ent_coef": [0.0, 0.1]}),), agent="ppo")
    with pytest.raises(UsageError, match=message):
        make_plan(question)


LARGE = [("optimizer-robustness", True), ("momentum", True)]
STUDIES = [(name, full) for name in shipped_questions() for full in (False, True)]


@pytest.mark.parametrize(("name", "full"), quick([study for study in STUDIES if study not in LARGE], STUDIES))
def test_every_study_that_ships_can_be_planned_and_written_down(name: str, full: bool) -> None:
    question = read_question(name, full)
    assert question.question.endswith("?")
    again = Question.from_json(json.loads(json.dumps(question.to_json())), name)
    assert again == question
    plan, other = make_plan(question), make_plan(again)
    assert plan.members == other.members
    assert sum(len(group.members) for group in plan.groups) == len(plan.members)


def test_arms_share_the_members_that_are_the_same() -> None:
    arms = (Arm("one", {}, {"gamma": [0.9, 0.99]}), Arm("other", {}, {"gamma": [0.99, 0.999]}))
    plan = make_plan(Question(arms, agent="a2c", seeds=2))
    assert len(plan.members) == 6
    (_, first), (_, shared) = plan.points[0]
    assert (first, shared) == ((0, 1), (2, 3))
    assert plan.points[1][0][1] == shared
    assert [member.settings.seed for member in plan.members] == [0, 1] * 3


def test_static_settings_make_groups() -> None:
    arm = Arm(vary={"num_envs": [2, 4], "gamma": [0.9, 0.99]})
    plan = make_plan(Question((arm,), agent="a2c", seeds=1))
    assert [(group.label, group.members) for group in plan.groups] == [("num_envs=2", (0, 1)), ("num_envs=4", (2, 3))]


def test_a_group_is_named_by_what_is_set() -> None:
    plan = make_plan(Question((Arm(cases={"off": {}, "on": {"l2": 0.1}}),), agent="a2c", seeds=1))
    assert [group.label for group in plan.groups] == ["l2=off", "l2=set"]
