"""What a study looks like in TensorBoard: a real browser on a real server.

It needs Chromium and its driver (on Debian: ``apt-get install chromium chromium-driver``), as CI installs them; with
``SCREENSHOTS`` naming a folder, pictures of the pages are left there.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

import rlgd
from rlgd.agents import A2C
from rlgd.ascent import Ascent
from rlgd.studies import StudyResult

CHROMIUM, DRIVER = (shutil.which(name) for name in ("chromium", "chromedriver"))
pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver")

MOMENTA = (0.0, 0.5, 0.9)
PATIENCE = 120  # seconds for a page to show what it must
# TensorBoard's elements keep theirs in shadow trees, where selectors do not reach.
FIND = """
const found = [], walk = (node) => {
  for (const child of [node.shadowRoot, ...node.children].filter(Boolean)) {
    if (child.matches && child.matches(arguments[0]) && child.checkVisibility()) found.push(child);
    walk(child);
  }
};
walk(document.body);
return found;
"""


@pytest.fixture(name="result", scope="module")
def _result(tmp_path_factory: pytest.TempPathFactory) -> StudyResult:
    agent = A2C(num_envs=4, rollout_length=8, hidden_sizes=(8,), measure_every=0, ascent=Ascent("momentum"))
    return rlgd.study(
        agent,
        "CartPole-v1",
        {"momentum": list(MOMENTA)},
        seeds=2,
        total_timesteps=640,
        eval_episodes=3,
        study_dir=tmp_path_factory.mktemp("study") / "momentum",
    )


@pytest.fixture(name="server", scope="module")
def _server(result: StudyResult) -> Iterator[str]:
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(result.study_dir), "--port", "0"]
    with subprocess.Popen([*command, "--load_fast=false"], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        found = (re.search(r"http://localhost:\d+/", line) for line in process.stderr)
        yield next(match.group() for match in found if match)
        process.terminate()


@pytest.fixture(name="browser", scope="module")
def _browser() -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    for argument in ("headless", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "disable-background-networking"):
        options.add_argument(f"--{argument}")
    options.add_argument("--window-size=1400,700")
    options.binary_location = str(CHROMIUM)
    browser = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield browser
    browser.quit()


Finder = Callable[[str], list[webdriver.remote.webelement.WebElement]]


@pytest.fixture(name="find")
def _find(browser: webdriver.Chrome) -> Finder:
    return lambda selector: browser.execute_script(FIND, selector)


def visit(browser: webdriver.Chrome, page: str) -> None:
    """Load a page again: a change after the # alone loads nothing."""
    browser.get("about:blank")
    browser.get(page)


def show(browser: webdriver.Chrome, name: str) -> None:
    """Save a picture if ``SCREENSHOTS`` is set."""
    if folder := os.environ.get("SCREENSHOTS"):
        assert browser.save_screenshot(str(Path(folder) / f"{name}.png"))


def until(browser: webdriver.Chrome, what: Callable[[], bool]) -> None:
    WebDriverWait(browser, PATIENCE).until(lambda _: what())


def table(find: Finder) -> list[list[str]]:
    """The rows of the table of session groups: name, momentum, return, seconds."""
    cells = [cell.text for grid in find("vaadin-grid") for cell in grid.find_elements(By.XPATH, "./*")]
    texts = [text for text in cells if text]
    return [texts[n : n + 4] for n, text in enumerate(texts) if re.fullmatch(r"momentum=[\d.]+", text)]


def test_the_table_has_a_row_for_each_momentum_with_its_seeds_averaged(
    result: StudyResult, server: str, browser: webdriver.Chrome, find: Finder
) -> None:
    visit(browser, f"{server}#hparams")
    until(browser, lambda: [len(row) for row in table(find) if row[-1].replace(".", "").isdigit()] == [4] * 3)
    show(browser, "hparams-table")
    seen = {float(momentum): (float(score), float(seconds)) for _, momentum, score, seconds in table(find)}
    expected = {}
    for value, members in zip(MOMENTA, ([0, 1], [2, 3], [4, 5]), strict=True):
        outcomes = [result.outcomes[n] for n in members]
        assert {result.plan.members[n].agent.ascent.rule.momentum for n in members} == {value}
        expected[value] = tuple(
            sum(numbers) / 2
            for numbers in zip(*((o.episode_return, o.training_seconds) for o in outcomes), strict=True)
        )
    assert seen.keys() == expected.keys()
    for value, numbers in expected.items():
        assert seen[value] == pytest.approx(numbers, rel=1e-3)


@pytest.mark.parametrize(
    ("name", "selector", "marks"),
    [("PARALLEL COORDINATES VIEW", ".foreground path", 3), ("SCATTER PLOT MATRIX VIEW", "circle.data-marker", 6)],
)
def test_return_and_training_time_are_drawn_against_momentum(
    server: str, browser: webdriver.Chrome, find: Finder, name: str, selector: str, marks: int
) -> None:
    """A line for each momentum; a point for each in the plots of return and of training time against it."""
    visit(browser, f"{server}#hparams")
    until(browser, lambda: len(table(find)) == 3)
    tab = next(tab for tab in find("paper-tab") if tab.text == name)
    browser.execute_script("arguments[0].click()", tab)
    until(browser, lambda: len(find(selector)) >= marks)
    show(browser, name.lower().replace(" ", "-"))
    assert len(find(selector)) % marks == 0
    texts = [str(text.get_attribute("textContent")) for text in find("svg text")]
    for axis in ("momentum", "eval/episode_return", "time/training_seconds"):
        assert any(axis in text for text in texts), texts


def test_the_figures_are_among_the_images(
    result: StudyResult, server: str, browser: webdriver.Chrome, find: Finder
) -> None:
    assert result.study_dir is not None
    names = {path.stem for path in result.study_dir.glob("*.png")}
    assert names
    visit(browser, f"{server}#images")
    loaded = "return arguments[0].complete ? arguments[0].naturalWidth : 0"

    def widths() -> list[int]:
        return [browser.execute_script(loaded, image) for image in find("img")]

    until(browser, lambda: sum(width > 300 for width in widths()) == len(names))
    show(browser, "images")
    assert names == {
        line.removeprefix("figures/") for figure in find("tf-image-loader") for line in figure.text.splitlines()[:1]
    }
