"""Tables as data frames of pandas, an extra: rlgd computes nothing with it, and it takes a second to import."""

from collections.abc import Mapping, Sequence
from typing import Any

from rlgd.errors import UsageError


def frame(content: Mapping[str, Any] | Sequence[Mapping[str, Any]], index: str | None = None) -> Any:
    """A ``pandas.DataFrame`` of columns by their names, or of rows; ``index`` names the column that labels the rows.

    Raises:
        UsageError: if pandas is not installed.
    """
    try:
        import pandas
    except ImportError as error:
        raise UsageError("data frames need pandas: pip install 'rlgd[frames]'.") from error
    made = pandas.DataFrame(content)
    return made if index is None or index not in made else made.set_index(index)
