"""32 seeds in one study beside 32 runs one after another, and beside rejax vmapped: prints one Markdown table.

Wall time, compilation included: less is better. It asserts nothing; the two of a row take turns.
"""

import json
import sys

from speed import HERE, Setting, main, run


def seconds(python: str, who: str) -> float:
    """What a worker reports, without a compilation cache."""
    command = [python, str(HERE / "study_worker.py"), who]
    return float(json.loads(run(command, {}).splitlines()[-1])["seconds"])


def seeds(peers: str) -> list[Setting]:
    """The same members, in three ways."""

    def setting(peer: str, python: str, who: str) -> Setting:
        return Setting(
            "PPO, CartPole-v1, 32 seeds of 51,200 steps",
            peer,
            "s",
            lambda: seconds(sys.executable, "study"),
            lambda: seconds(python, who),
        )

    return [setting("32 runs in a loop", sys.executable, "loop"), setting("rejax, vmapped", peers, "rejax")]


if __name__ == "__main__":
    main({"seeds": seeds}, __doc__)
