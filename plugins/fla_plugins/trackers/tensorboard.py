"""Tracker `tensorboard`: event files in the run's folder, for `tensorboard --logdir`. Writing them needs no library.

A file is a sequence of TFRecords, each an `Event` in protocol buffers (tensorflow/core/util/event.proto and
tensorflow/core/framework/summary.proto); below, the numbers are those of its fields.
"""

import io
import os
import socket
import struct
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

import fla_sdk as fla
from fla_plugins.rlds.shard import masked_crc

FOLDER = "tensorboard"


class TensorboardRun:
    """Each time that a run goes on it begins a new file. TensorBoard then forgets the steps that are taken again."""

    def __init__(self, run_dir: Path, config: Mapping[str, Any]) -> None:
        del config
        self._folder = run_dir / FOLDER
        self._file: BinaryIO | None = None

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._write(step, [_field(1, name.encode()) + _float(2, value) for name, value in metrics.items()])

    def image(self, step: int, name: str, image: NDArray[np.uint8]) -> None:
        from PIL import Image

        png = io.BytesIO()
        Image.fromarray(image).save(png, format="png")
        height, width, colours = image.shape
        content = _number(1, height) + _number(2, width) + _number(3, colours) + _field(4, png.getvalue())
        self._write(step, [_field(1, name.encode()) + _field(4, content)])

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _write(self, step: int, values: list[bytes]) -> None:
        if self._file is None:
            self._file = self._begin(step)
        self._file.write(_record(_event(step, _field(5, b"".join(_field(1, value) for value in values)))))
        self._file.flush()

    def _begin(self, step: int) -> BinaryIO:
        self._folder.mkdir(parents=True, exist_ok=True)
        # TensorBoard reads the files in the order of their names.
        name = f"events.out.tfevents.{time.time_ns() / 1e9:020.9f}.{socket.gethostname()}.{os.getpid()}"
        file = (self._folder / name).open("xb")
        file.write(_record(_event(0, _field(3, b"brain.Event:2"))))
        started = _number(1, 1)  # SessionLog.START: what is there of this step and later ones is void
        file.write(_record(_event(step, _field(7, started))))
        return file


def _event(step: int, what: bytes) -> bytes:
    return b"\x09" + struct.pack("<d", time.time()) + _number(2, step) + what


def _record(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", masked_crc(length)) + data + struct.pack("<I", masked_crc(data))


# --- Protocol buffers: a field is its number and type, then its value -------------------------------------------------


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _float(number: int, value: float) -> bytes:
    return _varint(number << 3 | 5) + np.float32(value).tobytes()


def _varint(value: int) -> bytes:
    """7 bits a byte, the lowest first; the top bit says that more follow."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


@fla.hookimpl
def fla_trackers() -> Iterator[fla.Tracker]:
    yield fla.Tracker(
        name="tensorboard", description=f"TensorBoard files in {FOLDER}/ of the run's folder", open=TensorboardRun
    )
