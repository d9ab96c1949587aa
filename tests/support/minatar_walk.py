"""Walks through the games of MinAtar with given random numbers, in the original package and in ours.

A walk goes on where a game has ended, so that it sees what is rare: fast games, many enemies, full crews.
``python -m tests.support.minatar_walk`` records those of the package ``minatar`` (1.0.15) in ``RECORDED``.
"""

import functools
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.envs.registration import load_env_creator
from numpy.typing import NDArray

from rlgd.envs.functional.minatar import GAMES
from rlgd.envs.functional.minatar.game import Game

RECORDED = Path(__file__).with_name("minatar_walks.npz")
STEPS = 8_000
ENDING = ("Breakout-v1", "Freeway-v1")  # cannot go on after the end
NOTHING, LEFT, UP, RIGHT, DOWN = range(5)

Numbers = NDArray[Any]


class Walk(NamedTuple):
    """What was seen at the beginning and after each of T steps, ``[T + 1, ...]``, and the actions ``[T]``."""

    obs: Numbers
    reward: Numbers
    terminal: Numbers
    actions: Numbers

    def digests(self) -> Numbers:
        """A number for each step, uint32, from all that was seen."""
        outcomes = np.stack([self.reward, self.terminal], axis=1).astype(np.int8)
        seen = zip(self.obs, outcomes, strict=True)
        return np.array([zlib.crc32(np.packbits(obs).tobytes() + ends.tobytes()) for obs, ends in seen], np.uint32)


@functools.cache
def game(name: str) -> Game:
    creator: Any = load_env_creator(GAMES[name])
    made = creator()
    assert isinstance(made, Game)
    return made


def chances(name: str, steps: int, seed: int) -> tuple[Numbers, Numbers]:
    """Random numbers for the steps ``[T, ...]``, and for episodes that begin before them and after the last."""
    rng, played = np.random.default_rng(seed), game(name)
    of_steps = rng.random((steps, 1 + played.chances), np.float32)
    return of_steps, rng.random((steps + 1, played.beginning), np.float32)


def ours(name: str, actions: Numbers, seed: int = 0) -> tuple[Walk, Any]:
    """The walk in our game with these actions, and the last board."""
    played, ends = game(name), name in ENDING

    @jax.jit
    def run(actions: Any, of_steps: Any, beginnings: Any) -> Any:
        def seen(state: Any) -> Any:
            return played.show(state.turn.board), state.turn.reward, state.turn.terminal

        def step(state: Any, given: Any) -> Any:
            action, chance, beginning = given
            state = played.after(state, action, chance)
            new = played.first(beginning)
            over = state.turn.terminal & ends
            return jax.tree.map(lambda a, b: jnp.where(over, a, b), new, state), seen(state)

        first = played.first(beginnings[0])
        last, rest = jax.lax.scan(step, first, (actions, of_steps, beginnings[1:]))
        return jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), seen(first), rest), last.turn.board

    seen, board = jax.device_get(run(actions, *chances(name, len(actions), seed)))
    obs, reward, terminal = seen
    return Walk(obs, reward, terminal, actions), board


class Dice:
    """Stands in for NumPy's generator, and gives the numbers that it is handed."""

    numbers: list[Any]

    def rand(self, size: int | None = None) -> Any:
        return np.array([self._next() for _ in range(size)]) if size else self._next()

    def randint(self, low: int, high: int | None = None, size: int | None = None) -> Any:
        low, high = (0, low) if high is None else (low, high)
        whole = [low + int(np.float32(self._next()) * np.float32(high - low)) for _ in range(size or 1)]
        return np.array(whole) if size else whole[0]

    def _next(self) -> float:
        return float(self.numbers.pop(0))


def original(name: str, steps: int, seed: int = 0) -> Walk:
    """The walk in the package ``minatar``, with actions of its own."""
    from minatar import Environment  # type: ignore[import-not-found]

    of_steps, beginnings = chances(name, steps, seed)
    plain = name.removesuffix("-v1")
    env = Environment("space_invaders" if plain == "SpaceInvaders" else plain.lower())
    inner, actions = env.env, env.minimal_action_set()
    env.random = inner.random = dice = Dice()
    rng = np.random.default_rng(seed + 1000)

    def begin(chance: Numbers) -> None:
        dice.numbers = list(chance)
        env.reset()
        env.last_action = NOTHING  # the original keeps that of the episode before

    begin(beginnings[0])
    seen, taken = [(env.state(), 0, False)], []
    for chance, beginning in zip(of_steps, beginnings[1:], strict=True):
        dice.numbers = list(chance)
        if plain == "Seaquest":  # an enemy takes three of them, a diver two
            dice.numbers = [chance[0], *(chance[1:4] if inner.e_spawn_timer == 0 else []), *chance[4:6]]
        taken.append(_choice(name, actions, seen[-1][0], rng))
        inner.terminal = False
        reward, terminal = env.act(actions[taken[-1]])
        seen.append((env.state(), reward, terminal))
        if terminal and name in ENDING:
            begin(beginning)
    obs, reward, terminal = map(np.array, zip(*seen, strict=True))
    return Walk(obs, reward, terminal, np.array(taken, np.int32))


def _choice(name: str, actions: list[int], obs: Numbers, rng: np.random.Generator) -> int:
    """An action at random, or often one that shows more of the game."""
    wanted = POLICIES.get(name, lambda obs: None)(obs)
    if wanted is not None and rng.random() < 0.9:
        return actions.index(wanted)
    return int(rng.integers(len(actions)))


def _to_the_ball(obs: Numbers) -> int:
    paddle, ball, before = (int(np.argmax(obs[..., channel].any(0))) for channel in range(3))
    return {-1: LEFT, 0: NOTHING, 1: RIGHT}[int(np.sign(2 * ball - before - paddle))]


def _for_divers(obs: Numbers) -> int | None:
    """To the nearest diver; to the surface with a full crew, or when the air is used up."""
    (player,), divers = np.argwhere(obs[..., 0]), np.argwhere(obs[..., 9])
    crew, air = obs[9, :, 8].sum(), obs[9, :, 7].sum()
    if crew == 6 or air < 3:
        return UP
    if not len(divers):
        return DOWN if player[0] < 2 else None
    down, right = (divers - player)[np.argmin(np.abs(divers - player).sum(1))]
    return (DOWN if down > 0 else UP) if down else (RIGHT if right > 0 else LEFT)


POLICIES: dict[str, Callable[[Numbers], int | None]] = {
    "Breakout-v1": _to_the_ball,
    "Freeway-v1": lambda obs: UP,
    "Seaquest-v1": _for_divers,
}


if __name__ == "__main__":
    walks = {name: original(name, STEPS) for name in GAMES}
    recorded: dict[str, Any] = {name: walk.digests() for name, walk in walks.items()}
    recorded |= {f"{name} actions": walk.actions.astype(np.int8) for name, walk in walks.items()}
    np.savez_compressed(RECORDED, **recorded)
