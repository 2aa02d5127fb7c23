"""`Wording`: what a robot is told at each row of a dataset, from its task and its text columns."""

import re
from collections.abc import Callable

from fla_sdk.data.dataset import Dataset
from fla_sdk.errors import DataError, nearest

_PLACE = re.compile(r"\{([^{}]+)\}")


class Wording:
    """A template such as `{task}` or `{task}. Now: {language.subtask}`; names in braces are `task` and text columns."""

    def __init__(self, template: str, dataset: Dataset) -> None:
        """Raises `DataError` when the dataset has no such column of text."""
        known = [name for name, feature in dataset.features.items() if feature.dtype == "string"]
        for name in _PLACE.findall(template):
            if name != "task" and name not in known:
                hint = f"; did you mean {close!r}?" if (close := nearest(name, [*known, "task"])) else ""
                raise DataError(
                    f"prompt {template!r}: dataset {dataset.path} has no text column {name!r}{hint} "
                    f"(it has {', '.join(known) or 'none'}, and 'task' always)"
                )
        self._template, self._dataset = template, dataset
        self._columns: dict[str, Callable[[int], str]] = {
            name: (lambda row, name=name: str(dataset.column(name)[row].item())) for name in known
        }

    def __call__(self, row: int) -> str:
        """Where text columns leave nothing of the template, the task stands alone."""
        if self._template == "{task}":
            return self._dataset.task(row)

        def fill(place: re.Match[str]) -> str:
            name = place[1]
            return self._dataset.task(row) if name == "task" else self._columns[name](row)

        return _PLACE.sub(fill, self._template).strip() or self._dataset.task(row)
