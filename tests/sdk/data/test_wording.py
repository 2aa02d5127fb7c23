"""What the robot is told: the task, or text columns of the dataset."""

import numpy as np
import pytest

from fla_sdk.data.wording import Wording
from fla_sdk.errors import DataError
from fla_sdk.testing import MemoryDataset


def _dataset() -> MemoryDataset:
    texts = np.array([["reach"], ["grasp"], [""]], object)
    dataset = MemoryDataset({"language.subtask": texts, "action": np.zeros((3, 2))}, lengths=(3,), fps=10, task="tidy")
    kind = dataset.features["language.subtask"]
    dataset.features = {**dataset.features, "language.subtask": type(kind)(dtype="string", shape=kind.shape)}
    return dataset


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{task}", ["tidy", "tidy", "tidy"]),
        ("{language.subtask}", ["reach", "grasp", "tidy"]),
        ("{task}: {language.subtask}", ["tidy: reach", "tidy: grasp", "tidy:"]),
        ("hold still", ["hold still"] * 3),
    ],
)
def test_templates(template: str, expected: list[str]) -> None:
    wording = Wording(template, _dataset())
    assert [wording(row) for row in range(3)] == expected


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{language.subtsk}", "no text column 'language.subtsk'; did you mean 'language.subtask'"),
        ("{action}", "no text column 'action'"),
    ],
)
def test_unknown_columns_are_refused(template: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Wording(template, _dataset())
