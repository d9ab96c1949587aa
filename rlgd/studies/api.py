"""Public ``study`` and ``resume_study``: train the members of a plan, and publish what they show."""

import contextlib
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

from rlgd import hyperparameters
from rlgd.agents import make_agent
from rlgd.agents.base.agent import Agent
from rlgd.envs.registry import refuse_module_id
from rlgd.errors import EnvironmentFault, UsageError
from rlgd.maths import confidence
from rlgd.plugins import remember
from rlgd.run.config import agent_name
from rlgd.studies import rounds, speed
from rlgd.studies.arms import Arm
from rlgd.studies.compiling import Compiling
from rlgd.studies.directory import read, recorded_slice_size, writing
from rlgd.studies.execution import Execution, measure_speeds, train_members
from rlgd.studies.member_sinks import MemberSinks
from rlgd.studies.outcome import Outcome, OutcomeFile
from rlgd.studies.plan import Plan, make_plan
from rlgd.studies.programs import Shelf
from rlgd.studies.publish import StudyResult, publish
from rlgd.studies.question import Question
from rlgd.studies.speed import Speed
from rlgd.system.log import log
from rlgd.system.progress import Best, OnProgress, Progress
from rlgd.training import footprint


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
    until_separated: float | None = None,
    metrics: Sequence[str] = (),
    name: str = "study",
    study_dir: str | Path | None = None,
    exact: bool = False,
    slice_size: int | None = None,
    workers: int | None = None,
    executor: Executor | None = None,
    devices: int = 1,
    sinks: Sequence[Any] = (),
    members: bool = False,
) -> StudyResult:
    """Train an agent with every combination of some values and with many seeds, in few compiled programs.

    Args:
        agent: the agent whose settings vary, or its name.
        env: a Gymnasium id, or anything else that ``rlgd.envs.make`` takes or returns.
        vary: values of each setting that varies: hyper-parameters, ``total_timesteps``, ``eval_every`` and stopping
            criteria. Give a list, or a grid ``{"log": [low, high], "points": n}``.
        cases: in place of ``vary``, named combinations of values.
        arms: in place of both, several arms; see ``rlgd.studies.Arm``.
        total_timesteps: environment steps of each member.
        seeds: members of each combination; all combinations have the same seeds 0, 1, 2, ...
        eval_episodes: episodes of each evaluation.
        target_return: the table shows after how many steps and seconds training reaches it; None: the environment's
            ``reward_threshold``.
        until_separated: train the seeds in rounds, and give no more to a combination that is worse than the best of its
            arm; ``seeds`` is the most that one gets. The probability that the study makes a false call, such as 0.05:
            ``rlgd.studies.separation`` says what that is. None: all seeds.
        metrics: shown in the table in addition to the return, such as "train/entropy".
        name: the study's name.
        study_dir: the directory to write to; None writes nothing.
        exact: give each member the bits of ``rlgd.train`` with its values and seed; slower.
        slice_size: members trained side by side; None: about as many as are fastest. It decides the last bits of all
            results, so a resumed study keeps it.
        workers: slices trained at once, in threads; None: one for each core of a CPU, one on a GPU.
        executor: trains the slices in place of threads, ``workers`` at once (None: as many as it likes): in processes,
            or on other machines, such as Dask's ``Client.get_executor()``. A slice whose worker dies is trained again.
        devices: of this machine, over which the slices are divided; it changes no result.
        sinks: as for ``rlgd.train``; each member that has finished is a run of them, in a group.
        members: write the curves of each member for TensorBoard, too, to ``members/`` in ``study_dir``.

    Raises:
        UsageError: for arguments that are not valid, before anything is compiled or written.
        EnvironmentFault: if an environment on the host breaks, or the workers of a slice die again and again;
            ``study_dir`` keeps the members that were finished.
    """
    base = make_agent(agent) if isinstance(agent, str) else agent
    hyperparameters.remember_parts(base)
    question = Question(
        arms=tuple(arms) or (Arm(vary=vary or {}, cases=cases or {}),),
        name=name,
        agent=agent if isinstance(agent, str) else agent_name(agent),
        env=env if isinstance(env, str) else "",
        settings=hyperparameters.changed(base),
        total_timesteps=total_timesteps,
        seeds=seeds,
        eval_episodes=eval_episodes,
        report=tuple(metrics),
        target_return=target_return,
        until_separated=until_separated,
    )
    plan = make_plan(question, None if isinstance(agent, str) else type(base)(), env)
    execution = Execution(exact, slice_size, workers, executor, devices=devices)
    return execute(plan, None if study_dir is None else Path(study_dir), execution, sinks=sinks, members=members)


def resume_study(
    study_dir: str | Path,
    agent: Agent | None = None,
    env: Any = None,
    *,
    parts: Sequence[Any] = (),
    slice_size: int | None = None,
    workers: int | None = None,
    executor: Executor | None = None,
    devices: int = 1,
    on_progress: OnProgress = lambda progress: None,
    sinks: Sequence[Any] = (),
    members: bool = False,
) -> StudyResult:
    """Train the members of a study that are not finished, and publish its results again.

    Args:
        study_dir: a directory that ``study`` wrote.
        agent: needed if the study's agent is not registered under a name.
        env: needed if the study's environment was not given as an id.
        parts: networks and optimizers of users that were given as objects; those that are described alike in
            the order in which the study had them.
        slice_size: that of the study, if it was given there.
        workers, executor, devices: as for ``study``.
        on_progress: called at the beginning, when members have finished, and when compiling begins or ends, by one
            thread at a time; see ``rlgd.system.progress.Progress``.
        sinks: as for ``study``; members that had finished before are not sent again.
        members: as for ``study``.

    Raises:
        UsageError: if the directory holds no study, or ``agent`` or ``env`` is needed.
        StorageFault: if the directory is damaged.
    """
    for part in parts:
        remember(part)
    directory = Path(study_dir)
    question, content = read(directory)
    if not question.env and env is None:
        raise UsageError(f"{directory} does not name its environment, which was not given as an id; give env.")
    for env_id in {arm.env or (question.env if env is None else "") for arm in question.arms}:
        refuse_module_id(env_id)
    size = recorded_slice_size(directory, content, slice_size)
    execution = Execution(content["exact"], size, workers, executor, devices=devices)
    plan = make_plan(question, agent, env)
    return execute(plan, directory, execution, on_progress, resumed=True, sinks=sinks, members=members)


def execute(
    plan: Plan,
    directory: Path | None,
    execution: Execution,
    on_progress: OnProgress = lambda progress: None,
    resumed: bool = False,
    sinks: Sequence[Any] = (),
    typed: bool = True,
    members: bool = False,
) -> StudyResult:
    """Train the members of a plan that are not finished, and publish the results.

    Args:
        plan: of the study.
        directory: the directory to write to; None writes nothing.
        execution: how members are trained.
        on_progress: as for ``resume_study``.
        resumed: the directory already holds the study; otherwise it is made.
        sinks, typed: who is told of each member that has finished, see ``MemberSinks``.
        members: write the curves of each member, too.
    """
    told = MemberSinks(sinks, f"{plan.question.name} {'' if directory is None else directory.name}".strip(), typed)
    execution.validate()
    execution.check_devices(plan)
    for sentence in plan.left_out:
        log.warning("%s", sentence)
    for group in plan.groups:
        one = plan.members[group.members[0]]
        footprint.check(one.agent, one.env)
    if directory is None:
        outcomes = _train(plan, {}, execution, lambda new: None, on_progress, told)
        return _result(plan, outcomes, _measured(plan, outcomes, execution), None)
    with writing(directory, plan.question, execution.exact, resumed, execution.slice_size):
        with contextlib.closing(OutcomeFile(directory)) as file:
            outcomes = _train(plan, file.read(len(plan.members)), execution, file.add, on_progress, told)
        speeds = speed.read(directory, plan)
        if not speeds and (speeds := _measured(plan, outcomes, execution)):
            speed.write(directory, speeds)
        result = _result(plan, outcomes, speeds, directory)
        publish(result, directory, members)
    return result


def _train(
    plan: Plan,
    outcomes: dict[int, Outcome],
    execution: Execution,
    add: Callable[[dict[int, Outcome]], None],
    on_progress: OnProgress,
    told: MemberSinks,
) -> dict[int, Outcome]:
    """Train what has no outcome yet, round by round, and give new outcomes to ``add``; returns all of them."""
    wanted: tuple[int, ...] = ()
    shelf = Shelf()
    labels, one_at_a_time = plan.labels, threading.Lock()

    def report() -> None:
        with one_at_a_time:
            number = len(outcomes.keys() | set(wanted))
            best = _best(labels, outcomes) if len(plan.env_ids) == 1 else None  # others have other returns
            on_progress(Progress("members", len(outcomes), number, best, compiling.is_running, compiling.seconds))

    def on_finished(new: dict[int, Outcome]) -> None:
        add(new)
        with one_at_a_time:
            outcomes.update(new)
        report()
        for member, outcome in sorted(new.items()):
            told.send(plan.members[member], labels[member], outcome)

    compiling = Compiling(report)
    while wanted := rounds.judge(plan, outcomes).missing:
        report()
        train_members(plan, wanted, execution, on_finished, shelf, compiling)
    return outcomes


def _measured(plan: Plan, outcomes: Mapping[int, Outcome], execution: Execution) -> tuple[Speed, ...]:
    """What members cost alone; empty if nobody counted their iterations, or it cannot be measured."""
    if not any(outcome.iterations for outcome in outcomes.values()):
        return ()  # an earlier version trained them
    try:
        return measure_speeds(plan, outcomes, execution)
    except EnvironmentFault as fault:
        log.warning("members have the seconds of their slices: %s", fault)
        return ()


def _result(
    plan: Plan, outcomes: Mapping[int, Outcome], speeds: Sequence[Speed], directory: Path | None
) -> StudyResult:
    done = speed.timed(plan, outcomes, speeds) if speeds else dict(sorted(outcomes.items()))
    return StudyResult(plan, done, directory, tuple(speeds))


def _best(labels: Mapping[int, str], outcomes: Mapping[int, Outcome]) -> Best | None:
    """The point whose finished seeds have the highest interquartile mean."""
    returns: dict[str, list[float]] = {}
    for number, outcome in outcomes.items():
        if math.isfinite(outcome.episode_return):
            returns.setdefault(labels[number], []).append(outcome.episode_return)
    scores = [Best(label, float(confidence.interquartile_mean(mine))) for label, mine in returns.items()]
    return max(scores, key=lambda best: best.score, default=None)
