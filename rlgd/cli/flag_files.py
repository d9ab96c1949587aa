"""Flags out of files: ``--config``."""

from pathlib import Path
from typing import Any

from rlgd.errors import UsageError


def read_flags(path: str) -> tuple[dict[str, Any], str | None]:
    """Flags from a file, a run's ``config.json`` or TOML with flat names; and the agent, if the file names one.

    Raises:
        UsageError: if it cannot be read.
    """
    from rlgd.system.reading import parse_json, parse_toml, read_text

    is_json = path.endswith(".json")
    try:
        text = read_text(Path(path))
        content = parse_json(text, dict[str, Any]) if is_json else parse_toml(text)
    except OSError as error:
        raise UsageError(f"--config {path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise UsageError(f"--config {path} is not a table in {'JSON' if is_json else 'TOML'}: {error}") from error
    agent = content.get("agent")
    if "hyperparameters" in content:
        try:
            content = flags_of_run(content)
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            raise UsageError(f"--config {path} is no config.json of this version of rlgd: {error!r}.") from error
    flags = {name.replace("-", "_"): _value(value) for name, value in content.items()}
    return {name: value for name, value in flags.items() if name != "agent"}, agent


def _value(value: Any) -> Any:
    """A value of a file as a flag has it. TOML has no null: "None" is written as on the command line."""
    if value == "None":
        return None
    return tuple(value) if isinstance(value, list) else value


def flags_of_run(content: dict[str, Any]) -> dict[str, Any]:
    """The flags that give the run of a ``config.json`` again."""
    from rlgd.run.config_file import upgraded

    content = upgraded(content)
    settings = dict(content["settings"])
    settings["env_arg"] = settings.pop("env_args")
    return {**content["hyperparameters"], **settings, "env": content["env"]["id"]}
