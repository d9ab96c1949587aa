"""How far something with many parts is, as its caller hears of it."""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias


class Best(NamedTuple):
    """What is best so far.

    Attributes:
        label: its name, or its values.
        score: its return.
    """

    label: str
    score: float


class Progress(NamedTuple):
    """How far a study, a search or a reproduction is.

    Attributes:
        unit: what is counted: "members", "trials", "fresh seeds" or "runs".
        done: how many have finished, those of earlier calls included.
        number: how many there will be.
        best: the best so far; None before there is one.
        compiling: whether something is being compiled now, as far as this process knows.
        compile_seconds: wall time in which something was being compiled, in whatever thread or process.
        share: of the work that is done; None: ``done / number``.
    """

    unit: str
    done: int
    number: int
    best: Best | None = None
    compiling: bool = False
    compile_seconds: float = 0.0
    share: float | None = None


OnProgress: TypeAlias = Callable[[Progress], None]
