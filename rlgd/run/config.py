"""The settings of a run."""

import dataclasses
import functools
import math
from typing import Any

import gymnasium

from rlgd import hyperparameters as hp
from rlgd.agents import REGISTRY
from rlgd.agents.base.agent import Agent
from rlgd.envs import DeviceEnv, Env, HostEnv
from rlgd.errors import UsageError, unknown
from rlgd.models import features
from rlgd.run.sinks.rows import ROWS_PER_RUN
from rlgd.run.stopping import EVALUATIONS, NEVER, Stopping
from rlgd.training import chunks
from rlgd.training.host_rollout import ACT_DEVICES
from rlgd.training.rollout import padded_limit, rollout_length


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Everything that decides a run: with it, a run can be repeated and resumed."""

    agent: Agent
    env: Env
    total_timesteps: int
    seed: int = 0
    eval_every: int | None = None
    eval_episodes: int = 100
    stopping: Stopping = NEVER
    act_device: str = "auto"
    checkpoint_every: int | str = "60s"
    keep: int = 3

    def validate(self) -> None:
        """Check the agent, the numbers, and that the agent can act in the environment.

        Raises:
            UsageError: what was given, what is allowed.
        """
        if not isinstance(self.agent, Agent):
            raise UsageError(f"agent is {self.agent!r}; expected an agent such as rlgd.agents.PPO().")
        least = {"total_timesteps": 1, "seed": 0, "eval_every": 1, "eval_episodes": 1, "keep": 1}
        for name, low in least.items():
            value = getattr(self, name)
            if name == "eval_every" and value is None:
                continue
            if not isinstance(value, int) or isinstance(value, bool) or not low <= value < 2**63:
                raise UsageError(f"{name} is {value!r}; allowed: a whole number from {low}.")
        self.agent.validate()
        self.stopping.validate()
        self.checkpoint_interval()
        self.agent.action_head(self.env.spec)
        if self.agent.whole_episodes:
            padded_limit(self.env.spec)
        if self.agent.normalize_obs and not features.num_features(self.env.spec.obs):
            raise UsageError(f"normalize_obs has no effect: the observations of {self.env.env_id} are images alone.")
        if self.act_device not in ACT_DEVICES:
            raise unknown("act_device", self.act_device, ACT_DEVICES)
        if self.act_device != "auto" and isinstance(self.env, DeviceEnv):
            raise UsageError(
                f"act_device is {self.act_device!r}, but {self.env.env_id} runs on the device, where its policy acts "
                "too; leave it out, or use backend 'host'."
            )

    def validate_evaluation(self) -> None:
        """Check that there are environments for evaluations beside those that train.

        Raises:
            UsageError: if they are one running vector environment.
        """
        if isinstance(self.env, HostEnv) and self.env.running and self.evaluate_every:
            raise UsageError(
                f"{self.env.env_id} is a running vector environment, which cannot be evaluated in while it trains; "
                "give its class or id, or leave eval_every and what needs evaluations out."
            )

    @property
    def agent_name(self) -> str:
        """The agent's name on the command line; for one that is not registered, its class's."""
        return agent_name(self.agent)

    def checkpoint_interval(self) -> tuple[float, None] | tuple[None, int]:
        """Seconds between checkpoints, or steps.

        Raises:
            UsageError: if ``checkpoint_every`` says neither.
        """
        text = str(self.checkpoint_every) if type(self.checkpoint_every) in (int, str) else ""
        try:
            if text.endswith("m"):  # minutes, or millions?
                raise ValueError
            if text.endswith("s") and 0 < (seconds := float(text[:-1])) < math.inf:
                return seconds, None
            if 0 < (steps := hp.count(text)) < 2**63:
                return None, steps
        except (ValueError, OverflowError):
            pass
        given = self.checkpoint_every
        raise UsageError(f"checkpoint_every is {given!r}; allowed: seconds, such as 60s, or steps, such as 100000.")

    @functools.cached_property
    def chunk_length(self) -> int:
        """Iterations in a chunk."""
        return chunks.chunk_length(self.agent, self.env)

    @property
    def log_every(self) -> int:
        """Iterations in a row of the curves, for a few hundred rows a run."""
        return max(1, self.total_timesteps // (self.rows_an_iteration * ROWS_PER_RUN))

    @property
    def rows_an_iteration(self) -> int:
        """Environment steps of an iteration; where it takes whole episodes, at most."""
        return self.agent.num_envs * rollout_length(self.agent, self.env.spec)

    @property
    def evaluate_every(self) -> int | None:
        """Steps between evaluations: as asked for, or ``EVALUATIONS`` times a run where a criterion needs them."""
        if self.eval_every is None and self.stopping.evaluates:
            return max(1, self.total_timesteps // EVALUATIONS)
        return self.eval_every

    @property
    def evaluation_env(self) -> Env:
        """Gymnasium's own environment where the id is Gymnasium's, else the environment itself."""
        if isinstance(self.env, DeviceEnv) and self.env.env_id in gymnasium.registry:
            return HostEnv(self.env.env_id, self.env.max_episode_steps)
        return self.env

    def hyperparameters(self) -> dict[str, Any]:
        """What is compared between runs, as numbers and text; the seed is left out, so that seeds are averaged."""
        flat = hp.to_dict(dataclasses.replace(self.agent, ascent=self.agent.ascent.resolved()))
        text = {name: "-".join(map(str, v)) if isinstance(v, list) else v for name, v in flat.items()}
        chosen = {"agent": self.agent_name, "env": self.env.env_id, "total_timesteps": self.total_timesteps}
        return chosen | {name: v for name, v in text.items() if v is not None and v != math.inf}

    def end(self) -> dict[str, Any]:
        """What ends the run."""
        return {"total_timesteps": self.total_timesteps} | hp.to_dict(self.stopping)

    def changed(self) -> dict[str, Any]:
        """The hyper-parameters that are not the agent's defaults, as plain values."""
        default = hp.to_dict(type(self.agent)())
        return {name: value for name, value in hp.to_dict(self.agent).items() if value != default[name]}

    def group(self) -> str:
        """A name for all runs that differ from this one by their seed alone (or by what is measured)."""
        settings = " ".join(f"{k}={v}" for k, v in self.changed().items() if k != "measure_every")
        return f"{self.agent_name} {self.env.env_id} {self.total_timesteps} {settings}".strip()


def agent_name(agent: Agent) -> str:
    """The name of an agent on the command line; of one that is not registered, its class's."""
    name = type(agent).__name__
    return next((key for key, (_, cls, _) in REGISTRY.items() if cls == name), name)
