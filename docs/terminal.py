"""Draw what a terminal shows, for the site.

    .venv/bin/python docs/terminal.py docs/start-train.svg make train

draws the command, which is run in the working directory, and what it printed.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

WIDTH = 96


def draw(picture: Path, command: list[str]) -> None:
    """Run a command and draw its output."""
    shown = shlex.join(command)
    reader = os.environ | {"PATH": os.defpath}  # who has not put rlgd on it
    done = subprocess.run(command, env=reader, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True)
    with open("/dev/null", "w") as nowhere:
        console = Console(record=True, width=WIDTH, file=nowhere, force_terminal=True)
        console.print(Text(f"$ {shown}", style="bold"))
        console.print(Text(done.stdout.rstrip()))
        drawn = console.export_svg(title=shown, theme=MONOKAI, unique_id=picture.stem)
    # Fonts of the reader's: rich names ones that a site which is read offline cannot load.
    offline = re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL).replace("Fira Code", "monospace")
    picture.write_text(offline)


if __name__ == "__main__":
    draw(Path(sys.argv[1]), sys.argv[2:])
