"""The plan of a study: its members (one run each), and the groups of members that share a compiled program."""

import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence, Set
from typing import Any, NamedTuple

import jax

from rlgd import hyperparameters
from rlgd.agents import REGISTRY, agent_class, registered_name
from rlgd.agents.base.agent import Agent
from rlgd.envs import DeviceEnv, Env, make
from rlgd.envs.randomization import overridden, overrides
from rlgd.envs.registry import is_known
from rlgd.errors import UsageError, unknown
from rlgd.run.cadence import cadence
from rlgd.run.config import RunConfig, agent_name
from rlgd.run.settings import RunSettings
from rlgd.studies.arms import Point
from rlgd.studies.question import OPTIONS, Question

OF_ENV = "env."  # begins the names of settings that are parameters of the environment
NEVER_VARY = ("max_seconds", "seed", "seeds")


class Group(NamedTuple):
    """Members that share a compiled program.

    Attributes:
        label: how the group differs from the other groups, for people to read.
        members: numbers in ``Plan.members``.
        on_device: whether members are stacked in compiled programs; on the host they train one after another.
    """

    label: str
    members: tuple[int, ...]
    on_device: bool


@dataclasses.dataclass(frozen=True)
class Plan:
    """All that a study trains.

    Attributes:
        question: which the plan answers.
        members: one run each; a run that several arms need is in here once.
        points: for each arm, its points, each with the numbers of its members: one member for each seed.
        given: the agent and the environment that the question alone does not say; None where it does.
        left_out: fixed settings that an agent of the study has not, as sentences for the user.
    """

    question: Question
    members: tuple[RunConfig, ...]
    points: tuple[tuple[tuple[Point, tuple[int, ...]], ...], ...]
    given: tuple[Agent | None, Any] = (None, None)
    left_out: tuple[str, ...] = ()

    @functools.cached_property
    def groups(self) -> tuple[Group, ...]:
        """Members grouped by the pytree structure of their agents, which holds the static fields."""
        return _groups(self.members)

    @property
    def labels(self) -> dict[int, str]:
        """For each member, by its number, its arm and point: of several the first."""
        found: dict[int, str] = {}
        for arm, points in zip(self.question.arms, self.points, strict=True):
            for point, members in points:
                for member in members:
                    found.setdefault(member, f"{arm.title} {point.label}".strip() or "all")
        return found

    @functools.cached_property
    def device_groups(self) -> tuple[Group, ...]:
        """The groups that train on the device."""
        return tuple(group for group in self.groups if group.on_device)

    @property
    def env_ids(self) -> tuple[str, ...]:
        """The ids of the members' environments, each once."""
        return tuple(dict.fromkeys(config.env.env_id for config in self.members))

    @property
    def agent_names(self) -> tuple[str, ...]:
        """The names of the members' agents, each once."""
        return tuple(dict.fromkeys(agent_name(config.agent) for config in self.members))

    @property
    def largest(self) -> RunConfig:
        """The member with the most weights, for which JAX is set up."""
        return max(self.members, key=lambda config: sum(config.agent.num_weights(config.env.spec)))

    def env_of(self, points: Sequence[tuple[Point, Sequence[int]]]) -> Env:
        """The environment of an arm, of which the points are given."""
        (_, members), *_ = points
        return self.members[members[0]].env


def make_plan(question: Question, agent: Agent | None = None, env: Any = None) -> Plan:
    """List the members of a study and check each of them, before anything is compiled.

    Args:
        question: to answer.
        agent: the agent whose settings vary; None: the one that the question names.
        env: the environment; None: the one that the question names.

    Raises:
        UsageError: naming the setting, what was given and what is allowed.
    """
    base = agent or agent_class(question.agent)()
    given_env = question.env if env is None else env
    envs = {arm.env: make(arm.env or given_env) for arm in question.arms}
    if not isinstance(given_env, str):
        if "" not in envs:
            raise UsageError("every arm names an environment, so the one that was given has no use; give an id.")
        if envs[""].env_id in envs:
            raise UsageError(f"an arm names {envs[''].env_id}, which is also the id of the environment that was given.")
    for name in question.envs:
        if not is_known(name):  # those of the arms are known by now: they were made
            raise UsageError(f"the study has settings for {name!r}, which is no environment that is known.")
    agents, told = _agents(question, base), list[str]()
    members: list[RunConfig] = []
    first: dict[str, int] = {}
    points = []
    for arm in question.arms:
        of_arm = []
        for point in arm.points():
            settings = {**question.settings, **question.envs.get(envs[arm.env].env_id, {}), **point.settings}
            left_out = _of_others(agents, settings, set(point.values))
            mine = agent_name(agents[settings.get("agent", "")])
            told += [f"{mine} has no {name}: the study's value is left out" for name in sorted(left_out)]
            config = _run_config(
                question, agents[settings.get("agent", "")], envs[arm.env],
                {name: value for name, value in settings.items() if name not in left_out},
            )  # fmt: skip
            parts = (config.agent, config.settings)
            named = (agent_name(config.agent), config.env.env_id)
            key = json.dumps([named, *map(hyperparameters.to_dict, parts), overrides(config.env)])
            if key not in first:
                first[key] = len(members)
                config.validate()
                members += [config.with_settings(seed=seed) for seed in question.seeds_of_a_point]
            of_arm.append((point, tuple(range(first[key], first[key] + question.seeds))))
        points.append(tuple(of_arm))
    given = base if agent is not None or registered_name(question.agent) not in REGISTRY else None
    return Plan(question, tuple(members), tuple(points), (given, env), tuple(dict.fromkeys(told)))


def _agents(question: Question, base: Agent) -> dict[str, Agent]:
    """The agents of a study by the names that its settings give, its own by ""."""
    points = (point.settings for arm in question.arms for point in arm.points())
    named = {settings["agent"] for settings in (question.settings, *points) if "agent" in settings}
    return {"": base} | {name: agent_class(name)() for name in named}


def _of_others(agents: Mapping[str, Agent], settings: Mapping[str, Any], varied: Set[str]) -> set[str]:
    """The fixed hyper-parameters that a point's agent lacks, and another agent of the study or of rlgd has."""
    mine = hyperparameters.flat_fields(agents[settings.get("agent", "")])
    lacking = {
        name
        for name in settings.keys() - mine.keys() - varied - {"agent", "env", *OPTIONS}
        if not name.startswith(OF_ENV)
    }
    if not lacking:
        return set()
    others = [*agents.values(), *(agent_class(name)() for name in REGISTRY)]
    return lacking & {name for other in others for name in hyperparameters.flat_fields(other)}


def _run_config(question: Question, agent: Agent, env: Env, settings: Mapping[str, Any]) -> RunConfig:
    options = {name: value for name, value in settings.items() if name in OPTIONS}
    of_env = {name: value for name, value in settings.items() if name.startswith(OF_ENV)}
    apart = {*options, *of_env, "agent", "env"}
    values = {name: value for name, value in settings.items() if name not in apart}
    for name in NEVER_VARY:
        if name in values:
            raise UsageError(f"{name} cannot vary between members of a study.")
    known = [*hyperparameters.flat_fields(agent), *OPTIONS]
    for name in values:
        if name not in known:
            raise unknown("hyper-parameter", name, known)
    return RunConfig(
        hyperparameters.with_values(agent, values),
        _env(env, of_env),
        RunSettings.of(
            {"total_timesteps": question.total_timesteps, "eval_episodes": question.eval_episodes, **options}
        ),
    )


def _env(env: Env, values: Mapping[str, Any]) -> Env:
    """The environment with other values of its parameters."""
    if not isinstance(env, DeviceEnv):
        if values:
            raise UsageError(f"{next(iter(values))} cannot vary: {env.env_id} runs on the host, and has no parameters.")
        return env
    return overridden(env, {name.removeprefix(OF_ENV): value for name, value in values.items()})


def _groups(members: Sequence[RunConfig]) -> tuple[Group, ...]:
    by_structure: dict[Any, list[int]] = {}
    structures: dict[int, Any] = {}  # by agent, which the seeds of a point share
    for n, config in enumerate(members):
        agent = id(config.agent)
        if agent not in structures:
            structures[agent] = jax.tree.structure(config.agent.prepared())
        # Without a time limit the longest episode of an evaluation depends on the length of the run.
        key = structures[agent], frozenset(overrides(config.env)), config.env.env_id, cadence(config).eval_max_steps
        by_structure.setdefault(key, []).append(n)
    fixed = [_static(members[numbers[0]]) for numbers in by_structure.values()]
    # Of hyper-parameters only those in which groups of one agent in one environment differ.
    seen: dict[tuple[str, ...], set[str]] = {}
    for values in fixed:
        for name, value in values.items():
            within = () if name in ("env", "agent") else (values["env"], values["agent"])
            seen.setdefault((name, *within), set()).add(str(value))
    differ = list(dict.fromkeys(name for (name, *_), different in seen.items() if len(different) > 1))
    return tuple(
        Group(
            " ".join(f"{name}={values[name]}" for name in differ if name in values) or "all",
            tuple(numbers),
            isinstance(members[numbers[0]].env, DeviceEnv),
        )
        for values, numbers in zip(fixed, by_structure.values(), strict=True)
    )


def _static(config: RunConfig) -> dict[str, str]:
    """What decides a member's program: values of static fields, and whether a traced value is set."""
    flat = hyperparameters.flat_fields(config.agent)
    of_agent = {
        name: field.value if field.field.metadata["static"] else ("set" if field.value is not None else "off")
        for name, field in flat.items()
    }
    parameters = {"parameters": "+".join(overrides(config.env)) or "none"}
    return {"env": config.env.env_id, "agent": agent_name(config.agent), **of_agent, **parameters}
