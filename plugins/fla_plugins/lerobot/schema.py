"""What the recorder writes besides numbers: feature declarations and the metadata that other readers rely on."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from fla_plugins.lerobot.layout import BOOKKEEPING

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def vector(names: Sequence[str]) -> dict[str, Any]:
    """Declaration of a float32 vector with a name per dimension."""
    return {"dtype": "float32", "shape": [len(names)], "names": list(names)}


def camera(kind: str, height: int, width: int, details: Mapping[str, Any] | None) -> dict[str, Any]:
    """Declaration of a camera; `kind` is `image` or `video`."""
    entry = {"dtype": kind, "shape": [height, width, 3], "names": ["height", "width", "channels"]}
    return entry | ({"info": dict(details)} if details else {})


def bookkeeping() -> dict[str, Any]:
    return {name: {"dtype": dtype, "shape": [1], "names": None} for name, dtype in BOOKKEEPING.items()}


def data_schema(features: Mapping[str, Any]) -> pa.Schema:
    """Schema of the data files, with the metadata from which the `datasets` library knows images and vectors."""
    fields: list[Any] = []
    described: dict[str, Any] = {}
    for name, feature in features.items():
        dtype, width = feature["dtype"], feature["shape"][0]
        if dtype == "video":
            continue
        if dtype == "image":
            fields.append((name, IMAGE))
            described[name] = {"_type": "Image"}
            continue
        value = pa.float32() if dtype == "float32" else pa.int64()
        one = {"dtype": dtype, "_type": "Value"}
        # LeRobot stores vectors of one dimension as plain numbers.
        fields.append((name, value if width == 1 else pa.list_(value, width)))
        described[name] = one if width == 1 else {"feature": one, "length": width, "_type": "Sequence"}
    return pa.schema(fields, metadata={"huggingface": json.dumps({"info": {"features": described}})})


def tasks_table(tasks: Sequence[str]) -> pa.Table:
    """Task numbers and texts. LeRobot reads it with pandas and expects the text as the index."""
    columns = [
        {"name": "task_index", "field_name": "task_index", "pandas_type": "int64", "numpy_type": "int64"},
        {"name": "task", "field_name": "task", "pandas_type": "unicode", "numpy_type": "object"},
    ]
    described = {
        "index_columns": ["task"],
        "column_indexes": [],
        "columns": [column | {"metadata": None} for column in columns],
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.0.0",
    }
    table = pa.table(
        {"task_index": pa.array(range(len(tasks)), pa.int64()), "task": pa.array(list(tasks), pa.string())}
    )
    return table.replace_schema_metadata({"pandas": json.dumps(described)})
