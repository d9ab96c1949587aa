"""Seaquest of MinAtar."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from rlgd.envs.functional.minatar.game import (
    DOWN,
    FIRE,
    LAST,
    LEFT,
    NOTHING,
    RIGHT,
    SIDE,
    UP,
    Game,
    Turn,
    cell,
    cells,
    minus_one_if,
    moved,
    number,
    outside,
    shifted,
    step_of,
    total,
)
from rlgd.pytrees import Scalar

OXYGEN, CREW, LOWEST = 200, 6, 8
FIRST_SPAWN_TIME, FIRST_MOVE_TIME, LEAST_MOVE_TIME = 20, 5, 2
DIVER_SPAWN_TIME, DIVER_MOVE_TIME, SHOT_TIME, ENEMY_SHOT_TIME = 30, 5, 5, 10
# The most that there can be at once. A bullet leaves the field within ten steps, and five lie between two; divers come
# every 30 steps and need 60; enemies come every step at most, and need 30 by then.
BULLETS, DIVERS, ENEMIES = 2, 2, 32


class Things(NamedTuple):
    """N things in the order in which they came, the last one the newest.

    Int32 ``[N]``: place and timers, steps until the next move and the next shot. Bool ``[N]``: whether it moves to the
    right, whether it is a submarine (of enemies: else a fish), whether it is there.
    """

    x: Array
    y: Array
    right: Array
    there: Array
    move_timer: Array
    shot_timer: Array
    submarine: Array

    def at(self, x: Array, y: Array) -> Array:
        """Which of them are there, in this cell: ``[N]`` bool."""
        return self.there & (self.x == x) & (self.y == y)


class SeaquestBoard(NamedTuple):
    """The player's place and direction (``right`` bool), ``oxygen`` and ``crew`` (the divers on board) int32.

    Own bullets ``[2]``, divers ``[2]`` and enemies ``[32]``; the enemies' bullets as fields ``[2, 10, 10]`` bool, to
    the left and to the right. ``surfaced`` bool: at the surface, where no oxygen is used. Then what is counted.
    """

    x: Array
    y: Array
    right: Array
    oxygen: Array
    crew: Array
    surfaced: Array
    bullets: Things
    divers: Things
    enemies: Things
    enemy_bullets: Array
    spawn_time: Array
    spawn_timer: Array
    diver_timer: Array
    move_time: Array
    shot_timer: Array
    ramp: Array


class Seaquest(Game):
    """A submarine shoots enemies, 1 for each, collects divers, and has to surface with one before its air is used up.

    With six divers on board the air that is left pays up to 10. Each time it surfaces the game becomes faster.
    """

    channels = 10
    actions = (NOTHING, LEFT, UP, RIGHT, DOWN, FIRE)
    chances = 5

    def begin(self, chance: Array) -> SeaquestBoard:
        return SeaquestBoard(
            x=number(5),
            y=number(0),
            right=jnp.zeros((), bool),
            oxygen=number(OXYGEN),
            crew=number(0),
            surfaced=jnp.ones((), bool),
            bullets=_none(BULLETS),
            divers=_none(DIVERS),
            enemies=_none(ENEMIES),
            enemy_bullets=jnp.zeros((2, SIDE, SIDE), bool),
            spawn_time=number(FIRST_SPAWN_TIME),
            spawn_timer=number(FIRST_SPAWN_TIME),
            diver_timer=number(DIVER_SPAWN_TIME),
            move_time=number(FIRST_MOVE_TIME),
            shot_timer=number(0),
            ramp=number(0),
        )

    def play(self, board: SeaquestBoard, action: Array, chance: Array, ramping: Scalar) -> Turn:
        board = _commanded(_spawned(board, chance), action)
        board, shot = _bullets_fly(board)
        board = _divers_swim(board)
        board, submarines_shot, hit = _enemies_swim(board, board.enemies.submarine)
        board, hit_by_bullet = _enemy_bullets_fly(board)
        board, fish_shot, bitten = _enemies_swim(board, ~board.enemies.submarine)
        out_of_air = board.oxygen <= 0
        board, delivered, drowned = _breathed(_timed(board), ramping)
        over = hit | hit_by_bullet | bitten | out_of_air | drowned
        return Turn(board, shot + submarines_shot + fish_shot + delivered, over)

    def show(self, board: SeaquestBoard) -> Array:
        columns, bottom = jnp.arange(SIDE, dtype=jnp.int32), jnp.arange(SIDE, dtype=jnp.int32)[:, None] == LAST
        air = jnp.maximum(board.oxygen, number(0)) * SIDE // OXYGEN
        crew = (columns >= LAST - board.crew) & (columns < LAST)
        bullets, divers, enemies = board.bullets, board.divers, board.enemies
        fish, submarines = enemies.there & ~enemies.submarine, enemies.there & enemies.submarine
        return jnp.stack(
            [
                cell(board.y, board.x),
                cell(board.y, board.x - step_of(board.right)),
                cells(bullets.y, bullets.x, bullets.there),
                _trails(divers) | _trails(enemies),
                jnp.any(board.enemy_bullets, axis=0),
                cells(enemies.y, enemies.x, fish),
                cells(enemies.y, enemies.x, submarines),
                bottom & (columns < air)[None, :],
                bottom & crew[None, :],
                cells(divers.y, divers.x, divers.there),
            ],
            axis=-1,
        )


def _none(most: int) -> Things:
    zeros, no = jnp.zeros(most, jnp.int32), jnp.zeros(most, bool)
    return Things(zeros, zeros, no, no, zeros, zeros, no)


def _thing(x: Array, y: Array, right: Array, move_timer: Array, submarine: Array | None = None) -> Things:
    yes = jnp.ones((), bool)
    return Things(x, y, right, yes, move_timer, number(ENEMY_SHOT_TIME), yes if submarine is None else submarine)


def _with(things: Things, new: Things, comes: Array) -> Things:
    """The things and a new one, in place of the oldest, which has gone."""

    def shifted(old: Array, last: Array) -> Array:
        return jnp.where(comes, jnp.concatenate([old[1:], last[None]]), old)

    return jax.tree.map(shifted, things, new)


def _trails(things: Things) -> Array:
    return cells(things.y, things.x - step_of(things.right), things.there)


def _spawned(board: SeaquestBoard, chance: Array) -> SeaquestBoard:
    """With the enemy and the diver that come now. An enemy does not come where another one swims the other way."""
    comes, diver_comes = board.spawn_timer == 0, board.diver_timer == 0
    right, submarine, row = chance[0] < 1 / 2, chance[1] < 1 / 3, _row(chance[2])
    against = board.enemies.there & (board.enemies.y == row) & (board.enemies.right ^ right)
    enemy = _thing(_side(right), row, right, board.move_time, submarine)
    diver_right = chance[3] < 1 / 2
    diver = _thing(_side(diver_right), _row(chance[4]), diver_right, number(DIVER_MOVE_TIME))
    return board._replace(
        enemies=_with(board.enemies, enemy, comes & ~jnp.any(against)),
        divers=_with(board.divers, diver, diver_comes),
        spawn_timer=jnp.where(comes, board.spawn_time, board.spawn_timer),
        diver_timer=jnp.where(diver_comes, number(DIVER_SPAWN_TIME), board.diver_timer),
    )


def _side(right: Array) -> Array:
    return jnp.where(right, number(0), number(LAST))


def _row(chance: Array) -> Array:
    return 1 + (LOWEST * chance).astype(jnp.int32)


def _commanded(board: SeaquestBoard, action: Array) -> SeaquestBoard:
    """After the player's move or shot."""
    fires = (action == FIRE) & (board.shot_timer == 0)
    bullet = _thing(board.x, board.y, board.right, number(0))
    return board._replace(
        bullets=_with(board.bullets, bullet, fires),
        shot_timer=jnp.where(fires, number(SHOT_TIME), board.shot_timer),
        x=moved(board.x, action, LEFT, RIGHT),
        y=moved(board.y, action, UP, DOWN, 0, LOWEST),
        right=(board.right | (action == RIGHT)) & (action != LEFT),
    )


def _bullets_fly(board: SeaquestBoard) -> tuple[SeaquestBoard, Array]:
    """The player's bullets move; each that meets enemies takes the oldest fish with it, or the oldest submarine."""
    bullets, enemies = board.bullets, board.enemies
    x = bullets.x + step_of(bullets.right)
    flies = bullets.there & ~outside(x)
    meets = flies[:, None] & _same_cell(x, bullets.y, enemies)
    submarine = enemies.submarine[None, :]
    fish, submarines = meets & ~submarine, meets & submarine
    struck = jnp.where(jnp.any(fish, axis=1, keepdims=True), _first(fish), _first(submarines))
    spent = jnp.any(meets, axis=1)
    after = board._replace(
        bullets=bullets._replace(x=x, there=flies & ~spent),
        enemies=enemies._replace(there=enemies.there & ~jnp.any(struck, axis=0)),
    )
    return after, total(spent)


def _same_cell(x: Array, y: Array, things: Things) -> Array:
    """Which of N things are in each of M cells: ``[M, N]`` bool."""
    here = (things.x[None, :] == x[:, None]) & (things.y[None, :] == y[:, None])
    return things.there[None, :] & here


def _first(true: Array) -> Array:
    """The first true one of each row, alone."""
    order = jax.lax.broadcasted_iota(jnp.int32, true.shape, 1)
    return true & (order == jnp.min(jnp.where(true, order, number(ENEMIES)), axis=1, keepdims=True))


def _last(true: Array) -> Array:
    """The last true one of each row, alone."""
    order = jax.lax.broadcasted_iota(jnp.int32, true.shape, 1)
    return true & (order == jnp.max(jnp.where(true, order, number(-1)), axis=1, keepdims=True))


def _divers_swim(board: SeaquestBoard) -> SeaquestBoard:
    """Divers move, the newest first, and come on board where the player is and has room."""
    divers, crew = board.divers, board.crew
    moves = divers.move_timer == 0
    x = jnp.where(moves, divers.x + step_of(divers.right), divers.x)
    there = divers.there & ~outside(x)
    before, after = divers.at(board.x, board.y), there & moves & (x == board.x) & (divers.y == board.y)
    for n in reversed(range(DIVERS)):
        saved = (before[n] | after[n]) & (crew < CREW)
        crew = crew + saved.astype(jnp.int32)
        there = there.at[n].set(there[n] & ~saved)
    timer = jnp.where(moves, number(DIVER_MOVE_TIME), divers.move_timer - 1)
    return board._replace(divers=divers._replace(x=x, there=there, move_timer=timer), crew=crew)


def _enemies_swim(board: SeaquestBoard, kind: Array) -> tuple[SeaquestBoard, Array, Array]:
    """Enemies of a kind ``[32]`` move, and submarines shoot; also what is shot, and whether one touches the player.

    A bullet of the player that one moves into strikes the newest of them.
    """
    enemies, bullets = board.enemies, board.bullets
    swims = enemies.there & kind
    touches = jnp.any(enemies.at(board.x, board.y) & kind)
    moves = swims & (enemies.move_timer == 0)
    x = jnp.where(moves, enemies.x + step_of(enemies.right), enemies.x)
    moved_inside = moves & ~outside(x)
    at_player = moved_inside & (x == board.x) & (enemies.y == board.y)
    in_reach = enemies._replace(x=x, there=moved_inside & ~at_player)
    struck = _last(bullets.there[:, None] & _same_cell(bullets.x, bullets.y, in_reach))
    spent = jnp.any(struck, axis=1)
    shoots = swims & enemies.submarine & (enemies.shot_timer == 0)
    new = jnp.stack([cells(enemies.y, x, shoots & ~enemies.right), cells(enemies.y, x, shoots & enemies.right)])
    shot_timer = jnp.where(shoots, number(ENEMY_SHOT_TIME), minus_one_if(swims, enemies.shot_timer))
    after = board._replace(
        bullets=bullets._replace(there=bullets.there & ~spent),
        enemies=enemies._replace(
            x=x,
            there=enemies.there & ~(moves & outside(x)) & ~jnp.any(struck, axis=0),
            move_timer=jnp.where(moves, board.move_time, minus_one_if(swims, enemies.move_timer)),
            shot_timer=shot_timer,
        ),
        enemy_bullets=board.enemy_bullets | new,
    )
    return after, total(spent), touches | jnp.any(at_player)


def _enemy_bullets_fly(board: SeaquestBoard) -> tuple[SeaquestBoard, Array]:
    """The enemies' bullets move; also whether one meets the player, before or after."""
    player = cell(board.y, board.x)
    to_left, to_right = board.enemy_bullets
    after = jnp.stack([shifted(to_left, right=-1), shifted(to_right, right=1)])
    return board._replace(enemy_bullets=after), jnp.any(jnp.any(board.enemy_bullets | after, axis=0) & player)


def _timed(board: SeaquestBoard) -> SeaquestBoard:
    def less(timer: Array) -> Array:
        return minus_one_if(timer > 0, timer)

    timers = less(board.spawn_timer), less(board.diver_timer), less(board.shot_timer)
    return board._replace(spawn_timer=timers[0], diver_timer=timers[1], shot_timer=timers[2])


def _breathed(board: SeaquestBoard, ramping: Scalar) -> tuple[SeaquestBoard, Array, Array]:
    """After using oxygen, or surfacing; also what that pays, and whether it was without a diver, which ends the game.

    A full crew leaves; else one diver does. The full crew takes one more with it, so that -1 are left, as in the
    original, whose next surfacing then needs none.
    """
    below = board.y > 0
    arrives = ~below & ~board.surfaced
    empty, full = board.crew == 0, board.crew == CREW
    surfaces = arrives & ~empty
    can_ramp = ramping & ((board.spawn_time > 1) | (board.move_time > LEAST_MOVE_TIME))
    ramps = surfaces & can_ramp
    after = board._replace(
        oxygen=jnp.where(surfaces, number(OXYGEN), minus_one_if(below, board.oxygen)),
        crew=jnp.where(surfaces, jnp.where(full, number(0), board.crew) - 1, board.crew),
        surfaced=~below & (board.surfaced | surfaces),
        move_time=minus_one_if(ramps & (board.move_time > LEAST_MOVE_TIME) & (board.ramp % 2 == 1), board.move_time),
        spawn_time=minus_one_if(ramps & (board.spawn_time > 1), board.spawn_time),
        ramp=board.ramp + ramps.astype(jnp.int32),
    )
    pays = jnp.where(surfaces & full, board.oxygen * SIDE // OXYGEN, number(0))
    return after, pays.astype(jnp.float32), arrives & empty
