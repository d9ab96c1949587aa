"""What a person sees while a run trains: a progress bar on a terminal, else plain lines; on standard error."""

import contextlib
import sys
import time
from typing import Any

from rich.console import Console as RichConsole
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from rlgd.run.sinks.rows import Row

LINE_EVERY = 2.0  # seconds between plain lines


class Console:
    """Shows the steps, the return, the steps per second and the time left."""

    def __init__(self, total_timesteps: int) -> None:
        self.total = total_timesteps
        self.console = RichConsole(file=sys.stderr)
        self.last_line = time.monotonic()
        self.last_return = "-"
        self.progress: Progress | None = None
        if self.console.is_terminal:
            self.progress = Progress(
                TextColumn("{task.completed:>11,.0f} / {task.total:,.0f} steps"),
                BarColumn(bar_width=None),
                TextColumn("return {task.fields[episode_return]}"),
                TextColumn("{task.fields[speed]:,.0f} steps/s"),
                TimeRemainingColumn(),
                console=self.console,
            )
            self.task = self.progress.add_task("train", total=total_timesteps, episode_return="-", speed=0.0)

    def write(self, row: Row) -> None:
        """Show a row."""
        if "rollout/episode_return" in row.values:
            self.last_return = f"{row.values['rollout/episode_return']:.1f}"
        speed = row.values.get("time/steps_per_second")
        if speed is None:
            return
        if self.progress is not None:
            self.progress.start()
            done = min(row.step, self.total)
            self.progress.update(self.task, completed=done, episode_return=self.last_return, speed=speed)
        elif row.step >= self.total or time.monotonic() - self.last_line > LINE_EVERY:
            self.last_line = time.monotonic()
            line = f"{row.step:>11,} / {self.total:,} steps  return {self.last_return}  {speed:,.0f} steps/s"
            with contextlib.suppress(OSError):  # nobody has to read it
                print(line, file=sys.stderr, flush=True)

    def close(self, summary: dict[str, Any]) -> None:
        """End the progress bar."""
        if self.progress is not None:
            self.progress.stop()
