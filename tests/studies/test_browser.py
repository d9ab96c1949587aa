"""What a study looks like in TensorBoard: a real browser on a real server; CI installs both.

With ``SCREENSHOTS`` naming a folder, pictures of the pages are left there.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver.remote.webelement import WebElement

import rlgd
from rlgd.agents import A2C
from rlgd.ascent import Ascent
from rlgd.run.sinks.tensorboard import RETURN
from rlgd.studies import PointResult, StudyResult, words
from rlgd.studies.board import PICTURES
from rlgd.studies.seed_statistics import median_reached
from tests.support.dashboards import CHROMIUM, DRIVER, PAGES, Browser, browsing, hparams, serving, take

pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver")

MOMENTA = (0.0, 0.5, 0.9)
TARGET = 10.0  # whatever a policy does reaches it


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
        target_return=TARGET,
        study_dir=tmp_path_factory.mktemp("study") / "momentum",
    )


@pytest.fixture(name="rows")
def _rows(result: StudyResult) -> list[PointResult]:
    (rows,) = result.point_results
    return rows


@pytest.fixture(name="server", scope="module")
def _server(result: StudyResult) -> Iterator[str]:
    assert result.study_dir is not None
    with serving(result.study_dir / "tensorboard") as address:
        yield address


@pytest.fixture(name="browser", scope="module")
def _browser() -> Iterator[Browser]:
    with browsing() as browser:
        yield browser


def is_on_first_screen(browser: Browser, element: WebElement) -> bool:
    return element.rect["y"] < browser.driver.execute_script("return innerHeight")


def is_loaded(browser: Browser, image: WebElement) -> bool:
    return bool(browser.driver.execute_script("return arguments[0].complete && arguments[0].naturalWidth > 300", image))


@pytest.mark.slow
def test_time_series_begins_with_the_answer(rows: list[PointResult], server: str, browser: Browser) -> None:
    """Nothing is clicked: the figure, and the chart of the return with its last value."""
    browser.visit(f"{server}#timeseries")
    browser.until(lambda: bool(browser.find("scalar-card-data-table")))
    cards = browser.find("card-view")
    titles = [str(title.get_attribute("title")) for title in browser.find("tb-truncated-path")]
    assert titles[:2] == ["answer/figure of the return", "answer/return by momentum"]
    assert all(is_on_first_screen(browser, card) for card in cards[:2])
    browser.until(lambda: is_loaded(browser, browser.find("image-card img")[0]))
    score = rows[-1].score
    assert score is not None
    table = str(browser.find("scalar-card-data-table")[0].get_attribute("textContent")).split()
    assert table[-5] == "arms/momentum"
    assert float(table[-3].replace(",", "")) == pytest.approx(score.value, abs=1e-3)


def test_custom_scalars_show_intervals_as_bands(server: str, browser: Browser) -> None:
    browser.visit(f"{server}#custom_scalars")
    titles = [
        "return by momentum",
        "steps to 10, mean by momentum",
        "seconds to 10, mean by momentum",
        "training return, mean by momentum",
        "training return, mean of equal seconds by momentum",
        "win probability by momentum",
    ]
    while_training = ["return against steps", "return against milliseconds"]
    browser.until(lambda: browser.texts("tf-card-heading") == [*titles, *while_training])
    bands = len(titles) + len(while_training) * len(MOMENTA)
    browser.until(lambda: sum(area.rect["width"] > 0 for area in browser.find("path.area")) == bands)
    assert not any("do not match" in text for text in browser.texts("tf-custom-scalar-margin-chart-card"))


def test_the_figures_are_among_the_images(result: StudyResult, server: str, browser: Browser) -> None:
    assert result.study_dir is not None
    names = [PICTURES[path.stem] for path in result.study_dir.glob("*.png")]
    browser.visit(f"{server}#images")
    browser.until(lambda: len(browser.find("img")) == len(names))
    browser.until(lambda: all(is_loaded(browser, image) for image in browser.find("img")))
    assert [text.splitlines()[0] for text in browser.texts("tf-image-loader")] == sorted(names)


def test_the_text_is_the_answer(result: StudyResult, server: str, browser: Browser) -> None:
    browser.visit(f"{server}#text")
    browser.until(lambda: len(browser.texts("tf-markdown-view")) == 3)
    answer, table, legend = browser.texts("tf-markdown-view")
    told = words.answer(result.plan, result.point_results).replace("**", "")
    assert " ".join(answer.split()) == " ".join(told.split())
    assert all(cell.strip() in table for cell in result.table().splitlines()[-1].strip("|").split("|"))
    assert "steps 200 to 299: 0.9" in legend


COLUMNS = ["Trial ID", "Show Metrics", "Momentum", RETURN, "answer/seconds to 10", "answer/steps to 10"]
CURVES = ["curves/return against milliseconds", "curves/return against steps"]


def rows_of_hparams(browser: Browser) -> list[list[str]]:
    return hparams(browser, len(COLUMNS + CURVES))


def test_hparams_has_a_row_for_each_momentum(rows: list[PointResult], server: str, browser: Browser) -> None:
    browser.visit(f"{server}#hparams")
    browser.until(lambda: len([row for row in rows_of_hparams(browser) if row[-1]]) == 1 + len(MOMENTA))
    heads, *table = rows_of_hparams(browser)[: 1 + len(MOMENTA)]
    assert heads == COLUMNS + CURVES
    for place, (row, shown) in enumerate(zip(rows, table, strict=True), 1):
        assert shown[0] == f"{place} {row.point.label}"
        assert row.score is not None
        steps, seconds = median_reached(row)
        expected = [row.point.values["momentum"], row.score.value, seconds, steps]
        assert [float(cell) for cell in shown[2 : len(COLUMNS)]] == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(
    ("name", "selector", "marks"),
    [("PARALLEL COORDINATES VIEW", ".foreground path", 3), ("SCATTER PLOT MATRIX VIEW", "circle.data-marker", 15)],
)
def test_results_are_drawn_against_momentum(
    server: str, browser: Browser, name: str, selector: str, marks: int
) -> None:
    """A line for each momentum; a point for each in the plots of all results against it."""
    browser.visit(f"{server}#hparams")
    browser.until(lambda: len(rows_of_hparams(browser)) > len(MOMENTA))
    tab = next(tab for tab in browser.find("paper-tab") if tab.text == name)
    browser.driver.execute_script("arguments[0].click()", tab)
    browser.until(lambda: len(browser.find(selector)) >= marks)
    assert len(browser.find(selector)) % marks == 0
    texts = [str(text.get_attribute("textContent")) for text in browser.find("svg text")]
    for axis in COLUMNS[2:]:
        assert any(axis in text for text in texts), texts


@pytest.mark.slow
def test_pictures_of_all_pages_can_be_taken(server: str, browser: Browser, tmp_path: Path) -> None:
    """As those in ``docs/`` are."""
    folder = Path(os.environ.get("SCREENSHOTS", tmp_path))
    for width, height in ((1920, 1080), (1280, 800)):
        browser.resize(width, height)
        for path in take(browser, server, PAGES, folder, f"-{width}"):
            assert path.read_bytes().startswith(b"\x89PNG")
