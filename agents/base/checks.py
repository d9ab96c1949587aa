"""Whether an agent fulfils its contract: the parts of ``rlgd.agents.check``, the simple ones first.

Each check raises one error that names the agent, the part of it, what was found and what is expected.
"""

import contextlib
import functools
import json
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rlgd import hyperparameters as hp
from rlgd.agents.base.agent import Agent
from rlgd.agents.base.contract import FAULT_METRIC, REQUIRED_METRICS, AgentContract
from rlgd.agents.base.trial import random_rollout
from rlgd.errors import UsageError
from rlgd.pytrees import AgentState, Metrics, Params, Rollout, View
from rlgd.spaces import BoxSpec, DiscreteSpec, Spec

DEFAULT_SPEC = Spec(BoxSpec((4,), "float32"), DiscreteSpec(2), max_episode_steps=32)  # as CartPole's, but shorter
TOLERANCE = 1e-4  # between two ways to compile the same arithmetic
MOST_CHARACTERS = 10_000  # of an agent's repr
RATES = ("learning_rate", "value_learning_rate")
INIT, ROLLOUT, UPDATE = range(3)  # purposes of the random keys


def check(agent: AgentContract, env: Any = None) -> None:
    """Check that an agent fulfils ``rlgd.agents.base.contract.AgentContract``; it takes some seconds to compile.

    That it has the fields and methods; prints; survives ``to_dict`` and ``from_dict``; that compiled, vectorized and
    plain Python runs of ``update`` agree; that nothing is compiled twice, dtypes stay, gradients are finite, the same
    seed gives the same bits and another seed others; that learning rate 0 changes no parameter; and that the required
    metrics are there.

    Args:
        agent: with its hyper-parameters; small ones are faster.
        env: an environment of ``rlgd.envs.make``, or its ``Spec``: the agent is tried with such observations and
            actions. None: four numbers and two actions, as in CartPole.

    Raises:
        UsageError: for the first thing that is not as it should be: what, where, and what is expected.
    """
    spec = DEFAULT_SPEC if env is None else getattr(env, "spec", env)
    if not isinstance(spec, Spec):
        raise UsageError(f"env is {env!r}; allowed: an environment of rlgd.envs.make, or its spec.")
    with jax.debug_key_reuse(False):  # the same keys are used in several runs, which are compared
        _check_parts(agent)
        _check_description(agent)
        _check_training(agent, spec)


def _fail(agent: Any, where: str, found: str, expected: str) -> UsageError:
    return UsageError(f"{type(agent).__name__}: {where}: {found}; expected: {expected}.")


@contextlib.contextmanager
def _running(agent: Any, where: str, expected: str) -> Iterator[None]:
    """Name the agent and its method in the error of whatever is raised inside."""
    try:
        yield
    except UsageError:
        raise
    except Exception as error:
        message = str(error).strip().split("\n")[0]
        raise _fail(agent, where, f"it raises {type(error).__name__}: {message}", expected) from error


# ------------------------------------------------------------------------------------------------ as a value


def _check_parts(agent: Any) -> None:
    parameters = getattr(agent, "__dataclass_params__", None)
    if parameters is None or not parameters.frozen:
        raise _fail(
            agent, "class", "it is not a frozen dataclass", "the decorator rlgd.hyperparameters.hyperparameters"
        )
    if jax.tree_util.all_leaves([agent]):
        raise _fail(agent, "class", "it is not a pytree", "the decorator rlgd.hyperparameters.hyperparameters")
    members = [name for name in vars(AgentContract) if not name.startswith("_")] + ["whole_episodes"]
    missing = [name for name in members if not hasattr(agent, name)]
    if not missing and not agent.whole_episodes and not hasattr(agent, "rollout_length"):
        missing = ["rollout_length"]
    if missing:
        raise _fail(agent, "class", f"it has no {', '.join(missing)}", "all parts of AgentContract")
    if not isinstance(agent, Agent):
        raise _fail(agent, "class", "rlgd.train takes no other agents", "a subclass of rlgd.agents.Agent")
    passes = agent.passes()
    if not isinstance(passes, int) or passes < 1:
        raise _fail(agent, "passes()", f"it returns {passes!r}", "a whole number, at least 1")


def _check_description(agent: Any) -> None:
    agent.validate()
    text = repr(agent)
    if type(agent).__name__ not in text or len(text) > MOST_CHARACTERS:
        raise _fail(
            agent, "repr", f"{text[:60]!r}...", f"the class and its fields, within {MOST_CHARACTERS} characters"
        )
    with _running(agent, "fields", "values that become JSON by rlgd.hyperparameters.to_dict, and come back"):
        written = hp.to_dict(agent)
        read = hp.to_dict(hp.from_dict(type(agent)(), json.loads(json.dumps(written))))
    changed = sorted(name for name in written if written[name] != read[name])
    if changed:
        raise _fail(agent, "fields", f"{', '.join(changed)} changed", "the same values after to_dict and from_dict")


# ------------------------------------------------------------------------------------------------ as an algorithm


class _Trial:
    """An agent, ready for tracing, with a state and a rollout; ``traces`` counts how often ``update`` was compiled."""

    def __init__(self, agent: Any, spec: Spec) -> None:
        self.agent, self.spec, self.traces = agent.prepared(), spec, 0
        self.init = jax.jit(lambda agent, key: agent.init(spec, key))
        self.update = jax.jit(self._update)
        with _running(agent, "init", "arrays that JAX can compute from spec and key"):
            self.state: AgentState = self.init(self.agent, _key(INIT))
        with _running(agent, "act", "actions and a memory of constant shapes, that JAX can compile"):
            rollout = jax.jit(lambda agent, state, key: random_rollout(agent, spec, state, key))
            self.rollout: Rollout = rollout(self.agent, self.state, _key(ROLLOUT))
        self.given = (self.state, self.rollout, jnp.zeros(()), _key(UPDATE))

    def _update(
        self, agent: Any, state: AgentState, rollout: Rollout, progress: Array, key: Array
    ) -> tuple[AgentState, Metrics]:
        self.traces += 1
        return agent.update(self.spec, state, rollout, progress, key)

    def with_values(self, **values: float) -> Any:
        """The agent with other values of those hyper-parameters that it has and that are set."""
        known = {name for name, flat in hp.flat_fields(self.agent).items() if flat.value is not None}
        numbers = {name: jnp.zeros(()) + value for name, value in values.items() if name in known}
        return hp.with_values(self.agent, numbers)


def _key(purpose: int, seed: int = 0) -> Array:
    return jax.random.fold_in(jax.random.key(seed), purpose)


def _check_training(agent: Any, spec: Spec) -> None:
    trial = _Trial(agent, spec)
    _check_acting(trial)
    with _running(agent, "update", "pure arithmetic on arrays, that JAX can compile"):
        after, metrics = trial.update(trial.agent, *trial.given)
    _check_types(trial, after)
    _check_metrics(trial.agent, metrics)
    _check_gradient(trial, after)
    _check_half_gradients(trial)
    _check_seeds(trial, after)
    _check_learning_rate_0(trial)
    _check_compiled_once(trial, after)
    _check_eager(trial, after, metrics)
    _check_stacked(trial, after)


def _check_acting(trial: _Trial) -> None:
    agent, spec, rows = trial.agent, trial.spec, trial.rollout
    view = View(jax.tree.map(lambda x: x[0], rows.obs), rows.first)
    act = functools.partial(agent.act, spec, trial.state.actor, rows.memory, view)
    action, other = (np.asarray(act(_key(UPDATE, seed), greedy=True)[0]) for seed in range(2))
    if not np.array_equal(action, other):
        raise _fail(agent, "act(greedy=True)", "actions that depend on the key", "the most probable ones")
    with _running(agent, "action_head", "actions in the form that the environment receives"):
        sent = agent.action_head(spec).to_env(jnp.asarray(action))
    if sent.shape[0] != agent.num_envs:
        raise _fail(agent, "act", f"actions {sent.shape}", f"one for each of {agent.num_envs} environments first")


def _check_types(trial: _Trial, after: AgentState) -> None:
    """Structure, shapes, dtypes and weak types of the state: what changes would be compiled again."""
    before, now = (_types(state) for state in (trial.state, after))
    for path in sorted({*before, *now}):
        if before.get(path) != now.get(path):
            found = f"state{path} is {now.get(path, 'missing')}"
            raise _fail(trial.agent, "update", found, f"{before.get(path, 'nothing')}, as init returns it")


def _types(tree: Any) -> dict[str, str]:
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path): str(jax.typeof(leaf)) for path, leaf in leaves}


def _check_metrics(agent: Any, metrics: Metrics) -> None:
    where = "metrics of update"
    for name, what in [*REQUIRED_METRICS.items(), (FAULT_METRIC, "0 for each step that is finite")]:
        if name not in metrics:
            raise _fail(agent, where, f"no {name!r}", what)
    if not jnp.issubdtype(metrics[FAULT_METRIC].dtype, jnp.integer):
        raise _fail(agent, where, f"{FAULT_METRIC} is {metrics[FAULT_METRIC].dtype}", "an integer type")
    for name, value in metrics.items():
        if name != FAULT_METRIC and not name.startswith(("train/", "ascent/")):
            raise _fail(agent, where, f"a metric {name!r}", "names that begin with train/ or ascent/")
        if name != FAULT_METRIC and jnp.shape(value) != ():
            raise _fail(agent, where, f"{name!r} has shape {jnp.shape(value)}", "scalars")
        if (name in REQUIRED_METRICS and not jnp.isfinite(value)) or (name == FAULT_METRIC and jnp.any(value != 0)):
            raise _fail(agent, where, f"{name} is {value}", "finite numbers, and no fault")


def _check_gradient(trial: _Trial, after: AgentState) -> None:
    agent = trial.agent
    with _running(agent, "gradient", "pure arithmetic on arrays, that JAX can compile"):
        gradient = jax.jit(lambda agent, *given: agent.gradient(trial.spec, *given))(agent, *trial.given)
    if not _alike(gradient, trial.state.params):
        raise _fail(agent, "gradient", f"a {type(gradient).__name__}", f"{Params.__name__} like the state's")
    for where, tree in (("gradient", gradient), ("update", after)):
        for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
            if not jnp.isfinite(leaf).all():
                raise _fail(agent, where, f"{jax.tree_util.keystr(path)} is not finite", "finite numbers")


def _check_half_gradients(trial: _Trial) -> None:
    agent, where, policy = trial.agent, "half_gradients", trial.state.params.policy
    with _running(agent, where, "pure arithmetic on arrays, that JAX can compile"):
        parts = jax.eval_shape(lambda agent, *given: agent.half_gradients(trial.spec, *given), agent, *trial.given)
    shapes = [[leaf.shape for leaf in jax.tree.leaves(tree)] for tree in (parts, policy)]
    if not _alike(parts, policy) or shapes[0] not in ([(number, *shape) for shape in shapes[1]] for number in (1, 2)):
        found = f"{type(parts).__name__} of shapes {shapes[0][:3]}"
        raise _fail(agent, where, found, f"the policy's parameters, {shapes[1][:3]}, with an axis of 1 or 2 in front")


def _check_seeds(trial: _Trial, after: AgentState) -> None:
    agent, again, other = trial.agent, trial.init(trial.agent, _key(INIT)), trial.init(trial.agent, _key(INIT, 1))
    if not _same(trial.state, again) or not _same(after, trial.update(agent, *trial.given)[0]):
        raise _fail(agent, "init and update", "other bits from the same key", "the same bits")
    if _same(trial.state.params, other.params):
        raise _fail(agent, "init", "the same parameters from two keys", "random ones, drawn from the key")


def _check_learning_rate_0(trial: _Trial) -> None:
    after, _ = trial.update(trial.with_values(**dict.fromkeys(RATES, 0.0)), *trial.given)
    if not _same(trial.state.params, after.params):
        raise _fail(trial.agent, "update", "parameters that change with learning rate 0", "the parameters given")


def _check_compiled_once(trial: _Trial, after: AgentState) -> None:
    """With other values, and with the state that it returned."""
    trial.update(trial.with_values(gamma=0.5), after, *trial.given[1:])
    if trial.traces != 1:
        expected = "one; numbers that enter arithmetic are traced"
        raise _fail(trial.agent, "update", f"{trial.traces} compilations for other values of the same types", expected)


def _check_eager(trial: _Trial, after: AgentState, metrics: Metrics) -> None:
    with _running(trial.agent, "update without jit", "the same arithmetic as with it"):
        eager = trial.agent.update(trial.spec, *trial.given)
    if not _same((after, metrics), eager, TOLERANCE):
        raise _fail(trial.agent, "update", "other numbers without jit than with it", f"the same within {TOLERANCE}")


def _check_stacked(trial: _Trial, after: AgentState) -> None:
    """Two agents with other learning rates, in one program: as two that are updated one by one."""
    agents = [trial.agent, trial.with_values(learning_rate=1e-2)]
    with _running(trial.agent, "update under vmap", "arithmetic that JAX can vectorize over stacked agents"):
        stacked = jax.tree.map(lambda *x: jnp.stack(x), *agents)
        update = jax.vmap(lambda agent: agent.update(trial.spec, *trial.given)[0])
        together = jax.jit(update)(stacked)
    alone = [after, trial.update(agents[1], *trial.given)[0]]
    for i, one in enumerate(alone):
        if not _same(jax.tree.map(lambda x, i=i: x[i], together), one, TOLERANCE):
            raise _fail(trial.agent, "update", "other numbers under vmap than alone", f"the same within {TOLERANCE}")


def _same(a: Any, b: Any, tolerance: float = 0.0) -> bool:
    def close(x: Any, y: Any) -> bool:
        return x.dtype == y.dtype and np.allclose(x, y, rtol=tolerance, atol=tolerance, equal_nan=True)

    return _alike(a, b) and all(map(close, *(jax.tree.leaves(tree) for tree in (a, b))))


def _alike(a: Any, b: Any) -> bool:
    """Whether two trees have the same structure."""
    structures: list[Any] = [jax.tree.structure(tree) for tree in (a, b)]
    return structures[0] == structures[1]
