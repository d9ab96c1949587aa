"""Commands as the user can type them here: the folder of a virtual environment may not be on the path."""

import os
import re
import shlex
import shutil
import sys
from pathlib import Path

OWN = re.compile(r"`rlgd(?=[ `])")


def program(name: str, module: str) -> str:
    """How to call a program that was installed with this interpreter.

    Args:
        name: of the program.
        module: that does the same, where the program is not beside the interpreter.

    Returns:
        Its name if the path has it, and no other of that name; else its file, or the interpreter with the module.
    """
    beside, found = Path(sys.executable).with_name(name), shutil.which(name)
    if not beside.exists():
        return name if found else f"{shlex.quote(sys.executable)} -m {module}"
    if found is not None and os.path.samefile(found, beside):
        return name
    near = os.path.relpath(beside)
    return shlex.quote(str(beside) if near.startswith(os.pardir) else near)


def as_typed(text: str) -> str:
    """A text whose commands, such as `rlgd train`, are written as the user can type them."""
    return OWN.sub(lambda _: f"`{program('rlgd', 'rlgd')}", text) if OWN.search(text) else text
