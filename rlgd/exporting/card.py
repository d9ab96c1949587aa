"""The model card: a README of an export, with what the policy is, how good it is, and how to run it elsewhere."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import scipy

from rlgd.exporting import snippets
from rlgd.system.reading import read_text
from rlgd.tables import markdown

WHAT = {
    "onnx": "ONNX (opset 17): ONNX Runtime in Python, C++, C#, Java, JavaScript, Rust; MATLAB; and many converters",
    "stablehlo": "StableHLO by `jax.export`, for CPU, CUDA and TPU; read by `rlgd.exporting.load_stablehlo`",
    "safetensors": "the arrays, in which nothing is executed; `architecture.json` says what they are",
    "tflite": "TensorFlow Lite, for one observation at a time; numbers of 64 bits have 32",
}
CONFIDENCE = 0.95
BEGINNING = '---\nlibrary_name: "rlgd"\n'  # by which a card is known


def model_card(about: Mapping[str, Any], files: Mapping[str, str]) -> str:
    """The text of the card, in Markdown, with the metadata that hubs of models read.

    Args:
        about: what ``description`` says of the policy and its run.
        files: the names of the files of the export by their formats.
    """
    env, agent = about["environment"], about["agent"]
    parts = [
        _metadata(about),
        f"# {agent.upper() if agent.isalnum() else agent} in {env}\n",
        f"A policy that rlgd {about['rlgd']} trained in `{env}`. {_returns(about)}\n",
        "## Files\n",
        markdown(["file", "what it is"], [[f"`{name}`", WHAT[kind]] for kind, name in files.items()]),
        "\n## Inputs and outputs\n",
        "The first axis of each is the batch; its size is free, except in TensorFlow Lite, where it is 1. The input is "
        "the raw observation: its encoding and normalizer are inside.\n",
        markdown(["name", "type", "shape", "what it is"], _ports(about)),
    ]
    if "onnx" in files:
        parts += ["\n## How to run it\n", snippets.of(about, files["onnx"])]
    parts += [
        "\n## Training\n",
        markdown(["what", "value"], _training(about)),
        "\n## Settings\n",
        markdown(["setting", "value"], _settings(about)),
    ]
    return "\n".join(parts) + "\n"


def is_card(path: Path) -> bool:
    """Whether a file is a card that ``model_card`` made."""
    try:
        return read_text(path).startswith(BEGINNING)
    except (OSError, ValueError):
        return False


def interval_of_mean(mean: float, std: float, number: int) -> tuple[float, float]:
    """Student's interval of a mean, from the standard deviation of as many numbers; NaN for a single one."""
    if number < 2:
        return math.nan, math.nan
    error = std * math.sqrt(number / (number - 1)) / math.sqrt(number)
    distance = float(scipy.stats.t.ppf(0.5 + CONFIDENCE / 2, number - 1)) * error
    return mean - distance, mean + distance


def _evaluation(about: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The evaluation of this very policy, if there was one."""
    found = about["summary"].get("evaluation") if about["is_result"] else None
    return found if isinstance(found, dict) else None


def _returns(about: Mapping[str, Any]) -> str:
    evaluation = _evaluation(about)
    if evaluation is None:
        return "This checkpoint was not evaluated."
    mean, std, episodes = (evaluation[name] for name in ("mean_return", "std_return", "episodes"))
    where = f"in `{evaluation['env']}`. It is one training run: other seeds give other policies."
    if episodes < 2:
        return f"Its return in one episode of the {evaluation['policy']} policy is **{mean:.1f}**, {where}"
    low, high = interval_of_mean(mean, std, episodes)
    return (
        f"Its mean return over {episodes} episodes of the {evaluation['policy']} policy is **{mean:.1f}** "
        f"(standard deviation {std:.1f}; 95% interval of the mean {low:.1f} to {high:.1f}), {where}"
    )


def _metadata(about: Mapping[str, Any]) -> str:
    """The block in YAML at the beginning; JSON is YAML."""
    env = about["environment"]
    content: dict[str, Any] = {
        "library_name": "rlgd",
        "tags": [env, about["agent"], "reinforcement-learning", "policy-gradient", "jax"],
        "pipeline_tag": "reinforcement-learning",
    }
    if (evaluation := _evaluation(about)) is not None:
        value = f"{evaluation['mean_return']:.2f} +/- {evaluation['std_return']:.2f}"
        result = {
            "task": {"type": "reinforcement-learning", "name": "reinforcement-learning"},
            "dataset": {"name": env, "type": env},
            "metrics": [{"type": "mean_reward", "value": value, "name": "mean_reward", "verified": False}],
        }
        content["model-index"] = [{"name": about["agent"], "results": [result]}]
    lines = [f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in content.items()]
    return "\n".join(["---", *lines, "---", ""])


def _ports(about: Mapping[str, Any]) -> list[list[str]]:
    rows = []
    for kind in ("inputs", "outputs"):
        for port in about[kind]:
            shape = ", ".join(map(str, ("batch", *port["shape"])))
            rows.append([f"`{port['name']}`", port["dtype"], f"[{shape}]", f"{kind[:-1]}: {port['about']}"])
    return rows


def _training(about: Mapping[str, Any]) -> list[list[str]]:
    summary, settings = about["summary"], about["settings"]
    rows = [["environment", f"`{about['environment']}`"], ["seed", str(settings["seed"])]]
    rows.append(["environment steps of this policy", f"{about['step']:,}"])
    if "steps" in summary:
        rows += [
            ["environment steps of the run", f"{summary['steps']:,}"],
            ["seconds of training", f"{summary['training_seconds']:.1f}"],
            ["seconds of compiling", f"{summary['compile_seconds']:.1f}"],
            ["ended by", f"{summary['reason']}"],
        ]
    rows.append(["device", about["device"]])
    rows += [[name, text] for name, text in about["trained_with"].items()]
    return rows


def _settings(about: Mapping[str, Any]) -> list[Sequence[str]]:
    settings = {**about["hyperparameters"], **about["settings"]}
    return [[f"`{name}`", f"`{json.dumps(value)}`"] for name, value in settings.items()]
