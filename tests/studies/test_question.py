"""Questions: studies as data, what a file may hold, and what is refused."""

from pathlib import Path
from typing import Any

import pytest

from rlgd import hyperparameters
from rlgd.errors import UsageError
from rlgd.studies import Arm, Question, read_question
from rlgd.studies.plan import make_plan


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "has no arm"),
        ({"arms": 3}, r"arms is .*; expected a list"),
        ({"arms": [{}]}, "varies nothing"),
        ({"arms": [{"vary": {"gamma": [0.9]}, "cases": {"a": {}}}]}, "varies nothing"),
        ({"arms": [{"vary": 3}]}, r"arms\[0\]\.vary is a whole number; expected a table"),
        ({"arms": [{"cases": {"a": 3}}]}, r"cases\[...\] is a whole number; expected a table"),
        ({"arms": [{"varry": {"gamma": [0.9]}}]}, "unknown setting of an arm 'varry'; did you mean 'vary'"),
        (
            {"arms": [{"vary": {"gamma": [0.9]}}], "seedz": 3},
            "unknown setting of a study 'seedz'; did you mean 'seeds'",
        ),
        ({"arms": [{"vary": {"gamma": [0.9]}}], "seeds": 0}, "seeds is 0; allowed: a whole number from 1"),
        ({"arms": [{"vary": {"gamma": [0.9]}}], "seeds": 1.5}, "seeds is a number; expected a whole number"),
        ({"arms": [{"vary": {"gamma": [0.9]}}], "agent": 3}, "agent is a whole number; expected text"),
        ({"arms": [{"vary": {"gamma": [0.9]}}], "settings": []}, "settings is .*; expected a table"),
        ({"arms": [{"vary": {"gamma": [0.9]}}, {"vary": {"gamma": [0.5]}}]}, "a different name for each"),
        (
            {"arms": [{"vary": {"momentum": [0.9], "learning_rate": [0.1]}, "effective_step": 1.0}]},
            "both a learning_rate and an effective_step",
        ),
        (
            {"arms": [{"vary": {"gamma": [0.9]}, "effective_step": 1.0}], "settings": {"momentum": 0.9}},
            "an effective_step but no momentum",
        ),
        ({"arms": [{"vary": {"gamma": {"linear": [0, 1], "points": 1000}}}], "seeds": 1000}, "1,000,000 members"),
    ],
)
def test_what_is_no_study_is_refused(content: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Question.from_json(content, "name")


def test_the_flagship_asks_about_momentum_in_several_environments() -> None:
    envs = {"CartPole-v1", "rlgd/CartPoleNoVelocity-v1", "Acrobot-v1", "Pendulum-v1", "MountainCarContinuous-v0"}
    fast, full = read_question("momentum"), read_question("momentum", full=True)
    assert {arm.env for arm in fast.arms} == envs
    assert {arm.env for arm in full.arms} == {*envs, "HalfCheetah-v5"}
    assert {arm.name for arm in full.arms} == {
        "heavy ball, fixed effective step",
        "heavy ball, fixed learning rate",
        "Nesterov, fixed effective step",
        "Adam",
    }
    for arm in (*fast.arms, *full.arms):
        assert {0.0, 0.5, 0.9, 0.99} <= set(arm.vary["momentum"])
        assert (arm.effective_step is not None) == arm.name.endswith("step")
        assert ("learning_rate" in arm.settings) != arm.name.endswith("step")


def test_an_environment_has_settings_of_its_own() -> None:
    arm = Arm(
        vary={"momentum": [0.0, 0.5]}, envs={"CartPole-v1": {"effective_step": 0.5}, "Pendulum-v1": {"gamma": 0.9}}
    )
    question = Question((arm,), settings={"gamma": 0.95}, envs={"CartPole-v1": {"num_epochs": 2}}, seeds=1)
    assert [one.title for one in question.arms] == ["CartPole-v1", "Pendulum-v1"]
    members = make_plan(question).members
    assert [hyperparameters.to_dict(config.agent)["gamma"] for config in members] == [0.95, 0.95, 0.9, 0.9]
    assert [hyperparameters.changed(config.agent).get("num_epochs") for config in members] == [2, 2, None, None]
    rates = [hyperparameters.changed(config.agent).get("learning_rate") for config in members]
    assert rates == [0.5, 0.25, None, None]


def test_a_length_on_the_command_line_holds_for_all_that_do_not_vary_it() -> None:
    arms = (Arm("a", {"total_timesteps": 7}, {"gamma": [0.9]}), Arm("b", vary={"total_timesteps": [8, 9]}))
    question = Question(arms, envs={"CartPole-v1": {"total_timesteps": 6}}, seeds=1).lasting(100)
    assert [config.settings.total_timesteps for config in make_plan(question).members] == [100, 8, 9]


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('agent = "a2c"\n[full]\nseeds = 7\n[[arms]]\nvary = { gamma = [0.9, 0.99] }\n')
    question = read_question(str(path))
    assert (question.name, question.agent, question.seeds) == ("mine", "a2c", 10)
    assert read_question(str(path), full=True).seeds == 7
    for text, message in (("agent = ", "is not TOML"), ("full = 3", "full is 3")):
        path.write_text(text)
        with pytest.raises(UsageError, match=message):
            read_question(str(path))
    path.write_text("[[arms]]\nvary = { gamma = [0.9] }\n")
    with pytest.raises(UsageError, match=r"has no \[full\] setting"):
        read_question(str(path), full=True)
    with pytest.raises(UsageError, match="cannot be read"):
        read_question(str(tmp_path / "other.toml"))
    with pytest.raises(UsageError, match="unknown study 'momentun'; did you mean 'momentum'"):
        read_question("momentun")
