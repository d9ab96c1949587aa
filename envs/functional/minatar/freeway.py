"""Freeway of MinAtar."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from rlgd.envs.functional.minatar.game import (
    DOWN,
    LANES,
    LAST,
    NOTHING,
    SIDE,
    UP,
    Game,
    Turn,
    along,
    cell,
    cells,
    lanes,
    minus_one_if,
    moved,
    number,
)
from rlgd.pytrees import Scalar

COLUMN = 4  # of the chicken
SLOWEST, PLAYER_TIME, TIME = 5, 3, 2500


class FreewayBoard(NamedTuple):
    """The chicken's row ``y``, and int32 ``[8]`` for the cars: ``column``, ``timer`` and ``speed``.

    A car moves every ``abs(speed) + 1`` steps, to the left where the speed is negative.
    """

    y: Array
    move_timer: Array
    time_left: Array
    column: Array
    timer: Array
    speed: Array


class Freeway(Game):
    """A chicken crosses a road with eight cars, again and again for 2,501 steps; each time pays 1.

    A car that hits it sends it back to the start. After each crossing the cars have new speeds.
    """

    channels = 7
    actions = (NOTHING, UP, DOWN)
    beginning = chances = 2 * LANES

    def begin(self, chance: Array) -> FreewayBoard:
        speed = _speeds(chance)
        column = jnp.zeros(LANES, jnp.int32)
        return FreewayBoard(number(LAST), number(PLAYER_TIME), number(TIME), column, jnp.abs(speed), speed)

    def play(self, board: FreewayBoard, action: Array, chance: Array, ramping: Scalar) -> Turn:
        moves = (board.move_timer == 0) & ((action == UP) | (action == DOWN))
        y = jnp.where(moves, moved(board.y, action, UP, DOWN), board.y)
        move_timer = jnp.where(moves, number(PLAYER_TIME), board.move_timer)

        across = y == 0
        speed = jnp.where(across, _speeds(chance), board.speed)
        timer = jnp.where(across, jnp.abs(speed), board.timer)
        y = jnp.where(across, number(LAST), y)

        own_lane = lanes() == y
        drives = timer == 0
        column = jnp.where(drives, (board.column + jnp.sign(speed)) % SIDE, board.column)
        hit = own_lane & ((board.column == COLUMN) | (column == COLUMN))
        time_left = board.time_left - 1
        after = FreewayBoard(
            y=jnp.where(jnp.any(hit), number(LAST), y),
            move_timer=minus_one_if(move_timer > 0, move_timer),
            time_left=time_left,
            column=column,
            timer=jnp.where(drives, jnp.abs(speed), timer - 1),
            speed=speed,
        )
        return Turn(after, across.astype(jnp.float32), time_left < 0)

    def show(self, board: FreewayBoard) -> Array:
        there = jnp.ones(LANES, bool)
        behind = along((board.column - jnp.sign(board.speed)) % SIDE)  # [8, 10]
        slowness = jnp.abs(board.speed)[:, None] == jnp.arange(1, SLOWEST + 1, dtype=jnp.int32)[None, :]
        trails = jnp.pad(behind[:, :, None] & slowness[:, None, :], ((1, 1), (0, 0), (0, 0)))
        chicken, cars = cell(board.y, number(COLUMN)), cells(lanes(), board.column, there)
        return jnp.concatenate([jnp.stack([chicken, cars], axis=-1), trails], axis=-1)


def _speeds(chance: Array) -> Array:
    """Speeds ``[8]`` int32 from 16 random numbers: 1 to 5, and as many directions."""
    slowness = 1 + (SLOWEST * chance[:LANES]).astype(jnp.int32)
    return jnp.where(chance[LANES:] < 0.5, -slowness, slowness)
