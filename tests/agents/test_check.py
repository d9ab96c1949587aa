"""``rlgd.agents.check``: an agent of one's own passes, and what is wrong with a broken one is named."""

import dataclasses
import itertools
import pydoc
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

import rlgd
from rlgd import spaces
from rlgd.agents import PPO, check
from rlgd.agents.base.actor_critic import RolloutAgent
from rlgd.agents.base.contract import AgentContract
from rlgd.agents.base.experience import Experience, experience
from rlgd.agents.base.gradients import Gradient, policy_and_value_gradient
from rlgd.agents.base.learning import climb_once, conclude
from rlgd.errors import UsageError
from rlgd.hyperparameters import hyperparameters, static, traced
from rlgd.maths.distributions import Distribution
from rlgd.pytrees import AgentState, Metrics, Params, Rollout
from rlgd.spaces import Spec


@hyperparameters
class Exponential(RolloutAgent):
    """Raises the probability of actions by exp(advantage / temperature), as in advantage-weighted regression."""

    temperature: float = traced(1.0, "the lower, the more the best actions count", "(0, inf)")

    def update(
        self, spec: Spec, state: AgentState, rollout: Rollout, progress: Array, key: Array
    ) -> tuple[AgentState, Metrics]:
        """One iteration: one step on the whole rollout."""
        rows = experience(self, spec, state, rollout)
        gradient, metrics = self._weighted(spec, progress)(state.params, rows, key)
        params, opt_state, metrics = climb_once(self, state, gradient, metrics, progress)
        return conclude(self, spec, state, rollout, params, opt_state, rows.value_memory), metrics

    def gradient(self, spec: Spec, state: AgentState, rollout: Rollout, progress: Array, key: Array) -> Params:
        """The estimate that ``update`` follows."""
        rows = experience(self, spec, state, rollout)
        return self._weighted(spec, progress)(state.params, rows, key)[0]

    def passes(self) -> int:
        """Acting, and one gradient."""
        return 2

    def _weighted(self, spec: Spec, progress: Array) -> Gradient:
        def likelihood(policy: Distribution, rows: Experience) -> tuple[Array, Metrics]:
            weight = jnp.exp(jnp.minimum(rows.advantage / self.temperature, 5.0))
            return jnp.mean(weight * policy.log_prob(rows.action)), {}

        return policy_and_value_gradient(self, spec, progress, likelihood)


SMALL: dict[str, Any] = {"num_envs": 2, "rollout_length": 4, "hidden_sizes": (), "measure_every": 0}
GOOD = Exponential(**SMALL)


def test_an_agent_of_ones_own_passes_and_trains() -> None:
    contract: AgentContract = GOOD
    assert check(contract) is None  # type: ignore[func-returns-value]
    result = rlgd.train(GOOD, "CartPole-v1", total_timesteps=64)
    assert result.steps == 64


@pytest.mark.slow
def test_it_is_tried_with_the_spaces_that_are_given() -> None:
    image_and_number = gymnasium.spaces.Dict(
        {"image": gymnasium.spaces.Box(0, 255, (8, 8, 1), np.uint8), "number": gymnasium.spaces.Discrete(3, start=1)}
    )
    spec = spaces.spec(image_and_number, gymnasium.spaces.MultiDiscrete([2, 3]), 16)
    check(dataclasses.replace(GOOD, normalize_obs=True, scale_reward=True), spec)
    with pytest.raises(UsageError, match="env is 'CartPole-v1'; allowed: an environment of"):
        check(GOOD, "CartPole-v1")
    with pytest.raises(UsageError, match="box_std is 'gsde', but the actions are Discrete"):
        check(PPO(box_std="gsde"))


# ------------------------------------------------------------------------------------------------ broken agents


class Plain:
    """Not a dataclass."""


@dataclasses.dataclass(frozen=True)
class NoTree:
    """Not a pytree."""

    num_envs: int = 1


@hyperparameters
class NoMethods:
    """A few hyper-parameters alone."""

    num_envs: int = static(2, "environments", "[1, inf)")
    gamma: float = traced(0.9, "discount", "[0, 1]")


@hyperparameters
class NoPasses(Exponential):
    """An iteration that costs nothing."""

    def passes(self) -> int:
        return 0


@hyperparameters
class NotWritable(Exponential):
    """A hyper-parameter that is no value."""

    rule: Any = static(len, "a function")


@hyperparameters
class Unstacked(Exponential):
    """One gradient where halves are asked for."""

    def half_gradients(self, spec: Spec, state: AgentState, rollout: Rollout, progress: Array, key: Array) -> Any:
        return self.gradient(spec, state, rollout, progress, key).policy


@hyperparameters
class NoRandomness(Exponential):
    """The same parameters whatever the key."""

    def init(self, spec: Spec, key: Array) -> AgentState:
        return super().init(spec, jax.random.key(0))


@hyperparameters
class NotFinite(Exponential):
    """A gradient that is not finite."""

    def gradient(self, spec: Spec, state: AgentState, rollout: Rollout, progress: Array, key: Array) -> Params:
        return jax.tree.map(lambda x: jnp.full_like(x, jnp.nan), state.params)


@hyperparameters
class Changed(Exponential):
    """An update that does one thing wrong."""

    fault: str = static("", "what is wrong")

    def update(
        self, spec: Spec, state: AgentState, rollout: Rollout, progress: Array, key: Array
    ) -> tuple[AgentState, Metrics]:
        """That of ``Exponential``, spoiled."""
        after, metrics = super().update(spec, state, rollout, progress, key)
        policy = after.params.policy
        if self.fault == "branch" and self.gamma > 0.5:
            metrics = {}
        if self.fault == "no metric":
            del metrics["train/entropy"]
        if self.fault == "no scalar":
            metrics["train/rewards"] = rollout.reward
        if self.fault == "name":
            metrics["entropy"] = metrics["train/entropy"]
        if self.fault == "type":
            policy = jax.tree.map(lambda x: x.astype(jnp.float16), policy)
        if self.fault == "drift":
            policy = jax.tree.map(lambda x: x + 1e-3, policy)
        if self.fault == "impure":
            noise = self.ascent.step_size(progress) * next(COUNTER)
            policy = jax.tree.map(lambda x: x + noise, policy)
        return dataclasses.replace(after, params=dataclasses.replace(after.params, policy=policy)), metrics


COUNTER = itertools.count(1)
BROKEN: list[tuple[Any, str]] = [
    (Plain(), "Plain: class: it is not a frozen dataclass; expected: the decorator"),
    (NoTree(), "NoTree: class: it is not a pytree"),
    (NoMethods(), "NoMethods: class: it has no ascent, .*passes, .*update, .*; expected: all parts of AgentContract"),
    (NoPasses(**SMALL), r"NoPasses: passes\(\): it returns 0; expected: a whole number, at least 1"),
    (NotWritable(**SMALL), "NotWritable: fields: it raises TypeError: .* not JSON serializable; expected: values that"),
    (dataclasses.replace(GOOD, temperature=-1.0), "temperature is -1.0; allowed"),
    (Unstacked(**SMALL), "Unstacked: half_gradients: dict of shapes"),
    (NoRandomness(**SMALL), "NoRandomness: init: the same parameters from two keys"),
    (NotFinite(**SMALL), "NotFinite: gradient: .policy.* is not finite"),
    (Changed(**SMALL, fault="branch"), "Changed: update: it raises TracerBoolConversionError: .*; expected: pure"),
    (Changed(**SMALL, fault="no metric"), "Changed: metrics of update: no 'train/entropy'; expected: mean entropy"),
    (Changed(**SMALL, fault="no scalar"), r"'train/rewards' has shape \(4, 2\); expected: scalars"),
    (Changed(**SMALL, fault="name"), "a metric 'entropy'; expected: names that begin with train/ or ascent/"),
    (Changed(**SMALL, fault="type"), r"update: state.params.policy.* is float16.*; expected: float32"),
    (Changed(**SMALL, fault="drift"), "Changed: update: parameters that change with learning rate 0"),
    (Changed(**SMALL, fault="impure"), "Changed: update: other numbers without jit than with it"),
]


@pytest.mark.parametrize(("agent", "message"), BROKEN, ids=[message[:30] for _, message in BROKEN])
def test_what_is_broken_is_named(agent: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check(agent)


def test_an_agent_without_an_update_cannot_be_made() -> None:
    @hyperparameters
    class Nothing(RolloutAgent):
        """Nothing of its own."""

    with pytest.raises(TypeError, match=r"abstract methods.* '?gradient'?, '?passes'?, '?update'?"):
        Nothing()  # type: ignore[abstract]


def test_the_help_of_an_agent_explains_every_field() -> None:
    text = pydoc.render_doc(PPO, renderer=pydoc.TextDoc())
    for field in dataclasses.fields(PPO):
        assert f"{field.name} (" in text
    assert "clip_eps (float, default 0.2): how far the policy's ratio may move before it is clipped; in (0," in text
    assert "ascent (Ascent): see Ascent" in text


def test_a_flat_name_that_a_part_has_too_is_refused_at_once() -> None:
    with pytest.raises(TypeError, match="TwiceTheName declares momentum twice, also in a part"):

        @hyperparameters
        class TwiceTheName(Exponential):
            momentum: float = traced(0.5, "of something else", "[0, 1]")
