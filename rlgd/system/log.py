"""Messages to the user that are no errors."""

import functools
import logging

log = logging.getLogger("rlgd")


@functools.lru_cache(maxsize=1024)
def warn_once(message: str) -> None:
    """Log a warning, the first time that this process has it."""
    log.warning("%s", message)
