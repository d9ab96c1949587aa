"""Optuna's journal of a search, which several processes can share. Optuna is imported when a search begins."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlgd.errors import StorageFault, UsageError
from rlgd.tuning.space import Dimension, values_of

if TYPE_CHECKING:
    import optuna

STARTUP_TRIALS = 5  # that are never pruned: the median of fewer trials says little
JOURNAL, STUDY_NAME = "journal.log", "rlgd"
# Attributes in the journal: what all processes of a search have in common, and the reason of a misfit.
IDENTITY, WHY = "asked", "why"


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


def open_journal(directory: Path, identity: dict[str, Any], seed: int) -> "optuna.Study":
    """The search in ``directory``, or a new one.

    Args:
        directory: of the search; it is made if it does not exist.
        identity: plain values that must equal those of an existing search.
        seed: of the sampler.

    Raises:
        UsageError: if the directory cannot be written, or holds a search with another ``identity``.
        StorageFault: if the journal is damaged.
    """
    library = import_optuna()
    library.logging.set_verbosity(library.logging.ERROR)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        storage = library.storages.JournalStorage(library.storages.journal.JournalFileBackend(str(directory / JOURNAL)))
        study: optuna.Study = library.create_study(
            storage=storage, study_name=STUDY_NAME, direction="maximize", load_if_exists=True,
            pruner=library.pruners.MedianPruner(n_startup_trials=STARTUP_TRIALS),
        )  # fmt: skip
    except OSError as error:
        raise UsageError(f"the search's directory {directory} cannot be written: {error.strerror}.") from error
    except ValueError as error:
        raise StorageFault(f"{directory / JOURNAL} is damaged: {error}") from error
    before = study.user_attrs.get(IDENTITY)
    if before is None:
        study.set_user_attr(IDENTITY, identity)
    elif before != identity:
        differ = [
            f"{name}: {before.get(name)!r}, now {value!r}" for name, value in identity.items()
            if before.get(name) != value
        ]  # fmt: skip
        raise UsageError(f"{directory} holds another search: {'; '.join(differ)}. Name another directory.")
    # A resumed search draws other numbers than at its start.
    study.sampler = library.samplers.TPESampler(seed=seed + len(study.get_trials()))
    return study


def ended_trials(study: "optuna.Study") -> "list[optuna.trial.FrozenTrial]":
    """The trials that are complete or pruned, in order."""
    return [trial for trial in study.get_trials() if trial.state.name in ("COMPLETE", "PRUNED")]


def trial_record(space: Mapping[str, Dimension], trial: "optuna.trial.FrozenTrial") -> dict[str, Any]:
    """Number, state ("complete", "pruned" or "misfit"), score (NaN if there is none) and values of a trial."""
    misfit = WHY in trial.user_attrs
    return {
        "number": trial.number,
        "state": "misfit" if misfit else trial.state.name.lower(),
        "score": math.nan if misfit or trial.value is None else trial.value,
        "values": values_of(space, trial.params),
    }
