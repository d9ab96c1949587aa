"""The public names of every package, against a list: nothing appears or disappears unnoticed."""

import importlib
import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_architecture import FILES

PUBLIC = {
    "rlgd": """
        EvalResult EvolveResult Policy Stop StudyResult TrainResult TuneResult agents ascent envs errors evaluate
        evaluation evolution evolve exact export exporting load maths models objective resume run runs studies study
        train training tune tuning
    """,
    "rlgd.agents": """
        A2C ALIASES ActorCriticAgent Agent AgentContract NPG OneStepAgent PPO REGISTRY REINFORCE RolloutAgent TRPO
        agent_class check make_agent named preset presets registered_name
    """,
    "rlgd.ascent": """
        Ascent Clipping Control OPTIMIZERS Outer Penalties RolloutMoments Rule Schedules apply_step clip_by_norm
        cosine global_norm
    """,
    "rlgd.engines": """
        ENGINES Ended EngineChoice RESTARTS run_jobs
    """,
    "rlgd.envs": """
        DeviceEnv Env HostEnv SUITES TWINS check device_ids full_id functional make randomized
    """,
    "rlgd.envs.check": """
        Finding Report check render
    """,
    "rlgd.envs.device": """
        DeviceEnv DeviceVectorEnv EnvState Timestep
    """,
    "rlgd.envs.functional": """
        Acrobot AcrobotParams Blackjack BlackjackParams CartPole CartPoleNoVelocity CartPoleParams
        CliffWalking CliffWalkingSlippery FrozenLake FrozenLake8x8 MountainCar MountainCarContinuous
        MountainCarParams Pendulum PendulumNoVelocity PendulumParams TabularParams Taxi
    """,
    "rlgd.envs.functional.minatar": """
        Asterix Breakout Freeway MinAtarParams Seaquest SpaceInvaders
    """,
    "rlgd.envs.host": """
        HostEnv HostStep HostVector
    """,
    "rlgd.envs.suites": """
        SUITES Suite names
    """,
    "rlgd.evaluation": """
        EvalResult Policy evaluate
    """,
    "rlgd.exact": """
        LQR LinearGaussian TabularMDP compare
    """,
    "rlgd.exporting": """
        FORMATS Graph Program Value each_number export export_run load_stablehlo
    """,
    "rlgd.maths": """
        blocks confidence distributions minibatches natural_gradient objectives returns running_statistics seeds
    """,
    "rlgd.models": """
        ACTIVATIONS ActionHead Attention BOX_DISTRIBUTIONS BOX_STDS CELLS INITIALIZATIONS NETWORKS Network
        NetworkOutput Recurrence Torso action_head check convolve dot_general encode images network
        num_features
    """,
    "rlgd.reproduction": """
        RowResult ScoreSuite read_suite shipped_suites
    """,
    "rlgd.run": """
        EnvSettings RunConfig RunSettings Stopping TrainResult automatic execute load resume train
    """,
    "rlgd.studies": """
        Arm Outcome PointResult Question StudyResult read_question resume_study study
    """,
    "rlgd.training": """
        Chunk DeviceRunner HostRunner OverlappingRunner Runner chunk_length initialize iterate
    """,
    "rlgd.evolution": """
        EvolveResult evolve
    """,
    "rlgd.tuning": """
        TuneResult objective tune
    """,
}


@pytest.mark.parametrize("package", PUBLIC)
def test_public_names_are_these(package: str) -> None:
    module = importlib.import_module(package)
    assert sorted(module.__all__) == sorted(PUBLIC[package].split())
    for name in module.__all__:
        assert getattr(module, name) is not None
    assert {*module.__all__} <= {*dir(module)}
    assert not {name for name in dir(module) if not name.startswith("__")} - {*module.__all__} - submodules(package)


def submodules(package: str) -> set[str]:
    """The modules of a package, which importing them makes attributes of it."""
    return {name.removeprefix(f"{package}.").partition(".")[0] for name in FILES if name.startswith(f"{package}.")}


def test_every_package_with_public_names_is_in_the_list() -> None:
    packages = {name for name, path in FILES.items() if path.name == "__init__.py"}
    assert {name for name in packages if hasattr(importlib.import_module(name), "__all__")} == {*PUBLIC}


def test_completion_shows_what_to_call_right_after_the_import() -> None:
    code = "import rlgd; print(*dir(rlgd))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"train", "load", "resume", "evaluate", "study", "tune"} <= {*done.stdout.split()}


def test_the_version_is_the_same_everywhere() -> None:
    root, version = Path(__file__).parent.parent, importlib.import_module("rlgd").__version__
    (cited,) = re.findall(r"^version: (.*)$", (root / "CITATION.cff").read_text(), re.MULTILINE)
    _, newest, *_ = re.findall(r"^## \[(.*?)\]", (root / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert version == cited == newest == importlib.metadata.version("rlgd")
