"""Command lines that were nearly right: what should have been typed."""

import re
import shlex
from collections.abc import Container, Sequence

from rlgd.cli.catalog import SUITE_PREFIXES
from rlgd.errors import UsageError

# Flags as other programs call them: Stable-Baselines3, CleanRL, rejax, and what comes to mind first.
ELSEWHERE = {
    "clip_coef": "clip_eps",
    "clip_range": "clip_eps",
    "e": "env",
    "entropy_coef": "ent_coef",
    "env_id": "env",
    "env_name": "env",
    "environment": "env",
    "epochs": "num_epochs",
    "hidden_layer_sizes": "hidden_sizes",
    "lr": "learning_rate",
    "n_envs": "num_envs",
    "n_epochs": "num_epochs",
    "n_steps": "rollout_length",
    "num_steps": "rollout_length",
    "steps": "total_timesteps",
    "timesteps": "total_timesteps",
    "update_epochs": "num_epochs",
}
# What an environment's id looks like; `module:Class` may be one, too, or an agent's class.
ENVIRONMENT = re.compile(rf"\S+-v\d+|({'|'.join(SUITE_PREFIXES)}):\S+")
BATCH_SIZE = (
    "there is no --batch-size; --num-minibatches is the number of parts of a rollout, which is "
    "num_envs * rollout_length / batch size."
)


def agent(command: str, word: str) -> str:
    """The agent that a word names.

    Raises:
        UsageError: if it looks like an environment.
    """
    from rlgd.agents import ALIASES, REGISTRY
    from rlgd.agents.registry import KIND

    known = {*REGISTRY, *ALIASES, *KIND.installed()}
    if word not in known and (ENVIRONMENT.fullmatch(word) or _is_environment(word)):
        raise UsageError(f"the agent comes first: `rlgd {command} ppo --env {shlex.quote(word)}`.")
    return word


def _is_environment(word: str) -> bool:
    """Whether a word, as ``module:Class``, names an environment of the user's."""
    if ":" not in word:
        return False
    from rlgd.envs.registry import ENV, is_environment

    try:
        return is_environment(ENV.named(word))
    except UsageError:  # whoever reads it as an agent says what is wrong
        return False


def study(command: str, word: str) -> str:
    """The study, or the file of one, that a word names.

    Raises:
        UsageError: if it looks like an environment.
    """
    if ENVIRONMENT.fullmatch(word) or _is_environment(word):
        raise UsageError(f"the study comes first: `rlgd {command} momentum --env {shlex.quote(word)}`.")
    return word


def with_agent(command: str, words: Sequence[str]) -> str:
    """A command line without its agent, with one."""
    return f"rlgd {command} {shlex.join(['ppo', *words])}"


def right_line(prog: str, strangers: Sequence[str], flags: Container[str], given: Container[str]) -> str | None:
    """What should have been typed in place of the words that no flag takes; None if that is not known.

    Args:
        prog: the command line up to the flags, such as "rlgd train ppo".
        strangers: those words.
        flags: the names of the flags that there are.
        given: the names of those that were given.
    """
    word = strangers[0]
    name = word.lstrip("-").partition("=")[0].replace("-", "_")
    if name == "batch_size" and word.startswith("-") and "num_minibatches" in flags:
        return BATCH_SIZE
    if word.startswith("-") and (right := ELSEWHERE.get(name)) in flags:
        return f"there is no {word.partition('=')[0]}; what you mean is --{str(right).replace('_', '-')}."
    if (ENVIRONMENT.fullmatch(word) or ":" in word) and "env" in flags and "env" not in given:
        return f"the environment is named by --env: `{prog} --env {shlex.quote(word)}`."
    return None
