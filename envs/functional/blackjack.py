"""Blackjack on the device, equal to Gymnasium's ``Blackjack-v1`` card by card (Sutton & Barto 2018, example 5.1)."""

from typing import Any, NamedTuple

import gymnasium
import jax
import jax.numpy as jnp
from gymnasium.spaces import Discrete
from jax import Array

from rlgd.envs.functional.gym_renderer import Rendered
from rlgd.pytrees import Scalar

GOAL = 21


class BlackjackParams(NamedTuple):
    """The dealer draws below ``dealer_stands``; a natural pays ``natural_pays`` if the dealer has none."""

    dealer_stands: Scalar = 17
    natural_pays: Scalar = 1.0


class Hand(NamedTuple):
    """``total`` int32 counts aces as 1; ``ace`` bool: the hand has one; ``cards`` int32: how many there are."""

    total: Array
    ace: Array
    cards: Array

    @property
    def usable_ace(self) -> Array:
        return self.ace & (self.total + 10 <= GOAL)

    @property
    def value(self) -> Array:
        return jnp.where(self.usable_ace, self.total + 10, self.total)

    @property
    def bust(self) -> Array:
        return self.value > GOAL

    @property
    def score(self) -> Array:
        return jnp.where(self.bust, 0, self.value)

    @property
    def natural(self) -> Array:
        """An ace and a ten."""
        return self.ace & (self.total == 11) & (self.cards == 2)


class BlackjackState(NamedTuple):
    """Both hands; ``shown`` int32 is the dealer's first card; ``stuck`` bool: the player draws no more."""

    player: Hand
    dealer: Hand
    shown: Array
    stuck: Array


def cards(rng: Array, number: int) -> Array:
    """Cards from an infinite deck, ``[number]`` int32: 1 is an ace; jack, queen and king are 10."""
    # Twice as fast as ``jax.random.randint``, which takes twice as many random bits to be exactly uniform.
    rank = 1 + (13 * jax.random.uniform(rng, (number,))).astype(jnp.int32)
    return jnp.minimum(rank, 10)


def hand_of(first: Array, second: Array) -> Hand:
    """The hand of two cards."""
    return Hand(first + second, (first == 1) | (second == 1), jnp.full_like(first, 2))


def choose(condition: Array, if_true: Hand, if_false: Hand) -> Hand:
    """One of two hands, by a condition that is traced."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), if_true, if_false)


class Blackjack(Rendered[BlackjackState, tuple[Array, Array, Array], BlackjackParams]):
    """The player draws (1) or sticks (0); then the dealer draws up to 17, and the greater hand up to 21 wins 1.

    The observation is the player's sum, the dealer's first card and whether the player has an ace that counts 11. A
    natural beats every other hand. The picture shows the dealer's card in spades, and a ten as the king.
    """

    env_id = "Blackjack-v1"
    observation_space = gymnasium.spaces.Tuple([Discrete(32), Discrete(11), Discrete(2)])
    action_space = Discrete(2)

    def get_default_params(self, **kwargs: Any) -> BlackjackParams:
        return BlackjackParams(**kwargs)

    def initial(self, rng: Array, params: BlackjackParams | None = None) -> BlackjackState:
        shown, hidden, first, second = cards(rng, 4)
        return BlackjackState(hand_of(first, second), hand_of(shown, hidden), shown, jnp.zeros((), bool))

    def transition(
        self, state: BlackjackState, action: Array, rng: Array, params: BlackjackParams | None = None
    ) -> BlackjackState:
        params = params or self.default_params
        hits = jnp.asarray(action) == 1

        def draws(hand: Hand) -> Array:
            return jnp.where(hits, hand.cards == state.player.cards, hand.value < params.dealer_stands)

        def deal(hand: Hand) -> Hand:
            card = cards(jax.random.fold_in(rng, hand.cards), 1)[0]
            return Hand(hand.total + card, hand.ace | (card == 1), hand.cards + 1)

        # One hand, the player's or the dealer's: so one loop serves both, and runs as long as the longest draw.
        hand = jax.lax.while_loop(draws, deal, choose(hits, state.player, state.dealer))
        return BlackjackState(choose(hits, hand, state.player), choose(hits, state.dealer, hand), state.shown, ~hits)

    def observation(
        self, state: BlackjackState, rng: Array, params: BlackjackParams | None = None
    ) -> tuple[Array, Array, Array]:
        return state.player.value, state.shown, state.player.usable_ace.astype(jnp.int32)

    def reward(
        self,
        state: BlackjackState,
        action: Array,
        next_state: BlackjackState,
        rng: Array,
        params: BlackjackParams | None = None,
    ) -> Array:
        params = params or self.default_params
        player, dealer = next_state.player, next_state.dealer
        compared = jnp.sign(player.score - dealer.score).astype(float)
        settled = jnp.where(player.natural & ~dealer.natural, params.natural_pays, compared)
        return jnp.where(next_state.stuck, settled, jnp.where(player.bust, -1.0, 0.0))

    def terminal(self, state: BlackjackState, rng: Array, params: BlackjackParams | None = None) -> Array:
        return state.stuck | state.player.bust

    def show(self, state: BlackjackState, env: Any) -> None:
        player, shown = state.player, int(state.shown)
        env.player = [1, player.total - 1] if player.ace else [player.total]
        env.dealer = [shown]
        env.dealer_top_card_suit = "S"
        env.dealer_top_card_value_str = {1: "A", 10: "K"}.get(shown, str(shown))
