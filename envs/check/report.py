"""The findings about an environment, and the report of them. Worker processes import this module: no JAX."""

import contextlib
import dataclasses
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple, ParamSpec, TypeAlias, TypeVar

T = TypeVar("T")
P = ParamSpec("P")

Severity: TypeAlias = Literal["fault", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("fault", "warning", "note")
LONGEST_QUOTE = 200  # characters of one value of an environment


class Finding(NamedTuple):
    """One thing that is wrong, or worth knowing.

    Attributes:
        severity: "fault": training would be wrong; "warning": rarely intended; or "note".
        check: the property that was checked, such as "observation dtype".
        where: such as "step 3, observation[2]".
        what: what was found there.
        remedy: how to fix it, or what it means for training.
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
        checked: the groups of checks that were completed.
        unfinished: the groups that ended early, or were left out because of earlier faults.
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
    """The report as text; the last line says "sound", or how many faults and warnings there are."""
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


class GroupEnded(Exception):
    """The current group of checks cannot continue; the reason is in the log."""


class Log:
    """Collects findings: for each check the first one in each part of the environment."""

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
    def group(self, group: str, prefix: bool = True, repeats: bool = False) -> Iterator[None]:
        """A group of checks, which ``GroupEnded`` ends early.

        Args:
            group: its name.
            prefix: whether the findings' ``where`` begins with the name.
            repeats: whether this group finds earlier findings again; they are not added twice.
        """
        self._scope = f"{group}, " if prefix else ""
        self._known = {check for _, check, _ in self._found} if repeats else set()
        try:
            yield
            self.checked.append(group)
        except GroupEnded:
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
        """Add a finding, unless the same check already has one in the same part."""
        if check in self._known:
            return
        inner = part + (str(list(index)) if index else "")
        where = self._scope + ", ".join(filter(None, (place, inner)))
        self._found.setdefault((self._scope, check, part), Finding(severity, check, where, what, remedy))

    def fatal(self, check: str, place: str, what: str, remedy: str) -> GroupEnded:
        """Add a fault after which the group cannot continue; the caller raises the result."""
        self.add("fault", check, place, what, remedy)
        return GroupEnded(what)

    def call(
        self, check: str, place: str, remedy: str, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Call the environment; an exception becomes a fault with its file and line, and ends the group."""
        try:
            return function(*args, **kwargs)
        except (Exception, SystemExit) as error:
            raise self.fatal(check, place, f"raised {describe_error(error)}", remedy) from error


def describe_error(error: BaseException) -> str:
    """The exception in one line, with the file and line that raised it."""
    text = quote(f"{type(error).__name__}: {error}".removesuffix(": "))
    # Wrong arguments of a call raise in ``Log.call`` itself: that frame explains nothing and is left out.
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__]
    return f"{text} ({frames[-1].filename}:{frames[-1].lineno})" if frames else text


def quote(value: object) -> str:
    """A value of an environment in one line of bounded length."""
    text = " ".join((value if isinstance(value, str) else repr(value)).split())
    return text if len(text) <= LONGEST_QUOTE else f"{text[:LONGEST_QUOTE]}..."
