"""Reading files that anybody may have written: regular files only, of bounded size and depth, with the expected types.

Every file of rlgd, and every file that a user names, is read by these functions.
"""

import contextlib
import errno
import json
import os
import re
import stat
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, TypeAlias, TypeVar

import msgspec

from rlgd.errors import StorageFault, UsageError

T = TypeVar("T")
Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]  # a number of steps or of other things, in a file

DAMAGE = (LookupError, TypeError, AttributeError, ValueError, ArithmeticError, RecursionError)
MAX_BYTES = 2**24  # of a file
MAX_DEPTH = 64  # of lists and tables within each other
MAX_INTEGER = 2**64


@contextlib.contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """Report what is missing in the content of a file, or has the wrong type, as a ``StorageFault`` that names it."""
    try:
        yield
    except UsageError:
        raise
    except DAMAGE as error:
        what = error if isinstance(error, ValueError) else repr(error)
        raise StorageFault(f"{path} is damaged: {what}.") from error


def read_text(path: Path, max_bytes: int = MAX_BYTES) -> str:
    """The text of a regular file.

    Raises:
        OSError: if it cannot be read, is not a regular file, or is larger than ``max_bytes``.
        ValueError: if it is not UTF-8.
    """
    return read_bytes(path, max_bytes).decode("utf-8-sig")


def read_bytes(path: Path, max_bytes: int) -> bytes:
    """The content of a regular file.

    Raises:
        OSError: as ``read_text`` does.
    """
    # Without O_NONBLOCK, opening a named pipe would wait for a writer.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", str(path))
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            content = file.read(max_bytes + 1)
    finally:
        os.close(descriptor)
    if len(content) > max_bytes:
        raise OSError(errno.EFBIG, f"it has more than {max_bytes:,} bytes", str(path))
    return content


def parse_json(text: str | bytes, kind: type[T]) -> T:
    """The value in a JSON text, as ``kind``: a dataclass, a ``NamedTuple``, a ``TypedDict``, a dictionary or the like.

    Raises:
        ValueError: if it is not JSON, has other types than ``kind``, or is deeper or has larger numbers than allowed.
    """
    try:
        return checked(json.loads(text), kind)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def parse_toml(text: str) -> dict[str, Any]:
    """The table in a TOML text; see ``parse_json``.

    Raises:
        ValueError: if it is not TOML, or is deeper or has larger numbers than allowed.
    """
    try:
        return checked(tomllib.loads(text), dict[str, Any])
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def checked(value: Any, kind: type[T]) -> T:
    """A value of a file as ``kind``.

    Raises:
        ValueError: as ``parse_json`` does.
    """
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [inner for item in level for inner in _items(item)]
    if level:
        raise ValueError(f"it is nested more than {MAX_DEPTH} levels deep")
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise ValueError(_in_words(str(error))) from error


# The types of msgspec's messages, in words.
WORDS = {
    "object": "a table",
    "array": "a list",
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
}


def _in_words(message: str) -> str:
    """A message of msgspec, in words; one of another form stays as it is."""
    mismatch = re.fullmatch(r"Expected `(.+)`, got `(.+?)`(?: - at (?:`key` in )?`\$\.?(.*)`)?", message)
    if mismatch is None:
        return message
    expected, given = (" or ".join(WORDS.get(kind, kind) for kind in mismatch[n].split(" | ")) for n in (1, 2))
    return f"{mismatch[3] or 'it'} is {given}; expected {expected}"


def _items(value: Any) -> list[Any]:
    """What a list or a table contains.

    Raises:
        ValueError: if the value is a kind of its own, such as a date in TOML, or too large a number.
    """
    if isinstance(value, dict):
        return list(value.values())
    if isinstance(value, list):
        return value
    if isinstance(value, int) and abs(value) >= MAX_INTEGER:
        raise ValueError(f"it has a whole number of more than {len(str(MAX_INTEGER))} digits")
    if not isinstance(value, str | int | float | None):
        raise ValueError(f"it has a {type(value).__name__}, {value}")
    return []


def read_versioned(path: Path, what: str, *format_versions: int) -> dict[str, Any]:
    """Read a JSON object that has one of these format versions; ``what`` ("run") names its directory in messages.

    Raises:
        UsageError: if there is no such file, or it has another format version.
        StorageFault: if it is not a JSON object.
    """
    try:
        content = parse_json(read_text(path), dict[str, Any])
    except OSError as error:
        raise UsageError(f"{path.parent} holds no {what}: {path} cannot be read ({error.strerror}).") from error
    except ValueError as error:
        raise StorageFault(f"{path} is damaged: {error}.") from error
    found = content.get("format_version")
    if found not in format_versions:
        known = " or ".join(map(str, sorted(format_versions)))
        raise UsageError(f"{path} has format_version {found!r}; this rlgd reads {known}.")
    return content
