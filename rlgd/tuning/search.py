"""Public ``tune``: a search for hyper-parameters that learn well, and an honest score of the best ones.

Optuna decides what is tried next, and keeps what was in a journal that several processes can share.
"""

import dataclasses
import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from rlgd import hyperparameters
from rlgd.agents import make_agent
from rlgd.agents.base.agent import Agent
from rlgd.envs import make
from rlgd.errors import StorageFault, UsageError, unknown
from rlgd.maths import confidence
from rlgd.maths.confidence import Interval
from rlgd.run import layout
from rlgd.studies.arms import written
from rlgd.tuning.space import Dimension, dimension, suggest_value, values_of
from rlgd.tuning.trials import Misfit, Task

STARTUP_TRIALS = 5  # that are never pruned: the median of fewer says little
JOURNAL, BEST, SUMMARY = "journal.log", "best.json", "summary.md"
STUDY_NAME, ASKED, WHY = "rlgd", "asked", "why"

# Told the number of a trial, what became of it ("complete", "pruned"), its score and its values.
Watch: TypeAlias = Callable[[int, str, float, dict[str, Any]], None]


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
    known = hyperparameters.flat_fields(base)
    for name in space:
        if name not in known:
            raise unknown("hyper-parameter", name, known)
    made = make(env)
    task = Task(base, made, total_timesteps, eval_episodes, seeds, fresh_seeds)
    task.plan({})  # mistakes that all trials would share
    directory = Path(tune_dir)
    study = _open(directory, task.asked(space), seed)
    _search(study, task, space, trials, watch)
    ended = [trial for trial in study.get_trials() if trial.state.name in ("COMPLETE", "PRUNED")]
    complete = [trial for trial in ended if trial.state.name == "COMPLETE"]
    if not complete:
        raise UsageError(f"none of {len(ended)} trials fitted; the last one: {ended[-1].user_attrs.get(WHY)}")
    winner = max(complete, key=lambda trial: trial.value)
    best = values_of(space, winner.params)
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
    return next(path for path in layout.names(parent) if not path.exists())


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


def _search(study: Any, task: Task, space: Mapping[str, Dimension], trials: int, watch: Watch) -> None:
    optuna = _optuna()
    ending = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)

    def objective(trial: Any) -> float:
        values = {name: suggest_value(trial, name, values) for name, values in space.items()}
        rungs = itertools.count()

        def told(finished: Sequence[float], running: Sequence[float]) -> None:
            returns = [*finished, *running]
            if all(map(math.isfinite, returns)):
                trial.report(float(confidence.interquartile_mean(returns)), next(rungs))
                if trial.should_prune():
                    raise optuna.TrialPruned

        try:
            return float(confidence.interquartile_mean(task.scores(values, told)))
        except Misfit as misfit:
            trial.set_user_attr(WHY, str(misfit))
            raise optuna.TrialPruned from misfit

    def ended(_: Any, trial: Any) -> None:
        record = _record(space, trial)
        watch(record["number"], record["state"], record["score"], record["values"])

    if sum(trial.state in ending for trial in study.get_trials()) < trials:
        enough = optuna.study.MaxTrialsCallback(trials, ending)
        study.optimize(objective, callbacks=[ended, enough])


def _record(space: Mapping[str, Dimension], trial: Any) -> dict[str, Any]:
    misfit = WHY in trial.user_attrs
    return {
        "number": trial.number,
        "state": "misfit" if misfit else trial.state.name.lower(),
        "score": math.nan if misfit or trial.value is None else trial.value,
        "values": values_of(space, trial.params),
    }


def _publish(result: TuneResult, task: Task) -> None:
    """Write the table, and the winner as flags for ``rlgd train --config``."""
    default = hyperparameters.to_dict(type(task.agent)())
    flags = {name: value for name, value in hyperparameters.to_dict(task.agent).items() if value != default[name]}
    run = {"env": task.env.env_id, "total_timesteps": task.total_timesteps}
    try:
        text = json.dumps({**run, **flags, **result.best}, indent=2)
        (result.tune_dir / BEST).write_text(text + "\n", encoding="utf-8")
        (result.tune_dir / SUMMARY).write_text(result.table() + "\n", encoding="utf-8")
    except OSError as error:
        raise StorageFault(f"what was found could not be written to {result.tune_dir}: {error.strerror}.") from error
