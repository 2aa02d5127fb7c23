"""`fetch` from a real server on this machine: whole, checked, resumed, once; and what is said when it cannot be."""

import base64
import shutil
import subprocess
import sys
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import google_crc32c
import numpy as np
import pytest

from fla_sdk.errors import CheckpointError
from fla_sdk.policy import bucket
from fla_sdk.policy.fetch import fetch, is_remote

from .storage_server import Storage, serve

LARGE = np.random.default_rng(0).bytes(3 * 2**20 + 17)
FILES = {
    "checkpoints/pi05_arm/params/_METADATA": b"{}",
    "checkpoints/pi05_arm/params/d/large": LARGE,
    "checkpoints/pi05_arm/params/empty": b"",
    "checkpoints/pi05_arm/assets/arm/norm_stats.json": b'{"norm_stats": {}}',
    "checkpoints/pi05_arm_two/params/_METADATA": b"{}",
    "words.model": b"a b c",
}
CHECKPOINT = "gs://models/checkpoints/pi05_arm"


@pytest.fixture
def storage(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Storage]:
    with serve() as server:
        server.objects = dict(FILES)
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url)
        monkeypatch.setenv("FLA_DATA_HOME", str(tmp_path / "home"))
        monkeypatch.setattr(bucket, "PAUSE_S", 0.01)
        yield server


def _home(tmp_path: Path) -> Path:
    return tmp_path / "home" / "models"


def _same(folder: Path, prefix: str) -> None:
    """`folder` holds the objects below `prefix` and nothing else."""
    found = {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}
    assert found == {n.removeprefix(f"{prefix}/"): d for n, d in FILES.items() if n.startswith(f"{prefix}/")}


def _unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "127.0.0.1:9")


# --- Whole and checked ------------------------------------------------------------------------------------------------


def test_a_folder_lies_where_openpi_looks_and_is_fetched_once(storage: Storage, tmp_path: Path) -> None:
    folder = fetch(CHECKPOINT)
    assert folder == _home(tmp_path) / "checkpoints" / "pi05_arm"
    _same(folder, "checkpoints/pi05_arm")
    assert not list(_home(tmp_path).rglob("*.incoming"))
    asked = len(storage.asked)
    assert asked == 4
    assert fetch(f"{CHECKPOINT}/") == folder
    assert fetch(f"{CHECKPOINT}/params/d") == folder / "params" / "d"
    assert len(storage.asked) == asked


def test_a_file(storage: Storage, tmp_path: Path) -> None:
    assert fetch("gs://models/words.model").read_bytes() == b"a b c"
    large = fetch(Path("gs://models/checkpoints/pi05_arm/params/d/large"))
    assert large.read_bytes() == LARGE
    assert large.is_relative_to(_home(tmp_path))


def test_a_complete_copy_needs_no_network(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = fetch(CHECKPOINT)
    _unreachable(monkeypatch)
    assert fetch(CHECKPOINT) == folder
    with pytest.raises(CheckpointError, match=r"pi05_arm_two is not in the cache .* cannot be read from http://127"):
        fetch("gs://models/checkpoints/pi05_arm_two")


def test_a_part_fetched_earlier_does_not_pass_for_the_whole(storage: Storage) -> None:
    """openpi fetches the parameters and the statistics of a checkpoint one by one."""
    fetch(f"{CHECKPOINT}/params")
    folder = fetch(CHECKPOINT)
    assert (folder / "assets" / "arm" / "norm_stats.json").is_file()
    assert [name for name, _ in storage.asked].count("checkpoints/pi05_arm/params/d/large") == 1


def test_a_copy_of_openpi_is_found_and_compared(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = _home(tmp_path) / "checkpoints" / "pi05_arm"
    for name, data in FILES.items():
        if name.startswith("checkpoints/pi05_arm/"):
            (_home(tmp_path) / name).parent.mkdir(parents=True, exist_ok=True)
            (_home(tmp_path) / name).write_bytes(data)
    with monkeypatch.context() as offline:
        _unreachable(offline)
        assert fetch(CHECKPOINT) == folder
        assert "could not be compared" in capsys.readouterr().err
    (folder / "params" / "_METADATA").unlink()
    assert fetch(CHECKPOINT) == folder
    assert [name for name, _ in storage.asked] == ["checkpoints/pi05_arm/params/_METADATA"]
    _same(folder, "checkpoints/pi05_arm")


@pytest.mark.parametrize("ours", [True, False])
def test_a_truncated_copy_is_named(storage: Storage, tmp_path: Path, ours: bool) -> None:
    folder = fetch(CHECKPOINT)
    (folder / "params" / "d" / "large").write_bytes(LARGE[:1000])
    if not ours:
        folder.with_name("pi05_arm.manifest.json").unlink()
    with pytest.raises(CheckpointError, match=r"large has 1,000 bytes.*3,145,745.*Delete .*pi05_arm and fetch it"):
        fetch(CHECKPOINT)


def test_a_damaged_manifest_is_named(storage: Storage) -> None:
    manifest = fetch(CHECKPOINT).with_name("pi05_arm.manifest.json")
    manifest.write_text("{")
    with pytest.raises(CheckpointError, match=r"pi05_arm\.manifest\.json is damaged"):
        fetch(CHECKPOINT)


def test_homes(storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLA_DATA_HOME")
    monkeypatch.setenv("OPENPI_DATA_HOME", str(tmp_path / "theirs"))
    assert fetch("gs://models/words.model") == tmp_path / "theirs" / "models" / "words.model"


# --- Interrupted ------------------------------------------------------------------------------------------------------


def test_a_cut_connection_is_resumed(storage: Storage) -> None:
    storage.cut = [2**20 + 5, 1000, 0, 2**20]
    storage.status = [503]
    assert fetch("gs://models/checkpoints/pi05_arm/params/d/large").read_bytes() == LARGE
    assert [asked for _, asked in storage.asked] == [
        *(None, f"bytes={2**20 + 5}-", f"bytes={2**20 + 1005}-", f"bytes={2**20 + 1005}-", f"bytes={2**21 + 1005}-")
    ]


def test_what_arrived_is_kept_for_the_next_time(storage: Storage, tmp_path: Path) -> None:
    storage.cut = [2**20, *[0] * bucket.ATTEMPTS]
    with pytest.raises(CheckpointError, match=r"cannot be read from http://.*the connection ended early"):
        fetch(f"{CHECKPOINT}/params/d")
    target = _home(tmp_path) / "checkpoints" / "pi05_arm" / "params" / "d"
    assert not target.exists()
    assert [f.name for f in target.parent.rglob("*") if f.is_file()] == ["d.lock", "large.part"]
    storage.cut, storage.asked = [], []
    assert (fetch(f"{CHECKPOINT}/params/d") / "large").read_bytes() == LARGE
    assert storage.asked == [("checkpoints/pi05_arm/params/d/large", f"bytes={2**20}-")]


@pytest.mark.parametrize("kind", ["md5Hash", "crc32c"])
def test_a_wrong_checksum_leaves_nothing(storage: Storage, tmp_path: Path, kind: str) -> None:
    name = "checkpoints/pi05_arm/params/d/large"
    storage.checksum[name] = {kind: base64.b64encode(b"1234").decode()}
    with pytest.raises(CheckpointError, match=r"gs://models/.*large was damaged on the way: its (MD5|CRC-32C) is"):
        fetch(CHECKPOINT)
    assert not [file for file in _home(tmp_path).rglob("*") if "large" in file.name or file.name == "pi05_arm"]
    del storage.checksum[name]
    _same(fetch(CHECKPOINT), "checkpoints/pi05_arm")


def test_the_checksum_of_large_objects(storage: Storage, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(LARGE)
    sum_ = base64.b64encode(google_crc32c.value(file.read_bytes()).to_bytes(4, "big")).decode()
    storage.checksum["checkpoints/pi05_arm/params/d/large"] = {"crc32c": sum_}
    assert fetch(f"{CHECKPOINT}/params/d").is_dir()


def test_two_processes_fetch_it_once(storage: Storage, tmp_path: Path) -> None:
    code = f"from fla_sdk.policy.fetch import fetch; print(fetch({CHECKPOINT!r}))"
    both = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    answers = {process.communicate(timeout=300)[0].strip().splitlines()[-1] for process in both}
    assert [process.returncode for process in both] == [0, 0]
    assert answers == {str(_home(tmp_path) / "checkpoints" / "pi05_arm")}
    assert sorted(storage.asked) == sorted((n, None) for n in FILES if n.startswith("checkpoints/pi05_arm/"))


# --- Refused ----------------------------------------------------------------------------------------------------------


def test_no_space(storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", ["total", "used", "free"])
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**7, 9 * 10**6, 10**6))
    with pytest.raises(CheckpointError, match=r"takes 0\.00 GB.* has 0\.00 GB free; .*FLA_DATA_HOME"):
        fetch(CHECKPOINT)
    assert not storage.asked
    assert not list(_home(tmp_path).rglob("*.part"))


@pytest.mark.parametrize(
    ("uri", "hint"),
    [
        ("gs://models/checkpoints/pi05_arn", "did you mean gs://models/checkpoints/pi05_arm?"),
        ("gs://models/word.model", "did you mean gs://models/words.model?"),
        ("gs://nowhere/at/all", "there is nothing at gs://nowhere/at/all"),
    ],
)
def test_nothing_there(storage: Storage, tmp_path: Path, uri: str, hint: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        fetch(uri)
    assert hint in str(caught.value)
    assert not (tmp_path / "home").exists()


def test_what_is_not_public(storage: Storage) -> None:
    storage.status = [403]
    with pytest.raises(CheckpointError, match=r"refuses to be read \(HTTP 403\).*Copy it yourself"):
        fetch("gs://models/checkpoints/pi05_arm")


def test_names_that_lead_out_of_the_cache(storage: Storage, tmp_path: Path) -> None:
    storage.objects["bad/../../../escaped"] = b"x"
    with pytest.raises(CheckpointError, match="outside the cache"):
        fetch("gs://models/bad")
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("uri", ["gs://models", "gs:///x", "gs://models/../../etc", "hf://lab", "s3://bucket/key"])
def test_other_uris(uri: str) -> None:
    assert is_remote(uri)
    with pytest.raises(CheckpointError, match=r"is not (of the form|known)"):
        fetch(uri)


def test_paths(tmp_path: Path) -> None:
    (tmp_path / "step_100").mkdir()
    assert fetch(tmp_path / "step_100") == tmp_path / "step_100"
    assert not is_remote(tmp_path)
    with pytest.raises(CheckpointError, match=r"the path does not exist; did you mean .*step_100\?"):
        fetch(str(tmp_path / "step_10"))


# --- The Hub ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def hub(storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Storage:
    from huggingface_hub import constants

    monkeypatch.setenv("HF_ENDPOINT", storage.url)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    # Another test may have imported the library while it was told to stay offline.
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("FLA_DATA_HOME", raising=False)
    return storage


def test_files_and_folders_of_a_repository(hub: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = fetch("hf://lab/weights@v1/checkpoints/pi05_arm")
    _same(folder, "checkpoints/pi05_arm")
    assert {name for name, _ in hub.asked} <= {name for name in FILES if name.startswith("checkpoints/pi05_arm/")}
    assert fetch("hf://lab/weights/words.model").read_bytes() == b"a b c"
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert fetch("hf://lab/weights@v1/checkpoints/pi05_arm") == folder
    with pytest.raises(CheckpointError, match="no complete copy is in the cache"):
        fetch("hf://lab/weights@v1/checkpoints/pi05_arm_two")


def test_what_a_repository_does_not_have(hub: Storage) -> None:
    with pytest.raises(CheckpointError, match=r"no file or folder 'word\.model'; did you mean 'words\.model'"):
        fetch("hf://lab/weights/word.model")
    with pytest.raises(CheckpointError, match="has no revision 'v9'"):
        fetch("hf://lab/weights@v9/words.model")
    with pytest.raises(CheckpointError, match="there is no repository lab/nothing, or it is private"):
        fetch("hf://lab/nothing")
    hub.gated = True
    with pytest.raises(CheckpointError, match="is gated: accept its licence"):
        fetch("hf://lab/weights/words.model")
