"""Parsing of `--option NAME=VALUE`: what a benchmark, or a model's config, defines for itself."""

import argparse
from collections.abc import Sequence
from typing import Any

from fla_sdk.errors import ConfigError


def add_options(parser: argparse.ArgumentParser, what: str, *, flag: str = "--option") -> None:
    parser.add_argument(
        flag,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help=f"an option of the {what}; the value is JSON or text; may be repeated",
    )


def parse_options(texts: Sequence[str], *, flag: str = "--option") -> dict[str, Any]:
    """`["image_size=96", "ablation=blank"]` -> `{"image_size": 96, "ablation": "blank"}`."""
    import json

    options: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise ConfigError(f"{flag} {text!r} must be NAME=VALUE")
        try:
            options[name] = json.loads(value)
        except json.JSONDecodeError:
            options[name] = value
    return options
