"""What every worker does: train for a few seconds after a warm-up, print one line of JSON."""

import argparse
import json
import time
from collections.abc import Callable


def arguments() -> argparse.Namespace:
    """What the driver asks a worker for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("env", help="Gymnasium id")
    parser.add_argument("num_envs", type=int)
    parser.add_argument("--backend", choices=("device", "host"), default="device", help="where rlgd steps environments")
    parser.add_argument("--overlap", action="store_true", help="rlgd learns while it collects, on the host")
    parser.add_argument("--seconds", type=float, default=3.0, help="train for at least so long")
    return parser.parse_args()


def report(train: Callable[[], int], seconds: float) -> None:
    """Print the speed of ``train``, which returns the environment steps it did; its first call is the warm-up."""
    train()
    start, steps, elapsed = time.perf_counter(), 0, 0.0
    while elapsed < seconds:
        steps += train()
        elapsed = time.perf_counter() - start
    print(json.dumps({"steps_per_second": steps / elapsed}))
