"""What is found out about an environment, and how it is told."""

import contextlib
import dataclasses
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple, ParamSpec, TypeAlias, TypeVar

T = TypeVar("T")

P = ParamSpec("P")

Severity: TypeAlias = Literal["fault", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("fault", "warning", "note")
LONGEST_QUOTE = 200  # characters of what an environment says of itself


class Finding(NamedTuple):
    """One thing that is wrong, or worth knowing.

    Attributes:
        severity: "fault", with which no training is right; "warning", which may be meant, but rarely is; or "note".
        check: the property that was looked at, such as "observation dtype".
        where: such as "step 3, observation[2]".
        what: what was seen there.
        remedy: how to mend it, or what it means for training.
    """

    severity: Severity
    check: str
    where: str
    what: str
    remedy: str


@dataclasses.dataclass(frozen=True)
class Report:
    """The result of a check.

    Attributes:
        name: the environment.
        checked: the groups of probes that were gone through.
        unfinished: those that were broken off, or left out because of what was found before.
        findings: the faults first.
    """

    name: str
    checked: tuple[str, ...]
    unfinished: tuple[str, ...]
    findings: tuple[Finding, ...]

    @property
    def sound(self) -> bool:
        """Whether there is no fault."""
        return self.count("fault") == 0

    def count(self, severity: Severity) -> int:
        """How many findings there are of a severity."""
        return sum(finding.severity == severity for finding in self.findings)

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        return {
            "env": self.name,
            "sound": self.sound,
            "checked": list(self.checked),
            "unfinished": list(self.unfinished),
            "findings": [finding._asdict() for finding in self.findings],
        }


def render(report: Report) -> str:
    """The report as text for people; the last line says "sound", or how many faults and warnings there are."""
    lines = [report.name, *_list("checked:", report.checked), *_list("not checked to the end:", report.unfinished)]
    for finding in report.findings:
        lines += [f"  {finding.severity:8}{finding.where}: {finding.what}", f"  {'':8}-> {finding.remedy}"]
    warnings = _number(report.count("warning"), "warning")
    if not report.sound:
        lines.append(f"{_number(report.count('fault'), 'fault')}, {warnings}")
    else:
        lines.append("sound" if report.count("warning") == 0 else f"sound, {warnings}")
    return "\n".join(lines)


def _list(title: str, names: Sequence[str]) -> list[str]:
    return [f"  {title} {', '.join(names)}"] if names else []


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


class Stop(Exception):
    """The probes at hand cannot go on; why has been noted."""


class Log:
    """Findings while they are made: of each check the first in each part of the environment."""

    def __init__(self) -> None:
        self.checked: list[str] = []
        self.unfinished: list[str] = []
        self._found: dict[tuple[str, str, str], Finding] = {}
        self._scope = ""
        self._known: set[str] = set()

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All findings, the faults first."""
        return tuple(sorted(self._found.values(), key=lambda finding: SEVERITIES.index(finding.severity)))

    @property
    def faulty(self) -> bool:
        """Whether a fault has been found."""
        return any(finding.severity == "fault" for finding in self._found.values())

    @contextlib.contextmanager
    def probing(self, group: str, prefix: bool = True, repeats: bool = False) -> Iterator[None]:
        """A group of probes, which a ``Stop`` breaks off.

        Args:
            group: its name.
            prefix: whether the name is a part of where things are found.
            repeats: whether what has been found before is found here again, which need not be told twice.
        """
        self._scope = f"{group}, " if prefix else ""
        self._known = {check for _, check, _ in self._found} if repeats else set()
        try:
            yield
            self.checked.append(group)
        except Stop:
            self.unfinished.append(group)
        finally:
            self._scope, self._known = "", set()

    def add(
        self,
        severity: Severity,
        check: str,
        place: str,
        what: str,
        remedy: str,
        part: str = "",
        index: tuple[int, ...] = (),
    ) -> None:
        """Note a finding, unless the same check has one in the same part already."""
        if check in self._known:
            return
        inner = part + (str(list(index)) if index else "")
        where = self._scope + ", ".join(filter(None, (place, inner)))
        self._found.setdefault((self._scope, check, part), Finding(severity, check, where, what, remedy))

    def stop(self, check: str, place: str, what: str, remedy: str) -> Stop:
        """Note a fault with which the probes at hand cannot go on; raise what this returns."""
        self.add("fault", check, place, what, remedy)
        return Stop(what)

    def call(
        self, check: str, place: str, remedy: str, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Call the environment; an exception becomes a fault that quotes its last frame, and ends the group."""
        try:
            return function(*args, **kwargs)
        except (Exception, SystemExit) as error:
            raise self.stop(check, place, f"raised {describe_error(error)}", remedy) from error


def describe_error(error: BaseException) -> str:
    """The exception in one line, with the file and line that raised it."""
    text = quote(f"{type(error).__name__}: {error}".removesuffix(": "))
    # A call that the environment's signature does not allow fails here, in ``Log.call``, which explains nothing.
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__]
    return f"{text} ({frames[-1].filename}:{frames[-1].lineno})" if frames else text


def quote(value: object) -> str:
    """What an environment gave, in one line of bounded length."""
    text = " ".join((value if isinstance(value, str) else repr(value)).split())
    return text if len(text) <= LONGEST_QUOTE else f"{text[:LONGEST_QUOTE]}..."
