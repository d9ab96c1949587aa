"""What a trial of a search trains: the members of a study with one point."""

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
from rlgd.studies.execution import MEMORY_SHARE, Execution, train_alone, train_members
from rlgd.studies.outcome import Outcome
from rlgd.studies.plan import Plan, make_plan
from rlgd.studies.programs import ProgramCache, Programs
from rlgd.studies.question import Question
from rlgd.system import ram
from rlgd.training import footprint
from rlgd.tuning.space import Dimension

RUNGS = 5  # evaluations of a trial on the device, after each of which it may be pruned


class Misfit(Exception):
    """Values that do not fit together. The trial is not counted as complete, and the search continues."""


@dataclasses.dataclass(frozen=True)
class Task:
    """The task that all trials have in common, and the programs that they share.

    Attributes:
        agent: with the hyper-parameters that do not vary.
        env: the environment.
        total_timesteps: environment steps of each member.
        eval_episodes: episodes of each evaluation.
        seeds: members of each trial.
        fresh_seeds: members that score the best values.
    """

    agent: Agent
    env: Env
    total_timesteps: int
    eval_episodes: int
    seeds: int
    fresh_seeds: int
    _caches: dict[Any, ProgramCache] = dataclasses.field(default_factory=dict)

    def identity(self, space: Mapping[str, Dimension]) -> dict[str, Any]:
        """Plain values that a resumed search must have in common with the search in the journal."""
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
        """The members of a trial, followed by the members with fresh seeds.

        Raises:
            Misfit: if ``values`` do not fit together.
            UsageError: if the task itself is not valid, which ``plan({})`` finds.
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
            plan = make_plan(question, self.agent, self.env)
            footprint.check(plan.members[0].agent, self.env)
            return plan
        except UsageError as error:
            if not values:
                raise
            raise Misfit(str(error)) from error

    def scores(
        self, values: Mapping[str, Any], on_returns: Callable[[Sequence[float], Sequence[float]], None]
    ) -> list[float]:
        """Train the members of a trial; the return of each member's greedy policy.

        Args:
            values: of the trial.
            on_returns: takes the returns of members that are finished, and those of running members so far. It may
                raise, which ends the trial.
        """
        plan = self.plan(values)
        members = plan.members[: self.seeds]
        done: list[float] = []
        if not plan.on_device:
            for config in members:
                done.append(train_alone(config).episode_return)
                on_returns(done, ())
            return done
        programs = self._programs(members[0])
        for start in range(0, len(members), programs.size):
            part = members[start : start + programs.size]
            outcomes = slices.train_slice(programs, part, functools.partial(on_returns, tuple(done)))
            done += [outcome.episode_return for outcome in outcomes]
        return done

    def _programs(self, config: RunConfig) -> Programs:
        structure = jax.tree.structure(config.agent.prepared())
        if structure not in self._caches:
            budget = MEMORY_SHARE * ram.free_bytes()
            self._caches[structure] = ProgramCache(config, self.seeds, False, budget)
        return self._caches[structure].programs()

    def fresh_score(self, values: Mapping[str, Any]) -> Interval:
        """The score of ``values`` on seeds that no trial has used."""
        outcomes: dict[int, Outcome] = {}
        wanted = range(self.seeds, self.seeds + self.fresh_seeds)
        train_members(self.plan(values), wanted, Execution(), lambda new, _: outcomes.update(new))
        return confidence.interval([outcomes[number].episode_return for number in wanted])
