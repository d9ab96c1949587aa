"""Public ``train``, ``resume`` and ``load``: the training loop, its sinks, and the run directory."""

import dataclasses
import math
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from rlgd import checkpoint, episodes, rundir, training
from rlgd.agents.common import Agent
from rlgd.data import LoopState
from rlgd.envs import DeviceEnv, make
from rlgd.envs.host import HostVector
from rlgd.errors import Diverged, UsageError
from rlgd.evaluation import EvalResult, evaluate
from rlgd.policy import Policy
from rlgd.records import Recorder, Row
from rlgd.rundir import RunConfig
from rlgd.tensorboard import TensorBoard

EVAL_SEED = 1_000_003  # evaluation plays the same episodes whatever the seed of the training


_initialize = jax.jit(training.initialize, static_argnums=(1, 3))


class Sink(Protocol):
    """Takes rows as training goes on."""

    def write(self, row: Row) -> None: ...

    def close(self) -> None: ...


@dataclasses.dataclass(frozen=True)
class TrainResult:
    """What training led to.

    Attributes:
        policy: the trained policy, ``policy(obs)``.
        state: the whole state at the end, from which training can go on.
        metrics: every metric as an array ``[iterations]``, with ``step``, the number of environment steps behind each.
            ``rollout/episode_return`` and ``rollout/episode_length`` are NaN where no episode ended.
        run_dir: where it was written, or None.
        reason: why it ended.
        steps: environment steps.
        training_seconds, compile_seconds: wall time.
        evaluation: of the final policy, if the run was written.
    """

    policy: Policy
    state: LoopState
    metrics: dict[str, np.ndarray]
    run_dir: Path | None
    reason: str
    steps: int
    training_seconds: float
    compile_seconds: float
    evaluation: EvalResult | None


def train(
    agent: Agent,
    env: Any,
    *,
    total_timesteps: int,
    seed: int = 0,
    run_dir: str | Path | None = None,
    eval_every: int | None = None,
    eval_episodes: int = 100,
    backend: str = "auto",
    env_args: dict[str, Any] | None = None,
    max_episode_steps: int | None = None,
    overwrite: bool = False,
    sinks: Sequence[Sink] = (),
) -> TrainResult:
    """Train an agent.

    Args:
        agent: for example ``PPO(ascent=Ascent("adam", learning_rate=1e-3))``.
        env: a Gymnasium id, a FuncEnv, or what ``rlgd.envs.make`` returned.
        total_timesteps: environment steps; the run ends with the iteration that reaches them.
        seed: of everything random; the same seed gives the same bits on a CPU.
        run_dir: where to write configuration, curves, checkpoint and summary; None writes nothing.
        eval_every: evaluate after so many steps, if the run is written; None: only at the end.
        eval_episodes: episodes of each evaluation of the greedy policy, in Gymnasium's own environment if it has one.
        backend: "auto", "device" or "host".
        env_args: arguments for the environment.
        max_episode_steps: a time limit instead of the registered one.
        overwrite: replace what an earlier run wrote in ``run_dir``.
        sinks: take rows of metrics as training goes on.

    Raises:
        UsageError: before anything is compiled or written, for arguments that do not fit.
        EnvironmentFault: if the environment breaks; the state is saved.
        Diverged: if training leaves the finite numbers; the last finite state is saved.
    """
    made = make(env, backend=backend, max_episode_steps=max_episode_steps, **(env_args or {}))
    settings = RunConfig(agent, made, total_timesteps, seed, eval_every, eval_episodes)
    settings.validate()
    directory = None if run_dir is None else rundir.create(Path(run_dir), settings, overwrite)
    loop = _initialize(agent.prepared(), made, jax.random.key(seed), total_timesteps)
    return _Run(settings, directory, sinks).train(loop)


def resume(
    run_dir: str | Path,
    *,
    env: Any = None,
    total_timesteps: int | None = None,
    sinks: Sequence[Sink] = (),
    **changes: Any,
) -> TrainResult:
    """Go on with a run from its newest checkpoint, to its end or to a new ``total_timesteps``.

    On the device the result is the same to the bit as that of a run that was never stopped. On the host the learner's
    state is exact and the environments begin new episodes, with seeds derived from the run's seed and the step.
    With a new ``total_timesteps`` schedules stretch to the new end: the share of the run done is counted anew.

    Args:
        run_dir: a directory that ``train`` wrote.
        env: the environment, where its id alone does not say it; None takes the run's.
        total_timesteps: the new end; None keeps the run's.
        sinks: as for ``train``.
        changes: traced hyper-parameters by flat name, such as ``learning_rate=1e-4``.

    Raises:
        UsageError: if there is nothing to resume, or a change is not possible.
        StorageFault: if the checkpoint is damaged.
    """
    directory = Path(run_dir)
    settings = rundir.read(directory, env)
    settings = rundir.changed(settings, total_timesteps, changes)
    settings.validate()
    steps = checkpoint.latest_step(directory / rundir.CHECKPOINTS)
    if steps is None:
        raise UsageError(f"{directory} has no complete checkpoint to resume from.")
    like = jax.eval_shape(
        lambda key: training.initialize(settings.agent.prepared(), settings.env, key), jax.random.key(0)
    )
    loop, counters = checkpoint.restore(directory / rundir.CHECKPOINTS, steps, like)
    if total_timesteps is not None:
        loop = dataclasses.replace(
            loop,
            progress=jnp.asarray(steps / total_timesteps, loop.progress.dtype),
            progress_per_step=jnp.asarray(1 / total_timesteps, loop.progress.dtype),
        )
    if steps < settings.total_timesteps:
        rundir.write_config(directory, settings)
    return _Run(settings, directory, sinks, steps, counters).train(loop)


def load(run_dir: str | Path) -> Policy:
    """The policy of a run's newest checkpoint, ready to act; the environment itself need not be installed.

    Raises:
        UsageError: if there is no run, or it has no checkpoint.
        StorageFault: if the checkpoint is damaged.
    """
    directory = Path(run_dir)
    agent, spec = rundir.read_agent(directory)
    steps = checkpoint.latest_step(directory / rundir.CHECKPOINTS)
    if steps is None:
        raise UsageError(f"{directory} has no complete checkpoint.")
    like = jax.eval_shape(lambda key: agent.prepared().init(spec, key), jax.random.key(0))
    state = checkpoint.restore_agent(directory / rundir.CHECKPOINTS, steps, like)
    return Policy(agent, spec, state.actor)


class _Run:
    """One run from its first (or resumed) chunk to its summary."""

    def __init__(
        self,
        settings: RunConfig,
        directory: Path | None,
        sinks: Sequence[Sink],
        steps: int = 0,
        counters: dict[str, Any] | None = None,
    ) -> None:
        self.settings = settings
        self.directory = directory
        counters = counters or {"training_seconds": 0.0, "compile_seconds": 0.0, "start": time.time()}
        self.first_step = steps
        self.recorder = Recorder(settings.log_every, steps, counters["training_seconds"], counters["compile_seconds"])
        self.start = counters["start"]
        self.sinks = list(sinks)
        self.history: list[dict[str, np.ndarray]] = []
        self.evaluation: EvalResult | None = None

    def train(self, loop: LoopState) -> TrainResult:
        """Train to the end; whatever ends it, the last state is saved and the sinks are closed."""
        settings, length = self.settings, self.settings.chunk_length
        agent, env = settings.agent.prepared(), settings.env
        self.recorder.iteration = int(loop.iteration)
        if self.first_step >= settings.total_timesteps:
            return self._result(loop, "already complete")
        if self.directory is not None:
            self.sinks += [rundir.JsonLines(self.directory), self._tensorboard(self.directory)]
        vector = None if isinstance(env, DeviceEnv) else env.open(agent.num_envs)
        reason = "total_timesteps"
        try:
            if vector is None:
                assert isinstance(env, DeviceEnv)
                runner: training.Runner = training.DeviceRunner(agent, env, length)
            else:
                loop = self._enter(agent, vector, loop)
                runner = training.HostRunner(agent, vector)
            for chunk in training.chunks(
                runner, loop, length, settings.total_timesteps, self.first_step, self._pause_every
            ):
                _check_finite(chunk, self.recorder.iteration)
                loop = chunk.loop
                self._take(chunk)
            self._write(self.recorder.rest())
            if self.directory is not None:
                self._evaluate(loop)
        except BaseException as error:
            reason = f"{type(error).__name__}: {error}"
            raise
        finally:
            if vector is not None:
                vector.close()
            self._finish(loop, reason)
        return self._result(loop, reason)

    @property
    def _pause_every(self) -> int | None:
        return None if self.directory is None else self.settings.eval_every

    def _enter(self, agent: Agent, vector: HostVector, loop: LoopState) -> LoopState:
        """New episodes in every host environment, with seeds that the run's seed and the step determine."""
        sequence = np.random.SeedSequence([self.settings.seed, self.first_step])
        obs = vector.reset(int(sequence.generate_state(1)[0] >> 1))
        return dataclasses.replace(
            loop,
            obs=jnp.asarray(obs),
            first=jnp.ones(agent.num_envs, bool),
            memory=agent.memory(vector.spec, agent.num_envs),
            episodes=episodes.begin(agent.num_envs),
        )

    def _tensorboard(self, directory: Path) -> TensorBoard:
        return TensorBoard(directory, self.start, self.settings.hyperparameters(), self.settings.group())

    def _take(self, chunk: training.Chunk) -> None:
        self.history.append(chunk.metrics)
        before = self.recorder.step
        self._write(self.recorder.rows(chunk))
        every = self._pause_every
        if every and chunk.steps // every > before // every and chunk.steps < self.settings.total_timesteps:
            self._evaluate(chunk.loop)

    def _write(self, rows: Iterable[Row]) -> None:
        for row in rows:
            for sink in self.sinks:
                sink.write(row)

    def _evaluate(self, loop: LoopState) -> None:
        settings = self.settings
        policy = Policy(settings.agent, settings.env.spec, loop.agent_state.actor)
        self.evaluation = evaluate(policy, settings.evaluation_env, episodes=settings.eval_episodes, seed=EVAL_SEED)
        values = {
            "eval/episode_return": self.evaluation.mean,
            "eval/episode_length": float(self.evaluation.lengths.mean()),
        }
        self._write([Row(self.recorder.step, self.recorder.seconds, values)])

    def _finish(self, loop: LoopState, reason: str) -> None:
        if self.directory is not None:
            counters = {
                "training_seconds": self.recorder.seconds,
                "compile_seconds": self.recorder.compile_seconds,
                "start": self.start,
            }
            checkpoint.save(self.directory / rundir.CHECKPOINTS, self.recorder.step, loop, counters)
            rundir.write_summary(self.directory, self._summary(reason))
        for sink in self.sinks:
            sink.close()

    def _summary(self, reason: str) -> dict[str, Any]:
        recorder, evaluation = self.recorder, self.evaluation
        summary: dict[str, Any] = {
            "reason": reason,
            "steps": recorder.step,
            "iterations": recorder.iteration,
            "training_seconds": recorder.seconds,
            "compile_seconds": recorder.compile_seconds,
            "steps_per_second": recorder.step / max(recorder.seconds, 1e-9),
        }
        if evaluation is not None:
            summary["evaluation"] = {
                "env": self.settings.evaluation_env.env_id,
                "episodes": len(evaluation.returns),
                "policy": "greedy",
                "mean_return": evaluation.mean,
                "std_return": evaluation.std,
                "mean_length": float(evaluation.lengths.mean()),
            }
        return summary

    def _result(self, loop: LoopState, reason: str) -> TrainResult:
        names = self.history[0] if self.history else {}
        raw = {name: np.concatenate([part[name] for part in self.history]) for name in names}
        return TrainResult(
            policy=Policy(self.settings.agent, self.settings.env.spec, loop.agent_state.actor),
            state=loop,
            metrics=_curves(raw, self.first_step) if raw else {},
            run_dir=self.directory,
            reason=reason,
            steps=self.recorder.step,
            training_seconds=self.recorder.seconds,
            compile_seconds=self.recorder.compile_seconds,
            evaluation=self.evaluation,
        )


def _check_finite(chunk: training.Chunk, first_iteration: int) -> None:
    """Raises: Diverged: if a metric of the chunk, or a parameter behind it, is not finite."""
    bad = {
        name: int(np.argmax(~np.isfinite(values)))
        for name, values in chunk.metrics.items()
        if not np.isfinite(values).all()
    }
    if bad:
        name = min(bad, key=bad.__getitem__)
        where = f"{name} is not finite in iteration {first_iteration + bad[name]}"
    elif not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(chunk.loop.agent_state.params)):
        where = f"a parameter is not finite behind iteration {int(chunk.loop.iteration) - 1}"
    else:
        return
    raise Diverged(
        f"training diverged: {where}. The last finite state is kept. "
        "A smaller learning_rate, or a max_grad_norm, may help."
    )


def _curves(raw: dict[str, np.ndarray], first_step: int) -> dict[str, np.ndarray]:
    ended = raw["rollout/episodes"]
    steps = first_step + np.cumsum(raw.pop("rollout/steps"), dtype=np.int64)
    curves = {"step": steps}
    for name, values in raw.items():
        if name.endswith("_sum"):
            mean = np.divide(values, ended, out=np.full(len(values), math.nan), where=ended > 0)
            curves[name.replace("/", "/episode_").removesuffix("_sum")] = mean
        else:
            curves[name] = values
    return curves
