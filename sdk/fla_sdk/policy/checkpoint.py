"""A checkpoint on disk: parameters in openpi's layout, and everything needed to serve and resume.

    <step>/
      params/                         Orbax, `{"params": tree}`, every leaf under a last key `value` (openpi-compatible)
      assets/<embodiment>/norm_stats.json
      files/                          files that the model's config names, such as a fitted tokenizer
      train_state/                    Orbax: step, trainable parameters, optimizer, regularizers (to resume)
      importance/<regularizer>.safetensors   what the parameters mean to what was learned, for later runs
      fla.json                        what the run used: model config, embodiments, sampler, plugins, versions

A checkpoint is written beside its place and renamed into it, so a folder named by a number is always complete.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import attrs

from fla_sdk.config import structure, unstructure
from fla_sdk.embodiment import Embodiment
from fla_sdk.errors import CheckpointError
from fla_sdk.model import Array
from fla_sdk.normalization import NormStats

FORMAT = 1
BEST = "best.json"
"""In a run's folder of checkpoints: which one validated best."""
FILES = "files"
MEET_TIMEOUT_S = 1800
"""How long processes wait for each other when they write."""
Flat = Mapping[str, Array]


class DamagedCheckpoint(CheckpointError):
    """Files of a checkpoint are missing or cannot be read."""


@attrs.frozen(kw_only=True)
class Manifest:
    """`fla.json`: what a checkpoint was made from."""

    family: str
    """Model family; with `model` all that is needed to build the module."""

    variant: str
    model: Mapping[str, Any]
    """The model's config as plain values."""

    embodiments: Mapping[str, Any]
    """Name -> `describe(embodiment)` of every robot it was trained for; the first is the default."""

    step: int
    trainable: tuple[str, ...] = ()
    """Paths of the parameters that were trained; empty when all were."""

    train: Mapping[str, Any] = attrs.field(factory=dict[str, Any])
    """The training config as plain values."""

    sampler: Mapping[str, Any] = attrs.field(factory=dict[str, Any])
    plugins: tuple[str, ...] = ()
    """`distribution version` of every plugin that was loaded."""

    versions: Mapping[str, Any] = attrs.field(factory=dict[str, Any])
    git: str | None = None
    sizes: Mapping[str, int] = attrs.field(factory=dict[str, int])
    """Bytes of every file of the Orbax items, by its path in the checkpoint."""

    format: int = FORMAT


def describe(embodiment: Embodiment) -> dict[str, Any]:
    """What of an embodiment a checkpoint depends on."""
    return {
        "state": list(embodiment.state.names),
        "action": [
            {"names": list(f.names), "unit": f.unit, "representation": f.representation, "predict": f.predict}
            for f in embodiment.action
        ],
        "cameras": {c.name: c.slot for c in embodiment.cameras if c.slot is not None},
        "control_hz": embodiment.control_hz,
        "control_mode": embodiment.control_mode,
        "prompt": embodiment.prompt,
    }


def check_embodiment(embodiment: Embodiment, manifest: Manifest, *, where: Path) -> None:
    """Raise `CheckpointError` when the installed embodiment is no longer the one that was trained."""
    trained, installed = manifest.embodiments[embodiment.name], describe(embodiment)
    differing = [key for key in installed if trained.get(key) != installed[key]]
    if differing:
        both = "; ".join(f"{key}: trained {trained.get(key)!r}, installed {installed[key]!r}" for key in differing)
        raise CheckpointError(
            f"{where} was trained for another version of embodiment {embodiment.name!r}: {both}. "
            "Install the plugin version it was trained with, or train again."
        )


def begin(
    folder: Path,
    *,
    manifest: Manifest,
    params: Flat,
    stats: Mapping[str, NormStats],
    train_state: Mapping[str, Any] | None = None,
    importance: Mapping[str, Flat] | None = None,
    best: bool = False,
    keep_files: Callable[[Path], None] | None = None,
) -> Callable[[], Path]:
    """Begin to write checkpoint `<folder>/<step>`; the result writes the rest and returns its path.

    Arrays may change as soon as this returns. An older checkpoint of the same step is replaced. Several processes of
    one run all call both, and each writes the pieces of arrays that it has.

    `importance` is regularizer -> path -> array. `best` notes that no other one validated better. `keep_files` is
    called with the folder for the model's own files.
    """
    target, scratch = folder / str(manifest.step), folder / f".{manifest.step}.partial"
    if first := _is_first():
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
    _meet(f"{scratch} is empty")
    waiting = [_save(scratch / "params", {"params": _to_tree(params)})]
    if train_state is not None:
        waiting.append(_save(scratch / "train_state", dict(train_state)))

    def finish() -> Path:
        with ExitStack() as all_of_them:
            for wait in waiting:
                all_of_them.callback(wait)
        if first:
            for name, tensors in (importance or {}).items():
                write_importance(scratch / "importance" / f"{name}.safetensors", tensors)
            for name, one in stats.items():
                (scratch / "assets" / name).mkdir(parents=True)
                (scratch / "assets" / name / "norm_stats.json").write_text(one.to_json())
            if keep_files is not None:
                keep_files(scratch / FILES)
            complete = attrs.evolve(manifest, sizes=_sizes(scratch))
            (scratch / "fla.json").write_text(json.dumps(unstructure(complete), indent=2))
            replaced = folder / f".{manifest.step}.replaced"
            shutil.rmtree(replaced, ignore_errors=True)
            if target.exists():
                target.rename(replaced)
            scratch.rename(target)
            shutil.rmtree(replaced, ignore_errors=True)
            if best:
                (folder / BEST).write_text(json.dumps({"step": manifest.step}))
        _meet(f"{target} is complete")
        return target

    return finish


def _sizes(checkpoint: Path) -> dict[str, int]:
    items = (checkpoint / "params", checkpoint / "train_state")
    files = sorted(file for item in items for file in item.rglob("*") if file.is_file())
    return {file.relative_to(checkpoint).as_posix(): file.stat().st_size for file in files}


def _check_sizes(item: Path) -> None:
    """Raise `DamagedCheckpoint` when files of an Orbax item are not as long as they were written.

    Orbax itself notices late, with reads still under way, or not at all.
    """
    if not (item.parent / "fla.json").is_file():
        return
    for name, written in read_manifest(item.parent).sizes.items():
        file = item.parent / name
        if not file.is_relative_to(item):
            continue
        if not file.is_file():
            raise DamagedCheckpoint(f"{file} is missing, of {written:,} bytes: copy the checkpoint again")
        if (now := file.stat().st_size) != written:
            raise DamagedCheckpoint(f"{file} has {now:,} bytes, {written:,} were written: copy the checkpoint again")


def write(folder: Path, **contents: Any) -> Path:
    """`begin` and the rest at once."""
    return begin(folder, **contents)()


def _is_first() -> bool:
    import jax

    return jax.process_index() == 0


def _meet(what: str) -> None:
    """Wait for the other processes, without their devices: the step may be running."""
    from orbax.checkpoint import multihost

    multihost.get_barrier_sync_fn()(key=what, timeout_ms=MEET_TIMEOUT_S * 1000)


def best(folder: Path) -> int | None:
    """Step of the checkpoint of a run that validated best; None when none did or it is not there."""
    try:
        step = json.loads((folder / BEST).read_text())["step"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return step if step in steps(folder) else None


def write_importance(file: Path, tensors: Flat) -> None:
    """Path -> array, as safetensors."""
    import numpy as np
    from safetensors.numpy import save_file

    file.parent.mkdir(parents=True, exist_ok=True)
    save_file({path: np.ascontiguousarray(leaf) for path, leaf in tensors.items()}, file)


def read_importance(file: Path) -> dict[str, Array]:
    """What `write_importance` wrote. Raises `CheckpointError`."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return dict(load_file(file))
    except (OSError, SafetensorError) as error:
        raise DamagedCheckpoint(f"{file} cannot be read: {error}") from error


def steps(folder: Path) -> list[int]:
    """Steps of the complete checkpoints in `folder`, oldest first."""
    if not folder.is_dir():
        return []
    return sorted(int(entry.name) for entry in folder.iterdir() if entry.name.isdigit() and entry.is_dir())


def is_checkpoint(path: Path) -> bool:
    """Whether there is a checkpoint, of ours or of openpi, that `path` means."""
    try:
        find(path)
    except CheckpointError:
        return False
    return True


def find(path: Path) -> Path:
    """The checkpoint that `path` means: itself, the one whose `params` it is, or the newest in a run's folder.

    Raises `CheckpointError`.
    """
    if (path / "_METADATA").is_file():
        return path.parent if path.name == "params" else path
    for folder in (path, path / "checkpoints"):
        if (folder / "params").is_dir():
            return folder
        if found := steps(folder):
            return folder / str(found[-1])
    if not path.exists():
        raise CheckpointError(f"there is no checkpoint at {path}: the path does not exist")
    raise CheckpointError(
        f"there is no checkpoint at {path}: expected a folder with params/, or a run with checkpoints/<step>/; "
        f"it has {', '.join(sorted(e.name for e in path.iterdir())[:8]) if path.is_dir() else 'a file'}"
    )


def read_manifest(checkpoint: Path) -> Manifest:
    """`fla.json`; raises `CheckpointError` when it is missing, damaged, or newer than this version."""
    file = checkpoint / "fla.json"
    if not file.is_file():
        raise CheckpointError(f"{checkpoint} has no fla.json: it was not written by fla train")
    try:
        tree = json.loads(file.read_text())
    except ValueError as error:  # also text that is not UTF-8
        raise DamagedCheckpoint(f"{file} is damaged: {error}") from error
    if not isinstance(tree, dict):
        raise DamagedCheckpoint(f"{file} is damaged: it holds a {type(tree).__name__}, not an object")
    if tree.get("format") != FORMAT:
        raise CheckpointError(f"{file} has format {tree.get('format')!r}, this version of fla-sdk reads {FORMAT}")
    return structure(tree, Manifest, where=str(file))


def trained_embodiments(path: Path) -> tuple[str, ...] | None:
    """Robots that the checkpoint at `path` was trained for; None when it is not one of ours."""
    try:
        return tuple(read_manifest(find(path)).embodiments)
    except CheckpointError:
        return None


def read_params(checkpoint: Path) -> dict[str, Array]:
    """Flat parameters as numpy arrays, from our own or openpi's `params` item."""
    import numpy as np

    item = _params(checkpoint)
    return _flat_params(restore(item, kind=np.ndarray), where=item)


def read_shapes(checkpoint: Path) -> dict[str, Array]:
    """What `read_params` would give, as shapes and types; no array is read. Raises `CheckpointError`."""
    import orbax.checkpoint as ocp

    item = _params(checkpoint)
    if not item.is_dir():
        raise DamagedCheckpoint(f"{item} is missing: the checkpoint is not complete")
    try:
        with ocp.PyTreeCheckpointer() as checkpointer:
            return _flat_params(_metadata(checkpointer, item), where=item)
    except CheckpointError:
        raise
    except Exception as error:  # orbax and tensorstore raise many kinds for a damaged file
        raise DamagedCheckpoint(f"{item} cannot be read: {type(error).__name__}: {str(error)[:300]}") from error


def _params(checkpoint: Path) -> Path:
    """The Orbax item; a folder that is one itself stands for the checkpoint around it."""
    return checkpoint if (checkpoint / "_METADATA").is_file() else checkpoint / "params"


def _flat_params(tree: Any, *, where: Path) -> dict[str, Array]:
    if set(tree) != {"params"}:
        raise CheckpointError(f"{where} has no 'params' tree, only {', '.join(map(str, tree))}")
    return _from_tree(tree["params"])


def read_stats(checkpoint: Path, embodiment: str) -> NormStats:
    """Statistics of one embodiment."""
    return NormStats.load(checkpoint / "assets" / embodiment / "norm_stats.json")


def restore(folder: Path, *, target: Any = None, kind: Any = None) -> Any:
    """An Orbax item. `target` gives structure and types; otherwise leaves become `kind`. Raises `CheckpointError`."""
    import jax
    import orbax.checkpoint as ocp

    if not folder.is_dir():
        raise DamagedCheckpoint(f"{folder} is missing: the checkpoint is not complete")
    _check_sizes(folder)
    try:
        with ocp.PyTreeCheckpointer() as checkpointer:
            if target is not None:
                arguments = ocp.checkpoint_utils.construct_restore_args(target)
                return checkpointer.restore(folder.absolute(), item=target, restore_args=arguments)
            tree = _metadata(checkpointer, folder)
            arguments = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=kind), tree)
            return checkpointer.restore(folder.absolute(), restore_args=arguments)
    except Exception as error:  # orbax and tensorstore raise many kinds for a damaged file
        raise DamagedCheckpoint(f"{folder} cannot be read: {type(error).__name__}: {str(error)[:300]}") from error


def _metadata(checkpointer: Any, folder: Path) -> Any:
    metadata = checkpointer.metadata(folder.absolute())
    return metadata.item_metadata.tree if hasattr(metadata, "item_metadata") else metadata


def _save(folder: Path, tree: Any) -> Callable[[], None]:
    """Copy `tree` and write it in the background; the result waits for the end."""
    import orbax.checkpoint as ocp

    checkpointer = ocp.AsyncCheckpointer(ocp.PyTreeCheckpointHandler(use_zarr3=False))
    checkpointer.save(folder.absolute(), args=ocp.args.PyTreeSave(tree))

    def wait() -> None:
        try:
            checkpointer.wait_until_finished()
        finally:
            checkpointer.close()

    return wait


def _to_tree(flat: Flat) -> Any:
    from flax import traverse_util

    return traverse_util.unflatten_dict({f"{path}/value": leaf for path, leaf in flat.items()}, sep="/")


def _from_tree(tree: Any) -> dict[str, Array]:
    from flax import traverse_util

    flat = traverse_util.flatten_dict(tree, sep="/")
    if all(path.endswith("/value") for path in flat):
        flat = {path.removesuffix("/value"): leaf for path, leaf in flat.items()}
    return dict(sorted(flat.items()))
