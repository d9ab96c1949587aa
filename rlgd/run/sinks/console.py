"""What a person sees while a run trains: a progress bar on a terminal, else plain lines; on standard error."""

import contextlib
import sys
from pathlib import Path
from typing import Any

from rlgd.run.config import RunConfig
from rlgd.run.sinks.rows import Row
from rlgd.system.display import Display, State

# Metrics that are shown: their names there and their formats, the most important first. No agent has two of a name.
FACTS = {
    "rollout/episode_return": ("return", ".1f"),
    "rollout/episode_length": ("length", ".0f"),
    "train/approx_kl": ("KL", ".2g"),
    "train/kl": ("KL", ".2g"),
    "train/entropy": ("entropy", ".3g"),
    "train/objective": ("objective", ".3g"),
}


class Console:
    """Shows the steps, the steps per second, the time left and a few metrics: those that the agent has."""

    def __init__(self, total_timesteps: int) -> None:
        self.total = total_timesteps
        self.display = Display()
        self.newest: dict[str, float] = {}

    def begin(self, config: RunConfig, run_dir: Path | None) -> None:
        """Say why nothing is seen for a while."""
        with contextlib.suppress(OSError):  # nobody has to read it
            print(f"rlgd: compiling {type(config.agent).__name__} ...", file=sys.stderr, flush=True)

    def write(self, row: Row) -> None:
        """Show a row."""
        speed = row.values.get("time/steps_per_second")
        if speed is None:
            return
        self.newest |= {name: row.values[name] for name in FACTS if name in row.values}
        facts = [f"{name} {self.newest[key]:{form}}" for key, (name, form) in FACTS.items() if key in self.newest]
        done = min(row.step, self.total)
        left = (self.total - done) / speed if speed > 0 else None
        self.display.show(State("steps", done, self.total, f"{speed:,.0f} steps/s", facts, left))

    def close(self, summary: dict[str, Any]) -> None:
        """End the progress bar."""
        self.display.close()
