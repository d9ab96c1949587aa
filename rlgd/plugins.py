"""Parts of users by name: agents, networks, optimizers, environments, sinks. Importing this imports no JAX.

A part has a name that files keep: ``module:attribute``, or the name of an entry point of an installed package. A name
in a file imports nothing by itself: its part must have been used in this process, belong to an installed entry point,
or lie in a package that the user trusts. Such a part is imported and called; so it must be the package's own, and none
that the package has imported from elsewhere: a file may have arguments for it.
"""

import dataclasses
import functools
import importlib
import itertools
import logging
import os
import re
import sys
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from rlgd.errors import UsageError, unknown

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

log = logging.getLogger("rlgd")
NOT_THERE = (ImportError, AttributeError, TypeError, ValueError)  # what an import of a part may raise
_used: dict[str, Any] = {}  # parts that this process was given, by their names in files
_trusted: set[str] = set()  # packages whose parts a file may name


def trust(package: str) -> None:
    """Let files name the parts of a package: they are imported, and called, when they are asked for."""
    look_here()
    _trusted.add(package)


def look_here() -> None:
    """Import what the user means from the working directory too, wherever rlgd's own script lies."""
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # the last place, so that it replaces nothing that is installed


def remember(part: Any, name: str | None = None) -> str:
    """Let files of this process name a part, under ``name`` or its own; returns that name.

    Of objects that are described alike each has a number of its own.
    """
    if name is None:
        name = described(part)
        if not _has_place(name):
            names = itertools.chain([name], (f"{name}#{number}" for number in itertools.count(2)))
            name = next(each for each in names if _used.get(each, part) is part)
    if _used.get(name, part) is not part and "jax" in sys.modules:
        import jax

        jax.clear_caches()  # programs know the part by its name alone
    _used[name] = part
    return name


def _is_trusted(name: str) -> bool:
    """Whether a part of this name lies in a package that the user trusts."""
    module, colon, _ = name.partition(":")
    return bool(colon) and any(module == each or module.startswith(f"{each}.") for each in _trusted)


def _has_place(name: str) -> bool:
    """Whether a name says where in a module its part is; else it only describes an object."""
    return re.fullmatch(r"[\w.]+", name.rpartition(":")[2]) is not None


def remembered(text: str) -> dict[str, Any]:
    """The parts that a text names, for another process; there ``remember`` takes each."""
    return {name: part for name, part in _used.items() if name in text}


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of parts.

    Attributes:
        what: what one is called, such as "network".
        own: the names of rlgd's own ones, which nobody else can take.
        check: called with a name and what was imported under it; raises UsageError if that is no such part.
    """

    what: str
    own: Collection[str]
    check: Callable[[str, Any], None]

    @property
    def group(self) -> str:
        """The group of entry points in which installed packages name theirs."""
        return f"rlgd.{self.what}s"

    def installed(self) -> "dict[str, EntryPoint]":
        """Those of installed packages by name; one that takes a name of ours is left out, with a warning."""
        return _installed(self.group, self.what, frozenset(self.own))

    def is_own(self, value: Any) -> bool:
        """Whether a value is the name of one of rlgd's own."""
        return isinstance(value, str) and value in self.own

    def may_be_read(self, name: str) -> bool:
        """Whether a file may name this part: it was used here, is installed, or lies in a package that is trusted.

        Raises:
            UsageError: if the package is trusted, but the part comes from another one.
        """
        if name in _used or name in self.installed():
            return True
        if not _is_trusted(name):
            return False
        try:
            part = _resolved(name)
        except NOT_THERE:  # an id that Gymnasium knows as soon as the module is imported; or a mistake, named then
            return True
        self._refuse_stranger(name, part)
        return True

    def name(self, part: Any) -> str:
        """The name of a part as files have it; that of an object without a place in a module only describes it."""
        return part if isinstance(part, str) else remember(part)

    def use(self, part: Any, name: str | None = None) -> None:
        """Let files name a part that the user gave to this process; ``name`` is the one in a file, if that is another.

        Raises:
            UsageError: if the file names another part.
        """
        own = part if isinstance(part, str) else described(part)
        if name is not None and name.rpartition(":")[2].partition("#")[0] != own.rpartition(":")[2]:
            raise UsageError(f"the {self.what} is {name!r}, but {own!r} was given.")
        remember(part, name)

    def part(self, value: Any) -> Any:
        """The object that a value stands for: itself, or the part with this name, which is not rlgd's own.

        Raises:
            UsageError: as ``get``.
        """
        return self.get(value) if isinstance(value, str) else value

    def check_value(self, value: Any) -> None:
        """Refuse a value that is neither a name of rlgd's own, nor a part of a user.

        Raises:
            UsageError: what was given, what is allowed.
        """
        if not self.is_own(value):
            self.check(self.name(value), self.part(value))

    def named(self, name: str) -> Any:
        """A part that the user named: of ours or of an installed package, or ``module:attribute``, which is imported.

        Raises:
            UsageError: if there is none.
        """
        if name in _used:
            self.check(name, _used[name])  # it may have been used as a part of another kind
        elif ":" in name:
            look_here()
            remember(self._imported(name), name)
        return self.get(name)

    def get(self, name: str) -> Any:
        """A part that is not rlgd's, by its name in a file; see this module's beginning for what is imported.

        Raises:
            UsageError: naming the nearest known name, or what the user may do.
        """
        if name in _used:
            return _used[name]
        installed = self.installed()
        entry = installed.get(name) or next((entry for entry in installed.values() if entry.value == name), None)
        if entry is not None:
            return self._imported(entry.value)
        if ":" not in name:
            raise unknown(self.what, name, [*self.own, *installed])
        package, _, attribute = name.partition(":")
        if not _has_place(name):
            again = f"give it again ({self.what}=..., or parts of a study)"
            raise UsageError(f"the {self.what} {name!r} was an object of Python; {again}.")
        if _is_trusted(name):
            return self._imported(name, is_trusted=True)
        raise UsageError(
            f"the {self.what} {name!r} is not part of rlgd, and a file alone imports no code; name it yourself: "
            f"--trust {package.partition('.')[0]}, or {self.what}={attribute} in Python."
        )

    def _refuse_stranger(self, name: str, part: Any) -> None:
        """Refuse a class or a function that a trusted package has imported from one that is not trusted."""
        if hasattr(part, "__qualname__") and not _is_trusted(own := described(part)):
            raise UsageError(
                f"the {self.what} {name!r} is {own!r}, which is not part of the package that you trust, and a file may "
                f"have arguments for it; name it yourself, as {self.what}=... in Python."
            )

    def _imported(self, name: str, is_trusted: bool = False) -> Any:
        try:
            part = _resolved(name)
        except NOT_THERE as error:
            raise UsageError(f"the {self.what} {name!r} cannot be imported: {error}.") from error
        if is_trusted:
            self._refuse_stranger(name, part)  # before the check, which may call it
        self.check(name, part)
        return part


def _resolved(name: str) -> Any:
    module, _, attribute = name.partition(":")
    return functools.reduce(getattr, attribute.split("."), importlib.import_module(module))


def described(part: Any) -> str:
    """``module:attribute`` of a class or function; of other objects what they were made from, as far as it is known."""
    if hasattr(part, "__qualname__"):
        return f"{part.__module__}:{part.__qualname__}"
    if dataclasses.is_dataclass(part):
        shown = [f for f in dataclasses.fields(part) if f.repr and f.init and f.name not in ("parent", "name")]
        values = ", ".join(f"{f.name}={_plainly(getattr(part, f.name))}" for f in shown)
        return f"{described(type(part))}({values})"
    if isinstance(part, tuple):  # a pair of functions: what made them
        made = next((described(each) for each in part if hasattr(each, "__qualname__")), described(type(part)))
        return f"{made.partition('.<locals>')[0]}(...)"
    if isinstance(part, functools.partial):
        given = [*map(_plainly, part.args), *(f"{name}={_plainly(x)}" for name, x in part.keywords.items())]
        return f"{described(part.func)}({', '.join(given)})"
    return f"{described(type(part))}(...)"


def _plainly(value: Any) -> str:
    return value.__qualname__ if hasattr(value, "__qualname__") else re.sub(r" at 0x[0-9a-f]+", "", repr(value))


@functools.cache
def _installed(group: str, what: str, own: frozenset[str]) -> "dict[str, EntryPoint]":
    from importlib.metadata import entry_points  # most commands ask for none

    found = {}
    for entry in entry_points(group=group):
        if entry.name.lower() in own or ":" in entry.name:
            where = entry.dist.name if entry.dist else entry.value
            log.warning("the %s %r of %s is left out: the name is taken, or has a colon", what, entry.name, where)
        else:
            found[entry.name] = entry
    return found
