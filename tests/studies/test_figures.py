"""The figures of a study, drawn from made-up outcomes: no training and no display."""

import math

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from rlgd.studies import Arm, PointResult, Question, figures
from rlgd.studies.axes import single_axes
from rlgd.studies.plan import Plan, make_plan
from rlgd.studies.seed_statistics import point_results
from tests.support.small_study import outcome

MOMENTA = (0.0, 0.5, 0.9)
LINES = Arm("momentum", {"optimizer": "momentum"}, {"momentum": MOMENTA})
RATES = {"sgd": (0.1, 1.0), "adam": (1e-4, 0.01, 0.1)}
SURFACE = Arm("surface", {"optimizer": "momentum"}, {"momentum": MOMENTA, "learning_rate": (0.01, 0.1)})


def drawn(*arms: Arm, seeds: int = 3) -> tuple[Plan, list[list[PointResult]]]:
    """A plan and its results, where a member's return is ten times its number."""
    plan = make_plan(Question(arms, agent="a2c", seeds=seeds, target_return=60.0))
    outcomes = {n: outcome(10.0 * n, 100, ((0, 0.0), (50, 5.0 * n), (100, 10.0 * n))) for n in range(len(plan.members))}
    return plan, point_results(plan, outcomes)


def pairs(plan: Plan, results: list[list[PointResult]]) -> list[figures.ArmResults]:
    return list(zip(plan.question.arms, results, strict=True))


def pixels(png: bytes, name: str, tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    path = tmp_path_factory.mktemp("figures") / f"{name}.png"
    path.write_bytes(png)
    return np.asarray(imread(path))


def test_every_figure_is_a_picture_with_something_in_it(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    pictures = figures.draw(*drawn(LINES, SURFACE))
    assert set(pictures) == {"return-against-steps", "return-against-seconds", "return-by-value", "surface"}
    for name, png in pictures.items():
        image = pixels(png, name, tmp_path_factory)
        assert min(image.shape[:2]) > 300
        assert image.std() > 0.05, name


@pytest.mark.parametrize(("arm", "names"), [(LINES, 3), (SURFACE, 1)])
def test_a_study_has_the_figures_that_fit_its_arms(arm: Arm, names: int) -> None:
    assert len(figures.draw(*drawn(arm))) == names


def test_a_study_without_outcomes_has_no_figure() -> None:
    plan, _ = drawn(LINES)
    assert figures.draw(plan, point_results(plan, {})) == {}


@pytest.mark.parametrize(
    ("against", "label"), [("steps", "environment steps"), ("seconds", "training seconds of a member")]
)
def test_curves_have_a_line_for_each_value(against: str, label: str) -> None:
    plan, results = drawn(LINES)
    axes = Figure().add_subplot()
    figures.draw_curves(plan, axes, LINES, results[0], against=against)
    lines = {line.get_label(): line for line in axes.get_lines() if not str(line.get_label()).startswith("_")}
    assert list(lines) == [f"momentum={value:g}" for value in MOMENTA]
    for n, line in enumerate(lines.values()):
        x, y = np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float)
        assert (x[0], x[-1]) == (0, 100)
        assert y[-1] == pytest.approx(10 * (3 * n + 1))  # the mean of three seeds in a row
    assert (axes.get_xlabel(), axes.get_ylabel()) == (label, "episodic return while training")
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == list(lines)


def test_the_target_is_a_dotted_line() -> None:
    plan, results = drawn(LINES)
    axes = Figure().add_subplot()
    figures.draw_curves(plan, axes, LINES, results[0], against="steps")
    (dotted,) = (line for line in axes.get_lines() if line.get_linestyle() == ":")
    assert set(np.asarray(dotted.get_ydata())) == {60.0}


def test_returns_are_shown_by_value_a_line_for_each_arm() -> None:
    other = Arm("Nesterov", {"optimizer": "nesterov"}, {"momentum": MOMENTA})
    cases = Arm("cases", {}, cases={"none": {}, "entropy": {"ent_coef": 0.1}})
    plan, results = drawn(LINES, other, cases)
    momentum, named = figures.return_by_value(single_axes(plan, results)).axes
    assert momentum.get_xlabel() == "momentum"
    assert [label.get_text() for label in momentum.get_xticklabels()] == ["0", "0.5", "0.9"]
    assert [bar.get_label() for bar in momentum.containers] == ["momentum", "Nesterov"]
    assert named.get_xlabel() == "case of cases"
    assert [label.get_text() for label in named.get_xticklabels()] == ["none", "entropy"]
    assert {axes.get_ylabel() for axes in (momentum, named)} == {"return of the greedy policy"}


def test_numbers_of_several_arms_are_in_order() -> None:
    arms = [Arm(name, {"optimizer": name}, {"learning_rate": rates}) for name, rates in RATES.items()]
    (axis,) = single_axes(*drawn(*arms))
    assert axis.labels == ("0.0001", "0.01", "0.1", "1")
    assert [[axis.place(row) for row in rows] for _, rows in axis.arms] == [[2, 3], [0, 1, 2]]


def test_one_seed_has_no_interval(tmp_path_factory: pytest.TempPathFactory) -> None:
    plan, results = drawn(LINES, seeds=1)
    assert all(point.score is not None and math.isnan(point.score.low) for point in results[0])
    assert pixels(figures.draw(plan, results)["return-by-value"], "one", tmp_path_factory).std() > 0.01


def test_a_surface_has_a_number_for_each_pair() -> None:
    plan, results = drawn(SURFACE)
    figure = figures.panels(plan, pairs(plan, results), figures.draw_surface)
    axes, colours = figure.axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("momentum", "learning_rate")
    assert [label.get_text() for label in axes.get_yticklabels()] == ["0.01", "0.1"]
    places = {text.get_position(): text.get_text() for text in axes.texts}
    assert places == {(x, y): f"{10 * (3 * (2 * x + y) + 1)}" for x in range(3) for y in range(2)}
    assert colours.get_ylabel() == "return of the greedy policy"
    assert axes.get_title() == "surface"
