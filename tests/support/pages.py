"""A reader who types what a page of the documentation says, from the first block to the last."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 600  # seconds for a line


class Block(NamedTuple):
    """A fenced block: its language and its text."""

    language: str
    text: str


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    return [Block(*found) for found in re.findall(r"^```(\w+)\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)]


def desk(folder: Path) -> Path:
    """A folder as a checkout looks to the reader once ``make train`` has installed rlgd in it: without any extra."""
    (folder / ".venv").symlink_to(sys.prefix)
    for name in ("Makefile", "pyproject.toml", "constraints-py311.txt", "constraints-py312.txt"):
        shutil.copy(ROOT / name, folder)
    (folder / HIDING).mkdir()
    (folder / HIDING / "sitecustomize.py").write_text(HIDE)
    return folder


HIDING, EXTRA = "hiding", "needs the extra"  # a comment that says so at the end of a line
# Packages of extras cannot be imported, as where nobody has installed them.
HIDE = """
import sys

for name in ("optuna", "onnx", "onnxruntime", "moviepy", "pandas", "Box2D", "mujoco", "ale_py"):
    sys.modules[name] = None
"""


def read(page: Path, folder: Path) -> dict[str, str]:
    """Type every ``sh`` and ``python`` block of a page in ``folder``; returns what each line or block printed.

    A Python block whose first line is a comment with the name of a file is written to that file, any other is run.
    """
    printed = {}
    for block in blocks(page):
        if block.language == "python":
            named = re.match(r"# (\w+\.py)\n", block.text)
            path = folder / (named[1] if named else "block.py")
            path.write_text(block.text)
            if not named:
                printed[block.text] = typed(f".venv/bin/python {path.name}", folder)
        elif block.language == "sh":
            for line in block.text.splitlines():
                printed[line] = typed(line, folder)
    return printed


def typed(line: str, folder: Path) -> str:
    """What a line prints, which must work."""
    words = shlex.split(line, comments=True)
    variables = _own(None if EXTRA in line else folder / HIDING)
    if words[0].endswith("tensorboard"):
        return _first_page([*words, "--port", "0", "--load_fast=false"], folder, variables)
    if words[0] == "make":
        words[1:1] = ["-o", ".venv/.train", "-o", ".venv/.dev"]  # what they install is there
    done = subprocess.run(
        words, cwd=folder, env=variables, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def _own(hiding: Path | None) -> dict[str, str]:
    """The environment variables of the reader: those of the tests save time, and put rlgd on the path.

    A ``make test ARGS=...`` around the tests hands its ARGS on, which would be those of the reader's ``make`` too.
    """
    not_theirs = ("JAX_", "XLA_", "PYTHON", "MAKE", "MFLAGS", "ARGS")
    own = {name: value for name, value in os.environ.items() if not name.startswith(not_theirs)}
    return own | {"PATH": os.defpath} | ({"PYTHONPATH": str(hiding)} if hiding else {})


def _first_page(words: list[str], folder: Path, variables: dict[str, str]) -> str:
    """What TensorBoard sends to a browser that asks for the address which it prints."""
    with subprocess.Popen(words, cwd=folder, env=variables, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        late = threading.Timer(PATIENCE, process.kill)
        late.start()
        try:
            found = (re.search(r"http://localhost:\d+/", line) for line in process.stderr)
            address = next((match.group() for match in found if match), None)
            assert address is not None, "TensorBoard printed no address"
            return urllib.request.urlopen(address).read().decode()
        finally:
            late.cancel()
            process.kill()  # its own handler of SIGTERM raises, and that may be lost where Python ignores exceptions
