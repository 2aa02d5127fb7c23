"""`fetch`: what a path or URI names, as a path on this machine.

gs://bucket/path                   a public file or folder of Google Cloud Storage
hf://owner/name[@revision][/path]  a file or folder of a repository of the Hugging Face Hub, or all of it
hf://datasets/owner/name...        of a repository of data
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fla_sdk.errors import CheckpointError, nearest
from fla_sdk.home import data_home, refuse_without_space

_URI = re.compile(r"(?P<scheme>[a-z][a-z0-9+]*):/{1,2}(?P<rest>.*)")  # one slash is what pathlib leaves of two


def is_remote(uri: str | Path) -> bool:
    """Whether `uri` has to be fetched."""
    return _URI.fullmatch(str(uri)) is not None


def fetch(uri: str | Path, *, only: Sequence[str] = (), into: Path | None = None) -> Path:
    """The file or folder, complete; fetched at first use.

    From a bucket into `<data home>/<bucket>/<path>`, where openpi looks too, and only when it is all there; from the
    Hub into `$FLA_DATA_HOME/hub` or the Hub's own cache, with the user's own token; or, of the Hub, into the folder
    `into`, and of a whole repository the files that match one of the patterns `only`. Raises `CheckpointError` with the
    nearest name when there is no such thing, and when it cannot be fetched whole.
    """
    if (match := _URI.fullmatch(str(uri))) is None:
        return _local(Path(uri).expanduser())
    scheme, rest = match["scheme"], match["rest"].strip("/")
    parts = rest.split("/")
    if scheme not in ("gs", "hf"):
        raise CheckpointError(f"{uri}: {scheme}:// is not known (known: gs://bucket/path, hf://owner/name[/path])")
    kind = "model"
    if scheme == "hf" and parts[0] == "datasets":
        kind, parts = "dataset", parts[1:]
    if len(parts) < 2 or any(part in ("", ".", "..") for part in parts):
        expected = "gs://bucket/path" if scheme == "gs" else "hf://owner/name[@revision][/path]"
        raise CheckpointError(f"{uri} is not of the form {expected}")
    if scheme == "hf":
        return _from_hub("/".join(parts[:2]), "/".join(parts[2:]), kind=kind, only=list(only), into=into, uri=str(uri))

    from fla_sdk.policy.cache import fetch_from_bucket

    return fetch_from_bucket(parts[0], "/".join(parts[1:]), home=data_home())


def _local(path: Path) -> Path:
    if path.exists():
        return path
    siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    hint = f"; did you mean {path.parent / close}?" if (close := nearest(path.name, siblings)) else ""
    raise CheckpointError(f"{path} cannot be read: the path does not exist{hint}")


def _from_hub(repository: str, path: str, *, kind: str, only: list[str], into: Path | None, uri: str) -> Path:
    """A folder, or a file, of a snapshot of the Hub, whose own library resumes, locks and checks what it downloads."""
    import glob

    import httpx
    import huggingface_hub as hub
    from huggingface_hub import constants, errors

    repository, _, revision = repository.partition("@")
    own = os.environ.get("FLA_DATA_HOME")
    place = Path(own).expanduser() / "hub" if own else Path(constants.HF_HUB_CACHE)
    wanted: dict[str, Any] = {
        "repo_id": repository,
        "repo_type": kind,
        "revision": revision or None,
        "allow_patterns": [glob.escape(path), f"{glob.escape(path)}/*"] if path else only or None,
        "local_dir" if into else "cache_dir": into or place,
        "endpoint": os.environ.get("HF_ENDPOINT") or None,
    }
    try:
        try:
            planned: Any = hub.snapshot_download(**wanted, dry_run=True)
            missing = sum(file.file_size for file in planned if file.will_download)
        except errors.DryRunError:  # the Hub cannot be asked; its cache may be complete
            missing = 0
        refuse_without_space(missing, into or place, what=f"fetching {uri}", error=CheckpointError)
        found = Path(hub.snapshot_download(**wanted)) / path
        if found.exists() and (found.is_file() or any(found.iterdir())):
            return found
        api = hub.HfApi(endpoint=wanted["endpoint"])
        names = api.list_repo_files(repository, revision=revision or None, repo_type=kind)
    except errors.GatedRepoError as error:
        raise CheckpointError(
            f"{uri} is gated: accept its licence on the Hub, then log in with `hf auth login` (or set HF_TOKEN)"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise CheckpointError(f"{uri}: {repository} has no revision {revision!r}") from error
    except errors.RepositoryNotFoundError as error:
        raise CheckpointError(
            f"{uri}: there is no repository {repository}, or it is private and you are not logged in (`hf auth login`)"
        ) from error
    except (errors.HFValidationError, OSError, httpx.HTTPError) as error:
        raise CheckpointError(
            f"{uri} cannot be fetched, and no complete copy is in the cache: {type(error).__name__}: "
            f"{' '.join(str(error).split())[:300]}"
        ) from error
    folders = {name.rsplit("/", depth)[0] for name in names for depth in range(1, name.count("/") + 1)}
    hint = f"; did you mean {close!r}?" if (close := nearest(path, {*names, *folders})) else ""
    raise CheckpointError(f"{uri}: {repository} has no file or folder {path!r}{hint}")
