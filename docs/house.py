"""Draws ``docs/house.svg`` from the imports: ``python docs/house.py``. The tests compare the file with the sources.

The wings and what they are about come from the table of ``docs/design.md``, ground floor first.
"""

import ast
import graphlib
import re
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs" / "house.svg"
TABLE = re.compile(r"^\| `(?:rlgd/)?(\*\.py|\w+/)` +\| (.*?) +\|$", re.MULTILINE)
TOP = "*.py"

WIDTH, FLOOR, GAP, MARGIN = 640, 44, 18, 20
ARROW = "#5b7083"


def read_wings() -> dict[str, str]:
    """Each wing's folder, and what a line in it is about."""
    return dict(TABLE.findall((ROOT / "docs" / "design.md").read_text()))


def folder(wing: str) -> Path:
    """Where a wing's files are; ``agents/`` and ``envs/`` stand beside ``rlgd/``, which links to them."""
    return (ROOT / "rlgd" / wing).resolve() if wing != TOP else ROOT / "rlgd"


def imported_wings(wing: str, wings: dict[str, str]) -> set[str]:
    """The wings that files of a wing import from."""
    found = set()
    for path in folder(wing).glob("*.py") if wing == TOP else folder(wing).rglob("*.py"):
        if path.name in ("__init__.py", "__main__.py"):  # faces resolve names when they are used
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "rlgd":
                for name in node.names:
                    _, *parts = f"{node.module}.{name.name}".split(".")
                    found.add(f"{parts[0]}/" if f"{parts[0]}/" in wings else TOP)
    return found - {wing}


def reduced(imports: dict[str, set[str]]) -> dict[str, set[str]]:
    """The imports without those that follow from others: where A imports B and B imports C, A to C is left out."""
    graphlib.TopologicalSorter(imports).prepare()  # raises where there is a cycle

    def reach(wing: str) -> set[str]:
        return imports[wing].union(*(reach(other) for other in imports[wing]))

    return {wing: direct - set().union(*(reach(other) for other in direct)) for wing, direct in imports.items()}


def draw() -> str:
    """The picture: a floor for each wing, the first one at the bottom, and an arrow for each import."""
    wings = read_wings()
    names = list(wings)
    imports = reduced({wing: imported_wings(wing, wings) for wing in wings})
    height = len(names) * (FLOOR + GAP) + 2 * MARGIN
    reach = 30 + 16 * max(names.index(a) - names.index(b) for a, others in imports.items() for b in others)

    def middle(wing: str) -> float:
        return height - MARGIN - (names.index(wing) + 0.5) * (FLOOR + GAP)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH + reach + 2 * MARGIN} {height}" '
        'font-family="Helvetica, Arial, sans-serif">',
        '<rect width="100%" height="100%" fill="white"/>',
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path d="M0 0 L8 4 L0 8 z" fill="{ARROW}"/></marker></defs>',
    ]
    for wing, about in wings.items():
        y = middle(wing)
        name = wing if wing in ("agents/", "envs/") else f"rlgd/{wing}"
        parts.append(
            f'<rect x="{MARGIN}" y="{y - FLOOR / 2:g}" width="{WIDTH}" height="{FLOOR}" rx="6" fill="#eef3f7" '
            'stroke="#b7c5d1"/>'
            f'<text x="{MARGIN + 14}" y="{y - 3:g}" font-size="14" font-weight="bold">{escape(name)}</text>'
            f'<text x="{MARGIN + 14}" y="{y + 14:g}" font-size="12" fill="#444">{escape(about.replace("`", ""))}</text>'
        )
    right = MARGIN + WIDTH
    for wing, others in imports.items():
        for other in sorted(others, key=names.index):
            span = names.index(wing) - names.index(other)
            start, end = middle(wing) + 8, middle(other) - 8
            bend = right + 14 + 16 * span
            parts.append(
                f'<path d="M{right} {start:g} C{bend} {start:g} {bend} {end:g} {right + 2} {end:g}" fill="none" '
                f'stroke="{ARROW}" stroke-width="1.4" marker-end="url(#head)"/>'
            )
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    PICTURE.write_text(draw())
