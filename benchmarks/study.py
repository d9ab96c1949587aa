"""32 seeds in one study beside 32 runs one after another, and beside rejax vmapped: prints one Markdown table.

Wall time, compilation included: less is better. It asserts nothing; the two of a row take turns.
"""

import argparse
import json
import sys

from speed import COLUMNS, HERE, Setting, measured, row, run


def seconds(python: str, who: str) -> float:
    """What a worker reports, without a compilation cache."""
    command = [python, str(HERE / "study_worker.py"), who]
    return float(json.loads(run(command, {}).splitlines()[-1])["seconds"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", default=".peers/bin/python", help="the interpreter of the peers' environment")
    parser.add_argument("--rounds", type=int, default=3, help="how often each pair runs")
    args = parser.parse_args()
    name = "PPO, CartPole-v1, 32 seeds of 51,200 steps"
    peers = {"32 runs in a loop": (sys.executable, "loop"), "rejax, vmapped": (args.peers, "rejax")}
    lines = [row(COLUMNS), row(["---"] * len(COLUMNS))]
    for peer, (python, who) in peers.items():
        setting = Setting(
            name,
            peer,
            "s",
            lambda: seconds(sys.executable, "study"),
            lambda python=python, who=who: seconds(python, who),  # type: ignore[misc]
        )
        lines.append(measured(setting, args.rounds))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
