"""A reader who types what a page of the documentation says, from the first block to the last."""

import os
import re
import select
import shlex
import shutil
import subprocess
import sys
import time
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
    """A folder as a checkout looks to the reader once ``make`` has installed rlgd in it."""
    (folder / ".venv").symlink_to(sys.prefix)
    shutil.copy(ROOT / "Makefile", folder)
    for name in ("pyproject.toml", "constraints-py311.txt", "constraints-py312.txt"):
        shutil.copy(ROOT / name, folder)
    return folder


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
    if words[0].endswith("tensorboard"):
        return _first_page([*words, "--port", "0", "--load_fast=false"], folder)
    if words[0] == "make":
        words[1:1] = ["-o", ".venv/.train", "-o", ".venv/.dev"]  # what they install is there
    done = subprocess.run(words, cwd=folder, env=_own(), capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def _own() -> dict[str, str]:
    """The environment variables of the reader, without those that the tests set to compile in less time."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "XLA_", "PYTHONWARN"))}


def _first_page(words: list[str], folder: Path) -> str:
    """What TensorBoard sends to a browser that asks for the address which it prints."""
    with subprocess.Popen(words, cwd=folder, env=_own(), stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            until = time.monotonic() + PATIENCE
            while time.monotonic() < until:
                select.select([process.stderr], [], [], PATIENCE)
                if found := re.search(r"http://localhost:\d+/", process.stderr.readline()):
                    return urllib.request.urlopen(found.group()).read().decode()
        finally:
            process.terminate()
    raise AssertionError("TensorBoard printed no address")
