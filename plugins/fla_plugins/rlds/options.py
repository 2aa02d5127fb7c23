"""What a user types: `PATH`, or `rlds://PATH?split=train&fps=15`."""

from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import attrs

from fla_sdk.errors import ConfigError, UnknownNameError

SCHEME = "rlds://"


@attrs.frozen(kw_only=True)
class Options:
    """How to read an RLDS dataset; the query of its URI."""

    split: str = "train"
    fps: float | None = None
    """Steps per second, which RLDS does not record; None where the dataset is a known one."""

    language: str = "first"
    """Which instruction is the task where there are several: the `first` one that is not empty, or `all` of those in
    turn from row to row."""

    match: str | None = None
    """Only episodes one of whose texts in `episode_metadata` contains this, such as `success`."""

    ranges: str | None = None
    """File (also `gs://`, `hf://`) that names the ranges of steps at which samples may begin, as openpi's for DROID:
    `{"<recording_folderpath>--<file_path>": [[first, end], ...]}`. Episodes that it does not name have none."""

    partial: bool = False
    """Take the shards that are there; else the episodes of missing ones count as damaged."""

    verify: bool = False
    """Compare all checksums once, for which all of the data is read."""


def parse(uri: str) -> tuple[Path, Options]:
    """Raises `UnknownNameError` for an unknown option, `ConfigError` for a value that is none."""
    path, _, query = uri.removeprefix(SCHEME).partition("?")
    given = dict(parse_qsl(query, keep_blank_values=True))
    known = [field.name for field in attrs.fields(Options)]
    for name in given:
        if name not in known:
            raise UnknownNameError(f"option of {uri}", name, known)
    values: dict[str, Any] = dict(given)
    for name in ("partial", "verify"):
        if name in given:
            if given[name] not in ("true", "false"):
                raise ConfigError(f"{uri}: {name} is {given[name]!r}, must be true or false")
            values[name] = given[name] == "true"
    if (language := given.get("language", "all")) not in ("first", "all"):
        raise ConfigError(
            f"{uri}: language is {language!r}, must be first or all; a prompt can name any column of text"
        )
    if "fps" in given:
        try:
            values["fps"] = float(given["fps"])
        except ValueError as error:
            raise ConfigError(f"{uri}: fps is {given['fps']!r}, must be a number such as 15") from error
        if not 0 < float(given["fps"]) < float("inf"):
            raise ConfigError(f"{uri}: fps is {given['fps']}, must be above 0")
    return Path(path).expanduser(), Options(**values)
