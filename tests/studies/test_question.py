"""Studies as data: what a file may hold, which combinations it makes, and what is refused."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlgd.errors import UsageError
from rlgd.studies import Arm, Question, arms, plan
from rlgd.studies.question import read, shipped


def test_every_combination_is_a_point() -> None:
    arm = Arm("a", {"gamma": 0.9}, {"momentum": [0.0, 0.5], "hidden_sizes": [[], [8, 4]]})
    points = list(arm.points())
    assert len(arm) == len(points) == 4
    assert [p.label for p in points] == [
        f"momentum={m} hidden_sizes={h}" for m, h in itertools.product(("0", "0.5"), ("none", "8-4"))
    ]
    assert points[3].values == {"momentum": 0.5, "hidden_sizes": (8, 4)}
    assert points[3].settings == {"gamma": 0.9, "momentum": 0.5, "hidden_sizes": (8, 4)}


def test_a_fixed_effective_step_decides_the_learning_rate() -> None:
    arm = Arm("a", {}, {"momentum": [0.0, 0.5, 0.9]}, effective_step=0.5)
    rates = [point.settings["learning_rate"] for point in arm.points()]
    np.testing.assert_allclose(rates, [0.5, 0.25, 0.05])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"log": [1e-4, 1], "points": 5}, [1e-4, 1e-3, 1e-2, 1e-1, 1]),
        ({"linear": [0, 1], "points": 3}, [0, 0.5, 1]),
        (np.array([0.5, 1]), [0.5, 1]),
        (range(2), [0, 1]),
    ],
)
def test_values_are_spaced_as_asked(values: Any, expected: list[float]) -> None:
    np.testing.assert_allclose(arms.spaced("x", values), expected)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "x varies over no values"),
        ([0.1, 0.2, 0.1], "x varies over 0.1 twice"),
        (0.1, "expected a list of values"),
        ("abc", "expected a list of values"),
        ({"log": [0, 1], "points": 5}, "by equal factors, which must not touch zero"),
        ({"log": [-1, 1], "points": 5}, "must not touch zero"),
        ({"log": [1, 0.1], "points": 5}, "the lowest value and a higher one"),
        ({"linear": [0, float("inf")], "points": 5}, "from 0 to inf"),
        ({"log": [0.1, 1], "points": 1}, "points = 1; allowed: a whole number from 2"),
        ({"log": [0.1, 1], "points": 10**9}, "points = 1000000000"),
        ({"log": [0.1, 1]}, "expected a list, or"),
        ({"log": [0.1], "points": 3}, "expected two numbers"),
        ({"log": ["a", "b"], "points": 3}, "expected two numbers"),
        ({"cube": [0.1, 1], "points": 3}, "expected a list, or"),
    ],
)
def test_grids_that_do_not_exist_are_refused(values: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        arms.spaced("x", values)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "has no arm"),
        ({"arms": 3}, "arms is not a list"),
        ({"arms": [{}]}, "varies nothing"),
        ({"arms": [{"vary": {"gamma": [0.9]}, "cases": {"a": {}}}]}, "varies nothing"),
        ({"arms": [{"vary": 3}]}, "vary of an arm is 3"),
        ({"arms": [{"cases": {"a": 3}}]}, "case 'a' is 3"),
        ({"arms": [{"varry": {"gamma": [0.9]}}]}, "unknown setting of an arm 'varry'; did you mean 'vary'"),
        (
            {"arms": [{"vary": {"gamma": [0.9]}}], "seedz": 3},
            "unknown setting of a study 'seedz'; did you mean 'seeds'",
        ),
        ({"arms": [{"vary": {"gamma": [0.9]}}], "seeds": 0}, "seeds is 0; allowed: a whole number from 1"),
        ({"arms": [{"vary": {"gamma": [0.9]}}], "seeds": 1.5}, "seeds is 1.5"),
        ({"arms": [{"vary": {"gamma": [0.9]}}], "agent": 3}, "agent is 3; expected text"),
        ({"arms": [{"vary": {"gamma": [0.9]}}], "settings": []}, "settings is .*; expected a table"),
        ({"arms": [{"vary": {"gamma": [0.9]}}, {"vary": {"gamma": [0.5]}}]}, "a name for each"),
        (
            {"arms": [{"vary": {"momentum": [0.9], "learning_rate": [0.1]}, "effective_step": 1.0}]},
            "a learning_rate and an effective_step",
        ),
        (
            {"arms": [{"vary": {"gamma": [0.9]}, "effective_step": 1.0}], "settings": {"momentum": 0.9}},
            "an effective_step, but no momentum",
        ),
        ({"arms": [{"vary": {"gamma": {"linear": [0, 1], "points": 1000}}}], "seeds": 1000}, "1,000,000 members"),
    ],
)
def test_what_is_no_study_is_refused(content: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Question.of(content, "name")


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
        plan.plan(question)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("name", list(shipped()))
def test_every_study_that_ships_can_be_worked_out_and_written_down(name: str, full: bool) -> None:
    question = read(name, full)
    assert question.question.endswith("?")
    again = Question.of(json.loads(json.dumps(question.to_json())), name)
    assert again == question
    worked_out, other = plan.plan(question), plan.plan(again)
    assert worked_out.members == other.members
    assert sum(len(group.members) for group in worked_out.groups) == len(worked_out.members)


def test_the_flagship_asks_about_momentum_at_a_fixed_rate_and_at_a_fixed_step() -> None:
    question = read("momentum")
    by_name = {arm.name: arm for arm in question.arms}
    momenta = (0.0, 0.5, 0.9, 0.95, 0.99)
    for optimizer in ("heavy ball", "Nesterov"):
        assert by_name[f"{optimizer}, fixed learning rate"].vary["momentum"] == momenta
        assert by_name[f"{optimizer}, fixed effective step"].effective_step is not None
    assert by_name["Adam, fixed learning rate"].vary["momentum"] == momenta
    assert question.seeds >= 8
    assert any(len(arm.axes) == 2 for arm in question.arms)


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('agent = "a2c"\n[full]\nseeds = 7\n[[arms]]\nvary = { gamma = [0.9, 0.99] }\n')
    question = read(str(path))
    assert (question.name, question.agent, question.seeds) == ("mine", "a2c", 10)
    assert read(str(path), full=True).seeds == 7
    for text, message in (("agent = ", "is not TOML"), ("full = 3", "full is 3")):
        path.write_text(text)
        with pytest.raises(UsageError, match=message):
            read(str(path))
    path.write_text("[[arms]]\nvary = { gamma = [0.9] }\n")
    with pytest.raises(UsageError, match=r"has no \[full\] setting"):
        read(str(path), full=True)
    with pytest.raises(UsageError, match="cannot be read"):
        read(str(tmp_path / "other.toml"))
    with pytest.raises(UsageError, match="unknown study 'momentun'; did you mean 'momentum'"):
        read("momentun")
