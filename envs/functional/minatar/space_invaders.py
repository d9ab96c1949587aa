"""Space Invaders of MinAtar."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from rlgd.envs.functional.minatar.game import (
    FIRE,
    LAST,
    LEFT,
    NOTHING,
    RIGHT,
    SIDE,
    Game,
    Turn,
    along,
    cell,
    minus_one_if,
    moved,
    number,
    shifted,
    total,
)
from rlgd.pytrees import Scalar

SHOT_TIME, ENEMY_SHOT_TIME, ENEMY_MOVE_TIME, LEAST_MOVE_TIME = 5, 10, 12, 6
WAVE = np.zeros((SIDE, SIDE), bool)
WAVE[:4, 2:8] = True


class SpaceInvadersBoard(NamedTuple):
    """The cannon's column ``x``; fields ``[10, 10]`` bool of aliens and of bullets; ``to_left`` bool: where they move.

    Aliens move every ``move_time`` steps, or sooner if they are fewer; the timers count down to the next time.
    """

    x: Array
    aliens: Array
    bullets: Array
    enemy_bullets: Array
    to_left: Array
    move_time: Array
    move_timer: Array
    enemy_shot_timer: Array
    shot_timer: Array

    @property
    def ramp(self) -> Array:
        """How often the game has become harder."""
        return ENEMY_MOVE_TIME - self.move_time


class SpaceInvaders(Game):
    """A cannon shoots aliens, 1 for each; they come down and shoot too. A new wave is faster than the last."""

    channels = 6
    actions = (NOTHING, LEFT, RIGHT, FIRE)

    def begin(self, chance: Array) -> SpaceInvadersBoard:
        empty = jnp.zeros((SIDE, SIDE), bool)
        return SpaceInvadersBoard(
            x=number(5),
            aliens=jnp.asarray(WAVE),
            bullets=empty,
            enemy_bullets=empty,
            to_left=jnp.ones((), bool),
            move_time=number(ENEMY_MOVE_TIME),
            move_timer=number(ENEMY_MOVE_TIME),
            enemy_shot_timer=number(ENEMY_SHOT_TIME),
            shot_timer=number(0),
        )

    def play(self, board: SpaceInvadersBoard, action: Array, chance: Array, ramping: Scalar) -> Turn:
        fires = (action == FIRE) & (board.shot_timer == 0)
        x = moved(board.x, action, LEFT, RIGHT)
        own_place = cell(number(LAST), x)
        bullets = shifted(board.bullets | (fires & own_place), down=-1)
        enemy_bullets = shifted(board.enemy_bullets, down=1)
        hit = jnp.any((enemy_bullets | board.aliens) & own_place)

        aliens, to_left, move_timer, lands = _marched(board)
        shoots = board.enemy_shot_timer == 0
        enemy_bullets |= shoots & _nearest(aliens, x)
        struck = aliens & bullets
        aliens &= ~struck
        cleared = ~jnp.any(aliens)
        faster = cleared & ramping & (board.move_time > LEAST_MOVE_TIME)
        shot_timer = jnp.where(fires, number(SHOT_TIME), board.shot_timer)
        after = SpaceInvadersBoard(
            x=x,
            aliens=jnp.where(cleared, jnp.asarray(WAVE), aliens),
            bullets=bullets & ~struck,
            enemy_bullets=enemy_bullets,
            to_left=to_left,
            move_time=minus_one_if(faster, board.move_time),
            move_timer=move_timer - 1,
            enemy_shot_timer=jnp.where(shoots, number(ENEMY_SHOT_TIME), board.enemy_shot_timer) - 1,
            shot_timer=minus_one_if(shot_timer > 0, shot_timer),
        )
        return Turn(after, total(struck), hit | lands | jnp.any((aliens | struck) & own_place))

    def show(self, board: SpaceInvadersBoard) -> Array:
        aliens = board.aliens
        return jnp.stack(
            [
                cell(number(LAST), board.x),
                aliens,
                aliens & board.to_left,
                aliens & ~board.to_left,
                board.bullets,
                board.enemy_bullets,
            ],
            axis=-1,
        )


def _marched(board: SpaceInvadersBoard) -> tuple[Array, Array, Array, Array]:
    """The aliens after a move, if it is time: their field, whether they go left, the timer, and whether they land.

    At the edge of the field they come down by a row and turn round.
    """
    aliens, moves = board.aliens, board.move_timer == 0
    at_edge = jnp.where(board.to_left, jnp.any(aliens[:, 0]), jnp.any(aliens[:, LAST]))
    turns = moves & at_edge
    aside = jnp.where(board.to_left, jnp.roll(aliens, -1, axis=1), jnp.roll(aliens, 1, axis=1))
    after = jnp.where(turns, jnp.roll(aliens, 1, axis=0), jnp.where(moves, aside, aliens))
    soonest = jnp.minimum(jnp.sum(aliens, dtype=jnp.int32), board.move_time)
    timer = jnp.where(moves, soonest, board.move_timer)
    return after, board.to_left ^ turns, timer, turns & jnp.any(aliens[LAST])


def _nearest(aliens: Array, x: Array) -> Array:
    """The field with the alien that shoots: the lowest in the column nearest to ``x``, of two the left one."""
    columns = jnp.arange(SIDE, dtype=jnp.int32)
    distance = 2 * jnp.abs(columns - x) + (columns > x).astype(jnp.int32)
    column = jnp.argmin(jnp.where(jnp.any(aliens, axis=0), distance, number(2 * SIDE)))
    in_column = aliens & along(column)[None, :]
    row = LAST - jnp.argmax(jnp.flip(jnp.any(in_column, axis=1)))
    return in_column & along(row)[:, None]
