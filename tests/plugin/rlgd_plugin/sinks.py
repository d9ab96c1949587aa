"""A sink of a user: a diary of the evaluations, which ends the run when they no longer differ."""

import os
from pathlib import Path

from rlgd import EvalResult, Policy, Stop
from rlgd.run import RunConfig


class Diary:
    def begin(self, config: RunConfig, run_dir: Path | None) -> None:
        self.file = Path(os.devnull) if run_dir is None else run_dir / "diary.txt"
        self.note(f"{type(config.agent).__name__} begins in {config.env.env_id}")

    def evaluation(self, result: EvalResult, policy: Policy) -> Stop | None:
        self.note(f"mean return {result.mean:.1f}")
        return Stop("every episode had the same return") if result.std == 0 else None

    def close(self, summary: dict[str, object]) -> None:
        self.note(f"ends by {summary['reason']}")

    def note(self, text: str) -> None:
        with self.file.open("a") as file:
            print(text, file=file)
