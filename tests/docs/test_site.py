"""The site builds without a warning, offline, and every link in it leads somewhere."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

from rlgd.agents import REGISTRY
from rlgd.studies.question import shipped_questions
from tests.support.pages import ROOT


class Links(HTMLParser):
    """What a page refers to, and the places in it that others can refer to."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str] = set()
        self.feed(page.read_text("utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value for name, value in attributes if value}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif tag in ("img", "script", "link", "iframe", "source"):
            self.loaded += [given[name] for name in ("src", "href") if name in given]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", "docs", str(out)],
        cwd=ROOT, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return out


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Links]:
    return {page: Links(page) for page in site.rglob("*.html")}


def inner(links: list[str]) -> Iterator[tuple[str, str]]:
    """The paths and the anchors of links within the site."""
    for link in links:
        if not re.match(r"[a-z]+:", link):
            path, _, anchor = link.partition("#")
            yield unquote(path), unquote(anchor)


def test_every_link_leads_somewhere(pages: dict[Path, Links]) -> None:
    dead = []
    for page, found in pages.items():
        for path, anchor in inner(found.links):
            target = (page.parent / path).resolve() if path else page
            known = target.exists() and (not anchor or target not in pages or anchor in pages[target].anchors)
            dead += [] if known else [f"{page.name}: {path}#{anchor}"]
    assert not dead


def test_it_can_be_read_offline(pages: dict[Path, Links]) -> None:
    for page, found in pages.items():
        for path in (path for path in found.loaded if path != "#"):  # which the search of the theme replaces
            assert not re.match(r"(https?:)?//", path), (page, path)
            assert (page.parent / unquote(path.partition("?")[0])).exists(), (page, path)


def test_it_can_be_searched(site: Path) -> None:
    text = (site / "searchindex.js").read_text("utf-8")
    index = json.loads(text[text.index("(") + 1 : text.rindex(")")])
    for term in ("momentum", "safetensor", "kl", "truncat"):
        assert term in index["terms"], term


def test_it_has_a_page_for_each_agent_and_its_parts(site: Path) -> None:
    for name in REGISTRY:
        text = (site / "agents" / f"{name}.html").read_text("utf-8")
        assert "--learning-rate" in text
        assert "<math" in text
    chapters = sorted((site / "learn").glob("*.html"))
    assert len(chapters) == 7  # six, and their index
    answers = (site / "answers.html").read_text("utf-8")
    assert all(question in answers for question in shipped_questions())
