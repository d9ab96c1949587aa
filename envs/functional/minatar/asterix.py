"""Asterix of MinAtar."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from rlgd.envs.functional.minatar.game import (
    DOWN,
    LANES,
    LAST,
    LEFT,
    NOTHING,
    RIGHT,
    UP,
    Game,
    Turn,
    cell,
    cells,
    lanes,
    moved,
    number,
    outside,
    step_of,
    total,
)
from rlgd.pytrees import Scalar

RAMP_INTERVAL, FIRST_SPAWN_TIME, FIRST_MOVE_TIME = 100, 10, 5


class AsterixBoard(NamedTuple):
    """The player's place; in each lane ``column [8]`` int32, and bool ``right`` (it moves there), ``gold``, ``there``.

    A thing comes every ``spawn_time`` steps, and all move every ``move_time``; the timers count down to the next time.
    """

    x: Array
    y: Array
    column: Array
    right: Array
    gold: Array
    there: Array
    spawn_time: Array
    spawn_timer: Array
    move_time: Array
    move_timer: Array
    ramp_timer: Array
    ramp: Array


class Asterix(Game):
    """Gold, which pays 1, and enemies, which end the game when they are touched, come from both sides."""

    channels = 4
    actions = (NOTHING, LEFT, UP, RIGHT, DOWN)
    chances = 3

    def begin(self, chance: Array) -> AsterixBoard:
        nothing = jnp.zeros(LANES, bool)
        return AsterixBoard(
            x=number(5),
            y=number(5),
            column=jnp.zeros(LANES, jnp.int32),
            right=nothing,
            gold=nothing,
            there=nothing,
            spawn_time=number(FIRST_SPAWN_TIME),
            spawn_timer=number(FIRST_SPAWN_TIME),
            move_time=number(FIRST_MOVE_TIME),
            move_timer=number(FIRST_MOVE_TIME),
            ramp_timer=number(RAMP_INTERVAL),
            ramp=number(0),
        )

    def play(self, board: AsterixBoard, action: Array, chance: Array, ramping: Scalar) -> Turn:
        spawns, moves = board.spawn_timer == 0, board.move_timer == 0
        column, right, gold, there = _spawned(board, spawns, chance)
        x, y = moved(board.x, action, LEFT, RIGHT), moved(board.y, action, UP, DOWN, 1, LANES)
        own_lane = lanes() == y

        touched = there & own_lane & (column == x)
        column = jnp.where(moves, column + step_of(right), column)
        there &= ~(touched & gold) & ~outside(column)
        met = moves & there & own_lane & (column == x)
        timers = board._replace(
            spawn_timer=jnp.where(spawns, board.spawn_time, board.spawn_timer) - 1,
            move_timer=jnp.where(moves, board.move_time, board.move_timer) - 1,
        )
        after = _ramped(timers, ramping)._replace(
            x=x, y=y, column=column, right=right, gold=gold, there=there & ~(met & gold)
        )
        return Turn(after, total(touched & gold) + total(met & gold), jnp.any((touched | met) & ~gold))

    def show(self, board: AsterixBoard) -> Array:
        behind = board.column - step_of(board.right)
        return jnp.stack(
            [
                cell(board.y, board.x),
                cells(lanes(), board.column, board.there & ~board.gold),
                cells(lanes(), behind, board.there),
                cells(lanes(), board.column, board.there & board.gold),
            ],
            axis=-1,
        )


def _spawned(board: AsterixBoard, spawns: Array, chance: Array) -> tuple[Array, Array, Array, Array]:
    """Column, direction, kind and presence in each lane, with what comes in one of the free lanes."""
    from_left, is_gold = chance[0] < 1 / 2, chance[1] < 1 / 3
    free = ~board.there
    order = jnp.cumsum(free, dtype=jnp.int32) - 1  # of a free lane among the free ones
    chosen = (chance[2] * jnp.sum(free, dtype=jnp.float32)).astype(jnp.int32)
    here = spawns & free & (order == chosen)
    return (
        jnp.where(here, jnp.where(from_left, number(0), number(LAST)), board.column),
        jnp.where(here, from_left, board.right),
        jnp.where(here, is_gold, board.gold),
        board.there | here,
    )


def _ramped(board: AsterixBoard, ramping: Scalar) -> AsterixBoard:
    """The times that become shorter, every 102 steps; that between moves every second time."""
    can_ramp = (board.spawn_time > 1) | (board.move_time > 1)
    due = ramping & can_ramp & (board.ramp_timer < 0)
    waits = ramping & can_ramp & ~due
    faster = due & (board.move_time > 1) & (board.ramp % 2 == 1)
    return board._replace(
        move_time=board.move_time - faster.astype(jnp.int32),
        spawn_time=board.spawn_time - (due & (board.spawn_time > 1)).astype(jnp.int32),
        ramp=board.ramp + due.astype(jnp.int32),
        ramp_timer=jnp.where(due, number(RAMP_INTERVAL), board.ramp_timer - waits.astype(jnp.int32)),
    )
