"""A small writer of RLDS folders, byte for byte as TensorFlow Datasets lays them out."""

import io
import json
import struct
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pytest
from PIL import Image

Episode = Mapping[str, Any]
"""Flat key -> values: floats, integers or booleans as arrays, texts and encoded images as lists of bytes."""


def varint(value: int) -> bytes:
    value &= 2**64 - 1
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def delimited(number: int, data: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(data)) + data


def feature(values: Any) -> bytes:
    if isinstance(values, list):
        return delimited(1, b"".join(delimited(1, value) for value in values))
    flat = np.asarray(values).ravel()
    if flat.dtype.kind == "f":
        return delimited(2, delimited(1, flat.astype("<f4").tobytes()))
    return delimited(3, delimited(1, b"".join(varint(int(value)) for value in flat)))


def example(episode: Episode) -> bytes:
    entries = (delimited(1, key.encode()) + delimited(2, feature(values)) for key, values in episode.items())
    return delimited(1, b"".join(delimited(1, entry) for entry in entries))


def masked(data: bytes) -> bytes:
    crc = google_crc32c.value(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def record(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    return length + masked(length) + data + masked(data)


def encoded(image: np.ndarray, encoding: str = "png") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, encoding)
    return buffer.getvalue()


# --- features.json ----------------------------------------------------------------------------------------------------


def _node(name: str, **content: Any) -> dict[str, Any]:
    return {"pythonClassName": f"tensorflow_datasets.core.features.{name}", **content}


def _shape(shape: Sequence[int]) -> dict[str, Any]:
    return {"dimensions": [str(size) for size in shape]} if shape else {}


def tensor(dtype: str, *shape: int, encoding: str = "none") -> dict[str, Any]:
    content = {"shape": _shape(shape), "dtype": dtype, "encoding": encoding}
    return _node("tensor_feature.Tensor", tensor=content)


def image(*shape: int, dtype: str = "uint8", encoding: str = "jpeg") -> dict[str, Any]:
    content = {"shape": _shape(shape), "dtype": dtype, "encodingFormat": encoding}
    return _node("image_feature.Image", image=content)


def text() -> dict[str, Any]:
    return _node("text_feature.Text", text={})


def tree(features: Mapping[str, Any]) -> dict[str, Any]:
    """`{"observation/state": ...}` as nested dictionaries."""
    nested: dict[str, Any] = {}
    for key, node in features.items():
        first, _, rest = key.partition("/")
        if rest:
            nested.setdefault(first, {})[rest] = node
        else:
            nested[first] = node
    inner = {k: v if "pythonClassName" in v else tree(v) for k, v in nested.items()}
    return _node("features_dict.FeaturesDict", featuresDict={"features": inner})


def sequence(inner: dict[str, Any]) -> dict[str, Any]:
    return _node("dataset_feature.Dataset", sequence={"feature": inner, "length": "-1"})


# --- Folders ----------------------------------------------------------------------------------------------------------


def write(
    root: Path,
    shards: Sequence[Sequence[Episode]],
    steps: Mapping[str, Any],
    metadata: Mapping[str, Any] | None = None,
    *,
    name: str = "toy",
    split: str = "train",
    info: bool = True,
) -> list[Path]:
    root.mkdir(parents=True, exist_ok=True)
    inner = tree({**{f"episode_metadata/{k}": v for k, v in (metadata or {}).items()}, "steps": sequence(tree(steps))})
    (root / "features.json").write_text(json.dumps(inner))
    lengths = [str(len(shard)) for shard in shards]
    if info:
        about = {"name": name, "version": "1.0.0", "fileFormat": "tfrecord"}
        about["splits"] = [{"name": split, "shardLengths": lengths, "numBytes": "0"}]  # pyright: ignore[reportArgumentType]
        (root / "dataset_info.json").write_text(json.dumps(about))
    paths: list[Path] = []
    for number, shard in enumerate(shards):
        paths.append(root / f"{name}-{split}.tfrecord-{number:05d}-of-{len(shards):05d}")
        paths[-1].write_bytes(b"".join(record(example(episode)) for episode in shard))
    return paths


def picture(episode: int, step: int, size: tuple[int, int] = (12, 16)) -> np.ndarray:
    y, x = np.indices(size)
    return np.stack([9 * x + 30 * episode, 7 * y + 5 * step, np.full_like(x, 40 * step)], -1).astype(np.uint8)


STEPS: Mapping[str, Any] = {
    "observation/state": tensor("float64", 3),
    "observation/image": image(12, 16, 3, encoding="png"),
    "observation/zipped": tensor("uint8", 12, 16, 3, encoding="zlib"),
    "observation/raw": tensor("uint8", 12, 16, 3),
    "observation/depth": image(12, 16, 1, encoding="png"),
    "observation/natural_language_instruction": text(),
    "action": tensor("float32", 2),
    "count": tensor("int32"),
    "is_first": _node("scalar.Scalar", tensor={"shape": {}, "dtype": "bool", "encoding": "none"}),
}


def episode(number: int, steps: int) -> dict[str, Any]:
    rng = np.random.default_rng(number)
    pictures = [picture(number, step) for step in range(steps)]
    return {
        "steps/observation/image": [encoded(p) for p in pictures],
        "steps/observation/state": rng.normal(size=(steps, 3)).astype(np.float32),
        "steps/observation/zipped": [zlib.compress(p.tobytes()) for p in pictures],
        "steps/observation/raw": np.stack(pictures),
        "steps/observation/depth": [encoded(p[..., 0]) for p in pictures],
        "steps/observation/natural_language_instruction": [f"do {number % 2}".encode()] * steps,
        "steps/action": rng.normal(size=(steps, 2)).astype(np.float32),
        "steps/count": rng.integers(-(2**31), 2**31, steps),
        "steps/is_first": np.arange(steps) == 0,
        "episode_metadata/file_path": [f"gs://lab/{'success' if number % 2 else 'failure'}/{number}".encode()],
        "episode_metadata/recording_folderpath": [f"gs://lab/recording/{number}".encode()],
    }


METADATA: Mapping[str, Any] = {"file_path": text(), "recording_folderpath": text()}

Write = Callable[..., list[Path]]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data home of the test."""
    monkeypatch.setenv("FLA_DATA_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def toy(tmp_path: Path) -> Callable[..., list[Path]]:
    """`toy(lengths_of_shards)` writes `tmp_path/toy/1.0.0` and gives its shards."""

    def make(lengths: Iterable[Sequence[int]] = ((3, 5), (4,), (2, 6)), **options: Any) -> list[Path]:
        numbers = iter(range(1000))
        shards = [[episode(next(numbers), steps) for steps in shard] for shard in lengths]
        return write(tmp_path / "toy" / "1.0.0", shards, STEPS, METADATA, **options)

    return make


@pytest.fixture
def kit() -> Any:
    """The writer's parts, for folders of another kind."""
    from types import SimpleNamespace

    return SimpleNamespace(
        write=write, tensor=tensor, image=image, text=text, encoded=encoded, picture=picture, episode=episode,
        varint=varint, sequence=sequence, record=record, example=example,
    )  # fmt: skip
