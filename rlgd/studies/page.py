"""``summary.md`` of a study: the question, the tables, the figures, and how the numbers were measured."""

import itertools
from collections.abc import Sequence

from rlgd.maths import confidence
from rlgd.maths.confidence import Interval, in_words
from rlgd.studies.outcome import ROWS
from rlgd.studies.over_tasks import over_tasks
from rlgd.studies.plan import Plan
from rlgd.studies.seed_statistics import PointResult
from rlgd.studies.speed import ROUNDS, Speed
from rlgd.studies.tables import arm_tables, overall_tables
from rlgd.studies.working import NEARLY, working
from rlgd.tables import markdown


def summary_page(
    plan: Plan, arms: Sequence[Sequence[PointResult]], figures: Sequence[str], speeds: Sequence[Speed]
) -> str:
    """``summary.md``: the question, the tables, the figures, and how the numbers were measured."""
    question = plan.question
    parts = [
        f"# {question.name}",
        question.question,
        what_was_trained(plan, arms),
        overall_tables(plan, arms),
        arm_tables(plan, arms),
        *(f"![{name}]({name}.png)" for name in figures),
        _costs(speeds),
        "\n".join(f"- {note}" for note in _notes(plan, arms)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def what_was_trained(plan: Plan, arms: Sequence[Sequence[PointResult]]) -> str:
    """The agent, the environment, the steps and the seeds, as a sentence."""
    steps = sorted({config.settings.total_timesteps for config in plan.members})
    spread = f"{steps[0]:,}" + (f" to {steps[-1]:,}" if len(steps) > 1 else "")
    agents = ", ".join(plan.agent_names)
    return f"{agents} in {', '.join(plan.env_ids)}, {spread} steps, {_seeds(plan, arms)}."


def _seeds(plan: Plan, arms: Sequence[Sequence[PointResult]]) -> str:
    """How many seeds were trained; a member that several arms have counts once."""
    question = plan.question
    pairs = zip(itertools.chain(*plan.points), itertools.chain(*arms), strict=True)
    done = len({members[seed - question.first_seed] for (_, members), row in pairs for seed in row.outcomes})
    if question.until_separated is None:
        return f"{question.seeds} seeds" + (
            f"; {done} of {len(plan.members)} finished" if done < len(plan.members) else ""
        )
    error = f"P = {question.until_separated:g}"
    return f"at most {question.seeds} seeds, until points separate ({error}): {done} of {len(plan.members)} members"


def _notes(plan: Plan, arms: Sequence[Sequence[PointResult]]) -> list[str]:
    """How the columns of the tables were measured."""
    notes = [
        f"Return: of the greedy policy after training, mean over {plan.question.eval_episodes} episodes; interquartile "
        f"mean over seeds with its {confidence.CONFIDENCE:.0%} bootstrap interval.",
        "P(better): the probability that a seed of this row does better than a seed of the table's first row.",
        "Mean over training: the area under the curve of the return of training's episodes, divided by its steps.",
    ]
    if plan.question.until_separated is not None:
        notes.append(
            "Worse than: a point of the same arm, by a rank test and Welch's test, after this many seeds of each; it "
            "got no more for this arm. The others stop together: when all seeds are trained, or when more of the same "
            "would not tell them apart. The probability of a false call in the whole study is "
            f"{plan.question.until_separated:g} at most. A point stops when its seeds came out low, so its return is "
            "somewhat too low on average; and intervals hold for a number of seeds that is fixed, not for one that the "
            "returns decide."
        )
    if any(row.distance is not None for arm in arms for row in arm):
        notes.append(
            "Distance to the optimum: the discounted return of the optimal policy from the start, less that of the "
            "learned policy; both are exact."
        )
    if over_tasks(plan, arms):
        notes.append(
            "Normalized return: 0 is a policy that acts at random, 1 is solved (`rlgd/studies/tasks.py`); "
            "interquartile mean over the seeds of all environments. Share of the time to the target: of the most "
            "seconds that a setting had there, the mean over seeds; 1 if a seed does not reach it."
        )
    if working(plan, arms):
        notes.append(
            f"Values that work: those whose normalized return is at least {NEARLY:.0%} of that of the arm's best value "
            "there, interquartile means over seeds; the mean over environments. The bootstrap chooses the best anew."
        )
    notes += [*_notes_on_target(plan, arms), *_notes_on_time(plan, arms)]
    if any(row.diverged > 0 for arm in arms for row in arm):
        notes.append("Diverged: the share of seeds that diverged; their last finite policy was evaluated.")
    return notes


def _notes_on_target(plan: Plan, arms: Sequence[Sequence[PointResult]]) -> list[str]:
    targets = {row.target for rows in arms for row in rows if row.target is not None}
    if not targets:
        return []
    return [
        f"Steps and seconds to {', '.join(f'{target:g}' for target in sorted(targets))}: when the mean return of "
        f"training's episodes, averaged over one of {ROWS} parts of the run, first reached it; the median over seeds, "
        "and in parentheses how many reached it.",
        "Mean steps and seconds to it: the restricted mean over seeds, with its bootstrap interval; a seed that did "
        f"not reach it counts with the most that a setting had: {_budgets(plan, arms)}.",
    ]


def _notes_on_time(plan: Plan, arms: Sequence[Sequence[PointResult]]) -> list[str]:
    measured = []
    if plan.device_groups:
        measured.append(
            "a member's iterations, times the seconds of an iteration of one that trains alone, measured after the "
            f"study in {ROUNDS} rounds (`speed.json`)"
        )
    if len(plan.device_groups) < len(plan.groups):
        measured.append("on the host, where members run one after another, its own")
    return [
        "Mean over equal seconds: as over training, for the seconds of the setting that took longest; a member that "
        "has ended keeps its return.",
        f"Training seconds: of one member, without compilation and evaluation: {'; '.join(measured)}.",
    ]


def _budgets(plan: Plan, arms: Sequence[Sequence[PointResult]]) -> str:
    """The budget in each environment."""
    found = {plan.env_of(points).env_id: rows[0].budget for points, rows in zip(plan.points, arms, strict=True)}
    texts = {env_id: f"{steps:,.0f} steps or {seconds:.3g} s" for env_id, (steps, seconds) in found.items()}
    return "; ".join(f"{text} in {env_id}" if len(texts) > 1 else text for env_id, text in texts.items())


def _costs(speeds: Sequence[Speed]) -> str:
    """What an iteration costs with each program, as a table; empty for a single program."""
    if len(speeds) < 2:
        return ""
    heads = ["program", "iterations timed", "milliseconds of one", "relative to the first"]
    rows = [
        [
            speed.program,
            f"{speed.iterations:,}",
            in_words(Interval(*(1000 * x for x in speed.of_an_iteration)), ".3g"),
            in_words(speed.relative_to(speeds[0]), ".2f"),
        ]
        for speed in speeds
    ]
    return f"What an iteration costs\n\n{markdown(heads, rows)}"
