"""What training returns."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rlgd.evaluation.evaluator import EvalResult
from rlgd.evaluation.policy import Policy
from rlgd.frames import frame
from rlgd.pytrees import LoopState
from rlgd.tables import as_html
from rlgd.training.history import concatenated


@dataclasses.dataclass(frozen=True, repr=False)
class TrainResult:
    """What training led to.

    Attributes:
        policy: the trained policy, ``policy(obs)``; with ``patience`` the one that was evaluated best.
        state: the complete training state at the end.
        metrics: every metric as an array ``[iterations]``, with ``step``, the environment steps after each iteration.
            ``rollout/episode_return`` and ``rollout/episode_length`` are NaN where no episode ended, diagnostics where
            they were not measured, and absent if they never were.
        run_dir: where it was written, or None.
        reason: what ended it: "total_timesteps", the name of a criterion, "sink", or "already complete".
        why: what the criterion saw.
        steps: environment steps.
        training_seconds, compile_seconds: wall time.
        evaluation: of the final policy, if the run was written.
    """

    policy: Policy
    state: LoopState
    metrics: dict[str, np.ndarray]
    run_dir: Path | None
    reason: str
    why: str
    steps: int
    training_seconds: float
    compile_seconds: float
    evaluation: EvalResult | None

    def __repr__(self) -> str:
        return f"TrainResult({', '.join(f'{name} {text}' for name, text in self._facts().items())})"

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return as_html(["", ""], [[name, text] for name, text in self._facts().items()], "TrainResult")

    def _facts(self) -> dict[str, str]:
        facts = {
            "agent": type(self.policy.agent).__name__,
            "steps": f"{self.steps:,}",
            "ended by": f"{self.reason}{f' ({self.why})' if self.why else ''}",
            "seconds": f"{self.training_seconds:.1f} and {self.compile_seconds:.1f} of compiling",
        }
        returns = self.metrics.get("rollout/episode_return")
        if returns is not None and len(ended := returns[~np.isnan(returns)]):
            facts["last episodes"] = f"mean return {ended[-1]:.1f}"
        if self.evaluation is not None:
            facts["evaluation"] = str(self.evaluation)
        return facts | ({} if self.run_dir is None else {"run": str(self.run_dir)})

    def frame(self) -> Any:
        """``metrics`` as a ``pandas.DataFrame``, a row for each iteration, with ``step`` as its index.

        Raises:
            UsageError: if pandas is not installed.
        """
        return frame(self.metrics, "step")


def curves(chunks: Sequence[dict[str, np.ndarray]], first_step: int) -> dict[str, np.ndarray]:
    """The metrics of chunks as arrays ``[iterations]``, see ``TrainResult``; ``first_step`` is where they begin."""
    if not chunks:
        return {}
    raw = concatenated(chunks)
    ended = raw["rollout/episodes"]
    joined = {"step": first_step + np.cumsum(raw.pop("rollout/steps"), dtype=np.int64)}
    for name, values in raw.items():
        if name.endswith("_sum"):
            mean = np.divide(values, ended, out=np.full(len(values), math.nan), where=ended > 0)
            joined[name.replace("/", "/episode_").removesuffix("_sum")] = mean
        else:
            joined[name] = values
    return joined
