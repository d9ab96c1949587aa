"""Policy and value function of an agent in one environment: from observations to actions and values."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from rlgd.agents.base.exploration import Decision, Exploration, Greedy
from rlgd.agents.base.memory import Memory, for_network
from rlgd.maths import running_statistics
from rlgd.maths.distributions import Distribution
from rlgd.models.action_heads import ActionHead
from rlgd.models.features import encode, images
from rlgd.models.networks import Network, are_alike, outputs_of, outputs_on, read_together
from rlgd.models.torsos import NetworkOutput
from rlgd.pytrees import Actor, Features, Obs, Params, Scalar, View
from rlgd.spaces import Spec
from rlgd.system.layout import layout


@dataclasses.dataclass(frozen=True)
class Networks:
    """Policy and value function of an agent in one environment: pure functions of parameters.

    Attributes:
        spec: the environment.
        head: how the policy's outputs become actions.
        policy: from features to the outputs that ``head`` reads.
        value: from features to one number.
        exploration: how actions are sampled.
        log_std_init: the first log standard deviations; None: the default of ``make_exploration``.
        alike: whether both networks have the same layers and read the same features.
        shared: whether they are the very same layers: the value function's parameters are those of its outputs alone.
    """

    spec: Spec
    head: ActionHead
    policy: Network
    value: Network
    exploration: Exploration
    log_std_init: Scalar | None
    alike: bool
    shared: bool

    def init(self, key: Array) -> Params:
        """New parameters. Those of the policy are ``network``, and ``log_std`` where its distribution has any."""
        policy_key, value_key = jax.random.split(key)
        policy = {"network": self.policy.init(policy_key)}
        if self.head.num_log_stds:
            policy["log_std"] = self.exploration.initial_log_std(self.log_std_init)
        value = self.value.init(value_key)
        return Params(policy, outputs_of(value) if self.shared else value)

    def memory(self, num_envs: int) -> Any:
        """What the policy keeps before the first step: a ``Memory``, or () if it keeps nothing."""
        hidden, kept = self.policy.blank_memory(num_envs), self.exploration.begin(num_envs)
        if hidden is None:
            return () if kept is None else kept
        return (Memory(None, None, None) if kept is None else kept)._replace(hidden=hidden)

    def decide(self, policy: Any, features: Features, key: Array | None = None) -> Decision:
        """What the policy with these parameters says at features ``[...]``; with a key, under dropout."""
        return self._decision(
            policy, features, self.policy.read(policy["network"], for_network(features, "policy"), key)
        )

    def _decision(self, policy: Any, features: Features, output: NetworkOutput) -> Decision:
        log_std = policy.get("log_std")
        distribution = self.head.distribution(output.outputs, log_std, features.action_mask, output.hidden)
        return Decision(distribution, output, log_std)

    def distribution(self, policy: Any, features: Features, key: Array | None = None) -> Distribution:
        """The action distribution at features ``[...]``, among the actions allowed; with a key, under dropout."""
        return self.decide(policy, features, key).policy

    def read_value(self, params: Params, features: Features, key: Array | None = None) -> NetworkOutput:
        """What the value function's network returns at features ``[...]``; with a key, under dropout."""
        given = for_network(features, "value")
        if self.shared:
            return outputs_on(params.value, self.policy.read(params.policy["network"], given, key))
        return self.value.read(params.value, given, key)

    def read(
        self, params: Params, features: Features, keys: tuple[Array | None, Array | None] = (None, None)
    ) -> tuple[Decision | None, NetworkOutput | None]:
        """``decide`` and ``read_value`` at the same features, each with a key; None where there is no tree.

        Layers that both share are read once, with the policy's memory and its key: so their gradient is taken once too.
        """
        if self.shared and params.policy is not None and params.value is not None:
            decided = self.decide(params.policy, features, keys[0])
            return decided, outputs_on(params.value, decided.output)
        networks = (None if params.policy is None else params.policy["network"]), params.value
        # Of convolutions with an axis more a GPU makes slow, grouped ones.
        if features.images or not (self.alike and layout().joins_networks and are_alike(*networks)):
            decision = None if params.policy is None else self.decide(params.policy, features, keys[0])
            return decision, None if params.value is None else self.read_value(params, features, keys[1])
        given = for_network(features, "policy"), for_network(features, "value")
        output, value = read_together(self.policy, networks, given, keys)
        decision = self._decision(params.policy, features, output)
        return decision, value._replace(outputs=value.outputs[..., :1])

    def act(self, actor: Actor, memory: Any, view: View, key: Array, greedy: bool = False) -> tuple[Array, Any]:
        """An action for each environment; see ``Agent.act``."""
        decision = self.decide_at(actor, memory, view)
        kept = None if memory == () else memory._replace(hidden=decision.output.memory)
        choice = Greedy() if greedy else self.exploration
        action, kept = choice.choose(decision, kept, jnp.asarray(view.first), key)
        return action, () if kept is None else kept

    def decide_at(self, actor: Actor, memory: Any, view: View) -> Decision:
        """What a policy with this memory says at what it sees, ``[N, ...]``."""
        features = features_of(self.spec, actor.obs_statistics, view.obs, view.action_mask)
        if self.policy.memory_size is not None:
            features = features._replace(first=view.first, memory=Params(memory.hidden, None))
        return self.decide(actor.policy, features)


def features_of(spec: Spec, obs_statistics: Any, obs: Obs, action_mask: Array | None = None) -> Features:
    """What the networks read of ``obs [..., *shape]``: numbers encoded and normalized, images as they are."""
    vector = running_statistics.normalize(obs_statistics, encode(spec.obs, obs))
    return Features(vector, images(spec.obs, obs), action_mask)
