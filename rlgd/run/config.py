"""The configuration of a run: its agent, its environment, its settings."""

import dataclasses
from typing import Any, NamedTuple

from rlgd import hyperparameters as hp
from rlgd.agents.base.agent import Agent
from rlgd.agents.registry import name_of
from rlgd.envs import DeviceEnv, Env, HostEnv
from rlgd.envs.registry import in_gymnasium
from rlgd.errors import UsageError
from rlgd.evaluation.policy import Policy
from rlgd.models import features
from rlgd.run.inherited import Inherited
from rlgd.run.settings import RunSettings
from rlgd.system.processes import are_several
from rlgd.training.host_rollout import NO_LIVES
from rlgd.training.placement import check_divides
from rlgd.training.rollout import padded_limit


class Membership(NamedTuple):
    """What a run is a part of, for those who see it.

    Attributes:
        study: the study, or the search.
        arm: the arm and its values, or the trial; its runs differ by their seed alone.
    """

    study: str
    arm: str


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Everything that decides a run: with it, a run can be repeated and resumed.

    Attributes:
        agent: what learns.
        env: the environment; ``settings.env`` has its options if it was made from an id.
        settings: all other settings.
        chunk_length: iterations in a chunk; None: computed from the rest. A resumed run keeps its number, even if
            another version of rlgd would compute another one.
        part_of: the study or the search whose member it is; it decides nothing.
        init: the policy that ``settings.init`` describes, if it was given as an object; what the run takes over, as
            soon as ``inheritance.read`` has read it.
    """

    agent: Agent
    env: Env
    settings: RunSettings = dataclasses.field(default_factory=RunSettings)
    chunk_length: int | None = None
    part_of: Membership | None = None
    init: Policy | Inherited | None = None

    def validate(self) -> None:
        """Check the agent, the settings, and that agent and environment fit together.

        Raises:
            UsageError: what was given, what is allowed.
        """
        if not isinstance(self.agent, Agent):
            raise UsageError(f"agent is {self.agent!r}; expected an agent such as rlgd.agents.PPO().")
        self.settings.validate()
        self.agent.validate()
        self.agent.networks(self.env.spec)
        if self.agent.whole_episodes:
            padded_limit(self.env.spec)
        if self.agent.normalize_obs and not features.num_features(self.env.spec.obs):
            raise UsageError(f"normalize_obs has no effect: the observations of {self.env.env_id} are images only.")
        act_device = self.settings.act_device
        if act_device != "auto" and isinstance(self.env, DeviceEnv):
            raise UsageError(
                f"act_device is {act_device!r}, but {self.env.env_id} runs on the device, where its policy acts "
                "too; leave it out, or use backend 'host'."
            )
        if self.settings.overlap:
            self._check_overlap()
        if (devices := self.settings.devices) > 1:
            check_divides(self.agent, devices, self.settings.shuffle)
        if isinstance(self.env, HostEnv) and self.agent.climbers is not None:
            raise UsageError(f"sync_every is set, but {self.env.env_id} runs on the host; groups climb on the device.")
        if self.agent.reads_lives and (isinstance(self.env, DeviceEnv) or not self.env.tells_lives):
            raise UsageError(NO_LIVES.format(self.env.env_id))
        if isinstance(self.env, HostEnv) and self.env.running and self.settings.evaluates:
            raise UsageError(
                f"{self.env.env_id} is a running vector environment, which cannot evaluate while it trains; "
                "give its class or id, or set neither eval_every nor a criterion that needs evaluations."
            )

    def _check_overlap(self) -> None:
        agent, settings, env_id = self.agent, self.settings, self.env.env_id
        if isinstance(self.env, DeviceEnv):
            raise UsageError(
                f"overlap is set, but {env_id} runs on the device, where one program collects and learns; leave it "
                "out, or use backend 'host'."
            )
        if not agent.corrects_lag:
            raise UsageError(
                f"overlap is set, but {agent_name(agent)}, as it is set, does not weight what an older policy has "
                "done; ppo does, and a2c without variance_reduction."
            )
        if settings.devices > 1 or are_several():
            raise UsageError("overlap is set, but several devices or processes train; it is for one.")

    def for_devices(self, number: int) -> "RunConfig":
        """A copy in which a federated ascent has climbers: where none are named, one for each device."""
        outer = self.agent.ascent.outer
        if outer.sync_every is None or outer.climbers is not None:
            return self
        return dataclasses.replace(self, agent=hp.with_values(self.agent, {"climbers": number}))

    def with_settings(self, **values: Any) -> "RunConfig":
        """A copy with other values of settings, by their flat names."""
        return dataclasses.replace(self, settings=hp.with_values(self.settings, values))

    @property
    def evaluation_env(self) -> Env:
        """Gymnasium's own environment where the id is Gymnasium's, else the environment itself."""
        return in_gymnasium(self.env)


def agent_name(agent: Agent) -> str:
    """The name of an agent in files."""
    return name_of(type(agent))
