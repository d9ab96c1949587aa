"""The trials of a search."""

import dataclasses
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from rlgd import hyperparameters
from rlgd.agents.base.agent import Agent
from rlgd.envs import DeviceEnv, Env
from rlgd.errors import UsageError
from rlgd.maths import confidence
from rlgd.maths.confidence import Interval
from rlgd.run.config import RunConfig, agent_name
from rlgd.studies import slices
from rlgd.studies.arms import Arm
from rlgd.studies.execution import MEMORY_SHARE, Execution, alone, train_members
from rlgd.studies.outcome import Outcome
from rlgd.studies.plan import Plan, plan
from rlgd.studies.programs import ProgramCache, Programs
from rlgd.studies.question import Question
from rlgd.system import ram
from rlgd.training import footprint
from rlgd.tuning.space import Dimension

RUNGS = 5  # evaluations of a trial on the device, after each of which it may be pruned


class Misfit(Exception):
    """Values that do not fit together: no trial, but no reason to end the search."""


@dataclasses.dataclass(frozen=True)
class Task:
    """What every trial trains."""

    agent: Agent
    env: Env
    total_timesteps: int
    eval_episodes: int
    seeds: int
    fresh_seeds: int
    _caches: dict[Any, ProgramCache] = dataclasses.field(default_factory=dict)

    def asked(self, space: Mapping[str, Dimension]) -> dict[str, Any]:
        """What a search that goes on must have in common with this one, as plain values."""
        content = {
            "agent": agent_name(self.agent),
            "env": self.env.env_id,
            "hyperparameters": hyperparameters.to_dict(self.agent),
            "search": dict(space),
            "seeds": self.seeds,
            "total_timesteps": self.total_timesteps,
            "eval_episodes": self.eval_episodes,
        }
        plain: dict[str, Any] = json.loads(json.dumps(content))
        return plain

    def plan(self, values: Mapping[str, Any]) -> Plan:
        """The members of a trial, and behind them those with fresh seeds.

        Raises:
            Misfit: if values of the search do not fit together.
            UsageError: if nothing could.
        """
        every = -(-self.total_timesteps // RUNGS)
        question = Question(
            (Arm(cases={"trial": values}),),
            name="tune",
            env=self.env.env_id,
            settings={"eval_every": every} if isinstance(self.env, DeviceEnv) else {},
            total_timesteps=self.total_timesteps,
            seeds=self.seeds + self.fresh_seeds,
            eval_episodes=self.eval_episodes,
        )
        try:
            worked_out = plan(question, self.agent, self.env)
            footprint.check(worked_out.members[0].agent, self.env)
            return worked_out
        except UsageError as error:
            if not values:
                raise
            raise Misfit(str(error)) from error

    def scores(
        self, values: Mapping[str, Any], on_progress: Callable[[Sequence[float], Sequence[float]], None]
    ) -> list[float]:
        """Train a trial's seeds; ``on_progress`` the returns of finished seeds and of others so far, it may raise."""
        worked_out = self.plan(values)
        members = worked_out.members[: self.seeds]
        done: list[float] = []
        if not worked_out.on_device:
            for settings in members:
                done.append(alone(settings).episode_return)
                on_progress(done, ())
            return done
        programs = self._programs(members[0])
        for start in range(0, len(members), programs.size):
            part = members[start : start + programs.size]
            outcomes = slices.train(programs, part, functools.partial(on_progress, tuple(done)))
            done += [outcome.episode_return for outcome in outcomes]
        return done

    def _programs(self, settings: RunConfig) -> Programs:
        structure = jax.tree.structure(settings.agent.prepared())
        if structure not in self._caches:
            budget = MEMORY_SHARE * ram.free_bytes()
            self._caches[structure] = ProgramCache(settings, self.seeds, False, budget)
        return self._caches[structure].programs()

    def fresh_score(self, values: Mapping[str, Any]) -> Interval:
        """The score on seeds that no trial had."""
        outcomes: dict[int, Outcome] = {}
        wanted = range(self.seeds, self.seeds + self.fresh_seeds)
        execution = Execution()
        train_members(self.plan(values), wanted, execution, lambda new, _: outcomes.update(new))
        return confidence.interval([outcomes[number].episode_return for number in wanted])
