"""Public ``tune``: a search for hyper-parameters that learn well, and an honest score of the best ones.

Optuna decides what is tried next, and keeps what was in a journal that several processes can share.
"""

import dataclasses
import functools
import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import jax

from rlgd import config, intervals, memory, rundir, stack, sweep
from rlgd.agents import make_agent
from rlgd.agents.common import Agent
from rlgd.envs import DeviceEnv, Env, make
from rlgd.errors import StorageFault, UsageError, unknown
from rlgd.grid import SPACINGS, Arm, Question, bounds, spaced, written
from rlgd.intervals import Interval
from rlgd.plan import Plan, plan
from rlgd.rundir import RunConfig, agent_name

RUNGS = 5  # evaluations of a trial on the device, after each of which it may be pruned
STARTUP_TRIALS = 5  # that are never pruned: the median of fewer says little
JOURNAL, BEST, SUMMARY = "journal.log", "best.json", "summary.md"
STUDY_NAME, ASKED, WHY = "rlgd", "asked", "why"

# Told the number of a trial, what became of it ("complete", "pruned"), its score and its values.
Watch: TypeAlias = Callable[[int, str, float, dict[str, Any]], None]


class Range(NamedTuple):
    """Numbers from ``low`` to ``high``, both included; whole ones if both ends are."""

    low: float
    high: float
    log: bool


Dimension: TypeAlias = Range | tuple[Any, ...]


def dimension(name: str, values: Any) -> Dimension:
    """What a setting is searched over: a list of values, or ``{"log": [low, high]}``, or the same with "linear".

    Raises:
        UsageError: for no values, or a range that does not exist.
    """
    if not isinstance(values, Mapping):
        return spaced(name, values)
    if len(values) != 1 or not values.keys() <= set(SPACINGS):
        raise UsageError(f'{name} is searched over {dict(values)!r}; expected a list, or {{"log": [low, high]}}.')
    ((spacing, ends),) = values.items()
    low, high = bounds(name, spacing, ends)
    whole = all(isinstance(end, int) for end in ends)
    return Range(int(low), int(high), spacing == "log") if whole else Range(low, high, spacing == "log")


@dataclasses.dataclass(frozen=True)
class TuneResult:
    """What a search found.

    Attributes:
        best: the values that learned best.
        search_score: their score in the search: the best of many, on the seeds it was chosen by, so too good.
        fresh: their interquartile mean on seeds that the search never saw, with its 95% interval; None: not run.
        trials: of each that ended, its number, its state, its score and its values.
        tune_dir: where all of it stands.
    """

    best: dict[str, Any]
    search_score: float
    fresh: Interval | None
    trials: tuple[dict[str, Any], ...]
    tune_dir: Path

    def table(self) -> str:
        """The trials in Markdown, the best first, and both scores of the winner."""
        names = list(self.best)
        lines = [f"| trial | score | {' | '.join(names)} |", f"| --- | --- | {' | '.join('---' for _ in names)} |"]

        def rank(trial: dict[str, Any]) -> tuple[bool, bool, float]:
            return trial["state"] != "complete", math.isnan(trial["score"]), -trial["score"]

        for trial in sorted(self.trials, key=rank):
            score = f"{trial['score']:.1f}" + ("" if trial["state"] == "complete" else f" ({trial['state']})")
            cells = [written(trial["values"].get(name, "")) for name in names]
            lines.append(f"| {trial['number']} | {score} | {' | '.join(cells)} |")
        best = " ".join(f"{name}={written(value)}" for name, value in self.best.items())
        lines += ["", f"best: {best}", f"score in the search: {self.search_score:.1f}"]
        if self.fresh is not None:
            value, low, high = self.fresh
            lines.append(f"score on fresh seeds: {value:.1f} [{low:.1f}, {high:.1f}]")
        return "\n".join(lines)


def tune(
    agent: Agent | str,
    env: Any,
    search: Mapping[str, Any],
    *,
    trials: int = 30,
    seeds: int = 3,
    fresh_seeds: int = 10,
    total_timesteps: int = 100_000,
    eval_episodes: int = 20,
    seed: int = 0,
    tune_dir: str | Path,
    watch: Watch = lambda number, state, score, values: None,
) -> TuneResult:
    """Search for the values with the highest return of the greedy policy, and train the best with fresh seeds.

    A trial trains ``seeds`` members; its score is the interquartile mean of their returns. It is pruned where it is
    worse than the median of earlier trials: on the device after each of ``RUNGS`` evaluations, on the host after each
    seed. Trials whose programs are the same share what is compiled.

    Args:
        agent: what the values change, an agent or its name.
        env: a Gymnasium id, or anything else that ``rlgd.envs.make`` takes or returned.
        search: hyper-parameters by name: a list of values, or ``{"log": [low, high]}`` or ``{"linear": [low, high]}``,
            whole numbers if both ends are.
        trials: how many end, complete or pruned, in all processes that share ``tune_dir`` and over all calls.
        seeds: of each trial, 0, 1, 2, ...
        fresh_seeds: of the winner, the seeds behind those; 0: it is not trained again.
        total_timesteps, eval_episodes: of each member.
        seed: of the search.
        tune_dir: where the journal is, and what was found; a search that is there goes on.
        watch: told of trials that end.

    Raises:
        UsageError: before anything is trained, for arguments that do not fit, or differ from those of the search that
            ``tune_dir`` holds; if Optuna is not installed; if no values of the search fit together.
        StorageFault: if the results cannot be written.
    """
    for name, value, low in (
        ("trials", trials, 1),
        ("seeds", seeds, 1),
        ("fresh_seeds", fresh_seeds, 0),
        ("total_timesteps", total_timesteps, 1),
    ):
        if not isinstance(value, int) or isinstance(value, bool) or value < low:
            raise UsageError(f"{name} is {value!r}; allowed: a whole number from {low}.")
    base = make_agent(agent) if isinstance(agent, str) else agent
    space = {name: dimension(name, values) for name, values in search.items()}
    if not space:
        raise UsageError("nothing is searched over; give at least one hyper-parameter.")
    known = config.flat_fields(base)
    for name in space:
        if name not in known:
            raise unknown("hyper-parameter", name, known)
    made = make(env)
    task = _Task(base, made, total_timesteps, eval_episodes, seeds, fresh_seeds)
    task.plan({})  # mistakes that all trials would share
    directory = Path(tune_dir)
    study = _open(directory, task.asked(space), seed)
    _search(study, task, space, trials, watch)
    ended = [trial for trial in study.get_trials() if trial.state.name in ("COMPLETE", "PRUNED")]
    complete = [trial for trial in ended if trial.state.name == "COMPLETE"]
    if not complete:
        raise UsageError(f"none of {len(ended)} trials fitted; the last one: {ended[-1].user_attrs.get(WHY)}")
    winner = max(complete, key=lambda trial: trial.value)
    best = _values(space, winner.params)
    result = TuneResult(
        best,
        winner.value,
        task.fresh_score(best) if fresh_seeds else None,
        tuple(_record(space, trial) for trial in ended),
        directory,
    )
    _publish(result, task)
    return result


def automatic(root: Path, env_id: str, name: str) -> Path:
    """``root/tune/<env>/<agent>/<time>``, with a suffix if that is taken; it is not made yet."""
    parent = root / "tune" / env_id.replace("/", "-").replace(":", "-") / name
    return next(path for path in rundir.names(parent) if not path.exists())


class _Misfit(Exception):
    """Values that do not fit together: no trial, but no reason to end the search."""


@dataclasses.dataclass(frozen=True)
class _Task:
    """What every trial trains."""

    agent: Agent
    env: Env
    total_timesteps: int
    eval_episodes: int
    seeds: int
    fresh_seeds: int
    _fitting: dict[Any, stack.Fitting] = dataclasses.field(default_factory=dict)

    def asked(self, space: Mapping[str, Dimension]) -> dict[str, Any]:
        """What a search that goes on must have in common with this one, as plain values."""
        content = {
            "agent": agent_name(self.agent),
            "env": self.env.env_id,
            "hyperparameters": config.to_dict(self.agent),
            "search": dict(space),
            "seeds": self.seeds,
            "total_timesteps": self.total_timesteps,
            "eval_episodes": self.eval_episodes,
        }
        plain: dict[str, Any] = json.loads(json.dumps(content))
        return plain

    def plan(self, values: Mapping[str, Any]) -> Plan:
        """The members of a trial, and behind them those with fresh seeds.

        Raises:
            _Misfit: if values of the search do not fit together.
            UsageError: if nothing could.
        """
        every = -(-self.total_timesteps // RUNGS)
        question = Question(
            (Arm(cases={"trial": values}),),
            name="tune",
            env=self.env.env_id,
            settings={"eval_every": every} if isinstance(self.env, DeviceEnv) else {},
            total_timesteps=self.total_timesteps,
            seeds=self.seeds + self.fresh_seeds,
            eval_episodes=self.eval_episodes,
        )
        try:
            worked_out = plan(question, self.agent, self.env)
            memory.check(worked_out.members[0].agent, self.env)
            return worked_out
        except UsageError as error:
            if not values:
                raise
            raise _Misfit(str(error)) from error

    def scores(
        self, values: Mapping[str, Any], told: Callable[[Sequence[float], Sequence[float]], None]
    ) -> list[float]:
        """Train a trial's seeds; ``told`` the returns of finished seeds and of others so far, it may raise."""
        worked_out = self.plan(values)
        members = worked_out.members[: self.seeds]
        done: list[float] = []
        if not worked_out.on_device:
            for settings in members:
                done.append(sweep.alone(settings).episode_return)
                told(done, ())
            return done
        programs = self._programs(members[0])
        for start in range(0, len(members), programs.size):
            part = members[start : start + programs.size]
            outcomes = stack.train(programs, part, functools.partial(told, tuple(done)))
            done += [outcome.episode_return for outcome in outcomes]
        return done

    def _programs(self, settings: RunConfig) -> stack.Programs:
        structure = jax.tree.structure(settings.agent.prepared())
        if structure not in self._fitting:
            budget = sweep.MEMORY_SHARE * memory.available()
            self._fitting[structure] = stack.Fitting(settings, self.seeds, False, budget)
        return self._fitting[structure].programs()

    def fresh_score(self, values: Mapping[str, Any]) -> Interval:
        """The score on seeds that no trial had."""
        outcomes: dict[int, stack.Outcome] = {}
        wanted = range(self.seeds, self.seeds + self.fresh_seeds)
        execution = sweep.Execution()
        sweep.train_members(self.plan(values), wanted, execution, lambda new, _: outcomes.update(new))
        return intervals.interval([outcomes[number].episode_return for number in wanted])


def _optuna() -> Any:
    try:
        import optuna
        import optuna.storages.journal
    except ImportError as error:
        raise UsageError(f"Optuna cannot be imported ({error}); install it: pip install 'rlgd[tune]'.") from error
    return optuna


def _open(directory: Path, asked: dict[str, Any], seed: int) -> Any:
    """The search that the directory holds, or a new one."""
    optuna = _optuna()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(directory / JOURNAL)))
        study = optuna.create_study(
            storage=storage, study_name=STUDY_NAME, direction="maximize", load_if_exists=True,
            pruner=optuna.pruners.MedianPruner(n_startup_trials=STARTUP_TRIALS),
        )  # fmt: skip
    except OSError as error:
        raise UsageError(f"the search's directory {directory} cannot be written: {error.strerror}.") from error
    except ValueError as error:
        raise StorageFault(f"{directory / JOURNAL} is damaged: {error}") from error
    before = study.user_attrs.get(ASKED)
    if before is None:
        study.set_user_attr(ASKED, asked)
    elif before != asked:
        differ = [
            f"{name}: {before.get(name)!r}, now {asked[name]!r}" for name in asked if before.get(name) != asked[name]
        ]
        raise UsageError(f"{directory} holds another search: {'; '.join(differ)}. Name another directory.")
    # What goes on draws other numbers than it began with.
    study.sampler = optuna.samplers.TPESampler(seed=seed + len(study.get_trials()))
    return study


def _search(study: Any, task: _Task, space: Mapping[str, Dimension], trials: int, watch: Watch) -> None:
    optuna = _optuna()
    ending = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)

    def objective(trial: Any) -> float:
        values = {name: _suggest(trial, name, values) for name, values in space.items()}
        rungs = itertools.count()

        def told(finished: Sequence[float], running: Sequence[float]) -> None:
            returns = [*finished, *running]
            if all(map(math.isfinite, returns)):
                trial.report(float(intervals.interquartile_mean(returns)), next(rungs))
                if trial.should_prune():
                    raise optuna.TrialPruned

        try:
            return float(intervals.interquartile_mean(task.scores(values, told)))
        except _Misfit as misfit:
            trial.set_user_attr(WHY, str(misfit))
            raise optuna.TrialPruned from misfit

    def ended(_: Any, trial: Any) -> None:
        record = _record(space, trial)
        watch(record["number"], record["state"], record["score"], record["values"])

    if sum(trial.state in ending for trial in study.get_trials()) < trials:
        enough = optuna.study.MaxTrialsCallback(trials, ending)
        study.optimize(objective, callbacks=[ended, enough])


def _suggest(trial: Any, name: str, values: Dimension) -> Any:
    if not isinstance(values, Range):
        return _value(values, trial.suggest_categorical(name, [_label(value) for value in values]))
    suggest = trial.suggest_int if isinstance(values.low, int) else trial.suggest_float
    return suggest(name, values.low, values.high, log=values.log)


def _label(value: Any) -> str:
    """How a choice stands in the journal, which knows no tuples."""
    return json.dumps(value)


def _value(values: Dimension, stored: Any) -> Any:
    return stored if isinstance(values, Range) else next(value for value in values if _label(value) == stored)


def _values(space: Mapping[str, Dimension], params: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _value(values, params[name]) for name, values in space.items() if name in params}


def _record(space: Mapping[str, Dimension], trial: Any) -> dict[str, Any]:
    misfit = WHY in trial.user_attrs
    return {
        "number": trial.number,
        "state": "misfit" if misfit else trial.state.name.lower(),
        "score": math.nan if misfit or trial.value is None else trial.value,
        "values": _values(space, trial.params),
    }


def _publish(result: TuneResult, task: _Task) -> None:
    """Write the table, and the winner as flags for ``rlgd train --config``."""
    default = config.to_dict(type(task.agent)())
    flags = {name: value for name, value in config.to_dict(task.agent).items() if value != default[name]}
    run = {"env": task.env.env_id, "total_timesteps": task.total_timesteps}
    try:
        text = json.dumps({**run, **flags, **result.best}, indent=2)
        (result.tune_dir / BEST).write_text(text + "\n", encoding="utf-8")
        (result.tune_dir / SUMMARY).write_text(result.table() + "\n", encoding="utf-8")
    except OSError as error:
        raise StorageFault(f"what was found could not be written to {result.tune_dir}: {error.strerror}.") from error
