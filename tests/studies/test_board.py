"""A study's answer in TensorBoard, as its own reader reads it; outcomes are made up."""

import dataclasses
import math
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import TENSORS, EventAccumulator
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
from tensorboard.plugins.hparams import metadata

from rlgd.run.sinks.tensorboard import RETURN
from rlgd.studies import Arm, Question, StudyResult, read_question
from rlgd.studies.board import PLACES_APART, quantities, write_answer
from rlgd.studies.plan import make_plan
from rlgd.studies.publish import publish
from rlgd.studies.question import shipped_questions
from rlgd.studies.seed_statistics import mean_curve
from tests.support.small_study import outcome

MOMENTA = (0.0, 0.5, 0.9)
ARMS = (
    Arm("heavy ball (fixed)", {"optimizer": "momentum", "learning_rate": 0.1}, {"momentum": MOMENTA}),
    Arm("both", {"optimizer": "momentum"}, {"momentum": (0.5, 0.9), "learning_rate": (0.1, 0.2)}),
    Arm("ways", {}, cases={"none": {}, "entropy": {"ent_coef": 0.1}}),
)


def made_up(*arms: Arm, seeds: int = 3, path: Path | None = None) -> StudyResult:
    """A study where the return of a member is ten times its number, and the last of them never reach the target."""
    plan = make_plan(Question(arms, agent="a2c", seeds=seeds, target_return=20.0))
    last = len(plan.members) - seeds
    ends = [0.0 if n >= last else 32.0 + 2 * n for n in range(len(plan.members))]
    outcomes = {n: outcome(10.0 * n, 100, ((0, 0.0), (50, end / 2), (100, end))) for n, end in enumerate(ends)}
    result = StudyResult(plan, outcomes, path)
    if path is not None:
        publish(result, path)
    return result


@pytest.fixture(name="result", scope="module")
def _result(tmp_path_factory: pytest.TempPathFactory) -> StudyResult:
    return made_up(*ARMS, path=tmp_path_factory.mktemp("study"))


def runs(directory: Path) -> dict[str, EventAccumulator]:
    """The runs that TensorBoard finds, by name."""
    root = directory / "tensorboard"
    folders = sorted({path.parent for path in root.rglob("events.out.tfevents.*")})
    return {str(folder.relative_to(root)): EventAccumulator(str(folder), {TENSORS: 0}).Reload() for folder in folders}


@pytest.fixture(name="found", scope="module")
def _found(result: StudyResult) -> dict[str, EventAccumulator]:
    assert result.study_dir is not None
    return runs(result.study_dir)


def scalars(run: EventAccumulator, tag: str) -> dict[int, float]:
    return {event.step: event.value for event in run.Scalars(tag)}


def test_there_is_a_run_for_the_answer_each_arm_and_each_setting(found: dict[str, EventAccumulator]) -> None:
    assert list(found) == [
        "answer",
        "arms/heavy-ball-fixed-",
        "arms/ways",
        "settings/both/momentum=0.5-learning_rate=0.2",
        "settings/both/momentum=0.9-learning_rate=0.2",
        *(f"settings/heavy-ball-fixed-/momentum={value:g}" for value in MOMENTA),
        "settings/ways/entropy",
        "settings/ways/none",
    ]


@pytest.mark.parametrize(("arm", "run", "axis"), [(0, "heavy-ball-fixed-", "momentum"), (2, "ways", "case of ways")])
def test_values_and_intervals_are_those_of_the_table(
    result: StudyResult, found: dict[str, EventAccumulator], arm: int, run: str, axis: str
) -> None:
    """At the steps of each value's place, a hundred apart."""
    events, rows = found[f"arms/{run}"], result.point_results[arm]
    shown = {tag.removeprefix("answer/") for tag in events.Tags()["scalars"] if tag.startswith("answer/")}
    names = [name for name, x in quantities(result.plan, rows[1]).items() if x is not None]
    assert {"return", "steps to 20", "seconds to 20", "win probability"} <= set(names)
    assert shown == {f"{name} by {axis}" for name in names}
    for name in names:
        tag = f"answer/{name} by {axis}"
        value, low, high = (
            scalars(events, one) if one in events.Tags()["scalars"] else {}
            for one in (tag, f"interval/{tag}, low", f"interval/{tag}, high")
        )
        for place, row in enumerate(rows):
            expected, step = quantities(result.plan, row)[name], PLACES_APART * place
            if expected is None or math.isinf(expected.value):
                assert step not in value
                continue
            assert {value[at] for at in range(step, step + PLACES_APART) if at in value} == {value[step]}
            assert value[step] == pytest.approx(expected.value)
            if not math.isnan(expected.low):
                assert (low[step], high[step]) == pytest.approx((expected.low, expected.high))
    scores = [row.score for row in rows]
    assert all(score is not None for score in scores)
    improvement = rows[1].improvement
    assert improvement is not None
    assert scalars(events, f"answer/win probability by {axis}")[PLACES_APART] == pytest.approx(improvement.value)


def test_a_target_that_was_not_reached_is_a_gap_and_no_result(
    result: StudyResult, found: dict[str, EventAccumulator]
) -> None:
    values = scalars(found["arms/ways"], "answer/steps to 20 by case of ways")
    assert [math.isnan(values[step]) for step in (0, PLACES_APART + PLACES_APART // 2)] == [False, True]
    tags = {
        name: [tag for tag in found[f"settings/ways/{name}"].Tags()["scalars"] if tag.startswith("answer/")]
        for name in ("none", "entropy")
    }
    assert sorted(tags["none"]) == [RETURN, "answer/seconds to 20", "answer/steps to 20"]
    assert tags["entropy"] == [RETURN]


def test_an_environment_without_a_target_has_an_answer(tmp_path: Path) -> None:
    plan = make_plan(Question((ARMS[2],), agent="a2c", env="CliffWalking-v1", seeds=3))
    outcomes = {n: outcome(-10.0 * n, 100, ((50, -20.0), (100, -10.0))) for n in range(len(plan.members))}
    publish(StudyResult(plan, outcomes, tmp_path), tmp_path)
    shown = runs(tmp_path)["settings/ways/none"]
    assert [tag for tag in shown.Tags()["scalars"] if tag.startswith("answer/")] == [RETURN]


def test_curves_are_the_means_over_seeds_in_the_charts_of_each_arm(
    result: StudyResult, found: dict[str, EventAccumulator]
) -> None:
    """Round brackets in an arm's name are square ones in a tag; a setting of two arms is in the charts of both."""
    shared = found["settings/heavy-ball-fixed-/momentum=0.5"]
    row = result.point_results[0][1]
    for against, word, unit in (("steps", "steps", 1), ("seconds", "milliseconds", 1000)):
        line = mean_curve(row, against)
        assert line is not None
        for arm in ("heavy ball [fixed]", "both"):
            tag = f"curves/return against {word}, {arm}"
            for name, expected in ((tag, line.mean), (f"interval/{tag}, low", line.low)):
                assert list(scalars(shared, name)) == [round(x * unit) for x in line.x]
                assert list(scalars(shared, name).values()) == pytest.approx(expected.tolist())


def test_hparams_have_a_row_for_each_setting(found: dict[str, EventAccumulator]) -> None:
    def content(run: str, tag: str) -> bytes:
        summary = found[run].SummaryMetadata(tag)
        return bytes(summary.plugin_data.content)

    assert not any(metadata.EXPERIMENT_TAG in run.summary_metadata for run in found.values())
    starts = {
        run: metadata.parse_session_start_info_plugin_data(content(run, metadata.SESSION_START_INFO_TAG))
        for run in found
        if run.startswith("settings/")
    }
    assert len({start.group_name for start in starts.values()}) == len(starts) == 7
    one = starts["settings/heavy-ball-fixed-/momentum=0.5"]
    assert one.group_name == "2 momentum=0.5, heavy ball (fixed)"
    assert {name: value.number_value or value.string_value for name, value in one.hparams.items()} == {
        "Momentum": 0.5,
        "Learning rate": 0.1,
        "arm": "heavy ball (fixed)",
    }
    assert starts["settings/ways/none"].hparams["case"].string_value == "none"


def text(run: EventAccumulator, tag: str) -> str:
    return bytes(run.Tensors(tag)[0].tensor_proto.string_val[0]).decode()


def test_the_card_says_what_is_best_and_what_cannot_be_told_from_it(
    result: StudyResult, found: dict[str, EventAccumulator]
) -> None:
    answer = found["answer"]
    told = text(answer, "answer/1 in words").split("\n\n")
    assert told[0].startswith("The return is highest with **entropy (ways)**: 190.0 [180.0, 200.0].")
    assert told[1].startswith("**heavy ball (fixed)**: The return is highest with **momentum=0.9**: 70.0 [60.0, 80.0].")
    assert "do not tell" not in told[1]
    assert told[1].endswith("20 is reached first with **momentum=0.5**, after 50 steps (50.00 s).")
    assert text(answer, "answer/2 as a table") == result.table()
    assert "`answer/... by momentum`, steps 200 to 299: **0.9**" in text(answer, "answer/3 what the steps stand for")
    assert set(answer.Tags()["images"]) == {
        "answer/figure of the return",
        "answer/surface of the return",
        "figures/return against seconds",
        "figures/return against steps",
    }


def test_bands_name_tags_that_exist(found: dict[str, EventAccumulator]) -> None:
    content = found["answer"].Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0]
    known = {tag for run in found.values() for tag in run.Tags()["scalars"]}
    layout = Layout.FromString(content)
    assert [category.title for category in layout.category] == ["answer", "while training"]
    tags = [
        tag
        for category in layout.category
        for chart in category.chart
        for series in chart.margin.series
        for tag in (series.value, series.lower, series.upper)
    ]
    assert len(tags) == 3 * (2 * 6 + 2 * 3)  # six quantities against two axes, two curves of three arms
    assert set(tags) <= known


def test_intervals_that_overlap_cannot_be_told_apart(tmp_path: Path) -> None:
    alike = made_up(Arm(vary={"gamma": (0.9, 0.99)}), seeds=1, path=tmp_path)
    told = text(runs(tmp_path)["answer"], "answer/1 in words")
    assert told.startswith("The return is highest with **gamma=0.99**: 10.0. Intervals do not tell it from gamma=0.9.")
    assert list(runs(tmp_path)) == ["answer", "arms/gamma", "settings/gamma=0.9", "settings/gamma=0.99"]
    assert alike.study_dir == tmp_path


def test_arms_that_are_alike_as_folders_have_runs_of_their_own(tmp_path: Path) -> None:
    names = ("a b", "a-b", "A (b")
    made_up(*(Arm(name, {"learning_rate": n + 1.0}, {"gamma": (0.9,)}) for n, name in enumerate(names)), path=tmp_path)
    assert [run for run in runs(tmp_path) if run.startswith("arms/")] == ["arms/A-b-3", "arms/a-b", "arms/a-b-2"]
    assert len([run for run in runs(tmp_path) if run.startswith("settings/")]) == 3


@pytest.mark.parametrize("name", shipped_questions())
def test_no_study_has_more_runs_than_tensorboard_selects(name: str, tmp_path: Path) -> None:
    """Images, Text, Scalars and Custom Scalars select none of more than 40."""
    plan = make_plan(dataclasses.replace(read_question(name), seeds=1, until_separated=None))
    outcomes = {n: outcome(float(n), 100, ((50, 1.0), (100, 2.0))) for n in range(len(plan.members))}
    write_answer(plan, StudyResult(plan, outcomes, None).point_results, {}, tmp_path)
    assert 2 < len(runs(tmp_path)) <= 40


@pytest.mark.slow
def test_the_curves_of_members_are_written_where_they_are_asked_for(tmp_path: Path) -> None:
    """Beside the answer, and removed with the next answer, but for what others keep there."""
    result = made_up(*ARMS, path=tmp_path)
    assert not (tmp_path / "members").exists()
    publish(result, tmp_path, members=True)
    found = sorted(path.parent for path in (tmp_path / "members").rglob("events.out.tfevents.*"))
    assert len(found) == len(result.plan.members)
    seed = tmp_path / "members" / "heavy-ball-fixed-momentum=0.5" / "seed1"
    assert EventAccumulator(str(seed)).Reload().Scalars(RETURN)[-1].value == 10.0 * 4
    (seed / "notes.txt").write_text("mine")
    publish(result, tmp_path)
    assert [path for path in (tmp_path / "members").rglob("*") if path.is_file()] == [seed / "notes.txt"]
