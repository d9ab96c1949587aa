"""A study worked out: its members, each a run of its own, and the groups of them that share a program."""

import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax

from rlgd import hyperparameters
from rlgd.agents import make_agent
from rlgd.agents.base.agent import Agent
from rlgd.envs import DeviceEnv, Env, make
from rlgd.errors import UsageError, unknown
from rlgd.run.config import RunConfig
from rlgd.run.settings import RunSettings
from rlgd.studies.arms import Point
from rlgd.studies.question import OPTIONS, Question

NEVER_VARY = ("max_seconds", "env", "agent", "seed", "seeds")


class Group(NamedTuple):
    """Members that share a program: ``label`` is what sets them apart from other groups, in words."""

    label: str
    members: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Plan:
    """A study worked out.

    Attributes:
        question: what is asked.
        env: where.
        members: every run, each once even if several arms have it.
        points: of each arm, its points with the numbers of their members, a seed each.
    """

    question: Question
    env: Env
    members: tuple[RunConfig, ...]
    points: tuple[tuple[tuple[Point, tuple[int, ...]], ...], ...]

    @functools.cached_property
    def groups(self) -> tuple[Group, ...]:
        """The members by program: by the structure of their agents, which is what is static."""
        return _groups(self.members)

    @property
    def on_device(self) -> bool:
        return isinstance(self.env, DeviceEnv)


def plan(question: Question, agent: Agent | None = None, env: Any = None) -> Plan:
    """Work out a study, and check every member, before anything is compiled.

    Args:
        question: what is asked.
        agent: to vary, if it is not the question's by its name.
        env: where, if it is not the question's by its id.

    Raises:
        UsageError: naming the setting, what was given and what is allowed.
    """
    base = agent or make_agent(question.agent)
    made = make(question.env if env is None else env)
    members: list[RunConfig] = []
    first: dict[str, int] = {}
    points = []
    for arm in question.arms:
        of_arm = []
        for point in arm.points():
            settings = _run_config(question, base, made, {**question.settings, **point.settings})
            own = settings.settings
            key = json.dumps([hyperparameters.to_dict(settings.agent), own.ending(), own.eval_every])
            if key not in first:
                first[key] = len(members)
                settings.validate()
                members += [settings.with_settings(seed=seed) for seed in range(question.seeds)]
            of_arm.append((point, tuple(range(first[key], first[key] + question.seeds))))
        points.append(tuple(of_arm))
    return Plan(question, made, tuple(members), tuple(points))


def _run_config(question: Question, agent: Agent, env: Env, settings: Mapping[str, Any]) -> RunConfig:
    options = {name: value for name, value in settings.items() if name in OPTIONS}
    values = {name: value for name, value in settings.items() if name not in OPTIONS}
    for name in NEVER_VARY:
        if name in values:
            raise UsageError(f"{name} cannot vary between the members of a study.")
    known = [*hyperparameters.flat_fields(agent), *OPTIONS]
    for name in values:
        if name not in known:
            raise unknown("hyper-parameter", name, known)
    return RunConfig(
        hyperparameters.with_values(agent, values),
        env,
        RunSettings.of(
            {"total_timesteps": question.total_timesteps, "eval_episodes": question.eval_episodes, **options}
        ),
    )


def _groups(members: Sequence[RunConfig]) -> tuple[Group, ...]:
    by_structure: dict[Any, list[int]] = {}
    for n, settings in enumerate(members):
        by_structure.setdefault(jax.tree.structure(settings.agent.prepared()), []).append(n)
    fixed = [_static(members[numbers[0]].agent) for numbers in by_structure.values()]
    differ = [name for name in fixed[0] if len({str(values[name]) for values in fixed}) > 1]
    return tuple(
        Group(" ".join(f"{name}={values[name]}" for name in differ) or "all", tuple(numbers))
        for values, numbers in zip(fixed, by_structure.values(), strict=True)
    )


def _static(agent: Agent) -> dict[str, Any]:
    """What decides an agent's program; of a traced field only whether it is set."""
    flat = hyperparameters.flat_fields(agent)
    return {
        name: field.value if field.field.metadata["static"] else ("set" if field.value is not None else "off")
        for name, field in flat.items()
    }
