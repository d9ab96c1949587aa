"""What a trial of a search trains: the members of a study with one point."""

import dataclasses
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from rlgd import hyperparameters
from rlgd.agents.base.agent import Agent
from rlgd.envs import DeviceEnv, Env
from rlgd.errors import Diverged, UsageError
from rlgd.maths import confidence
from rlgd.maths.confidence import Interval
from rlgd.run.config import RunConfig, agent_name
from rlgd.studies import slices
from rlgd.studies.alone import train_alone
from rlgd.studies.arms import Arm
from rlgd.studies.compiling import Compiling
from rlgd.studies.execution import MEMORY_SHARE, Execution, train_members
from rlgd.studies.member_sinks import MemberSinks
from rlgd.studies.outcome import DIVERGED, Outcome
from rlgd.studies.plan import Plan, make_plan
from rlgd.studies.programs import Programs, Shelf, variant_of
from rlgd.studies.question import Question
from rlgd.studies.width import width_of
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
        sinks: are told of the members that have trained; None: nobody is.
        compiling: is told when something is compiled.
    """

    agent: Agent
    env: Env
    total_timesteps: int
    eval_episodes: int
    seeds: int
    fresh_seeds: int
    sinks: MemberSinks | None = None
    compiling: Compiling = dataclasses.field(default_factory=Compiling)
    _shelf: Shelf = dataclasses.field(default_factory=Shelf)

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

    def score(
        self,
        values: Mapping[str, Any],
        on_returns: Callable[[Sequence[float]], None],
        on_outcomes: Callable[[Sequence[Outcome]], None] = lambda outcomes: None,
    ) -> float:
        """Train the members of a trial; the interquartile mean of the returns of their greedy policies.

        Args:
            values: of the trial.
            on_returns: takes the returns of members that are finished, and those of running members so far. It may
                raise, which ends the trial.
            on_outcomes: takes the outcomes of these members, and of all at the end.

        Raises:
            Misfit: if ``values`` do not fit together.
            Diverged: if a member diverged, or its return is not finite.
        """
        plan = self.plan(values)
        members = plan.members[: self.seeds]
        done: list[Outcome] = []

        def hear(running: Sequence[Outcome]) -> None:
            on_outcomes([*done, *running])
            returns = _returns([*done, *running])
            if all(map(math.isfinite, returns)):  # some may not have been evaluated yet
                on_returns(returns)

        if plan.device_groups:
            programs = self._programs_of(members[0])
            for start in range(0, len(members), programs.size):
                done += slices.train_slice(programs, members[start : start + programs.size], hear)
        else:
            for config in members:
                done.append(train_alone(config))
                hear(())
        on_outcomes(done)
        score = float(confidence.interquartile_mean(_returns(done)))
        if not math.isfinite(score):
            raise Diverged(f"the mean return is {score}")
        return score

    def send(self, values: Mapping[str, Any], trial: str, outcomes: Sequence[Outcome], first: int = 0) -> None:
        """Tell the sinks of members of a trial, from number ``first`` on; the search continues whatever they raise."""
        if self.sinks is not None and outcomes:
            for config, outcome in zip(self.plan(values).members[first:], outcomes, strict=False):
                self.sinks.send(config, trial, outcome)

    def _programs_of(self, config: RunConfig) -> Programs:
        structure = jax.tree.structure(variant_of(config))
        programs = self._shelf.get(
            structure, lambda: Programs(config, min(self.seeds, width_of(config)), False, self.compiling)
        )
        programs.check_fits(MEMORY_SHARE * ram.free_bytes())
        return programs

    def fresh_score(self, values: Mapping[str, Any], on_done: Callable[[int], None]) -> tuple[Interval, int]:
        """The score of ``values`` on seeds that no trial has used, and how many of these seeds diverged.

        ``on_done`` takes the number of seeds that have finished, at the beginning and whenever there are more.
        """
        outcomes: dict[int, Outcome] = {}
        wanted = range(self.seeds, self.seeds + self.fresh_seeds)

        def on_finished(new: Mapping[int, Outcome]) -> None:
            outcomes.update(new)
            on_done(len(outcomes))

        on_finished({})
        train_members(self.plan(values), wanted, Execution(), on_finished, Shelf(), self.compiling)
        self.send(values, "best", [outcomes[number] for number in wanted], self.seeds)
        diverged = sum(outcome.reason == DIVERGED for outcome in outcomes.values())
        return confidence.interval([outcomes[number].episode_return for number in wanted]), diverged


def _returns(outcomes: Sequence[Outcome]) -> list[float]:
    """The returns of members, none of which has diverged: then the policy is an earlier one than the score is for."""
    for outcome in outcomes:
        if outcome.reason == DIVERGED:
            raise Diverged(outcome.why)
    return [outcome.episode_return for outcome in outcomes]
