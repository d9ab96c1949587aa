"""Questions: studies as data, what a file may hold, and what is refused."""

from pathlib import Path
from typing import Any

import pytest

from rlgd.errors import UsageError
from rlgd.studies import Question, read_question


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


def test_the_flagship_asks_about_momentum_at_a_fixed_rate_and_at_a_fixed_step() -> None:
    question = read_question("momentum")
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
