"""What the recorder declares: its columns, and the metadata that other readers rely on."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fla_plugins.lerobot.layout import BOOKKEEPING
from fla_sdk.data.dataset import Feature

PREFIX = "observation.images."
"""Of the columns of recorded cameras."""

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def recorded(
    state_names: Sequence[str], action_names: Sequence[str], cameras: Sequence[str], *, video: bool
) -> dict[str, Feature]:
    """The columns of a recording: state, action, and cameras whose size is learned from the first frame."""
    vectors = {"observation.state": tuple(state_names), "action": tuple(action_names)}
    columns = {
        name: Feature(dtype="float32", shape=(len(names),), names=names) for name, names in vectors.items() if names
    }
    kind = "video" if video else "image"
    return columns | {f"{PREFIX}{camera}": Feature(dtype=kind, shape=()) for camera in cameras}


def declared(features: Mapping[str, Feature], details: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Entry `features` of info.json; `details` says how each video is encoded."""
    entries: dict[str, Any] = {}
    for name, feature in features.items():
        names = ["height", "width", "channels"] if feature.is_camera else feature.names and list(feature.names)
        entries[name] = {"dtype": feature.dtype, "shape": list(feature.shape), "names": names}
        if name in details:
            entries[name]["info"] = dict(details[name])
    return entries | {name: {"dtype": dtype, "shape": [1], "names": None} for name, dtype in BOOKKEEPING.items()}


def data_schema(features: Mapping[str, Feature]) -> pa.Schema:
    """Schema of the data files, with the metadata from which the `datasets` library knows images and vectors."""
    own = Feature(dtype="", shape=(1,))
    fields: list[Any] = []
    described: dict[str, Any] = {}
    for name, feature in {**features, **{n: attrs.evolve(own, dtype=d) for n, d in BOOKKEEPING.items()}}.items():
        if feature.dtype == "video":
            continue
        if feature.dtype == "image":
            fields.append((name, IMAGE))
            described[name] = {"_type": "Image"}
            continue
        value: Any = pa.string() if feature.dtype == "string" else pa.from_numpy_dtype(np.dtype(feature.dtype))
        one = {"dtype": feature.dtype, "_type": "Value"}
        # LeRobot stores vectors of one dimension as plain numbers.
        if feature.shape == (1,):
            described[name] = one
        elif len(feature.shape) == 1:
            value = pa.list_(value, feature.shape[0])
            described[name] = {"feature": one, "length": feature.shape[0], "_type": "Sequence"}
        else:
            for _ in feature.shape:
                value = pa.list_(value)
            kind = f"Array{len(feature.shape)}D"
            described[name] = {"dtype": feature.dtype, "shape": list(feature.shape), "_type": kind}
        fields.append((name, value))
    return pa.schema(fields, metadata={"huggingface": json.dumps({"info": {"features": described}})})


def column(values: NDArray[Any], kind: Any) -> Any:
    """`[T, *shape]` as an Arrow array of the type that `data_schema` gives the column."""
    array = pa.array(values.ravel())
    for size in values.shape[:0:-1]:
        if pa.types.is_fixed_size_list(kind):
            return pa.FixedSizeListArray.from_arrays(array, type=kind)
        if pa.types.is_list(kind):
            array = pa.ListArray.from_arrays(np.arange(0, len(array) + 1, size, dtype=np.int32), array)
    return array


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
