"""The documentation of functions that take the settings of a run, made from the settings."""

import dataclasses
import inspect
import re
import textwrap
from collections.abc import Callable
from typing import Any, TypeVar

from rlgd import hyperparameters as hp
from rlgd.run.settings import RunSettings

F = TypeVar("F", bound=Callable[..., Any])
PLACE = re.compile(r"^( *)settings: \{settings\}$", re.MULTILINE)  # of a docstring, which the settings replace
WIDTH = 100


def documented(function: F) -> F:
    """Show the settings that ``function`` takes as ``**settings``, in its signature and in its docstring."""
    fields = hp.flat_fields(RunSettings())
    signature = inspect.signature(function)
    named = [parameter for parameter in signature.parameters.values() if parameter.kind != parameter.VAR_KEYWORD]
    own = {parameter.name for parameter in named}
    others = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=flat.value, annotation=flat.annotation)
        for name, flat in fields.items()
        if name not in own
    ]
    function.__signature__ = signature.replace(parameters=[*named, *others])  # type: ignore[attr-defined]
    if function.__doc__ is not None:  # python -OO has none
        function.__doc__ = PLACE.sub(
            lambda place: "\n".join(_line(place[1], name, f.field) for name, f in fields.items()), function.__doc__
        )
    return function


def _line(indent: str, name: str, field: dataclasses.Field[Any]) -> str:
    about = field.metadata
    allowed = ", ".join(about["choices"]) if about["choices"] else about["within"]
    text = f"{name}: {about['doc']}{f'; allowed: {allowed}' if allowed else ''}."
    return textwrap.fill(text, WIDTH, initial_indent=indent, subsequent_indent=f"{indent}    ")
