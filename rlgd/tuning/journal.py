"""Optuna's journal of a search: opened, resumed, read. Optuna is imported when a search begins."""

import contextlib
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlgd.agents.stored import with_newer
from rlgd.errors import StorageFault, UsageError
from rlgd.tuning.journal_file import JournalFile
from rlgd.tuning.space import Dimension, values_of

if TYPE_CHECKING:
    import optuna

STARTUP_TRIALS = 5  # that are never pruned: the median of fewer trials says little
JOURNAL, STUDY_NAME = "journal.log", "rlgd"
# Attributes in the journal: what all processes of a search have in common; how a trial ended, and the reason.
IDENTITY, STATE, WHY = "asked", "state", "why"


def import_optuna() -> Any:
    """The module ``optuna``.

    Raises:
        UsageError: if it cannot be imported.
    """
    try:
        import optuna
        import optuna.storages.journal
    except ImportError as error:
        raise UsageError(f"Optuna cannot be imported ({error}); install it: pip install 'rlgd[tune]'.") from error
    return optuna


def open_journal(directory: Path, identity: dict[str, Any]) -> "optuna.Study":
    """The search in ``directory``, or a new one. No other process may open it meanwhile.

    Args:
        directory: of the search.
        identity: plain values that must equal those of an existing search.

    Raises:
        OSError: if the journal cannot be made.
        UsageError: if it is another one, or has another ``identity``.
        StorageFault: if it is damaged.
    """
    library = import_optuna()
    library.logging.set_verbosity(library.logging.ERROR)
    with _damage_named(directory / JOURNAL):
        storage = library.storages.JournalStorage(JournalFile(directory / JOURNAL))
        names = library.get_all_study_names(storage)
    if names and STUDY_NAME not in names:
        raise UsageError(f"{directory / JOURNAL} is a journal of something else; name another directory.")
    with _damage_named(directory / JOURNAL):
        if not names:
            library.create_study(storage=storage, study_name=STUDY_NAME, direction="maximize")
        study = load(storage, STUDY_NAME)
        before = recorded_identity(study, identity)
    refuse_other(before, identity, str(directory), "Name another directory.")
    return study


def load(storage: Any, name: str) -> "optuna.Study":
    """A study of Optuna as a search uses it."""
    library = import_optuna()
    pruner = library.pruners.MedianPruner(n_startup_trials=STARTUP_TRIALS)
    study: optuna.Study = library.load_study(storage=storage, study_name=name, pruner=pruner)
    return study


def recorded_identity(study: "optuna.Study", identity: dict[str, Any]) -> dict[str, Any]:
    """The identity that a search has; it gets this one if it has none.

    Raises:
        LookupError, TypeError, ValueError: if the search is damaged.
    """
    for trial in ended_trials(study):
        trial_record({}, trial)  # a trial that cannot be read is found here
    before = study.user_attrs.get(IDENTITY)
    if before is None:
        study.set_user_attr(IDENTITY, identity)
        return identity
    if not isinstance(before, dict):
        raise TypeError(f"{IDENTITY} is {before!r}")
    if "agent" in before:
        values = with_newer(before["agent"], before["hyperparameters"])
        before = before | {"hyperparameters": values}
    return before


def refuse_other(before: dict[str, Any], identity: dict[str, Any], place: str, remedy: str) -> None:
    """Check that the search in a place is this one.

    Raises:
        UsageError: naming what differs.
    """
    if before != identity:
        then, now = _flat(before), _flat(identity)
        differ = [
            f"{name}: {then.get(name)!r}, now {value!r}" for name, value in now.items() if then.get(name) != value
        ]
        raise UsageError(f"{place} holds another search: {'; '.join(differ)}. {remedy}")


def _flat(identity: dict[str, Any]) -> dict[str, Any]:
    """The values of a search, with each hyper-parameter by its own name."""
    return {name: value for name, value in identity.items() if name != "hyperparameters"} | identity.get(
        "hyperparameters", {}
    )


@contextlib.contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    """Turn the errors of Optuna, which replays the journal, into one that names the file."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, AssertionError, RuntimeError) as error:
        raise StorageFault(f"{path} is damaged: {type(error).__name__}: {error}") from error


def counted_trials(study: "optuna.Study") -> "list[optuna.trial.FrozenTrial]":
    """The trials that count, in order: those that were trained or could not be, but none that failed or was killed."""
    return [trial for trial in study.get_trials() if trial.state.name in ("COMPLETE", "PRUNED")]


def ended_trials(study: "optuna.Study") -> "list[optuna.trial.FrozenTrial]":
    """The trials that have ended, in order; a killed process ends none."""
    return [
        trial for trial in study.get_trials()
        if trial.state.name in ("COMPLETE", "PRUNED") or (trial.state.name == "FAIL" and STATE in trial.user_attrs)
    ]  # fmt: skip


def trial_record(space: Mapping[str, Dimension], trial: "optuna.trial.FrozenTrial") -> dict[str, Any]:
    """Number, state, score, values and reason of a trial.

    The state is "complete", "pruned", "misfit", "diverged" or "failed"; the last three have no score (NaN), and a
    reason ("why").
    """
    state = trial.user_attrs.get(STATE, trial.state.name.lower())
    scored = state in ("complete", "pruned") and trial.value is not None
    return {
        "number": trial.number,
        "state": state,
        "score": trial.value if scored else math.nan,
        "values": values_of(space, trial.params),
        "why": trial.user_attrs.get(WHY, ""),
    }
