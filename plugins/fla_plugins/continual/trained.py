"""`Trained`: a checkpoint as something that gradients and losses can be taken of."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

import fla_sdk as fla
from fla_sdk.codec import Codec
from fla_sdk.policy import checkpoint, parameters
from fla_sdk.policy.checkpoint import Manifest
from fla_sdk.policy.fetch import fetch, is_remote
from fla_sdk.policy.parameters import Flat
from fla_sdk.policy.policy import model_of


@attrs.frozen(kw_only=True, eq=False)
class Trained:
    """Parameters, and codecs with the statistics that they were trained with."""

    folder: Path
    manifest: Manifest
    graph: Any
    params: Flat
    """Those that were trained."""

    frozen: Flat
    group: Mapping[str, str]
    """Parameter -> its group."""

    codecs: Mapping[str, Codec]


def open_trained(path: Path | str, registry: fla.Registry) -> Trained:
    """The checkpoint at `path`, or the newest one of a run's folder. Raises as `Policy.load` does."""
    folder = checkpoint.find(fetch(path) if is_remote(path) else Path(path).expanduser())
    manifest = checkpoint.read_manifest(folder)
    family, config = model_of(manifest, registry, where=folder)
    if family.use_files is not None:
        config = family.use_files(config, folder / checkpoint.FILES)
    spec, tokenizer = family.spec(config), family.tokenizer(config)
    codecs: dict[str, Codec] = {}
    for name in manifest.embodiments:
        robot = registry.embodiment(name)
        checkpoint.check_embodiment(robot, manifest, where=folder)
        stats = checkpoint.read_stats(folder, name)
        codecs[name] = Codec(embodiment=robot, spec=spec, stats=stats, tokenizer=tokenizer)
    graph, expected = parameters.abstract(family, config)
    flat = checkpoint.read_params(folder)
    parameters.check(flat, expected, where=str(folder))
    trainable = set(manifest.trainable or flat)
    return Trained(
        folder=folder,
        manifest=manifest,
        graph=graph,
        params={name: leaf for name, leaf in flat.items() if name in trainable},
        frozen={name: leaf for name, leaf in flat.items() if name not in trainable},
        group={name: family.group(name) for name in flat},
        codecs=codecs,
    )
