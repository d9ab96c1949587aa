"""Commands as the user can type them here: the folder of a virtual environment may not be on the path."""

import os
import re
import shlex
import shutil
import sys
from pathlib import Path

OWN = re.compile(r"`rlgd(?=[ `])")
PIP = re.compile(r"\bpip(?= install 'rlgd\[)")


def program(name: str, module: str) -> str:
    """How to call a program that was installed with this interpreter.

    Args:
        name: of the program.
        module: that does the same, where the program is not beside the interpreter.

    Returns:
        Its name if the path has it, and no other of that name; else its file, or the interpreter with the module.
    """
    beside, found = Path(sys.executable or "python").with_name(name), shutil.which(name)
    if not sys.executable or not beside.exists():
        return name if found else f"{shlex.quote(sys.executable or 'python')} -m {module}"
    if found is not None and os.path.samefile(found, beside):
        return name
    return shlex.quote(_near(beside))


def _near(path: Path) -> str:
    """A path from here, if it lies below; the working directory may be gone."""
    try:
        near = os.path.relpath(path)
    except OSError:
        return str(path)
    return str(path) if near.startswith(os.pardir) else near


def as_typed(text: str) -> str:
    """A text whose commands, such as `rlgd train` and pip install 'rlgd[tune]', are as the user can type them."""
    if OWN.search(text):
        text = OWN.sub(lambda _: f"`{program('rlgd', 'rlgd')}", text)
    if PIP.search(text):
        text = PIP.sub(lambda _: program("pip", "pip"), text)
    return text
