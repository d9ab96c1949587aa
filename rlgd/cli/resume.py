"""``rlgd resume``."""

from rlgd.cli.flags import (
    Flags,
    counts,
    doc,
    is_given,
    output_flags,
    parse,
    saving_flags,
    setting_flags,
    stopping_flags,
    take_run,
    with_defaults,
)
from rlgd.cli.output import announce, console_sinks, report
from rlgd.system import signals


def resume(argv: list[str]) -> int:
    """``rlgd resume``."""
    from rlgd.cli import jax_setup
    from rlgd.run import changes as changes_module
    from rlgd.run import config_file

    flags: Flags = {
        "env": doc(str | None, "the environment, where the run's own id is not enough", None),
        "total_timesteps": doc(counts() | None, "a new end; schedules stretch to it", None),
        **saving_flags(),
        **stopping_flags(),
        **output_flags(),
    }
    about = "Go on with a run from its newest checkpoint; traced hyper-parameters may change."
    run, argv = take_run("resume", argv, flags, about)
    agent, _ = config_file.read_agent(run)
    stored = config_file.read_settings(run)
    own = setting_flags(agent) | setting_flags(stored.stopping)
    own |= with_defaults(saving_flags(), {name: getattr(stored, name) for name in saving_flags()})
    options = parse(f"rlgd resume {run}", {**flags, **own}, argv, about)
    changes = {name: getattr(options, name) for name in own if is_given(argv, name)}
    new_end = {} if options.total_timesteps is None else {"total_timesteps": options.total_timesteps}
    settings = changes_module.changed(config_file.read(run, options.env), changes | new_end)
    settings.validate()
    jax_setup.set_up(settings, options.device, options.deterministic_ops)
    from rlgd.run.api import resume as run_resume

    announce(settings, options)
    with signals.caught() as poll_signal:
        result = run_resume(
            run,
            env=options.env,
            total_timesteps=options.total_timesteps,
            sinks=console_sinks(options, settings.settings.total_timesteps),
            poll_signal=poll_signal,
            metrics=False,
            **changes,
        )
    return report(result, settings.evaluation_env.env_id, options)
