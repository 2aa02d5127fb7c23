"""The same three episodes in every layout that can be read."""

import csv
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import attrs
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

TASK = "put the cup on the plate"
LENGTHS = (4, 3, 5)
CAMERA = "observation.images.front"


@attrs.frozen
class Take:
    """One recorded episode."""

    state: NDArray[np.float64]
    """`[T, 14]`: wide enough to be ALOHA's."""
    action: NDArray[np.float64]
    images: NDArray[np.uint8]
    """`[T, H, W, 3]`."""


def takes(lengths: Sequence[int] = LENGTHS) -> list[Take]:
    rng = np.random.default_rng(0)
    return [
        Take(rng.normal(size=(n, 14)), rng.normal(size=(n, 14)), rng.integers(0, 256, (n, 8, 12, 3), np.uint8))
        for n in lengths
    ]


def encoded(image: NDArray[np.uint8], kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind, **({"quality": 95} if kind == "JPEG" else {}))
    return buffer.getvalue()


def padded(images: NDArray[np.uint8], kind: str = "PNG") -> NDArray[np.uint8]:
    """ALOHA's way: encoded, and filled up with zeros to one length, `[T, bytes]`."""
    texts = [encoded(image, kind) for image in images]
    width = max(map(len, texts))
    return np.stack([np.frombuffer(text.ljust(width, b"\0"), np.uint8) for text in texts])


def write_yaml(path: Path, **entries: Any) -> Path:
    import yaml

    path.write_text(yaml.safe_dump(entries))
    return path


def _aloha(folder: Path, images: Callable[[NDArray[np.uint8]], NDArray[np.uint8]]) -> Path:
    for number, take in enumerate(takes()):
        with h5py.File(folder / f"episode_{number + 9}.hdf5", "w") as file:  # 9, 10, 11: out of order as text
            file.attrs["sim"] = False
            file["observations/qpos"], file["action"] = take.state, take.action
            file["observations/qvel"] = take.state / 2
            file["observations/images/front"] = images(take.images)
    return folder


def aloha_pixels(folder: Path) -> Path:
    return _aloha(folder, lambda images: images)


def aloha_encoded(folder: Path) -> Path:
    return _aloha(folder, padded)


def robomimic(folder: Path) -> Path:
    with h5py.File(folder / "demo.hdf5", "w") as file:
        data = file.create_group("data")
        data.attrs["env_args"] = json.dumps({"env_name": "Lift", "env_kwargs": {"control_freq": 50}})
        data.attrs["problem_info"] = json.dumps({"language_instruction": list(TASK)})
        for number, take in enumerate(takes()):
            demo = data.create_group(f"demo_{number + 9}")
            demo["actions"], demo["obs/front_image"] = take.action, take.images
            demo["obs/robot0_eef_pos"], demo["obs/robot0_eef_quat"] = take.state[:, :3], take.state[:, 3:7]
            demo["obs/robot0_gripper_qpos"] = take.state[:, 7:]
            demo["rewards"] = np.zeros(len(take.state))
    return folder / "demo.hdf5"


def mapped_hdf5(folder: Path) -> Path:
    """Groups of one file; pictures colours first, blue first, and lying on their side; variable-length text."""
    with h5py.File(folder / "log.h5", "w") as file:
        for number, take in enumerate(takes()):
            run = file.create_group(f"runs/run{number}")
            run["joints"], run["gripper"], run["cmd"] = take.state[:, :13], take.state[:, 13], take.action
            run["cam"] = np.moveaxis(np.rot90(take.images[..., ::-1], -1, axes=(1, 2)), -1, 1)
            run["say"] = TASK
    return write_yaml(
        folder / "robot.yaml",
        format="hdf5",
        files="*.h5",
        episodes="runs/run*",
        fps=50,
        columns={"observation.state": {"keys": ["joints", "gripper"]}, "action": {"keys": ["cmd"]}},
        cameras={CAMERA: {"key": "cam", "order": "bgr", "layout": "chw", "rotate": 90}},
        task_key="say",
    )


def numpy_archives(folder: Path) -> Path:
    for number, take in enumerate(takes()):
        arrays = {"actions": take.action, "obs": take.state, "images/front": take.images}
        np.savez_compressed(folder / f"episode_{number}.npz", **arrays, fps=np.array(50), task=np.array(TASK))
    return folder


def numpy_folders(folder: Path) -> Path:
    for number, take in enumerate(takes()):
        place = folder / f"take{number}"
        place.mkdir()
        for name, array in (("q", take.state), ("u", take.action), ("rgb", take.images)):
            np.save(place / f"{name}.npy", array)
    return write_yaml(
        folder / "robot.yaml",
        format="numpy",
        files="take*",
        fps=50,
        columns={"observation.state": {"keys": ["q"]}, "action": {"keys": ["u"]}},
        cameras={CAMERA: {"key": "rgb"}},
        task=TASK,
    )


def frames_csv(folder: Path) -> Path:
    return _frames(folder, "csv")


def frames_parquet(folder: Path) -> Path:
    return _frames(folder, "parquet")


def _frames(folder: Path, kind: str) -> Path:
    for number, take in enumerate(takes()):
        place = folder / f"take{number}"
        (place / "front").mkdir(parents=True)
        for row, image in enumerate(take.images):
            (place / f"front/{row + 8}.png").write_bytes(encoded(image))  # 8, 9, 10, ...
        both = np.concatenate([take.state, take.action], axis=1)
        header = [f"{name}{i}" for name in "su" for i in range(14)]
        if kind == "csv":
            with (place / "log.csv").open("w", newline="") as file:
                csv.writer(file).writerows([header, *both.tolist()])
        else:
            pq.write_table(pa.table({name: both[:, i] for i, name in enumerate(header)}), place / "log.parquet")
    return write_yaml(
        folder / "robot.yaml",
        format="frames",
        files="take*",
        table=f"log.{kind}",
        fps=50,
        columns={
            "observation.state": {"keys": [f"s{i}" for i in range(14)], "names": [f"joint{i}" for i in range(14)]},
            "action": {"keys": [f"u{i}" for i in range(14)]},
        },
        cameras={CAMERA: {"key": "front/*.png"}},
        task=TASK,
    )


LAYOUTS = (
    aloha_pixels,
    aloha_encoded,
    robomimic,
    mapped_hdf5,
    numpy_archives,
    numpy_folders,
    frames_csv,
    frames_parquet,
)
