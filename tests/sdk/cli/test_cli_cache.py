"""`fla data cache` builds, verifies and deletes the frames of a dataset, and says where they are."""

from collections.abc import Callable
from pathlib import Path

import pytest

from fla_sdk.cli import main

Run = Callable[..., str]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FLA_DATA_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def cache(arms: dict[str, Path], home: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """`cache(*arguments)`: what `fla data cache` prints about the recording of an arm."""

    def run(*arguments: str, status: int = 0) -> str:
        given = ["data", "cache", str(arms["planar2"]), "--embodiment", "planar2", "--threads", "2", *arguments]
        assert main(given) == status
        printed = capsys.readouterr()
        return printed.err if status else printed.out

    return run


def test_from_building_to_deleting(cache: Run, home: Path) -> None:
    said = cache("--size", "48")
    assert "caching" in said and "48x48, JPEG 95" in said
    (folder,) = home.glob("frames/*/")
    assert f"observation.images.front: {folder}" in said
    assert "caching" not in cache("--size", "48"), "it is there"
    assert "no damage found" in cache("--size", "48", "--verify")
    shard = next(folder.glob("shard-*"))
    content = shard.read_bytes()
    shard.write_bytes(content[:100] + b"\0" + content[101:])
    said = cache("--size", "48", "--verify")
    assert f"{shard} is damaged" in said and "frames cached" in said
    assert shard.read_bytes() == content
    assert "deleted" in cache("--size", "48", "--delete")
    assert not list(home.glob("frames/*/"))


def test_sizes_and_qualities_have_places_of_their_own(cache: Run, home: Path) -> None:
    assert "32x48, plain bytes" in cache("--size", "32x48", "--quality", "raw")
    cache("--size", "48", "--quality", "80")
    assert len(list(home.glob("frames/*/"))) == 2


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--size", "big"), "--size 'big' must be a number of pixels, or HEIGHTxWIDTH"),
        (("--size", "0"), "size is (0, 0), must be height and width in pixels"),
        (("--quality", "best"), "--quality 'best' must be a number from 1 to 95, or raw"),
        (("--quality", "99"), "quality is 99, must be 1 to 95"),
        (("--threads", "0"), "--threads is 0, must be at least 1"),
    ],
)
def test_nonsense_is_refused(cache: Run, arguments: tuple[str, ...], reason: str) -> None:
    assert reason in cache(*arguments, status=1)
