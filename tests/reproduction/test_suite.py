"""The suites that ship."""

import importlib.util
from pathlib import Path

import jax
import pytest

from rlgd.cli.reproduce import Options
from rlgd.errors import UsageError
from rlgd.reproduction import read_suite, shipped_suites
from rlgd.reproduction.runs import row_runs


def test_the_shipped_suites_are_sound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert shipped_suites() == ["atari", "box2d", "classic", "craftax", "minatar", "mujoco", "playground"]
    assert f"Suites: {', '.join(shipped_suites())}." in str(Options.__doc__)
    for name in shipped_suites():
        suite = read_suite(name)
        assert len({row.name for row in suite.rows}) == len(suite.rows) > 0
        for row in suite.rows:
            assert row.published or row.agent == "npg", "only of NPG the sources have no scores"
            assert {score.source for score in row.published} <= suite.sources.keys()
        if suite.module and importlib.util.find_spec(suite.module) is None:
            with pytest.raises(UsageError, match=rf"{name} needs environments that are not installed: pip install"):
                row_runs(suite, Path("runs"), None)
            continue
        with jax.debug_key_reuse(False):  # Playground uses keys twice, by the checker's measure
            rows = row_runs(suite, Path("runs"), None)
        for runs in rows:
            assert runs.config is not None or runs.why_not.startswith(("no preset of", "unknown agent")), runs.why_not


def test_a_row_is_named_by_environment_and_agent() -> None:
    suite = read_suite("tiny")
    assert [row.name for row in suite.rows] == [
        "CartPole-v1:a2c",
        "rlgd/CartPoleNoVelocity-v1:a2c",
        "CartPole-v1:ppo",
    ]


def test_an_unknown_suite_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown suite 'tinny'; did you mean 'tiny'"):
        read_suite("tinny")
