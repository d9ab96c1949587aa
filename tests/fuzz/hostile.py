"""Inputs that no reasonable user gives, and what must hold whatever is given."""

import contextlib
import hashlib
import io
import json
import os
import resource
import time
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from rlgd.cli import main

EXIT_CODES = {0, 1, 2, 3, 4, 5}  # docs/runs.md; 1 only where a check found something
MAX_SECONDS, MAX_BYTES, MAX_ERROR = 10.0, 2**30, 320  # of CPU, of RAM, characters of a message
LONG = 40_000

numbers = st.one_of(
    st.integers(-3, 3),
    st.sampled_from([2**31, 2**32 + 7, 2**63, -(2**63), 10**19, 10**400, -(10**400)]),
    st.floats(),
    st.sampled_from([0.0, -0.0, 1e-45, 1e38, 1e39, 1e308, 5e-324]),
)
texts = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        [
            "",
            " ",
            "x" * LONG,
            "é" * 300,
            "../..",
            "/dev/full",
            "a\nb",
            "\x00",
            "None",
            "nan",
            "-inf",
            "1e400",
            "9" * 400,
            "ppo",
        ]
    ),
)
deep = st.sampled_from([60, 300]).map(lambda depth: _nested(depth))
values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, texts, deep, st.just([0.5] * 20_000), st.just([8] * 5_000)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)),
    max_leaves=4,
)


def _nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def as_word(value: Any) -> str:
    """A value as a word of a command line, which has no zero byte."""
    text = value if isinstance(value, str) else _dumped(value)
    return text.replace("\x00", "?")


def _dumped(value: Any) -> str:
    return json.dumps(value)


def as_toml(flags: dict[str, Any]) -> str:
    """A TOML file of flags; a value that TOML does not have is written in a way that is no TOML."""
    return "".join(f"{_dumped(name) if name else name} = {_dumped(value)}\n" for name, value in flags.items())


@st.composite
def torn(draw: st.DrawFn, text: str) -> str:
    """A text with some characters lost, doubled or replaced."""
    start = draw(st.integers(0, len(text)))
    end = draw(st.integers(start, min(len(text), start + 40)))
    middle = draw(st.one_of(st.just(""), st.just(text[start:end] * 3), st.text(max_size=5)))
    return text[:start] + middle + text[end:]


@st.composite
def changed(draw: st.DrawFn, content: Any) -> Any:
    """A JSON value of which one part, at any depth, is replaced, removed or added."""
    if isinstance(content, dict) and content and draw(st.integers(0, 4)):
        name = draw(st.sampled_from(sorted(content)))
        action = draw(st.sampled_from(["inside", "inside", "inside", "remove", "add"]))
        if action == "remove":
            return {key: value for key, value in content.items() if key != name}
        if action == "add":
            return content | {draw(texts): draw(values)}
        return content | {name: draw(changed(content[name]))}
    if isinstance(content, list) and content and draw(st.booleans()):
        number = draw(st.integers(0, len(content) - 1))
        return [*content[:number], draw(changed(content[number])), *content[number + 1 :]]
    return draw(values)


class Arena:
    """A folder to work in, and one beside it in which nothing may change."""

    def __init__(self, root: Path) -> None:
        self.inside, self.outside = root / "inside", root / "outside"
        self.count = 0
        for folder in (self.inside, self.outside):
            folder.mkdir()
        (self.outside / "notes.txt").write_text("mine")
        self._before = self._tree()

    def _tree(self) -> list[tuple[str, str]]:
        files = [path for path in sorted(self.outside.rglob("*")) if path.is_file()]
        return [(str(path), hashlib.sha256(path.read_bytes()).hexdigest()) for path in files]

    def attack(self, *argv: str) -> tuple[int, str]:
        """Call a command; check what must hold for every input. Returns the exit code and the error output."""
        self.count += 1
        output, errors = io.StringIO(), io.StringIO()
        start, ram = time.process_time(), _peak_ram()
        before = os.getcwd()
        os.chdir(self.inside)
        try:
            with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
                code = main.main(list(argv))
        finally:
            os.chdir(before)
        text = errors.getvalue()
        told = [line for line in text.splitlines() if "error: " in line]
        assert code in EXIT_CODES, (code, text)
        assert "Traceback" not in text
        if code >= 2:
            assert len(told) == 1 or "usage:" in output.getvalue(), text[:2000]
            assert max(map(len, text.splitlines()), default=0) <= MAX_ERROR, text[:2000]
        assert time.process_time() - start < MAX_SECONDS
        assert _peak_ram() - ram < MAX_BYTES
        assert self._tree() == self._before
        return code, text


def _peak_ram() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
