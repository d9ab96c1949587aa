"""Public ``study``: the members of a plan trained in few programs, and what became of them written down."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from rlgd.agents import make_agent
from rlgd.agents.base.agent import Agent
from rlgd.errors import UsageError
from rlgd.hyperparameters import to_dict
from rlgd.run.config import agent_name
from rlgd.studies.arms import Arm
from rlgd.studies.directory import create, read
from rlgd.studies.execution import Execution, train_members
from rlgd.studies.outcome import Members, Outcome
from rlgd.studies.plan import Plan, plan
from rlgd.studies.publish import StudyResult, publish
from rlgd.studies.question import Question
from rlgd.training import footprint

# Told how many members are finished, of how many, and the seconds of compilation so far.
Watch: TypeAlias = Callable[[int, int, float], None]


def study(
    agent: Agent | str,
    env: Any,
    vary: Mapping[str, Any] | None = None,
    *,
    cases: Mapping[str, Mapping[str, Any]] | None = None,
    arms: Sequence[Arm] = (),
    total_timesteps: int = 100_000,
    seeds: int = 10,
    eval_episodes: int = 100,
    target_return: float | None = None,
    metrics: Sequence[str] = (),
    name: str = "study",
    study_dir: str | Path | None = None,
    exact: bool = False,
    slice_size: int | None = None,
    workers: int | None = None,
) -> StudyResult:
    """Train an agent with every combination of some values, and many seeds, in few compiled programs.

    Args:
        agent: what the values change, an agent or its name.
        env: a Gymnasium id, or anything else that ``rlgd.envs.make`` takes or returned.
        vary: values by name: of hyper-parameters, and of ``total_timesteps``, ``eval_every`` and the criteria to stop;
            a list, or ``{"log": [low, high], "points": n}``.
        cases: instead, combinations of values by their names.
        arms: instead, several of these, see ``rlgd.studies.arms.Arm``.
        total_timesteps, eval_episodes: of each member.
        seeds: how many members each combination has; the same seeds, 0, 1, 2, ..., for all.
        target_return: to which steps and seconds are counted; None: the environment's ``reward_threshold``.
        metrics: that the table shows beside the return, such as "train/entropy".
        name: what it is called.
        study_dir: where to write; None writes nothing.
        exact: each member has the bits of ``rlgd.train`` with its values and seed, at some cost in speed.
        slice_size: members that are trained side by side; None: as many as are fastest and fit into memory.
        workers: slices that run at once, in threads; None: one for each core of a CPU, one on a GPU.

    Raises:
        UsageError: before anything is compiled or written, for arguments that do not fit.
        EnvironmentFault: if an environment on the host breaks; members that were finished are kept in ``study_dir``.
    """
    chosen = tuple(arms) or (Arm(vary=vary or {}, cases=cases or {}),)
    base = make_agent(agent) if isinstance(agent, str) else agent
    default = to_dict(type(base)())
    question = Question(
        arms=chosen,
        name=name,
        agent=agent if isinstance(agent, str) else agent_name(agent),
        env=env if isinstance(env, str) else "",
        settings={name: value for name, value in to_dict(base).items() if value != default[name]},
        total_timesteps=total_timesteps,
        seeds=seeds,
        eval_episodes=eval_episodes,
        report=tuple(metrics),
        target_return=target_return,
    )
    worked_out = plan(question, type(base)(), env)
    return execute(worked_out, None if study_dir is None else Path(study_dir), Execution(exact, slice_size, workers))


def resume_study(
    study_dir: str | Path,
    agent: Agent | None = None,
    env: Any = None,
    watch: Watch = lambda done, of, seconds: None,
    **how: Any,
) -> StudyResult:
    """Train the members of a study that are not finished, and write down again what was found.

    Args:
        study_dir: a directory that ``study`` wrote.
        agent, env: where the study's names do not say them.
        watch: told of members that are finished.
        how: ``slice_size`` and ``workers``, as for ``study``.

    Raises:
        UsageError: if there is no study, or its names do not say agent and environment.
        StorageFault: if it is damaged.
    """
    directory = Path(study_dir)
    question, content = read(directory)
    if not question.env and env is None:
        raise UsageError(f"{directory} does not say its environment, which was no id; give env.")
    return execute(plan(question, agent, env), directory, Execution(content["exact"], **how), watch, anew=False)


def execute(
    plan: Plan,
    directory: Path | None,
    execution: Execution,
    watch: Watch = lambda done, of, seconds: None,
    anew: bool = True,
) -> StudyResult:
    """Train what is not finished yet, and write down what was found.

    Args:
        plan: of the study.
        directory: where to write, or None.
        execution: how.
        watch: told how many members are finished, of how many, and the seconds of compilation so far.
        anew: make the directory; else it holds the study already.
    """
    execution.validate()
    for group in plan.groups:
        footprint.check(plan.members[group.members[0]].agent, plan.env)
    outcomes: dict[int, Outcome] = {}
    members = None
    if directory is not None:
        if anew:
            create(directory, plan.question, execution.exact)
        members = Members(directory)
        outcomes = members.read(len(plan.members))

    def finished(new: dict[int, Outcome], compile_seconds: float) -> None:
        if members is not None:
            members.add(new)
        outcomes.update(new)
        watch(len(outcomes), len(plan.members), compile_seconds)

    train_members(plan, [n for n in range(len(plan.members)) if n not in outcomes], execution, finished)
    result = StudyResult(plan, shared_time(plan, outcomes), directory)
    if directory is not None:
        publish(result, directory)
    return result


def shared_time(plan: Plan, outcomes: Mapping[int, Outcome]) -> dict[int, Outcome]:
    """The outcomes in order, each with the share of its group's training time that its steps are of the group's steps.

    Members of a group run the same program: that one slice took longer than another was chance, such as a compilation
    beside it, and tells nothing of their values. On the host each member has its own time.
    """
    shared = dict(sorted(outcomes.items()))
    for group in plan.groups if plan.on_device else ():
        done = [n for n in group.members if n in shared and shared[n].steps]
        steps = sum(shared[n].steps for n in done)
        seconds = sum(shared[n].training_seconds for n in done)
        for n in done:
            mine = seconds * shared[n].steps / steps
            factor = mine / max(shared[n].training_seconds, 1e-12)
            rows = tuple(dataclasses.replace(row, seconds=row.seconds * factor) for row in shared[n].rows)
            shared[n] = dataclasses.replace(shared[n], training_seconds=mine, rows=rows)
    return shared
