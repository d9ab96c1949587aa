"""What a new run takes over from an earlier one, or from a policy: parameters, normalizers, the optimizer's state."""

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import jax
import numpy as np

from rlgd import hyperparameters as hp
from rlgd.errors import UsageError
from rlgd.evaluation.evaluator import check_fit
from rlgd.evaluation.policy import Policy
from rlgd.pytrees import AgentState, Params, named_leaves
from rlgd.run.config import RunConfig
from rlgd.run.inherited import Inherited
from rlgd.run.loading import load_state
from rlgd.training import federation

# Hyper-parameters that decide what parameters mean, whatever their shapes are.
OF_NETWORK = ("network", "critic_obs", "hidden_sizes", "activation", "memory_width", "box_distribution", "box_std")
OBJECT = "an object: "  # begins the description of a policy that is in no file


def described(init: Policy | str | Path | None) -> Any:
    """What ``init`` is in ``config.json``: a path, or the digest of a policy."""
    if isinstance(init, Policy):
        digest = hashlib.sha256()
        for name, leaf in named_leaves(init.actor).items():
            digest.update(name.encode() + np.asarray(leaf).tobytes())
        return f"{OBJECT}{init!r}, SHA-256 {digest.hexdigest()}"
    return str(init) if isinstance(init, Path) else init


def read(config: RunConfig) -> RunConfig:
    """The configuration with what the run takes over, naming the checkpoint that it was; it is read once.

    Raises:
        UsageError: if there is nothing to take over, or it does not fit the agent, the environment or the settings.
        StorageFault: if it is damaged.
    """
    name = config.settings.init
    if name is None or isinstance(config.init, Inherited):
        return config
    path = Path(name)
    if config.init is None and name.startswith(OBJECT):
        raise UsageError(f"init is {name}, which is in no file; give it again: init=policy.")
    if config.init is not None or path.is_file():
        policy = config.init or Policy.load(path)
        agent, spec, actor = policy.agent, policy.spec, policy.actor
        if config.settings.init_optimizer:
            raise UsageError("init_optimizer is set, but init is a policy, which has none; give the run.")
        nothing: Any = None
        state = AgentState(Params(actor.policy, nothing), nothing, obs_statistics=actor.obs_statistics)
    else:
        path, agent, spec, state = load_state(path)
        config = config.with_settings(init=str(path))
    check_fit("earlier policy", spec, config.env)
    inherited = Inherited(agent, state)
    _check(inherited, config)
    return dataclasses.replace(config, init=inherited)


def _check(inherited: Inherited, config: RunConfig) -> None:
    """Refuse what does not fit the agent, naming the hyper-parameters that differ, or an array."""
    names = [*OF_NETWORK, *(["normalize_obs"] if config.settings.init_normalizers else [])]
    names += ["optimizer"] if config.settings.init_optimizer else []
    before, now = hp.to_dict(inherited.agent), hp.to_dict(config.agent)
    both = [name for name in names if name in before and name in now]
    # Of objects that are described alike only the number after the description differs.
    differ = [name for name in both if str(before[name]).partition("#")[0] != str(now[name]).partition("#")[0]]
    agent = config.agent.prepared()
    new = jax.eval_shape(lambda key: federation.init(agent, config.env.spec, key), jax.random.key(0))
    if not differ:
        after = jax.eval_shape(lambda begun: inherited.taken_over_by(config.agent, config.settings, begun), new)
        arrays, wanted = named_leaves(after), named_leaves(new)
        differ = [n for n in {**arrays, **wanted} if _shape(arrays.get(n)) != _shape(wanted.get(n))]
        before, now = ({n: _shape(each.get(n)) for n in differ} for each in (arrays, wanted))
    if differ:
        listed = "; ".join(f"{name}: there {before.get(name)}, here {now.get(name)}" for name in differ[:3])
        raise UsageError(f"init does not fit {type(config.agent).__name__}: {listed}.")


def _shape(leaf: Any) -> str:
    return "nothing" if leaf is None else f"{leaf.dtype}{list(leaf.shape)}"
