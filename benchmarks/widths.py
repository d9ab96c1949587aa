"""How fast members train side by side, by the width of a slice: whence ``ROWS`` and ``MOST`` in studies/width.py.

For example ``python benchmarks/widths.py ppo 8 1 2 4 8 16 32`` for PPO with 8 environments. It counts seconds of the
processor, of which a machine with other work has as many as an idle one.
"""

import sys
import time

from rlgd.studies import Arm, Question
from rlgd.studies.compiling import Compiling
from rlgd.studies.plan import make_plan
from rlgd.studies.programs import Programs
from rlgd.studies.slices import train_slice

STEPS, REPEATS = 10_000, 5


def main(agent: str, num_envs: int, widths: list[int]) -> None:
    """Print a line for each width: environment steps of all members by seconds of the processor."""
    arm = Arm(vary={"learning_rate": [1e-3]})
    question = Question(
        (arm,), agent=agent, settings={"num_envs": num_envs}, total_timesteps=STEPS, seeds=max(widths), eval_episodes=2
    )
    members = make_plan(question).members
    made = {width: Programs(members[0], width, False, Compiling()) for width in widths}
    best = dict.fromkeys(widths, float("inf"))
    for number in range(1 + REPEATS):  # the first one compiles
        for width, programs in made.items():
            start = time.process_time()
            train_slice(programs, members[:width])
            if number:
                best[width] = min(best[width], time.process_time() - start)
    for width, seconds in best.items():
        print(f"{agent}, {num_envs} environments, width {width}: {STEPS * width / seconds:,.0f} steps per second")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), list(map(int, sys.argv[3:])))
