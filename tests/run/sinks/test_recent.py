"""The mean return of the newest 100 episodes, against a list of all of them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rlgd
from rlgd.run.sinks.metrics_file import parsed
from rlgd.run.sinks.recent import EPISODES, RecentEpisodes
from tests.support.small_runs import At, train


def iterations(*returns: list[float]) -> dict[str, np.ndarray]:
    """The metrics of iterations in which episodes with these returns ended."""
    return {
        "rollout/episodes": np.array([len(ended) for ended in returns], np.int32),
        "rollout/return_sum": np.array([sum(ended) for ended in returns], np.float32),
    }


def test_there_is_none_before_the_first_episode_and_then_the_mean_of_all() -> None:
    recent = RecentEpisodes()
    recent.add(iterations([], []))
    assert recent.mean_return is None
    recent.add(iterations([1.0, 3.0], [], [8.0]))
    assert recent.mean_return == 4.0
    assert recent.kept() == {"rollout/episodes": [2.0, 1.0], "rollout/return_sum": [4.0, 8.0]}


@given(st.lists(st.integers(0, 7), max_size=80), st.integers(1, 20), st.integers(0, 2**16))
def test_it_is_the_mean_over_the_newest(counts: list[int], every: int, seed: int) -> None:
    """Every episode of an iteration has the same return here, so the mean is exact."""
    level = np.random.default_rng(seed).integers(-50, 50, len(counts))
    ended = [[float(x)] * count for count, x in zip(counts, level, strict=True)]
    recent = RecentEpisodes()
    for start in range(0, len(ended), every):
        recent.add(iterations(*ended[start : start + every]))
    newest = [x for each in ended for x in each][-EPISODES:]
    assert recent.mean_return == (pytest.approx(np.mean(newest), abs=1e-9) if newest else None)
    assert sum(recent.kept()["rollout/episodes"][1:]) < EPISODES


def test_an_iteration_with_more_episodes_counts_by_its_mean() -> None:
    recent = RecentEpisodes()
    recent.add(iterations([1.0] * 150 + [3.0] * 150))
    assert recent.mean_return == 2.0
    recent.add(iterations([10.0] * 25))
    assert recent.mean_return == pytest.approx((75 * 2.0 + 25 * 10.0) / 100)


def test_a_resumed_run_has_the_curve_of_one_that_was_never_stopped(
    tmp_path: Path, written: tuple[Path, rlgd.TrainResult]
) -> None:
    def stop() -> Any:
        raise KeyboardInterrupt

    def curve(run: Path) -> list[Any]:
        table = (run / "metrics.jsonl").read_text().splitlines()
        return [parsed(line.encode()).values["rollout/episode_return_100"]
                for line in table if "episode_return_100" in line]  # fmt: skip

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "run", sinks=[At(300, stop)])
    rlgd.resume(tmp_path / "run")
    assert curve(tmp_path / "run") == curve(written[0])
    assert len(curve(written[0])) > 3
