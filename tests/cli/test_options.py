"""Options, the flags that they become, and what the command line makes of them."""

import dataclasses
from typing import Any

import pytest

from rlgd.ascent.ascent import Ascent
from rlgd.cli import parser, train
from rlgd.cli.options import UNKNOWN, CommandOptions, filled, flag, flags_of, key_value, part, positional
from rlgd.errors import UsageError
from rlgd.run.settings import EnvSettings


@dataclasses.dataclass(frozen=True)
class Options(CommandOptions):
    """A command of the test's."""

    what: str = positional("WHAT", "what to do")
    times: int = flag(3, "how often", count=True)
    loud: bool = flag(False, "print more")
    ascent: Ascent = dataclasses.field(default=UNKNOWN, metadata=part())
    env: EnvSettings = dataclasses.field(default=UNKNOWN, metadata=part(only=lambda metadata: metadata["resumable"]))

    @classmethod
    def defaults(cls, given: Any) -> "Options":
        return cls(ascent=Ascent("sgd"), env=EnvSettings(), times=5 if "loud" in given else 3)


def read(*words: str) -> Options:
    return parser.parse("list", Options, words)


def test_flags_are_own_fields_and_the_flat_fields_of_parts() -> None:
    assert [*flags_of(Options())] == ["what", "times", "loud"]
    flags = flags_of(Options.defaults({}))
    assert {"learning_rate", "momentum", "env_arg"} <= flags.keys()
    assert "backend" not in flags  # it is not resumable
    assert flags["learning_rate"].path[0] == "ascent"
    assert flags["learning_rate"].path[-1] == "learning_rate"
    assert flags["env_arg"].path == ("env", "env_args")
    assert flags["optimizer"].default == "sgd"


def test_what_is_given_replaces_defaults() -> None:
    options = read("go", "--times", "2k", "--learning-rate=0.5", "--momentum", "None", "--env-arg", "a=1", "b=x")
    assert (options.what, options.times, options.loud) == ("go", 2000, False)
    assert options.ascent == Ascent("sgd", learning_rate=0.5)
    assert options.env.env_args == {"a": 1, "b": "x"}


def test_what_is_given_is_known_whatever_its_value() -> None:
    options = read("go", "--learning-rate", "-1", "--no-loud", "--times=3")
    assert options.given == {"what": "go", "learning_rate": -1.0, "loud": False, "times": 3}
    assert options.times == 3  # given, so it is not 5, the default beside --loud
    assert read("go", "--loud").times == 5


@pytest.mark.parametrize("words", [["--times", "3", "go"], ["--unknown", "3"], ["--loud"]])
def test_the_positional_argument_comes_first(words: list[str]) -> None:
    with pytest.raises(UsageError, match=r"WHAT comes first: rlgd list"):
        read(*words)


def test_what_is_asked_of_every_command_is_found_among_other_words() -> None:
    asked = parser.asked(["ppo", "--gamma", "--debug", "-h", "--env-arg", "quiet=1", "--json"])
    assert asked == parser.Asked(help=True, json=True, debug=True)


def test_an_unknown_name_in_a_file_is_refused() -> None:
    with pytest.raises(UsageError, match=r"unknown flag 'tmies'; did you mean 'times'"):
        filled(Options(), {"tmies": 3})


@pytest.mark.parametrize(
    ("text", "pair"), [("a=1", ("a", 1)), ("a=x", ("a", "x")), ('a={"b": 2}', ("a", {"b": 2})), ("a=b=c", ("a", "b=c"))]
)
def test_a_key_and_its_value(text: str, pair: tuple[str, Any]) -> None:
    assert key_value(text) == pair


def test_files_come_before_the_agents_defaults_and_flags_before_files(tmp_path: Any) -> None:
    (tmp_path / "flags.toml").write_text(
        "gamma = 0.5\nmomentum = 0.25\ntotal_timesteps = 7\n[env_arg]\ngravity = 9.0\n"
    )
    words = ["ppo", "--config", str(tmp_path / "flags.toml"), "--gamma", "0.75"]
    options = parser.parse("train", train.Options, words)
    assert (options.hyperparameters.gamma, options.hyperparameters.ascent.rule.momentum) == (0.75, 0.25)
    assert options.settings.total_timesteps == 7
    assert options.settings.env.env_args == {"gravity": 9.0}
