"""``rlgd study resume``."""

import dataclasses
from pathlib import Path

from rlgd.cli import study
from rlgd.cli.options import flag, positional
from rlgd.errors import UsageError


@dataclasses.dataclass(frozen=True)
class Options(study.ExecutionOptions):
    """Train the members of a study that are not finished."""

    directory: str = positional("DIR", "a directory that `rlgd study` wrote")
    env: str | None = flag(None, "the study's environment, if its id imports a module", "ID")


def run(options: Options) -> int:
    """Continue the study."""
    _ = options.engine_choice  # a mistake in it is found first
    from rlgd.envs.registry import refuse_module_id
    from rlgd.studies import directory as study_directory
    from rlgd.studies import plan as plan_module

    directory = Path(options.directory)
    question, content = study_directory.read(directory)
    if not question.env:
        raise UsageError(f"{directory} was not made from ids; continue it with rlgd.studies.resume_study.")
    if options.env is not None and options.env not in question.env_ids:
        raise UsageError(f"{directory} is a study of {', '.join(question.env_ids)}, not of {options.env!r}.")
    for env_id in question.env_ids - {options.env}:
        refuse_module_id(env_id)
    plan = plan_module.make_plan(question)
    slice_size = study_directory.recorded_slice_size(directory, content, options.slice_size)
    execution = study.prepare(plan, content["exact"], dataclasses.replace(options, slice_size=slice_size))
    return study.execute(plan, directory, execution, options, resumed=True)
