"""Episode counters against a loop that keeps the books one step at a time."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from rlgd.pytrees import Rollout
from rlgd.training import episodes

T, N = 6, 3


def rollout(rng: np.random.Generator, end_probability: float, masked: bool) -> Rollout:
    """Whole rewards, ends of both kinds, and hidden rows that hold nonsense and no end."""
    mask = rng.random((T, N)) < (0.7 if masked else 1.0)
    reward = np.where(mask, rng.integers(-5, 6, (T, N)), np.nan).astype(np.float32)
    terminated, truncated = (rng.random((2, T, N)) < end_probability) & mask
    obs = jnp.zeros((T, N, 1))
    return Rollout(
        obs=obs,
        action=jnp.zeros((T, N), jnp.int32),
        reward=jnp.asarray(reward),
        terminated=jnp.asarray(terminated),
        truncated=jnp.asarray(truncated),
        mask=jnp.asarray(mask) if masked else None,
        action_mask=None,
        last_obs=obs[0],
        final_obs=obs[:0],
        first=jnp.zeros(N, bool),
    )


class Books:
    """The unfinished episodes, step by step."""

    def __init__(self) -> None:
        self.open: list[list[float]] = [[] for _ in range(N)]

    def enter(self, rows: Rollout) -> dict[str, float]:
        closed: list[list[float]] = []
        real: NDArray[Any] = np.ones((T, N), bool) if rows.mask is None else np.asarray(rows.mask)
        for t, n in zip(*np.nonzero(real), strict=True):
            self.open[n].append(float(rows.reward[t, n]))
            if rows.terminated[t, n] or rows.truncated[t, n]:
                closed.append(self.open[n])
                self.open[n] = []
        return {
            "rollout/episodes": len(closed),
            "rollout/return_sum": sum(map(sum, closed)),
            "rollout/length_sum": sum(map(len, closed)),
            "rollout/steps": int(real.sum()),
        }


@pytest.mark.parametrize("masked", [False, True])
@given(seed=st.integers(0, 1000), end_probability=st.sampled_from([0.0, 0.05, 0.3, 1.0]))
def test_advance_keeps_the_books_over_several_rollouts(masked: bool, seed: int, end_probability: float) -> None:
    rng, books, state = np.random.default_rng(seed), Books(), episodes.begin(N)
    for _ in range(3):
        rows = rollout(rng, end_probability, masked)
        state, sums = jax.jit(episodes.advance)(state, rows)
        assert {name: float(value) for name, value in sums.items()} == books.enter(jax.device_get(rows))
        np.testing.assert_array_equal(state.episode_return, [sum(rewards) for rewards in books.open])
        np.testing.assert_array_equal(state.episode_length, [len(rewards) for rewards in books.open])


def test_the_state_keeps_its_types_so_that_a_scan_can_carry_it() -> None:
    rows = rollout(np.random.default_rng(0), 0.3, masked=True)
    before = episodes.begin(N)
    after, sums = episodes.advance(before, rows)
    assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, before)
    assert jax.tree.map(lambda x: (x.dtype, x.weak_type), after) == jax.tree.map(
        lambda x: (x.dtype, x.weak_type), before
    )
    assert all(value.shape == () for value in sums.values())
