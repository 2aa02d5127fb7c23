"""Frames from the cache are those of the dataset at the model's size, whatever is missing, changed or damaged."""

import io
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from fla_sdk.data.dataset import Dataset
from fla_sdk.data.files import files_fingerprint
from fla_sdk.data.frame_cache import CachedFrames
from fla_sdk.data.frame_format import FrameFormat
from fla_sdk.errors import ConfigError, DataError, EpisodeError
from fla_sdk.testing import MemoryDataset
from fla_sdk.transforms import resize_with_pad

CAMERA = "observation.images.front"


class Recording(MemoryDataset):
    """Smooth images of one camera, 24x32; frames of `broken` episodes cannot be had."""

    def __init__(self, lengths: tuple[int, ...] = (30, 50), *, shift: int = 0, broken: tuple[int, ...] = ()) -> None:
        rows = sum(lengths)
        row, y, x = np.ogrid[:rows, :24, :32]
        pixels = np.stack([3 * x + row + shift + 0 * y, 5 * y + 0 * (x + row), 2 * row + 0 * (x + y)], -1) % 256
        super().__init__(
            {"state": np.zeros((rows, 2))}, lengths=lengths, fps=10, cameras={CAMERA: pixels.astype(np.uint8)}
        )
        self.broken, self.asked, self.refused = broken, 0, 0

    def frame(self, name: str, row: int) -> NDArray[np.uint8]:
        self.asked += 1
        episode = int(np.searchsorted(self.episode_bounds[:, 1], row, side="right"))
        if episode in self.broken:
            self.refused += 1
            raise EpisodeError(f"episode {episode} cannot be decoded", episode=episode)
        return super().frame(name, row)


def cached(
    dataset: Dataset, folder: Path, *, size: tuple[int, int] = (16, 16), quality: int | None = 95
) -> CachedFrames:
    return CachedFrames(dataset, [CAMERA], size=size, quality=quality, folder=folder)


def shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/shard-*"))


def jpeg(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """There and back, in our own words."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="JPEG", quality=95)
    return np.array(Image.open(buffer))


# --- What it gives ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("quality", [95, None])
def test_frames_are_those_of_the_dataset_at_the_models_size(quality: int | None, tmp_path: Path) -> None:
    dataset = Recording()
    frames = cached(dataset, tmp_path, quality=quality)
    before = [frames.frame(CAMERA, row) for row in range(len(dataset))]
    assert not shards(tmp_path), "nothing is written before it is built"
    frames.build()
    dataset.asked = 0
    after = [frames.frame(CAMERA, row) for row in range(len(dataset))]
    assert dataset.asked == 0
    np.testing.assert_array_equal(before, after)
    for row, image in enumerate(after):
        fitted = resize_with_pad(dataset.frame(CAMERA, row), 16, 16)
        np.testing.assert_array_equal(image, fitted if quality is None else jpeg(fitted))
        assert resize_with_pad(image, 16, 16) is image, "nothing is left for the codec to do"


def test_everything_else_is_the_dataset(tmp_path: Path) -> None:
    dataset = Recording()
    frames: Dataset = cached(dataset, tmp_path)
    assert frames.features[CAMERA].shape == (16, 16, 3) and frames.features["state"] == dataset.features["state"]
    assert (frames.path, frames.fps, frames.damaged) == (dataset.path, dataset.fps, dataset.damaged)
    assert (frames.fingerprint, len(frames), frames.task(3)) == (dataset.fingerprint, 80, dataset.task(3))
    np.testing.assert_array_equal(frames.episode_bounds, dataset.episode_bounds)
    np.testing.assert_array_equal(frames.column("state"), dataset.column("state"))


def test_other_cameras_pass_through(tmp_path: Path) -> None:
    dataset = Recording()
    frames = CachedFrames(dataset, [], size=(16, 16), folder=tmp_path)
    frames.build()
    assert frames.frame(CAMERA, 3).shape == (24, 32, 3)
    assert frames.frames_fingerprint(CAMERA) == dataset.frames_fingerprint(CAMERA)


@given(height=st.integers(1, 20), width=st.integers(1, 20), quality=st.sampled_from([1, 50, 95, None]))
def test_any_size_can_be_kept(height: int, width: int, quality: int | None) -> None:
    form = FrameFormat(size=(height, width), quality=quality)
    image = form.pending(form.encode(np.full((24, 32, 3), 200, np.uint8))).decoded()
    assert image.shape == (height, width, 3) and image.dtype == np.uint8


@pytest.mark.parametrize(("size", "quality"), [((0, 4), 95), ((4, 4), 0), ((4, 4), 100)])
def test_nonsense_is_refused(size: tuple[int, int], quality: int) -> None:
    with pytest.raises(ConfigError, match="frame cache: "):
        FrameFormat(size=size, quality=quality)


# --- What another state of the dataset gives --------------------------------------------------------------------------


def test_whatever_changes_the_frames_has_its_own_place(tmp_path: Path) -> None:
    base = cached(Recording(), tmp_path)
    base.build()
    same = cached(Recording(), tmp_path)
    assert same.missing() == 0
    others = [
        cached(Recording(shift=1), tmp_path),
        cached(Recording((40, 40)), tmp_path),
        cached(Recording(), tmp_path, size=(16, 8)),
        cached(Recording(), tmp_path, quality=90),
        cached(Recording(), tmp_path, quality=None),
    ]
    assert all(other.missing() == 80 for other in others)
    assert len({frames.stores[CAMERA].folder for frames in (base, *others)}) == 6


def test_files_have_another_fingerprint_when_they_change_and_none_when_they_move(tmp_path: Path) -> None:
    def state(root: Path) -> str:
        return files_fingerprint(root, [root / "a", root / "b"])

    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a").write_text("one")
    first = state(tmp_path / "set")
    (tmp_path / "set").rename(tmp_path / "moved")
    assert state(tmp_path / "moved") == first
    os.utime(tmp_path / "moved" / "a", ns=(0, 0))
    touched = state(tmp_path / "moved")
    (tmp_path / "moved" / "b").write_text("two")
    assert len({first, touched, state(tmp_path / "moved")}) == 3


# --- Damage -----------------------------------------------------------------------------------------------------------


def test_damaged_episodes_are_left_out_and_still_say_why(tmp_path: Path) -> None:
    dataset = Recording((70, 50, 30), broken=(1,))
    frames = cached(dataset, tmp_path)
    frames.build()
    assert frames.missing() == 0
    assert dataset.refused <= 3, "a damaged episode is not tried row by row"
    dataset.asked = 0
    for row in (*range(70), *range(120, 150)):
        frames.frame(CAMERA, row)
    assert dataset.asked == 0
    with pytest.raises(EpisodeError, match="episode 1 cannot be decoded") as raised:
        frames.frame(CAMERA, 70)
    assert raised.value.episode == 1


@settings(max_examples=25)
@given(place=st.floats(0, 1, exclude_max=True), cut=st.booleans())
def test_no_damage_gives_a_wrong_frame(
    place: float, cut: bool, tmp_path_factory: pytest.TempPathFactory, sound: Mapping[str, bytes]
) -> None:
    """Whatever byte is flipped, or wherever a shard is cut off."""
    folder = tmp_path_factory.mktemp("damaged")
    frames = cached(Recording(), folder, quality=None)
    place_in_first = int(place * len(sound["shard-00000"]))
    store = frames.stores[CAMERA].folder
    store.mkdir(parents=True)
    for name, content in sound.items():
        if name == "shard-00000":
            changed = bytearray(content)
            changed[place_in_first] ^= 0x10
            content = content[:place_in_first] if cut else bytes(changed)
        (store / name).write_bytes(content)
    with pytest.warns(UserWarning, match=r"frame cache: .*shard-00000 is damaged.*fla data cache --verify"):
        found = [frames.frame(CAMERA, row) for row in range(80)]
    expected = [resize_with_pad(frames.dataset.frame(CAMERA, row), 16, 16) for row in range(80)]
    np.testing.assert_array_equal(found, expected)
    (damage,) = frames.verify()
    assert "shard-00000 is damaged" in damage
    assert frames.missing() == 64 and not frames.verify()


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, bytes]:
    """The shards of a recording with plain bytes."""
    folder = tmp_path_factory.mktemp("sound")
    cached(Recording(), folder, quality=None).build()
    return {file.name: file.read_bytes() for file in shards(folder)}


def test_a_damaged_shard_is_made_again(tmp_path: Path, sound: Mapping[str, bytes]) -> None:
    frames = cached(Recording(), tmp_path, quality=None)
    frames.build()
    first, second = shards(tmp_path)
    kept = second.stat().st_mtime_ns
    first.write_bytes(b"\0" * first.stat().st_size)
    frames.verify()
    frames.build()
    assert {file.name: file.read_bytes() for file in shards(tmp_path)} == sound
    assert second.stat().st_mtime_ns == kept


def test_a_full_disk_is_refused_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 10})())
    with pytest.raises(DataError, match=r"caching frames of memory takes .* free; make room, or set FLA_DATA_HOME"):
        cached(Recording(), tmp_path).build()
    assert not shards(tmp_path)


def test_deleting_gives_the_room_back(tmp_path: Path) -> None:
    frames = cached(Recording(), tmp_path)
    frames.build()
    assert frames.nbytes() > 10_000
    frames.delete()
    assert frames.nbytes() == 0 and frames.missing() == 80
    assert frames.frame(CAMERA, 5).shape == (16, 16, 3)


def test_only_the_chosen_episodes_are_built(tmp_path: Path) -> None:
    dataset = Recording((100, 30, 100))
    some = CachedFrames(dataset, [CAMERA], size=(16, 16), episodes=np.array([2]), folder=tmp_path)
    some.build()
    assert some.missing() == 0 and len(shards(tmp_path)) == 2, "rows 130 to 230 lie in the last two of four"
    assert cached(dataset, tmp_path).missing() == 128


class Large(MemoryDataset):
    """200 MB of frames that are made when they are asked for."""

    def __init__(self, rows: int) -> None:
        nothing = np.broadcast_to(np.uint8(0), (rows, 128, 128, 3))
        super().__init__({"state": np.zeros((rows, 2))}, lengths=[rows], fps=10, cameras={CAMERA: nothing})

    def frame(self, name: str, row: int) -> NDArray[np.uint8]:
        return np.full((128, 128, 3), row % 256, np.uint8)

    def frames_fingerprint(self, name: str) -> str:
        return "large"


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc: run it on Linux")
def test_reading_takes_no_memory(tmp_path: Path) -> None:
    """Of 200 MB, less than 10 stay."""

    def resident() -> int:
        return int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0]) // 1024

    rows = 4096
    frames = CachedFrames(Large(rows), [CAMERA], size=(128, 128), quality=None, folder=tmp_path)
    frames.build()
    before = resident()
    for row in np.random.default_rng(0).permutation(rows).tolist():
        assert frames.frame(CAMERA, row)[0, 0, 0] == row % 256
    assert resident() - before < 10
