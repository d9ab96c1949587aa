"""Members that have trained, as runs of sinks: side by side in a program, nobody can see one while it trains."""

import dataclasses
import logging
import math
from collections.abc import Iterable
from typing import Any

from rlgd.errors import UsageError
from rlgd.run.config import Membership, RunConfig
from rlgd.run.sinks import registry
from rlgd.run.sinks.audience import Audience
from rlgd.studies.outcome import Outcome

log = logging.getLogger("rlgd")


class MemberSinks:
    """The sinks of a study or of a search.

    Args:
        given: names, classes and objects, as ``rlgd.train`` takes them; each member gets an object of each class.
        study: the name of the study or the search, by which its members belong together.
        typed: whether the user named them, see ``registry.parts_of``.

    Raises:
        UsageError: if one is no sink, needs a package that is not installed, or a directory of the run.
    """

    def __init__(self, given: Iterable[Any], study: str, typed: bool = True) -> None:
        self._parts, self._study = registry.parts_of(given, typed), study
        registry.made(self._parts, has_directory=False)  # finds what cannot be made before anything is trained
        self._is_told = False  # that nobody can stop a member

    def send(self, config: RunConfig, arm: str, outcome: Outcome) -> None:
        """Tell the sinks of a member from its beginning to its end.

        A sink that raises is reported, and no later member is sent to it. A stop that it asks for comes too late,
        as a warning says once.

        Args:
            config: of the member.
            arm: the arm and its values, or the trial.
            outcome: of the member.
        """
        try:
            sinks = registry.made(self._parts)
        except UsageError as error:  # it could be made for the member before
            log.warning("no more members are sent: %s", error)
            self._parts = []
            return
        audience = Audience(sinks)
        audience.tell("begin", dataclasses.replace(config, part_of=Membership(self._study, arm)), None)
        for row in outcome.rows:
            audience.tell("write", row)
        if audience.stop is not None and not self._is_told:
            self._is_told = True
            log.warning(
                "a sink asked for a stop (%s), but sees a member when it has finished, so none is stopped; let a "
                "criterion end members, such as patience or target_return",
                audience.stop.why,
            )
        audience.tell("close", _summary(config, outcome))
        self._parts = [part for part, sink in zip(self._parts, sinks, strict=True) if audience.has(sink)]


def _summary(config: RunConfig, outcome: Outcome) -> dict[str, Any]:
    """What a member's ``summary.json`` would hold."""
    summary = {
        "reason": outcome.reason,
        "why": outcome.why,
        "steps": outcome.steps,
        "training_seconds": outcome.training_seconds,
    }
    if math.isfinite(outcome.episode_return):
        summary["evaluation"] = {
            "env": config.env.env_id,
            "episodes": config.settings.eval_episodes,
            "policy": "greedy",
            "mean_return": outcome.episode_return,
            "mean_length": outcome.episode_length,
        }
    return summary
