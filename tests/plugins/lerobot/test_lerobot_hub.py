"""Datasets to and from a server on this machine that speaks the Hub's endpoints."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from fla_plugins.lerobot.hub import download, upload
from fla_plugins.lerobot.plugin import fla_open_dataset
from fla_plugins.lerobot.reader import LeRobotDataset
from fla_sdk.cli import main
from fla_sdk.errors import ConfigError, DataError

from ...sdk.policy.storage_server import Storage, serve

URI = "hf://datasets/lab/set"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Storage]:
    from huggingface_hub import constants

    with serve() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setenv("FLA_DATA_HOME", str(tmp_path / "home"))
        yield server


def on_disk(path: Path) -> dict[str, bytes]:
    found = {file.relative_to(path).as_posix(): file for file in path.rglob("*") if file.is_file()}
    return {name: file.read_bytes() for name, file in found.items() if not name.startswith(".cache/")}


def test_there_and_back(hub, record, tmp_path):
    path = record(video=True)
    (path / "damaged/1").mkdir(parents=True)
    (path / "damaged/1/notes.txt").write_text("mine")
    hub.objects = {"data/chunk-000/file-099.parquet": b"of an older dataset", "LICENSE": b"CC"}
    hub.tags = ["v3.0"]
    assert upload(path, URI, private=True) == f"{hub.url}/datasets/lab/set"
    assert hub.private and hub.tags == ["v3.0"]
    card = hub.objects.pop("README.md").decode()
    assert yaml.safe_load(card.split("---")[1])["tags"] == ["LeRobot"]
    assert "3 episodes, 12 frames at 10 Hz" in card and "- do task 1" in card and "| `action` | float32 | 2 |" in card
    shutil.rmtree(path / "damaged")
    assert hub.objects == on_disk(path) | {"LICENSE": b"CC"}
    assert not (path / "README.md").exists()

    hub.objects |= {"README.md": b"mine", "weights/model.bin": b"none of ours"}
    fetched = download(f"{URI}@v3.0")
    assert on_disk(fetched) == on_disk(path) | {"LICENSE": b"CC", "README.md": b"mine"}
    assert LeRobotDataset(fetched).fingerprint == LeRobotDataset(path).fingerprint
    hub.asked.clear()
    opened = fla_open_dataset(f"{URI}@v3.0")
    assert opened is not None and len(opened) == 12 and not hub.asked


def test_into_a_folder_and_on_from_where_it_was_stopped(hub, record, tmp_path, capsys):
    path, out = record(), tmp_path / "out"
    hub.objects = on_disk(path)
    hub.cut = [10**9] * 3 + [3] * 100  # three files arrive
    assert main(["data", "download", URI, "--out", str(out)]) == 1
    hub.cut, begun = [], len(hub.asked)
    assert main(["data", "download", URI, "--out", str(out)]) == 0
    assert on_disk(out) == on_disk(path)
    assert {name for name, _ in hub.asked[begun:]} < {*hub.objects}
    assert str(out) in capsys.readouterr().out
    (tmp_path / "full").mkdir()
    (tmp_path / "full/notes.txt").write_text("mine")
    with pytest.raises(DataError, match="not an empty folder"):
        download(URI, tmp_path / "full")


def test_what_is_no_dataset_is_refused_before_it_is_fetched(hub):
    hub.objects = {"data/large.bin": b"x" * 1000, "README.md": b"something else"}
    with pytest.raises(DataError, match=r"lab/set has no file or folder 'meta/info\.json'"):
        download(URI)
    assert not hub.asked
    with pytest.raises(DataError, match="there is no repository lab/nothing"):
        download("hf://datasets/lab/nothing")
    for uri in ("hf://datasets/lab", "hf://lab/set", "hf://datasets/lab/set/data"):
        with pytest.raises(ConfigError, match="not of the form hf://datasets/owner/name"):
            download(uri)


def test_without_a_network_and_without_a_login(hub, record, monkeypatch):
    path = record()
    hub.status = [401] * 9
    with pytest.raises(DataError, match=r"does not let you write there \(401\); log in with `hf auth login`"):
        upload(path, URI, private=False)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(DataError, match="cannot be fetched, and no complete copy is in the cache"):
        download(URI)
    with pytest.raises(DataError, match="run it again when the Hub can be reached"):
        upload(path, URI, private=False)


def test_a_damaged_dataset_is_not_published(hub, record):
    path = record()
    (path / "data/chunk-000/file-001.parquet").unlink()
    with pytest.raises(DataError, match="1 episodes are damaged; run `fla data repair`"):
        upload(path, URI, private=False)
    with pytest.raises(ConfigError, match="leave @main out"):
        upload(path, f"{URI}@main", private=False)
    assert not hub.objects


def test_the_card_of_the_owner_is_kept(hub, record, capsys):
    path = record()
    (path / "README.md").write_text("# Mine")
    assert main(["data", "upload", str(path), URI]) == 0
    assert hub.objects["README.md"] == b"# Mine" and hub.private is False
    assert f"{hub.url}/datasets/lab/set" in capsys.readouterr().out
    assert json.loads(hub.objects["meta/info.json"])["total_episodes"] == 3
