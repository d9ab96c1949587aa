"""What the pages for newcomers say, typed in their order."""

import re
import shlex
from pathlib import Path

import pytest

from rlgd.cli import commands, parser
from tests.support.pages import ROOT, blocks, desk, read, typed

LEARN = sorted([*(ROOT / "docs" / "learn").glob("*.md"), *(ROOT / "docs" / "agents").glob("*.md")])
START, README = ROOT / "docs" / "start.md", ROOT / "README.md"


def test_a_stranger_gets_through_the_start_page(tmp_path: Path) -> None:
    """Trains, sees the curve, changes momentum, writes an environment and an agent, and exports the policy."""
    folder = desk(tmp_path)
    printed = read(START, folder)
    said = {line: text for line, text in printed.items() if "rlgd" in line or line == "make train"}
    assert "mean return 500.0" in said["make train"]
    assert re.search(r"curves: +\S+/bin/tensorboard --logdir runs", said["make train"])  # it is not on the path
    assert "next:" in said["make train"]
    assert "<tb-webapp" in printed[".venv/bin/tensorboard --logdir runs"]
    (compared,) = (text for line, text in said.items() if "compare" in line)
    assert re.search(r"^momentum +runs +finished", compared, re.MULTILINE)
    (study,) = (text for line, text in said.items() if "study momentum" in line)
    assert "momentum=0.99" in study
    (walk,) = (text for line, text in said.items() if "train ppo --env walk:Walk" in line)
    assert float(re.findall(r"mean return (\S+)", walk)[0]) == pytest.approx(0.5)
    (own,) = (text for line, text in said.items() if "mine:ClippedA2C" in line)
    assert float(re.findall(r"mean return (\S+)", own)[0]) > 400
    assert {path.name for path in folder.glob("runs/CartPole-v1/ppo/*/export/*")} >= {
        "policy.stablehlo", "policy.safetensors"
    }  # fmt: skip


def test_every_block_of_the_readme_runs(tmp_path: Path) -> None:
    printed = read(README, desk(tmp_path))
    assert len(printed) >= 10


@pytest.mark.parametrize("page", [START, README], ids=["start", "readme"])
def test_every_block_is_one_that_is_typed(page: Path) -> None:
    assert {block.language for block in blocks(page)} == {"sh", "python"}
    fences = re.findall(r"^```.*$", page.read_text(), re.MULTILINE)
    assert len(fences) == 2 * len(blocks(page))


def test_the_readme_is_read_in_one_go() -> None:
    assert len(README.read_text().splitlines()) <= 150


@pytest.mark.slow
@pytest.mark.parametrize("page", LEARN, ids=lambda page: page.stem)
def test_the_python_of_the_chapters_and_of_the_agents_pages_runs(page: Path, tmp_path: Path) -> None:
    folder = desk(tmp_path)
    for block in (block for block in blocks(page) if block.language == "python"):
        (folder / "block.py").write_text(block.text)
        typed(".venv/bin/python block.py", folder)


# What a line has that needs a run, a file, a folder or a module of the reader's.
OWN = r"\bruns?/|RUN|DIR|FILE|\.(json|toml|safetensors)\b|<|--help|\bmy|\.\.\.|MyEnv|AGENT|PREFIX|walk:|mine:"


def commands_of(page: Path) -> list[str]:
    """The commands of a page that anybody can type, without their program."""
    lines = page.read_text().replace("\\\n", " ").splitlines()
    parts = (
        part.strip().removeprefix(".venv/bin/") for line in lines if "rlgd " in line for part in line.split(" && ")
    )
    own = (part.removeprefix("rlgd ") for part in parts if re.match(r"rlgd [a-z]", part) and "`" not in part)
    return [line for line in own if line.split()[0] in commands.COMMANDS and not re.search(OWN, line)]


PAGES = [page for page in sorted(ROOT.glob("docs/**/*.md")) if "_build" not in page.parts]


@pytest.mark.parametrize("page", [page for page in PAGES if commands_of(page)], ids=lambda page: page.stem)
def test_commands_of_all_pages_can_be_read(page: Path) -> None:
    """Every flag exists, and takes the value."""
    for line in commands_of(page):
        name, words = commands.find(shlex.split(line, comments=True))
        options = commands.COMMANDS[name].load().Options
        assert isinstance(parser.parse(name, options, words), options)


def test_many_commands_are_read() -> None:
    assert sum(len(commands_of(page)) for page in PAGES) > 50
