"""`fla data check DATA`: is a dataset fit to be learned from?"""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fla_sdk.errors import ConfigError
from fla_sdk.plugins import Registry
from fla_sdk.records import Command

if TYPE_CHECKING:
    from fla_sdk.data.dataset import Dataset

PICTURES = (".png", ".jpg", ".jpeg")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", metavar="DATA", help="path or URI of the dataset; nothing is changed in it")
    parser.add_argument("--embodiment", metavar="NAME", help="its robot: brings units, limits, meaning of actions")
    parser.add_argument("--against", metavar="DATA", help="a dataset that may share no episode, such as the test data")
    parser.add_argument("--reference", metavar="DATA|IMAGE", help="pictures of the scene with the right colours")
    parser.add_argument("--horizon", type=int, metavar="N", help="length of the action chunks to be learned")
    parser.add_argument("--frames", type=int, metavar="N", default=64, help="decoded of each camera (default 64)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the findings as JSON")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page with drawings and pictures")
    parser.add_argument("--strict", action="store_true", help="exit with 1 for warnings too")


def run(arguments: argparse.Namespace, registry: Registry) -> int:
    from fla_sdk.data.checks import examine
    from fla_sdk.data.report.check_page import summary, write_check_page
    from fla_sdk.training.preparation import open_dataset

    examination = examine(
        open_dataset(arguments.data, registry),
        registry.embodiment(arguments.embodiment) if arguments.embodiment else None,
        against=open_dataset(arguments.against, registry) if arguments.against else None,
        reference=_reference(arguments.reference, registry) if arguments.reference else None,
        horizon=arguments.horizon,
        frames=arguments.frames,
        show=True,
    )
    for finding in examination.findings:
        print(f"{finding.severity}: {finding.check}: {finding.where}")
        print(f"    seen      {finding.seen}\n    expected  {finding.expected}\n    {finding.advice}")
    print(f"{arguments.data}: {summary(examination.findings)}")
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(examination.tree(), indent=2) + "\n", encoding="utf-8")
    if arguments.html:
        print(write_check_page(arguments.html, examination))
    severities = {finding.severity for finding in examination.findings}
    return int("error" in severities or (arguments.strict and "warning" in severities))


def _reference(what: str, registry: Registry) -> "Dataset | NDArray[np.uint8]":
    if not what.lower().endswith(PICTURES):
        from fla_sdk.training.preparation import open_dataset

        return open_dataset(what, registry)
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(what) as picture:
            pixels: Any = np.asarray(picture.convert("RGB"))
            return pixels
    except (OSError, UnidentifiedImageError) as error:
        raise ConfigError(f"--reference {what} cannot be read as a picture: {error}") from error


COMMAND = Command(name="check", help="look for faults that spoil training", configure=configure, run=run)
