"""The games of MinAtar against walks through the original package, which were recorded."""

import functools
import itertools
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import rlgd.envs
from rlgd.envs.functional.minatar import GAMES, MinAtarParams
from rlgd.envs.functional.minatar.seaquest import Seaquest
from rlgd.errors import UsageError
from tests.support import minatar_walk


@functools.cache
def recorded() -> dict[str, Any]:
    with np.load(minatar_walk.RECORDED) as walks:
        return dict(walks)


@functools.cache
def walked(name: str) -> tuple[minatar_walk.Walk, Any]:
    return minatar_walk.ours(name, recorded()[f"{name} actions"].astype(np.int32))


@pytest.mark.parametrize("name", GAMES)
def test_every_step_is_that_of_the_original(name: str) -> None:
    expected = recorded()[name]
    assert len(expected) == minatar_walk.STEPS + 1
    differs = np.flatnonzero(walked(name)[0].digests() != expected)
    assert not len(differs), f"from step {differs[0]} on"


def test_the_walks_see_what_is_rare() -> None:
    walk, board = walked("Seaquest-v1")
    assert int(board.spawn_time) == 1
    assert int(board.move_time) == 2
    assert walk.obs[..., 5:7].sum((1, 2, 3)).max() > 15, "enemies at once"
    assert {*walk.obs[:, 9, :, 8].sum(1)} == {*range(7)}, "divers on board"
    assert (walk.reward > 2).sum() > 3, "full crews that were paid for"
    assert walked("Asterix-v1")[1].move_time == 1
    assert walked("SpaceInvaders-v1")[1].move_time == 6
    assert walked("Breakout-v1")[0].reward.sum() > 500
    assert walked("Freeway-v1")[0].terminal.sum() == 3


def test_a_full_crew_pays_for_the_air_that_is_left() -> None:
    game = Seaquest()
    state = game.first(jnp.zeros(0, jnp.float32))
    board = state.turn.board._replace(
        crew=jnp.int32(6), oxygen=jnp.int32(150), y=jnp.int32(1), surfaced=jnp.asarray(False)
    )
    turn = game.play(board, jnp.int32(minatar_walk.UP), jnp.full(5, 0.5, jnp.float32), True)
    assert float(turn.reward) == 7
    assert not turn.terminal
    assert int(turn.board.crew) == -1
    assert int(turn.board.oxygen) == 200
    alone = game.play(
        board._replace(crew=jnp.int32(0)), jnp.int32(minatar_walk.UP), jnp.full(5, 0.5, jnp.float32), True
    )
    assert alone.terminal


def played(name: str, params: MinAtarParams, actions: Any) -> Any:
    """States ``[T, ...]`` of a game whose parameters are these."""
    game = minatar_walk.game(name)
    keys = jax.random.split(jax.random.key(0), len(actions) + 1)

    def step(state: Any, given: Any) -> Any:
        action, key = given
        after = game.transition(state, action, key, params)
        return after, after

    @jax.jit
    def run(actions: Any) -> Any:
        return jax.lax.scan(step, game.initial(keys[0], params), (actions, keys[1:]))[1]

    return jax.device_get(run(actions))


@pytest.mark.parametrize("sticky", [0.0, 0.1, 1.0])
def test_actions_stick_as_often_as_the_parameter_says(sticky: float) -> None:
    chosen = 1 + np.arange(1000) % 2
    states = played("SpaceInvaders-v1", MinAtarParams(sticky_action_prob=sticky), chosen)
    wanted = np.where(chosen == 1, minatar_walk.LEFT, minatar_walk.RIGHT)
    assert abs(np.mean(states.last_action != wanted) - sticky) <= 3 * np.sqrt(sticky * (1 - sticky) / 1000)


@pytest.mark.parametrize("name", ["Asterix-v1", "Seaquest-v1", "SpaceInvaders-v1"])
def test_without_ramping_no_game_becomes_harder(name: str) -> None:
    actions = recorded()[f"{name} actions"].astype(np.int32)
    easy, hard = (played(name, MinAtarParams(ramping=ramping), actions) for ramping in (False, True))
    assert not easy.turn.board.ramp.any()
    assert hard.turn.board.ramp[-1] > 0


@pytest.mark.parametrize("name", GAMES)
def test_gymnasium_has_the_games_too(name: str) -> None:
    env_id = f"rlgd/MinAtar-{name}"
    env = gymnasium.make(env_id, render_mode="rgb_array")
    check_env(env.unwrapped, skip_render_check=True)
    obs, _ = env.reset(seed=3)
    picture = env.render()
    assert isinstance(picture, np.ndarray)
    assert picture.shape == (160, 160, 3)
    empty = ~obs.any(-1).repeat(16, axis=0).repeat(16, axis=1)
    np.testing.assert_array_equal((picture == 0).all(-1), empty)
    vector = gymnasium.make_vec(env_id, num_envs=2)
    first, _ = vector.reset(seed=3)
    np.testing.assert_array_equal(first[0], obs)
    for action, _ in itertools.product(range(int(env.action_space.n)), range(3)):  # type: ignore[attr-defined]
        after, reward, terminated, *_ = env.step(action)
        several, rewards, *_ = vector.step(np.array([action, 0]))
        np.testing.assert_array_equal(several[0], after)
        assert reward == rewards[0]
        if terminated:
            with pytest.raises(UsageError, match="is over; call reset first"):
                env.step(action)
            break
    env.close()
    vector.close()
    for written in (env_id, env_id.removesuffix("-v1"), f"rlgd.envs:{env_id}"):
        assert rlgd.envs.make(written) == rlgd.envs.make(f"minatar:{name}")
        assert rlgd.envs.full_id(written) == f"minatar:{name}"
    assert rlgd.envs.make("rlgd.envs:rlgd/CartPole-v1") == rlgd.envs.make("CartPole-v1")
