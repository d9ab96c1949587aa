"""How long a trained policy takes to choose an action, beside Stable-Baselines3: prints one Markdown table.

Microseconds a call, for one observation and for a batch of 256, where less is better. It asserts nothing; as in
``speed.py`` the two of a row take turns, each in a process of its own.
"""

import functools
import json
import sys

from speed import HERE, ONE_THREAD, Setting, main, run

WAYS = {"policy": "`policy(obs)`", "onnx": "ONNX Runtime", "stablehlo": "StableHLO"}


def called(python: str, who: str, env: str, batch: int, as_installed: bool) -> float:
    """The microseconds that one worker reports, with one thread or as it is installed."""
    threads = {} if as_installed else ONE_THREAD["sb3" if who == "predict" else "rlgd"]
    command = [python, str(HERE / "acting_worker.py"), who, env, str(batch)]
    command += ["--as-installed"] if as_installed else []
    return float(json.loads(run(command, threads).splitlines()[-1])["microseconds"])


def settings(env: str, peers: str) -> list[Setting]:
    """Each way to call a policy of one environment, beside ``predict``."""

    def setting(batch: int, who: str, as_installed: bool = False) -> Setting:
        return Setting(
            f"{env}, {'one observation' if batch == 1 else f'a batch of {batch}'}, {WAYS[who]}",
            f"`predict`, {'both as installed' if as_installed else 'one thread'}",
            "us",
            lambda: called(sys.executable, who, env, batch, as_installed),
            lambda: called(peers, "predict", env, batch, as_installed),
        )

    return [
        row for batch in (1, 256) for row in (setting(batch, "policy", True), *(setting(batch, who) for who in WAYS))
    ]


if __name__ == "__main__":
    main({env: functools.partial(settings, env) for env in ("CartPole-v1", "Pendulum-v1")}, __doc__)
