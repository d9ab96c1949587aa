"""The flags that are read before all others, and numbers as the command line has them."""

import dataclasses

import pytest

from rlgd.cli import parser
from rlgd.cli.options import CommandOptions, flag, positional
from rlgd.errors import UsageError


@dataclasses.dataclass(frozen=True)
class Options(CommandOptions):
    """A command with a flag of each kind of number."""

    what: str = positional("WHAT", "what to do")
    times: int = flag(3, "how often", count=True)
    depth: int = flag(1, "how deep")
    most: float | None = flag(None, "at most")
    loud: bool = flag(False, "print more")
    words: tuple[str, ...] = flag((), "what else", "WORD ...")


def read(*words: str) -> Options:
    return parser.parse("list", Options, ["go", *words])


def test_common_flags_are_read_among_unknown_ones() -> None:
    common = parser.asked(["ppo", "--gamma", "0.5", "-h", "--json", "--unknown"])
    assert (common.help, common.json) == (True, True)
    assert [common.help_all, common.quiet, common.debug] == [False] * 3
    assert not parser.asked(["ppo", "--env", "help"]).help


def test_numbers_are_read_by_their_kind() -> None:
    assert read("--times", "100k").times == 100_000
    assert read("--times", "1e5").times == 100_000
    assert read("--depth", "12").depth == 12
    assert read("--most", "1e-3").most == 1e-3
    assert read("--most", "None").most is None
    assert read("--most", "None").given["most"] is None  # which is not the same as not given: a preset may say else


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("--times", "1.5"), "'1.5' is not a whole number"),
        (("--depth", "100k"), "'100k' is not a whole number"),
        (("--most", "high"), "'high' is not a number"),
    ],
)
def test_what_is_no_number_is_a_mistake(words: tuple[str, ...], problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        read(*words)


def test_given_flags_are_kept_apart_from_defaults() -> None:
    options = read("--loud", "--times", "3")
    assert options.given == {"what": "go", "loud": True, "times": 3}
    assert (options.depth, options.most) == (1, None)


def test_help_is_shown_if_it_is_asked_for_or_a_word_is_missing() -> None:
    plain = parser.asked([])
    assert parser.help_text("list", Options, ["go"], plain) is None
    for words, common in ([], plain), (["go", "-h"], parser.asked(["-h"])):
        page = parser.help_text("list", Options, words, common)
        assert page is not None
        assert "--times" in page


def test_the_positional_argument_comes_first() -> None:
    with pytest.raises(UsageError, match=r"^WHAT comes first: "):
        parser.parse("list", Options, [])


def test_words_are_given_together_or_one_after_another() -> None:
    assert read("--words", "a", "b", "--loud", "--words", "c").words == ("a", "b", "c")
    assert read("--loud").words == ()
    assert "words" not in read("--loud").given
