"""Programs that run an exported policy in other languages, written for its own inputs."""

import json
import math
from collections.abc import Mapping
from typing import Any

# Types of arrays, in the languages: C++ and C#, and JavaScript's arrays.
LANGUAGE_TYPES = {
    "bool": ("bool", "bool", "Uint8Array"),
    "int8": ("int8_t", "sbyte", "Int8Array"),
    "uint8": ("uint8_t", "byte", "Uint8Array"),
    "int16": ("int16_t", "short", "Int16Array"),
    "uint16": ("uint16_t", "ushort", "Uint16Array"),
    "int32": ("int32_t", "int", "Int32Array"),
    "uint32": ("uint32_t", "uint", "Uint32Array"),
    "int64": ("int64_t", "long", "BigInt64Array"),
    "uint64": ("uint64_t", "ulong", "BigUint64Array"),
    "float16": ("Ort::Float16_t", "Float16", "Uint16Array"),
    "float32": ("float", "float", "Float32Array"),
    "float64": ("double", "double", "Float64Array"),
}
C_TYPES, SHARP_TYPES, JS_ARRAYS = ({name: row[n] for name, row in LANGUAGE_TYPES.items()} for n in range(3))
ONES = ("first", "action_mask")  # an episode begins, and all actions are allowed


def of(about: Mapping[str, Any], file: str) -> str:
    """Programs in five languages, in Markdown. Each acts on an observation of zeros, where yours goes."""
    tested = {"Python": python, "JavaScript": javascript}
    untested = {"C++": cpp, "C#": csharp, "MATLAB": matlab}
    parts = ["Zeros stand where your observation goes."]
    if any(port["name"] == "memory" for port in about["inputs"]):
        parts.append(
            "This policy remembers: give `next_memory` of one step as `memory` to the next, and `first` true when an "
            "episode begins."
        )
    for language, write in tested.items():
        parts.append(_block(language, write(about, file)))
    parts.append("rlgd's tests run the programs in Python and JavaScript, and not these three:")
    for language, write in untested.items():
        parts.append(_block(language, write(about, file)))
    return "\n\n".join(parts)


def _text(port: Mapping[str, Any]) -> str:
    """The name of an array as a text of every language."""
    return json.dumps(port["name"], ensure_ascii=False)


def _actions(about: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [port for port in about["outputs"] if port["name"].partition(".")[0] == "action"]


def _sizes(port: Mapping[str, Any]) -> str:
    """The shape of an array with a batch of one, as it is written in every language."""
    return ", ".join(map(str, (1, *port["shape"])))


def _block(language: str, code: str) -> str:
    marks = {"C++": "cpp", "C#": "csharp"}
    return f"{language}:\n\n```{marks.get(language, language.lower())}\n{code}\n```"


def python(about: Mapping[str, Any], file: str) -> str:
    """With ONNX Runtime: ``pip install onnxruntime``."""
    lines = [
        "import numpy as np",
        "import onnxruntime",
        "",
        f'session = onnxruntime.InferenceSession("{file}")',
        "inputs = {",
    ]
    for port in about["inputs"]:
        fill = "ones" if port["name"] in ONES else "zeros"
        lines.append(f'    {_text(port)}: np.{fill}([{_sizes(port)}], "{port["dtype"]}"),')
    names = [port["name"] for port in about["outputs"]]
    lines += [
        "}",
        f"names = {json.dumps(names, ensure_ascii=False)}",
        "outputs = dict(zip(names, session.run(names, inputs)))",
    ]
    return "\n".join([*lines, *(f"print(outputs[{_text(port)}][0])" for port in _actions(about))])


def javascript(about: Mapping[str, Any], file: str) -> str:
    """With onnxruntime-web in a browser, or onnxruntime-node."""
    lines = [
        'import * as ort from "onnxruntime-web"; // or "onnxruntime-node"',
        "",
        f'const session = await ort.InferenceSession.create("{file}");',
        "const inputs = {",
    ]
    for port in about["inputs"]:
        fill = ".fill(1)" if port["name"] in ONES else ""
        count = math.prod(port["shape"])
        array = f"new {JS_ARRAYS[port['dtype']]}({count}){fill}"
        lines.append(f'  {_text(port)}: new ort.Tensor("{port["dtype"]}", {array}, [{_sizes(port)}]),')
    lines += ["};", "const outputs = await session.run(inputs);"]
    return "\n".join([*lines, *(f"console.log(outputs[{_text(port)}].data);" for port in _actions(about))])


def cpp(about: Mapping[str, Any], file: str) -> str:
    """With ONNX Runtime's header for C++."""
    lines = [
        "#include <onnxruntime_cxx_api.h>",
        "#include <array>",
        "#include <memory>",
        "#include <vector>",
        "",
        "int main() {",
        "  Ort::Env env;",
        f'  Ort::Session session(env, "{file}", Ort::SessionOptions{{}});',
        "  auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);",
        "  std::vector<const char*> names;",
        "  std::vector<Ort::Value> inputs;",
    ]
    for number, port in enumerate(about["inputs"]):
        kind, count = C_TYPES[port["dtype"]], math.prod(port["shape"])
        lines += [
            f"  auto data{number} = std::make_unique<{kind}[]>({count});",
            *([f"  std::fill_n(data{number}.get(), {count}, true);"] if port["name"] in ONES else []),
            f"  std::array<int64_t, {len(port['shape']) + 1}> shape{number}{{{_sizes(port)}}};",
            f"  names.push_back({_text(port)});",
            f"  inputs.push_back(Ort::Value::CreateTensor<{kind}>(memory, data{number}.get(), {count}, "
            f"shape{number}.data(), shape{number}.size()));",
        ]
    actions = _actions(about)
    wanted = ", ".join(map(_text, actions))
    lines += [
        f"  const char* wanted[] = {{{wanted}}};",
        "  auto outputs = session.Run(Ort::RunOptions{}, names.data(), inputs.data(), inputs.size(), wanted, "
        f"{len(actions)});",
        f"  const auto* action = outputs[0].GetTensorData<{C_TYPES[actions[0]['dtype']]}>();",
        "}",
    ]
    return "\n".join(lines)


def csharp(about: Mapping[str, Any], file: str) -> str:
    """With the package Microsoft.ML.OnnxRuntime."""
    lines = [
        "using System.Linq;",
        "using Microsoft.ML.OnnxRuntime;",
        "using Microsoft.ML.OnnxRuntime.Tensors;",
        "",
        f'using var session = new InferenceSession("{file}");',
        "var inputs = new[] {",
    ]
    for port in about["inputs"]:
        kind, count = SHARP_TYPES[port["dtype"]], math.prod(port["shape"])
        data = f"Enumerable.Repeat(true, {count}).ToArray()" if port["name"] in ONES else f"new {kind}[{count}]"
        tensor = f"new DenseTensor<{kind}>({data}, new[] {{{_sizes(port)}}})"
        lines.append(f"    NamedOnnxValue.CreateFromTensor({_text(port)}, {tensor}),")
    action = _actions(about)[0]
    kind = SHARP_TYPES[action["dtype"]]
    lines += [
        "};",
        "using var outputs = session.Run(inputs);",
        f"{kind}[] action = outputs.First(o => o.Name == {_text(action)}).AsTensor<{kind}>().ToArray();",
    ]
    return "\n".join(lines)


def matlab(about: Mapping[str, Any], file: str) -> str:
    """With the Deep Learning Toolbox Converter for ONNX Model Format."""
    lines = [f'net = importNetworkFromONNX("{file}");']
    names = []
    for number, port in enumerate(about["inputs"], start=1):
        sizes = ", ".join(map(str, (1, *(port["shape"] or [1]))))
        labels = "U" * max(2, len(port["shape"]) + 1)
        fill = "ones" if port["name"] in ONES else "zeros"
        lines.append(f'x{number} = dlarray({fill}({sizes}, "single"), "{labels}"); % {_text(port)}')
        names.append(f"x{number}")
    read, returned = ", ".join(names), ", ".join(f"y{number}" for number, _ in enumerate(about["outputs"], start=1))
    lines += [
        f"net = initialize(net, {read});",
        f"[{returned}] = predict(net, {read});",
        f"% in the order of net.OutputNames; the outputs are {', '.join(port['name'] for port in about['outputs'])}",
    ]
    return "\n".join(lines)
