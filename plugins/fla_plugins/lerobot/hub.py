"""LeRobot datasets on the Hugging Face Hub: `hf://datasets/owner/name[@revision]`."""

import contextlib
import os
import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path

from fla_plugins.lerobot.layout import INFO, read_info
from fla_plugins.lerobot.reader import LeRobotDataset
from fla_sdk.errors import CheckpointError, ConfigError, DataError
from fla_sdk.policy.fetch import fetch

FILES = ("meta/*", "data/*", "videos/*", "images/*", "README.md", "LICENSE*")
"""What belongs to a dataset; `*` goes on into folders. Everything else stays where it is."""

MOST_FILES = 20_000
"""In one commit, which the Hub then still accepts."""

_URI = re.compile(r"hf:/{1,2}datasets/(?P<name>[^/@]+/[^/@]+)(?:@(?P<revision>[^/]+))?")


def download(uri: str, out: Path | None = None) -> Path:
    """The dataset's folder: in the cache of the Hub's files, or as the new folder `out`. Fetches what is missing.

    Raises `DataError` before anything large is fetched when it is no LeRobot dataset.
    """
    _repository(uri)
    if out is not None and out.exists() and not (out.is_dir() and (not any(out.iterdir()) or _is_begun(out))):
        raise DataError(f"{out} exists and is not an empty folder; download into another one")
    try:
        fetch(f"{uri.rstrip('/')}/{INFO.as_posix()}")
        return fetch(uri, only=FILES, into=out)
    except CheckpointError as error:
        raise DataError(str(error)) from error


def _is_begun(out: Path) -> bool:
    """Whether the Hub's library has been downloading here, and knows how to go on."""
    return (out / ".cache" / "huggingface" / "download").is_dir()


def upload(path: Path, uri: str, *, private: bool) -> str:
    """Publish the folder in one commit, with a card and the tag of its version; returns the page to look at.

    Files of the format that the repository has and the folder does not are removed from it, as readers would read them
    too. Raises `DataError`.
    """
    import httpx
    import huggingface_hub as hub
    from huggingface_hub import errors

    repository, revision = _repository(uri)
    if revision:
        raise ConfigError(f"{uri}: a dataset is uploaded to the main branch; leave @{revision} out")
    dataset = LeRobotDataset(path)
    if dataset.damaged:
        raise DataError(
            f"{path}: {len(dataset.damaged)} episodes are damaged; run `fla data repair` before uploading it"
        )
    version = str(read_info(path)["codebase_version"])
    files = {file.relative_to(path).as_posix(): file for file in sorted(path.rglob("*")) if file.is_file()}
    files = {name: file for name, file in files.items() if any(fnmatchcase(name, pattern) for pattern in FILES)}
    if len(files) > MOST_FILES:
        raise DataError(f"{path} has {len(files)} files, too many for the Hub; run `fla data compact` first")
    endpoint = os.environ.get("HF_ENDPOINT") or None
    api = hub.HfApi(endpoint=endpoint)
    operations: list[hub.CommitOperationAdd | hub.CommitOperationDelete] = [
        hub.CommitOperationAdd(path_in_repo=name, path_or_fileobj=file) for name, file in files.items()
    ]
    if "README.md" not in files:
        text = card(dataset, repository, version).encode()
        operations.append(hub.CommitOperationAdd(path_in_repo="README.md", path_or_fileobj=text))
    try:
        api.create_repo(repository, repo_type="dataset", private=private, exist_ok=True)
        there = _stale(api.list_repo_files(repository, repo_type="dataset"), files)
        operations += [hub.CommitOperationDelete(path_in_repo=name) for name in there]
        message = f"{len(dataset.episode_bounds)} episodes"
        api.create_commit(repository, operations, commit_message=message, repo_type="dataset")
        with contextlib.suppress(errors.RevisionNotFoundError):  # it must move to this commit
            api.delete_tag(repository, tag=version, repo_type="dataset")
        api.create_tag(repository, tag=version, repo_type="dataset")
    except errors.HfHubHTTPError as error:
        if error.response.status_code in (401, 403):
            raise DataError(
                f"{uri}: the Hub does not let you write there ({error.response.status_code}); log in with"
                " `hf auth login` (or set HF_TOKEN) with a token that may write"
            ) from error
        raise DataError(f"{uri}: {' '.join(str(error).split())[:300]}") from error
    except (errors.HFValidationError, OSError, httpx.HTTPError) as error:
        raise DataError(
            f"{path} cannot be uploaded to {uri}: {type(error).__name__}: {' '.join(str(error).split())[:300]};"
            " run it again when the Hub can be reached, and what arrived is not sent twice"
        ) from error
    return f"{api.endpoint}/datasets/{repository}"


def _repository(uri: str) -> tuple[str, str | None]:
    match = _URI.fullmatch(uri.rstrip("/"))
    if match is None:
        raise ConfigError(f"{uri} is not of the form hf://datasets/owner/name[@revision]")
    return match["name"], match["revision"]


def _stale(there: Iterable[str], files: Iterable[str]) -> list[str]:
    return sorted(name for name in {*there} - {*files} if name.startswith(("meta/", "data/", "videos/")))


CARD = """---
task_categories:
- robotics
tags:
- LeRobot
configs:
- config_name: default
  data_files: data/*/*.parquet
---

# {name}

Demonstrations of {robot} in LeRobot {version}: {episodes} episodes, {rows} frames at {fps:g} Hz, {minutes:.1f} minutes.

```sh
fla train RECIPE --data hf://datasets/{repository} --embodiment ROBOT
```

| column | type | shape | names |
|---|---|---|---|
{columns}

Tasks:

{tasks}
"""

MOST_TASKS = 100
"""That a card lists."""


def card(dataset: LeRobotDataset, repository: str, version: str) -> str:
    """README.md of a dataset that has none."""
    tasks = [f"- {task}" for task in dict.fromkeys(dataset.task(int(row)) for row in dataset.episode_bounds[:, 0])]
    if len(tasks) > MOST_TASKS:
        tasks[MOST_TASKS:] = [f"- and {len(tasks) - MOST_TASKS} more"]
    columns = [
        f"| `{name}` | {feature.dtype} | {'x'.join(map(str, feature.shape))} | {', '.join(feature.names or ())} |"
        for name, feature in dataset.features.items()
    ]
    return CARD.format(
        name=repository.split("/")[1],
        repository=repository,
        robot=dataset.robot or "a robot",
        version=version,
        episodes=len(dataset.episode_bounds),
        rows=len(dataset),
        fps=dataset.fps,
        minutes=len(dataset) / dataset.fps / 60,
        columns="\n".join(columns),
        tasks="\n".join(tasks),
    )
