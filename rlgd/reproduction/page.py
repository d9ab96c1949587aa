"""The page of a reproduction in Markdown: its table of results, their sources, and the settings."""

import os
from collections.abc import Sequence
from pathlib import Path

from rlgd import hyperparameters
from rlgd.envs import DeviceEnv
from rlgd.errors import StorageFault, UsageError
from rlgd.maths import confidence
from rlgd.reproduction.jobs import EPISODES
from rlgd.reproduction.scoreboard import RowResult, in_brief, table
from rlgd.reproduction.suite import ScoreSuite
from rlgd.run import config_file
from rlgd.system import files

WRITTEN_BY = "Written by `rlgd reproduce"  # so a table that rlgd wrote, and may replace, is recognized
PRESETS, BY_RULE = "The presets (`rlgd list presets`)", "By rule, as `rlgd train --auto` chooses them"


def default_path(name: str, root: Path, in_docs: bool) -> Path:
    """The default path of a suite's table.

    Args:
        name: of the suite.
        root: the directory of the suite's runs.
        in_docs: write to ``docs/`` if the working directory is a checkout of rlgd; otherwise to ``root``.
    """
    checkout = Path(__file__).resolve().parents[2]
    folder = Path("docs") if in_docs and Path.cwd() == checkout and Path("docs").is_dir() else root
    return folder / f"reproduce-{name}.md"


def make_room(path: Path) -> None:
    """Make the folder of the table, so that a path that cannot be written is found before training.

    Raises:
        UsageError: if the folder cannot be made, or is not writable, or there is a file that is no table of rlgd's.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.check_regular(path)
        is_free = not path.exists() or _is_table(path)
    except OSError as error:
        raise UsageError(f"the table {path} cannot be written: {error.strerror}.") from error
    if not os.access(path.parent, os.W_OK):
        raise UsageError(f"the table {path} cannot be written; name another file with --out.")
    if not is_free:
        raise UsageError(f"{path} is in the way, and is no table of rlgd's; name another file with --out.")


def _is_table(path: Path) -> bool:
    with path.open("rb") as file:
        return WRITTEN_BY.encode() in file.read(1000)


def write(path: Path, suite: ScoreSuite, results: Sequence[RowResult], auto: bool = False) -> None:
    """Write the page of results; ``auto`` says that the settings are those by rule.

    Raises:
        StorageFault: if it cannot be written.
    """
    try:
        files.replace(path, markdown(suite, results, auto))
    except OSError as error:
        raise StorageFault(f"{path} cannot be written: {files.why(error, path.parent)}") from error


def markdown(suite: ScoreSuite, results: Sequence[RowResult], auto: bool = False) -> str:
    """The table, its sources and the settings, in Markdown."""
    used = {score.source for row in suite.rows for score in row.published}
    notes = [
        f"rlgd: the mean return of {_whose(suite)} over {EPISODES} episodes {_where(results)}, different episodes for "
        f"each seed; interquartile mean over seeds with its {confidence.CONFIDENCE:.0%} bootstrap interval. "
        "Seconds: of training, the median.",
        *(f"{name}: {text}." for name, text in suite.sources.items() if name in used),
    ]
    parts = [
        f"# {suite.title}",
        f"{WRITTEN_BY} {suite.name}{' --auto' * auto}`{_versions_and_devices(results)}. {suite.caption}",
        table(results),
        "\n".join(f"- {note}" for note in notes),
        f"## Settings\n\n{BY_RULE if auto else PRESETS}; a setting that is not named has the agent's default.",
        "\n".join(f"- {result.runs.row.env}, {result.runs.row.agent}: {_settings(result)}" for result in results),
    ]
    return "\n\n".join(parts) + "\n"


def _whose(suite: ScoreSuite) -> str:
    """The policy that is scored."""
    explores = [row.name for row in suite.rows if row.sampled]
    return "the greedy policy" + (f" (in {', '.join(explores)}: of the policy as it explores)" if explores else "")


def _where(results: Sequence[RowResult]) -> str:
    """Where the suite's policies are scored: in Gymnasium, unless it does not have the environments."""
    configs = [result.runs.config for result in results if result.runs.config is not None]
    return (
        "on the device" if any(isinstance(config.evaluation_env, DeviceEnv) for config in configs) else "in Gymnasium"
    )


def _versions_and_devices(results: Sequence[RowResult]) -> str:
    """The versions and devices that the runs were trained with."""
    where = set()
    for result in results:
        for run in result.finished:
            config = config_file.read_config(run.directory)
            versions = ", ".join(f"{name} {config['versions'][name]}" for name in ("rlgd", "jax", "gymnasium"))
            where.add(f"{versions} on {config['device']}")
    return f": {'; '.join(sorted(where))}" if where else ""


def _settings(result: RowResult) -> str:
    config = result.runs.config
    if config is None:
        return f"not trained, {in_brief(result.problem)}"
    text = (
        ", ".join(f"{name}={value}" for name, value in hyperparameters.changed(config.agent).items())
        or "the agent's defaults"
    )
    return f"{text}{f'; not counted, {result.problem}' if result.problem else ''}"
