"""What runs look like in TensorBoard, alone and beside a study: a real browser on a real server; CI installs both.

With ``SCREENSHOTS`` naming a folder, pictures of the pages are left there.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import rlgd
from rlgd.agents import A2C, REINFORCE
from rlgd.ascent import Ascent
from rlgd.run.sinks.tensorboard import ANSWERS, CHARTS, RETURN
from tests.support.dashboards import CHROMIUM, DRIVER, PAGES_OF_RUNS, Browser, browsing, hparams, serving, take

pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver")

SMALL: dict[str, Any] = {"num_envs": 4, "rollout_length": 16, "hidden_sizes": (8,)}
LENGTH: dict[str, Any] = {"total_timesteps": 640, "eval_episodes": 2}
COLUMNS = 12  # the name and the box of a row, five settings, five results


def a2c(momentum: float) -> A2C:
    return A2C(ascent=Ascent("momentum", momentum=momentum), measure_every=2, **SMALL)


@pytest.fixture(name="root", scope="module")
def _root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of two agents, and a study of a setting that runs have too."""
    root = tmp_path_factory.mktemp("root")
    for momentum in (0.0, 0.5):
        for seed in (0, 1):
            directory = root / "runs" / "CartPole-v1" / f"momentum{momentum}-seed{seed}"
            rlgd.train(a2c(momentum), "CartPole-v1", run_dir=directory, seed=seed, eval_every=256, **LENGTH)
    reinforce = REINFORCE(num_envs=4, hidden_sizes=(8,), measure_every=0)
    rlgd.train(reinforce, "CartPole-v1", run_dir=root / "mixed" / "reinforce", **LENGTH)
    rlgd.train(a2c(0.5), "CartPole-v1", run_dir=root / "mixed" / "a2c", **LENGTH)
    values = {"gae_lambda": [0.8, 0.9]}
    rlgd.study(a2c(0.5), "CartPole-v1", values, seeds=2, study_dir=root / "mixed" / "studies" / "one", **LENGTH)
    return root


@pytest.fixture(name="server", scope="module")
def _server(root: Path) -> Iterator[str]:
    with serving(root / "runs") as address:
        yield address


@pytest.fixture(name="browser", scope="module")
def _browser() -> Iterator[Browser]:
    with browsing() as browser:
        yield browser


def test_time_series_begins_with_the_return(server: str, browser: Browser) -> None:
    browser.visit(f"{server}#timeseries")
    browser.until(lambda: bool(browser.find("scalar-card-data-table")))
    titles = [str(title.get_attribute("title")) for title in browser.find("tb-truncated-path")]
    assert titles[:2] == [RETURN, ANSWERS["rollout/episode_return"]]
    height = browser.driver.execute_script("return innerHeight")
    assert all(card.rect["y"] < height for card in browser.find("card-view")[:2])


def test_hparams_begins_with_what_differs_and_averages_over_seeds(server: str, browser: Browser) -> None:
    browser.visit(f"{server}#hparams")
    browser.until(lambda: len([row for row in hparams(browser, COLUMNS) if row[-1]]) == 3)
    heads, *rows = hparams(browser, COLUMNS)[:3]
    assert heads[2:8] == ["Momentum", "Agent", "Env", "Learning rate", "Optimizer", RETURN]
    assert [row[2:5] for row in rows] == [["0.0000", "a2c", "CartPole-v1"], ["0.50000", "a2c", "CartPole-v1"]]


def test_charts_are_grouped_by_subject(server: str, browser: Browser) -> None:
    browser.visit(f"{server}#custom_scalars")
    browser.until(lambda: browser.texts("tf-card-heading") == [title for charts in CHARTS.values() for title in charts])
    browser.until(lambda: bool(browser.find("path.line")))


def test_a_study_beside_runs_hides_none_of_their_settings(root: Path, browser: Browser) -> None:
    """All three settings that differ, and those of any run; the return of all is in one column."""
    with serving(root / "mixed") as server:
        browser.visit(f"{server}#hparams")
        browser.until(lambda: len([row for row in hparams(browser, COLUMNS) if row[7]]) == 5)
        heads, *rows = hparams(browser, COLUMNS)[:5]
    assert heads[2:8] == ["Agent", "Learning rate", "Momentum", "Optimizer", "gae_lambda", RETURN]
    assert [row[6] for row in rows] == ["0.80000", "0.90000", "0.95000", ""]


@pytest.mark.slow
def test_pictures_of_all_pages_can_be_taken(server: str, browser: Browser, tmp_path: Path) -> None:
    folder = Path(os.environ.get("SCREENSHOTS", tmp_path))
    for width, height in ((1920, 1080), (1280, 800)):
        browser.resize(width, height)
        for path in take(browser, server, PAGES_OF_RUNS, folder, f"-of-runs-{width}"):
            assert path.read_bytes().startswith(b"\x89PNG")
