"""Public ``objective``: the return as a function of hyper-parameters, for any search but our own."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from rlgd import hyperparameters as hp
from rlgd.agents import make_agent
from rlgd.agents.base.agent import Agent
from rlgd.envs import make
from rlgd.errors import Diverged, UsageError, unknown, whole_number
from rlgd.maths import confidence
from rlgd.tuning.trials import Misfit, Task

# Takes the return so far and how often it was called before in this training; a true answer ends the training.
Report: TypeAlias = Callable[[float, int], Any]


class _Enough(Exception):
    """A report has ended the training."""


def objective(
    agent: Agent | str,
    env: Any,
    *,
    seeds: int = 3,
    total_timesteps: int = 100_000,
    eval_episodes: int = 20,
    worst: float | None = None,
) -> Callable[..., float]:
    """The return as a function of hyper-parameters: ``objective("ppo", "CartPole-v1")({"learning_rate": 1e-3})``.

    The function trains ``seeds`` members with these values, on the device all in one program, and returns the
    interquartile mean of the returns of their greedy policies: the higher, the better. Calls whose programs are the
    same share them: other values of traced hyper-parameters compile nothing. It is for other searches than
    ``rlgd.tune``; ``examples/`` has Hyperopt and FLAML.

    Its arguments are ``(values, report=None)``. ``values`` are hyper-parameters by their flat names; NumPy's numbers,
    lists, and whole numbers that come as floats will do. ``report(value, count)`` hears the return so far, on the
    device after each of a few evaluations during training, on the host after each seed; ``count`` is 0, 1, 2, ... If it
    returns something true, the training ends and the function returns that value; if it raises, so does the function.

    Args:
        agent: the agent whose hyper-parameters vary, or its name.
        env: a Gymnasium id, or anything else that ``rlgd.envs.make`` takes or returns.
        seeds: members of each training: they have the seeds 0, 1, 2, ...
        total_timesteps: environment steps of each member.
        eval_episodes: episodes of each evaluation.
        worst: returned in place of an exception where the values do not fit together or the training diverges.

    Raises:
        UsageError: for arguments that are not valid. The function raises it for a name that is no hyper-parameter, and,
            without ``worst``, for values that do not fit together, and ``Diverged`` for a training that diverges.
    """
    base = make_agent(agent) if isinstance(agent, str) else agent
    task = Task(
        base, make(env), whole_number("total_timesteps", total_timesteps, 1),
        whole_number("eval_episodes", eval_episodes, 1), whole_number("seeds", seeds, 1), 0,
    )  # fmt: skip
    task.plan({})  # finds mistakes that all calls would share

    def return_of(values: Mapping[str, Any], report: Report | None = None) -> float:
        plain = _plain(base, values)
        heard: list[float] = []

        def hear(returns: Sequence[float]) -> None:
            heard.append(float(confidence.interquartile_mean(returns)))
            if report is not None and report(heard[-1], len(heard) - 1):
                raise _Enough

        try:
            return task.score(plain, hear)
        except _Enough:
            return heard[-1]
        except (Misfit, Diverged) as failure:
            if worst is not None:
                return worst
            if isinstance(failure, Misfit):
                raise UsageError(str(failure)) from failure
            raise

    return return_of


def _plain(agent: Agent, values: Mapping[str, Any]) -> dict[str, Any]:
    """Values as searches give them, as hyper-parameters have them.

    Raises:
        UsageError: for a name that is no hyper-parameter.
    """
    known = hp.flat_fields(agent)
    plain = {}
    for name, value in values.items():
        if name not in known:
            raise unknown("hyper-parameter", name, known)
        value = value.item() if isinstance(value, np.generic) else value
        whole = known[name].field.metadata["static"] and isinstance(value, float) and value.is_integer()
        plain[name] = int(value) if whole else value
    return plain
