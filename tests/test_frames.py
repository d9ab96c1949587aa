"""What a notebook shows of results, and their data frames."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rlgd
from rlgd.agents import A2C
from rlgd.errors import UsageError
from rlgd.frames import frame
from rlgd.tables import aligned, as_html

AGENT = A2C(num_envs=4, rollout_length=16, hidden_sizes=(8,), measure_every=0)


def test_a_frame_of_columns_or_of_rows() -> None:
    pytest.importorskip("pandas")
    columns = frame({"step": np.arange(3), "x": [1.0, 2.0, 3.0]}, "step")
    rows = frame([{"step": n, "x": n + 1.0} for n in range(3)], "step")
    assert columns.equals(rows)
    assert columns.index.name == "step"
    assert frame([], "step").empty


def test_without_pandas_one_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UsageError, match=r"^data frames need pandas: pip install 'rlgd\[frames\]'\.$"):
        frame({})


def test_tables_in_columns_and_in_html() -> None:
    assert aligned([["a", "bc"], ["long", ""]]) == "a     bc\nlong"
    assert as_html(["<", "b"], [["1", "&"]], "x") == (
        "<table><caption>x</caption><thead><tr><th>&lt;</th><th>b</th></tr></thead>"
        "<tbody><tr><td>1</td><td>&amp;</td></tr></tbody></table>"
    )


def shown(result: Any) -> tuple[str, str]:
    """What Python and a notebook show: both short, whatever arrays a result has."""
    text, page = repr(result), result._repr_html_()
    assert len(text) < 400
    assert len(page) < 3000
    assert page.startswith("<table>")
    assert page.endswith("</table>")
    return text, page


def test_a_training_and_its_evaluation(tmp_path: Path) -> None:
    result = rlgd.train(AGENT, "CartPole-v1", total_timesteps=512, run_dir=tmp_path / "run", eval_episodes=3)
    text, page = shown(result)
    assert text.startswith("TrainResult(agent A2C, steps 512, ended by total_timesteps, seconds ")
    assert f"over 3 episodes (greedy policy), run {tmp_path / 'run'})" in text
    assert "<td>agent</td><td>A2C</td>" in page
    evaluation = result.evaluation
    assert evaluation is not None
    text, page = shown(evaluation)
    assert (
        text == f"EvalResult(mean return {evaluation.mean:.1f} +- {evaluation.std:.1f} over 3 episodes (greedy policy))"
    )
    assert "<td>length</td>" in page
    pytest.importorskip("pandas")
    curves = result.frame()
    assert curves.index.to_list() == [64 * n for n in range(1, 9)]
    np.testing.assert_array_equal(curves["train/objective"], result.metrics["train/objective"])
    np.testing.assert_array_equal(evaluation.frame()["return"], evaluation.returns)
    again = rlgd.resume(tmp_path / "run")
    assert "ended by already complete" in shown(again)[0]
    assert again.frame().empty


def test_a_study() -> None:
    result = rlgd.study(AGENT, "CartPole-v1", {"gamma": [0.9, 0.99]}, total_timesteps=256, seeds=2, eval_episodes=2)
    text, page = shown(result)
    assert text == "StudyResult('study': a2c in CartPole-v1, 4 of 4 members)"
    assert page.count("<tr>") == 3
    pytest.importorskip("pandas")
    frame = result.frame()
    assert frame.index.name == "member"
    assert frame["gamma"].to_list() == [0.9, 0.9, 0.99, 0.99]


def test_a_search(tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    given: dict[str, Any] = {"trials": 2, "seeds": 1, "fresh_seeds": 1, "total_timesteps": 128, "eval_episodes": 1}
    result = rlgd.tune(AGENT, "CartPole-v1", {"learning_rate": [0.01]}, tune_dir=tmp_path / "tune", **given)
    text, page = shown(result)
    assert text.startswith("TuneResult(learning_rate=0.01, score in the search ")
    assert "on fresh seeds" in text
    assert page.count("<tr>") == 3
    assert "| trial | score | learning_rate |" in result.table()
    pytest.importorskip("pandas")
    assert result.frame()["learning_rate"].to_list() == [0.01, 0.01]
