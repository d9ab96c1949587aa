"""What a command shows of the library's messages."""

import logging

import pytest

from rlgd.cli.output import messages

log = logging.getLogger("rlgd")


@pytest.mark.parametrize("quiet", [False, True])
def test_messages_are_shown_inside_and_not_outside(quiet: bool, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):  # logging remembers what it has answered
        log.info("before")
        with messages(quiet):
            log.info("information")
            log.warning("warning")
        log.info("after")
        told = capsys.readouterr().err
        assert ("information" in told, "warning" in told) == (not quiet, True)
        assert not log.isEnabledFor(logging.INFO)
