"""`Episode`: one episode in the making, checked row by row and encoded as it comes."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from fla_plugins.lerobot.images import encode_png
from fla_plugins.lerobot.schema import PREFIX
from fla_plugins.lerobot.stats import ColorCounts
from fla_plugins.lerobot.video_writer import VideoEncoder, choose_codec
from fla_sdk.data.dataset import Feature
from fla_sdk.errors import DataError


class Episode:
    """Rows of one episode, not yet in the dataset. Each belongs to one thread; several may be filled at once."""

    def __init__(
        self,
        features: Mapping[str, Feature],
        *,
        fps: float,
        where: str,
        scratch: Callable[[str], Path],
        codecs: Mapping[str, str],
    ) -> None:
        """`features` are the columns to give; cameras of shape `()` learn their size from the first frame.

        `where` opens every message. `scratch(camera)` is the file in which a video is made, with the codec that
        `codecs` has for the camera, or the best that there is.
        """
        self.features = dict(features)
        self.columns: dict[str, list[Any]] = {name: [] for name, f in features.items() if not f.is_camera}
        self.images: dict[str, list[bytes]] = {name: [] for name, f in features.items() if f.dtype == "image"}
        self.videos: dict[str, VideoEncoder] = {}
        self.colors = {name: ColorCounts() for name, f in features.items() if f.is_camera}
        self.tasks: list[str] = []
        self._fps, self._where, self._scratch, self._codecs = fps, where, scratch, codecs

    def __len__(self) -> int:
        return len(self.tasks)

    def add(self, observation: Mapping[str, Any], action: NDArray[np.floating]) -> None:
        """One recorded moment: `images/<camera>` uint8 `[H, W, 3]`, `state` `[S]`, `task`; and the action `[A]` taken
        there. Further columns come from the observation under their own names, and numbers must be finite.
        """
        row: dict[str, Any] = {}
        for name in self.features:
            key = _observed(name)
            if name != "action" and key not in observation:
                raise DataError(
                    f"{self._place()}: the observation has no {key!r} (it has {', '.join(sorted(observation))})"
                )
            row[name] = action if name == "action" else observation[key]
        for name in ("observation.state", "action"):
            if name in row:
                self._refuse_infinite(name, row[name])
        if "task" not in observation:
            raise DataError(f"{self._place()}: the observation has no 'task' (it has {', '.join(sorted(observation))})")
        self.add_row(row, task=observation["task"])

    def add_row(self, row: Mapping[str, Any], *, task: str) -> None:
        """One row: a value for every feature. What the row has besides is ignored; a refused one leaves no trace.

        Raises `DataError` with both sides when a value is missing, or its width, dtype or image size differs.
        """
        where = self._place()
        if not isinstance(task, str) or not task.strip():
            raise DataError(f"{where}: task is {task!r}, but must say in words what the robot shall do")
        if missing := [name for name in self.features if name not in row]:
            raise DataError(f"{where}: the row has no {missing[0]!r} (it has {', '.join(sorted(row))})")
        checked = {
            name: (_image if feature.is_camera else _value)(where, name, row[name], feature)
            for name, feature in self.features.items()
        }
        codecs = self._learn_sizes({name: checked[name] for name in self.colors}) if not self.tasks else {}
        for name, codec in codecs.items():
            height, width, _ = self.features[name].shape
            self.videos[name] = VideoEncoder(
                self._scratch(name), fps=self._fps, height=height, width=width, codec=codec
            )
        for name, value in checked.items():
            if name in self.columns:
                self.columns[name].append(value)
                continue
            self.colors[name].add(value)
            if name in self.images:
                self.images[name].append(encode_png(value))
                continue
            try:
                self.videos[name].add(value)
            except OSError as error:
                raise DataError(f"{where}: cannot write video of {name!r}: {error}; free the disk") from error
        self.tasks.append(task)

    def abort(self) -> None:
        """Delete what was encoded."""
        for video in self.videos.values():
            video.abort()
        self.videos = {}

    def _place(self) -> str:
        return f"{self._where}, frame {len(self)}"

    def _learn_sizes(self, images: Mapping[str, NDArray[np.uint8]]) -> dict[str, str]:
        """Sizes of cameras from their first images. Returns the codec of each that is stored as video."""
        videos = [name for name in images if self.features[name].dtype == "video"]
        codecs = {name: self._codecs.get(name) or choose_codec(*images[name].shape[:2]) for name in videos}
        for name, image in images.items():
            self.features[name] = attrs.evolve(self.features[name], shape=image.shape)
        return codecs

    def _refuse_infinite(self, name: str, value: Any) -> None:
        array = np.asarray(value)
        if np.issubdtype(array.dtype, np.floating) and not (finite := np.isfinite(array)).all():
            at = int(np.argmin(finite))
            names = self.features[name].names or ()
            dimension = names[at] if len(names) == array.size else at
            raise DataError(
                f"{self._place()}: {name} {dimension!r} is {array.ravel()[at]}; a sensor or command gave no number"
            )


def _observed(name: str) -> str:
    """Under which key an `Environment` observes a column."""
    if name.startswith(PREFIX):
        return f"images/{name.removeprefix(PREFIX)}"
    return "state" if name == "observation.state" else name


KINDS = ((np.floating, "a floating type"), (np.integer, "an integer type"), (np.bool_, "bool"))


def _value(where: str, name: str, value: Any, feature: Feature) -> Any:
    """A copy, because environments reuse their buffers: text, or an array of the declared dtype and shape."""
    if feature.dtype == "string":
        if not isinstance(value, str):
            raise DataError(f"{where}: {name} is {value!r}, but must be text")
        return value
    array = np.asarray(value)
    wanted = np.dtype(feature.dtype)
    for kind, words in KINDS:
        if np.issubdtype(wanted, kind) and not np.issubdtype(array.dtype, kind):
            raise DataError(f"{where}: {name} is {array.dtype}, but must be {words}; convert it with astype")
    if array.shape != feature.shape and not (feature.shape == (1,) and array.shape == ()):
        names = f": {', '.join(feature.names)}" if feature.names else ""
        raise DataError(f"{where}: {name} has shape {list(array.shape)}, but must be {list(feature.shape)}{names}")
    return array.astype(wanted).reshape(feature.shape)


def _image(where: str, name: str, value: Any, feature: Feature) -> NDArray[np.uint8]:
    array = np.asarray(value)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
        raise DataError(
            f"{where}: image {name!r} is {array.dtype} {list(array.shape)}, but must be uint8 [height, width, 3] in RGB"
        )
    if feature.shape and array.shape != feature.shape:
        raise DataError(
            f"{where}: image {name!r} is {list(array.shape[:2])}, but the dataset has {list(feature.shape[:2])}"
            " (height, width); resize it, or record another dataset"
        )
    return array
