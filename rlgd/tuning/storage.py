"""A search in a storage of Optuna's, such as a database, which machines share that have no directory in common.

Who is at work is known by Optuna's heartbeats: a process writes one every ``HEARTBEAT`` seconds, by the clock of the
storage, and a trial without one for ``GRACE`` seconds counts as killed.

The URL may hold a password. Nothing of it but the kind, host, port and database is shown, and none of it is written.
"""

import contextlib
import json
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from rlgd.errors import RlgdError, StorageFault, UsageError
from rlgd.system import files
from rlgd.tuning import journal
from rlgd.tuning.journal import IDENTITY, JOURNAL, import_optuna
from rlgd.tuning.presence import Presence
from rlgd.tuning.sharing import ELSEWHERE, JOBS, RESULTS

if TYPE_CHECKING:
    import optuna
    from sqlalchemy.engine import URL

T = TypeVar("T")
HEARTBEAT, GRACE = 10, 60  # seconds; whole numbers
ANSWER_SECONDS = 30.0  # to open the storage
IDENTITY_SECONDS = 5.0  # from creating a study to giving it its identity
TRIES = (0.2, 0.5, 1.0, 0.0)  # seconds after each try to open it: another process may be making the tables
BEGUN = "begun"  # an attribute of a trial whose first heartbeat is written
# Optuna calls heartbeats experimental, and expects ``Study.optimize`` to write them; here ``Heartbeats`` does.
EXPECTED_WARNINGS = (
    r"Argument ``heartbeat_interval`` is an experimental",
    r".*fail_stale_trials is experimental",
    r"Heartbeat of storage is supposed to be used with Study\.optimize",
)
EXAMPLES = "sqlite:///search.db, mysql+pymysql://USER:PASSWORD@HOST/DATABASE or postgresql://..."


class InStorage:
    """A search whose trials are in a storage.

    Args:
        url: of SQLAlchemy, which Optuna's ``RDBStorage`` takes.
        name: of the search in the storage.

    Raises:
        UsageError: if the URL or the name is not valid.
    """

    def __init__(self, url: str, name: str) -> None:
        if not name.strip():
            raise UsageError("the search has no name in the storage; give study_name.")
        import_optuna()
        self._url, self._name = _parsed(url), name
        self._place = f"the storage {_shown(self._url)}"

    def check(self, directory: Path) -> None:
        """What is in the directory must be this search's."""
        if (directory / JOURNAL).exists():
            raise UsageError(f"{directory} holds a search of its own; name another directory, or give no storage.")
        files.check_own(directory, ELSEWHERE, RESULTS, "search", folders=(JOBS,))
        if (directory / ELSEWHERE).exists():
            try:
                name = json.loads((directory / ELSEWHERE).read_text("utf-8"))["study_name"]
            except (OSError, ValueError, LookupError, TypeError) as error:
                raise StorageFault(f"{directory / ELSEWHERE} is damaged: {type(error).__name__}.") from error
            if name != self._name:
                raise UsageError(f"{directory} has the results of the search {name!r}; name another directory.")

    def open(self, directory: Path, identity: dict[str, Any]) -> "tuple[optuna.Study, Presence]":
        """Open the storage, in a bounded time, and the search in it."""
        storage, study, before = _within(ANSWER_SECONDS, lambda: self._opened(identity), self._place)
        place = f"the study {self._name!r} in {self._place}"
        journal.refuse_other(before, identity, place, "Give another study_name.")
        files.write_json(directory / ELSEWHERE, {"study_name": self._name})
        return study, Heartbeats(storage, study)

    def _opened(self, identity: dict[str, Any]) -> Any:
        """The storage, the study and its identity."""
        library = import_optuna()
        library.logging.set_verbosity(library.logging.ERROR)
        for pause in TRIES:
            try:
                storage = self._connected()
                return storage, *self._study(storage, identity)
            except RlgdError:
                raise
            except ImportError as error:
                cause = error.__cause__ or error
                raise UsageError(f"{self._place} needs a driver: {self._without_secrets(cause)}; install it.") from None
            except Exception as error:
                if not pause:
                    reason = self._without_secrets(error.__cause__ or error)
                    raise UsageError(f"{self._place} cannot be used: {reason}.") from None
                time.sleep(pause)
        raise AssertionError

    def _connected(self) -> Any:
        library = import_optuna()
        for message in EXPECTED_WARNINGS:
            warnings.filterwarnings("ignore", message)
        return library.storages.RDBStorage(
            self._url.render_as_string(hide_password=False).replace("{", "{{").replace("}", "}}"),
            # Processes that write to one file at once wait for one another.
            {"connect_args": {"timeout": 60}} if self._url.get_backend_name() == "sqlite" else None,
            heartbeat_interval=HEARTBEAT,
            grace_period=GRACE,
        )

    def _study(self, storage: Any, identity: dict[str, Any]) -> "tuple[optuna.Study, dict[str, Any]]":
        """The study, and its identity, which the process that creates it writes."""
        library = import_optuna()
        created = True
        try:
            library.create_study(storage=storage, study_name=self._name, direction="maximize")
        except library.exceptions.DuplicatedStudyError:
            created = False
        study = journal.load(storage, self._name)
        end = time.monotonic() + IDENTITY_SECONDS
        while not created and IDENTITY not in study.user_attrs:
            if study.get_trials(deepcopy=False) or study.direction.name != "MAXIMIZE":
                raise UsageError(
                    f"{self._place} has a study {self._name!r} of something else; give another study_name."
                )
            created = time.monotonic() > end  # by a process that was killed before it wrote the identity
            time.sleep(0.1)
        try:
            return study, journal.recorded_identity(study, identity)
        except (LookupError, TypeError, ValueError) as error:
            place = f"the study {self._name!r} in {self._place}"
            raise StorageFault(f"{place} is damaged: {type(error).__name__}: {error}") from error

    @contextlib.contextmanager
    def faults_named(self) -> Iterator[None]:
        """Failures of the database are faults of this storage."""
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except (SQLAlchemyError, import_optuna().exceptions.StorageInternalError) as error:
            reason = self._without_secrets(error.__cause__ or error)
            raise StorageFault(f"{self._place} failed: {reason}. What was recorded before is kept.") from None

    def _without_secrets(self, error: BaseException) -> str:
        """The error in one line, without what the URL should keep for itself."""
        text = str(getattr(error, "orig", None) or error).strip().partition("\n")[0].rstrip(".")
        query = [value for values in self._url.normalized_query.values() for value in values]
        whole = self._url.render_as_string(hide_password=False)
        for secret in [whole, self._url.password, self._url.username, *query]:
            text = text.replace(str(secret), "***") if secret else text
        return text or type(error).__name__


def _parsed(url: str) -> "URL":
    import sqlalchemy
    from sqlalchemy.exc import SQLAlchemyError

    try:
        parsed = sqlalchemy.engine.make_url(url)
        parsed.get_dialect()
    except (SQLAlchemyError, ValueError, TypeError, AttributeError):
        # What cannot be read is not shown: it may have a password anywhere.
        raise UsageError(f"the storage is no URL of a database that SQLAlchemy knows; expected {EXAMPLES}.") from None
    except ImportError:  # of its driver; opening names it
        return parsed
    if parsed.get_backend_name() == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise UsageError("the storage is in the memory of one process; give a file, as in sqlite:///search.db.")
    return parsed


def _shown(url: "URL") -> str:
    """Kind, host, port and database."""
    host = "" if url.host is None else url.host if url.port is None else f"{url.host}:{url.port}"
    return f"{url.drivername}://{host}/{url.database or ''}"


def _within(seconds: float, do: Callable[[], T], place: str) -> T:
    """The result of a call, which may take a bounded time. A call that hangs stays in its thread."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(do())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    try:
        return future.result(seconds)
    except TimeoutError:
        raise UsageError(f"{place} does not answer within {seconds:g} seconds.") from None


class Heartbeats:
    """Who is at work in a storage."""

    def __init__(self, storage: Any, study: "optuna.Study") -> None:
        self._storage, self._study = storage, study
        self._library = import_optuna()
        self._trial: optuna.Trial | None = None
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._silent: dict[int, float] = {}  # when a trial without any heartbeat was first seen

    def arrive(self, trial: "optuna.Trial") -> None:
        """Write heartbeats from now on."""
        self._storage.record_heartbeat(trial._trial_id)
        trial.set_user_attr(BEGUN, "")
        self._trial, self._stop = trial, threading.Event()
        self._thread = threading.Thread(target=self._beat, args=(trial._trial_id, self._stop), daemon=True)
        self._thread.start()

    def _beat(self, trial_id: int, stop: threading.Event) -> None:
        while not stop.wait(HEARTBEAT):
            with contextlib.suppress(Exception):  # the next one may succeed; if none does, the trial is lost
                self._storage.record_heartbeat(trial_id)

    def leave(self) -> None:
        """Write no more; others need not wait for a trial that has not ended."""
        trial, self._trial = self._trial, None
        if trial is None:
            return
        self._stop.set()
        with contextlib.suppress(Exception):  # it has ended, or counts as killed in a while
            self._study.tell(trial, state=self._library.trial.TrialState.FAIL)

    def at_work(self, running: "list[optuna.trial.FrozenTrial]") -> "list[optuna.trial.FrozenTrial]":
        """Those with a heartbeat. A process may be killed between a trial's beginning and its first heartbeat, too."""
        self._library.storages.fail_stale_trials(self._study)
        states = {trial.number: trial.state for trial in self._study.get_trials(deepcopy=False)}
        alive = [trial for trial in running if not states[trial.number].is_finished()]
        return [trial for trial in alive if BEGUN in trial.user_attrs or self._is_new(trial.number)]

    def _is_new(self, number: int) -> bool:
        now = time.monotonic()
        return now - self._silent.setdefault(number, now) < GRACE

    def why_lost(self, trial: Any) -> str:
        """Its heartbeats were late."""
        return f"it wrote nothing to the storage for {GRACE} seconds, so another process took it for killed"
