"""Write docs/answers.md and its figures from finished studies.

for name in momentum learning-rate optimizer ...; do rlgd study "$name" --run-dir "DIR/$name"; done
python docs/answers.py DIR

A long form (``rlgd study NAME --full``) in ``DIR/NAME-full`` is added to the answer of its short form.
"""

import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from rlgd.studies import StudyResult, resume_study, tables, words
from rlgd.studies.over_tasks import over_tasks
from rlgd.studies.question import shipped_questions
from rlgd.studies.seed_statistics import PointResult
from rlgd.system.machine import num_cores
from rlgd.tables import markdown

DOCS = Path(__file__).resolve().parent
FIGURES = (("normalized-return", "normalized-time"), ("return-by-value",), ("surface",))  # the first that it has
MOST_ROWS = 30  # of a table that somebody reads
LEFT_OUT = ("seeds", "mean over training", "mean over equal seconds", "steps to", "seconds to it")


def main(studies: Path) -> None:
    """Write the page and its figures."""
    names = [name for name in shipped_questions() if (studies / name / "study.json").exists()]
    names.sort(key=lambda name: name != "momentum")
    results = {name: resume_study(studies / name) for name in names}
    parts = [_beginning(results)]
    for name, result in results.items():
        parts.append(_section(name, result))
        if (studies / f"{name}-full" / "study.json").exists():
            parts.append(_long_form(name, resume_study(studies / f"{name}-full")))
    (DOCS / "answers.md").write_text("\n\n".join(parts) + "\n", "utf-8")


def _beginning(results: dict[str, StudyResult]) -> str:
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=DOCS, capture_output=True, text=True, check=True
    )
    lines = [
        f"- [{result.plan.question.question}](#{_anchor(result)}) `rlgd study {name}`"
        for name, result in results.items()
    ]
    return (
        "# Answers\n\n"
        "What the studies that ship with rlgd found, each with one command. Returns are of the greedy policy after "
        "training: interquartile means over seeds, with their 95% bootstrap intervals. `P(better)` compares with the "
        "first row. Seconds are those of a member that trains alone. [docs/studies.md](studies.md) says how to "
        "read them, and what differs on another machine. Written by `docs/answers.py` at commit "
        f"{commit.stdout.strip()} on "
        f"{_processor()}, {num_cores()} cores.\n\n" + "\n".join(lines)
    )


def _processor() -> str:
    """The name of the processor, with the widest instructions that decide the last bits of results."""
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    model = re.search(r"^model name\s*:\s*(.*)$", text, re.MULTILINE)
    widest = next((name for name in ("avx512f", "avx2", "avx") if re.search(rf"\b{name}\b", text)), platform.machine())
    return f"{model[1] if model else platform.processor()} ({widest})"


def _anchor(result: StudyResult) -> str:
    return re.sub(r"[^\w -]", "", result.plan.question.question.lower()).replace(" ", "-")


def _section(name: str, result: StudyResult) -> str:
    plan, arms = result.plan, result.point_results
    return _joined(
        f"## {plan.question.question}",
        words.in_short(plan, arms),
        _figures(name, result),
        tables.overall_tables(plan, arms),
        "" if over_tasks(plan, arms) or sum(map(len, arms)) > MOST_ROWS else _table(result, arms),
        f"`rlgd study {name}`: {_trained(result)}.",
    )


def _long_form(name: str, result: StudyResult) -> str:
    plan, arms = result.plan, result.point_results
    return _joined(
        f"In its long form (`rlgd study {name} --full`), {_trained(result)}, {len(result.outcomes):,} members:",
        words.in_short(plan, arms),
        _figures(f"{name}-full", result),
        tables.working_table(plan, arms) or tables.overall_tables(plan, arms),
    )


def _joined(*parts: str) -> str:
    return "\n\n".join(part for part in parts if part)


def _figures(name: str, result: StudyResult) -> str:
    """The figures of an answer, copied."""
    assert result.study_dir is not None
    figures = next(names for names in FIGURES if (result.study_dir / f"{names[0]}.png").exists())
    (DOCS / "answers").mkdir(exist_ok=True)
    for figure in figures:
        shutil.copyfile(result.study_dir / f"{figure}.png", DOCS / "answers" / f"{name}-{figure}.png")
    return "\n".join(f"![{figure.replace('-', ' ')}](answers/{name}-{figure}.png)" for figure in figures)


def _trained(result: StudyResult) -> str:
    plan = result.plan
    return f"{plan.question.seeds} seeds of {', '.join(plan.agent_names)} in {', '.join(plan.env_ids)}"


def _table(result: StudyResult, arms: Sequence[Sequence[PointResult]]) -> str:
    """One table for all arms, without the columns that a short answer does not need."""
    plan = result.plan
    known = dict.fromkeys(head for points in arms for head in tables.columns(plan, points))
    heads = [head for head in known if not head.startswith(LEFT_OUT)]
    several = len(arms) > 1
    rows = []
    for arm, points in zip(plan.question.arms, arms, strict=True):
        for point in points:
            cells = tables.cells(plan, point)
            rows.append(([arm.title] if several else []) + [cells.get(head, "") for head in heads])
    return markdown((["arm"] if several else []) + heads, rows)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
