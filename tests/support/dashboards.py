"""TensorBoard in a real browser: a server, Chromium, what pages show, and pictures of them.

It needs Chromium and its driver (on Debian: ``apt-get install chromium chromium-driver``). The pictures in ``docs/``
are made by ``python -m tests.support.dashboards runs/studies/momentum/<time>``, and ``... runs/CartPole-v1`` for those
of runs.
"""

import contextlib
import io
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from PIL import Image
from selenium import webdriver
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

CHROMIUM, DRIVER = (shutil.which(name) for name in ("chromium", "chromedriver"))
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


@contextlib.contextmanager
def serving(logdir: Path) -> Iterator[str]:
    """The address of a TensorBoard that shows a folder, by its own name: pages show how it was named."""
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", logdir.name, "--port", "0", "--load_fast=false"]
    with subprocess.Popen(command, cwd=logdir.parent, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        found = (re.search(r"http://localhost:\d+/", line) for line in process.stderr)
        try:
            yield next(match.group() for match in found if match)
        finally:
            process.kill()  # its own handler of SIGTERM raises, and that may be lost where Python ignores exceptions


class Browser:
    """A window of Chromium."""

    def __init__(self, width: int = 1280, height: int = 800) -> None:
        options = webdriver.ChromeOptions()
        for argument in ("headless", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "hide-scrollbars"):
            options.add_argument(f"--{argument}")
        options.add_argument("--disable-background-networking")
        options.add_argument(f"--window-size={width},{height}")
        options.binary_location = str(CHROMIUM)
        self.driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))

    def resize(self, width: int, height: int) -> None:
        """Give the window another size, in pixels."""
        self.driver.set_window_size(width, height)

    def visit(self, page: str) -> None:
        """Load a page again: a change after the # alone loads nothing."""
        self.driver.get("about:blank")
        self.driver.get(page)

    def find(self, selector: str) -> list[WebElement]:
        """The elements that are shown."""
        found: list[WebElement] = self.driver.execute_script(FIND, selector)
        return found

    def texts(self, selector: str) -> list[str]:
        """The texts of the elements that are shown and have one."""
        return [text for element in self.find(selector) if (text := element.text.strip())]

    def until(self, what: Callable[[], bool]) -> None:
        """Wait until it is so."""
        WebDriverWait(self.driver, PATIENCE).until(lambda _: what())

    def still(self) -> bytes:
        """A picture of the window as PNG, when nothing in it moves or changes any more."""
        pictures: list[bytes] = []

        def is_still() -> bool:
            pictures.append(self.driver.get_screenshot_as_png())
            return pictures[-2:-1] == pictures[-1:]

        self.until(is_still)
        return pictures[-1]


@contextlib.contextmanager
def browsing(width: int = 1280, height: int = 800) -> Iterator[Browser]:
    """A browser that is closed at the end."""
    browser = Browser(width, height)
    try:
        yield browser
    finally:
        browser.driver.quit()


COLOURS = 128  # of a picture, to keep its file small
# Of each page its name in pictures, and what the page has when it shows a study, or runs.
SCALARS = {"timeseries": ("time-series", "scalar-card-data-table"), "scalars": ("scalars", "path.line")}
HPARAMS = {"hparams": ("hparams", "vaadin-grid-cell-content")}
WORDS = {"images": ("images", "img"), "text": ("text", "table")}
PAGES = SCALARS | {"custom_scalars": ("custom-scalars", "path.area")} | WORDS | HPARAMS
PAGES_OF_RUNS = SCALARS | {"custom_scalars": ("custom-scalars", "path.line")} | HPARAMS


def hparams(browser: Browser, columns: int) -> list[list[str]]:
    """The rows of the table of HParams, the headings first: so many columns of each."""
    cells = [str(cell.get_attribute("textContent")).strip() for cell in browser.find("vaadin-grid-cell-content")]
    begin = cells.index("Trial ID") if "Trial ID" in cells else len(cells)
    return [cells[n : n + columns] for n in range(begin, len(cells) - columns + 1, columns)]


def take(
    browser: Browser, server: str, pages: Mapping[str, tuple[str, str]], folder: Path, note: str = ""
) -> list[Path]:
    """Save a picture of the first screen of each page, as nobody has touched it; returns the files."""
    files = []
    for page, (name, selector) in pages.items():
        browser.visit(f"{server}#{page}")
        browser.until(lambda selector=selector: bool(browser.find(selector)))  # type: ignore[misc]
        files.append(folder / f"tensorboard-{name}{note}.png")
        with Image.open(io.BytesIO(browser.still())) as picture:
            picture.quantize(COLOURS).save(files[-1], optimize=True)
    return files


if __name__ == "__main__":
    shown, docs = Path(sys.argv[1]), Path(__file__).resolve().parents[2] / "docs"
    answer = shown / "tensorboard"  # of a study
    with serving(answer if answer.is_dir() else shown) as address, browsing() as window:
        if answer.is_dir():
            take(window, address, {page: PAGES[page] for page in PAGES if page not in ("custom_scalars", "text")}, docs)
        else:
            take(window, address, PAGES_OF_RUNS, docs, "-of-runs")
