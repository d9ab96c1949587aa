"""A sound environment, variants of it that have one fault, and what ``check`` must report."""

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box

from rlgd.envs.check import Finding, Report, render

STEPS = 40
BOX = Box(-100.0, 100.0, (3,))

# what a report must contain: severity, check, and a part of ``where`` and of ``what``
Expected = tuple[str, str, str, str]


class Sound(gymnasium.Env[Any, Any]):
    """Drifts by its actions and by chance; an episode terminates or is truncated after 3 to 8 steps."""

    observation_space: gymnasium.Space[Any] = BOX
    action_space: gymnasium.Space[Any] = Box(-1.0, 1.0, (2,))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.t, self.length = 0, int(self.np_random.integers(3, 9))
        self.drift = self.np_random.normal(size=2)
        return self.see(), self.info()

    def step(self, action: Any) -> Any:
        self.t += 1
        self.drift += action + self.np_random.normal(size=2)
        return self.see(), self.pay(), *self.end(), self.info()

    def see(self) -> Any:
        return np.array([*self.drift, self.t], np.float32)

    def pay(self) -> Any:
        return float(self.drift[0])

    def end(self) -> tuple[Any, Any]:
        over = self.t >= self.length
        return over and self.length % 2 == 0, over and self.length % 2 == 1

    def info(self) -> Any:
        return {}


def variant(name: str = "Variant", base: type[Sound] = Sound, **methods: Any) -> type[Sound]:
    """The sound environment with some of its methods replaced."""
    return type(name, (base,), methods)


def seeing(space: gymnasium.Space[Any], see: Callable[[Any], Any]) -> type[Sound]:
    return variant(observation_space=space, see=see)


def acting(space: gymnasium.Space[Any], **methods: Any) -> type[Sound]:
    def step(self: Any, action: Any) -> Any:
        assert self.action_space.contains(action), f"{action!r} is not in {self.action_space}"
        return Sound.step(self, np.sum(action) * np.ones(2))

    return variant(action_space=space, **{"step": step, **methods})


def third(usual: Callable[[Any], Any], change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A method that gives another value in the third step of an episode."""
    return lambda self: change(usual(self)) if self.t == 3 else usual(self)


def serious(report: Report) -> list[Finding]:
    return [finding for finding in report.findings if finding.severity != "note"]


def expect(report: Report, *expected: Expected) -> None:
    """Exactly these findings, and any notes."""
    found = serious(report)
    assert [finding[:2] for finding in found] == [finding[:2] for finding in expected], render(report)
    for finding, (*_, where, what) in zip(found, expected, strict=True):
        assert where in finding.where, render(report)
        assert what in finding.what, render(report)
        assert finding.remedy
        assert "\n" not in "".join(finding)
    assert report.sound == all(finding[0] != "fault" for finding in expected)
