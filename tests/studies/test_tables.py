"""The tables of a study, from made-up outcomes."""

import csv
import dataclasses
import io
import math
from typing import Any

import numpy as np

from rlgd.studies import Arm, Outcome, Question
from rlgd.studies.page import summary_page
from rlgd.studies.plan import Plan, make_plan
from rlgd.studies.seed_statistics import point_results
from rlgd.studies.tables import arm_tables, as_csv, columns, records
from tests.support.small_study import outcome


def planned(target: float | None = 10.0, **options: Any) -> Plan:
    arm = Arm("layers", {}, {"hidden_sizes": [[], [8, 4]]})
    question = Question((arm,), agent="a2c", seeds=2, total_timesteps=100, question="How deep?", target_return=target)
    return make_plan(dataclasses.replace(question, **options))


def outcomes(number: int = 4) -> dict[int, Outcome]:
    return {n: outcome(float(n), 100, ((50, 6.0 * n), (100, 12.0 * n))) for n in range(number)}


def rows(text: str) -> list[dict[str, str]]:
    heads, _, *lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    return [dict(zip(heads, line, strict=True)) for line in lines]


def test_a_point_is_a_row() -> None:
    plan = planned()
    text = arm_tables(plan, point_results(plan, outcomes()))
    assert text.startswith("**layers**\n\n| setting ")
    none, deep = rows(text.split("\n\n", 1)[1])
    assert (none["setting"], none["seeds"]) == ("hidden_sizes=none", "2")
    assert deep["setting"] == "hidden_sizes=8-4"
    assert none["return"].startswith("0.5 [0.0, 1.0]")
    assert none["P(better)"] == ""
    assert deep["P(better)"].startswith("1.00 [")
    assert none["steps to 10"] == "100 (1 of 2)"
    assert deep["steps to 10"] == "50 (2 of 2)"
    assert deep["seconds to it"] == "50.00"


def test_columns_that_no_row_fills_are_left_out() -> None:
    plan = planned(None, env="rlgd/PendulumNoVelocity-v1")  # which has no threshold
    results = point_results(plan, outcomes())
    assert columns(plan, results[0]) == ["setting", "seeds", "return", "P(better)", "mean over training",
                                      "mean over equal seconds", "training seconds"]  # fmt: skip
    diverged = {0: dataclasses.replace(outcome(1.0), reason="diverged")}
    assert columns(plan, point_results(plan, diverged)[0])[-1] == "diverged"


def test_records_have_one_row_for_each_finished_member() -> None:
    plan = planned()
    first, second, third = records(plan, outcomes(3))
    assert (first["member"], first["seed"], first["hidden_sizes"], first["arms"]) == (0, 0, (), "layers")
    assert (second["seed"], third["hidden_sizes"]) == (1, (8, 4))
    assert first["steps_to_target"] is None  # never
    assert third["steps_to_target"] == 50
    assert all(not (isinstance(x, float) and math.isnan(x)) for row in (first, second, third) for x in row.values())


def test_the_csv_file_holds_the_records() -> None:
    plan = planned()
    stored = list(csv.DictReader(io.StringIO(as_csv(records(plan, outcomes())))))
    assert [row["hidden_sizes"] for row in stored] == ["none", "none", "8-4", "8-4"]
    assert [float(row["episode_return"]) for row in stored] == [0, 1, 2, 3]
    assert as_csv(records(plan, {})).strip() == ""


def test_the_page_has_the_question_and_how_numbers_were_measured() -> None:
    plan = planned()
    page = summary_page(plan, point_results(plan, outcomes(3)), ["surface"], ())
    assert page.startswith("# study\n\nHow deep?\n\na2c in CartPole-v1, 100 steps, 2 seeds; 3 of 4 finished.\n\n")
    assert "![surface](surface.png)" in page
    assert "- Steps and seconds to 10: " in page
    assert "Diverged" not in page
    assert "Distance to the optimum" not in page


def test_a_metric_of_the_report_has_a_column() -> None:
    plan = planned(report=("rollout/episode_return",))
    none, deep = rows(arm_tables(plan, point_results(plan, outcomes())).split("\n\n", 1)[1])
    np.testing.assert_allclose(float(deep["rollout/episode_return"].split()[0]), 30)
    assert none["rollout/episode_return"].startswith("6 [")
