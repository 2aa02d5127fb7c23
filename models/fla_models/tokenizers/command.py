"""`fla tokenizer fit` and `show`: a FAST tokenizer of one's own data."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
from numpy.typing import NDArray

from fla_models.tokenizers.fast import FastTokenizer
from fla_sdk.errors import ConfigError, DataError
from fla_sdk.plugins import Registry
from fla_sdk.records import Command

if TYPE_CHECKING:
    from fla_sdk.codec import Codec
    from fla_sdk.data.demonstrations import Demonstrations

MIN_CHUNKS, MAX_CHUNKS = 100, 10_000
"""Fewer chunks to fit on are refused; of more, that many are taken, evenly spaced."""


def configure(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    about = "fit a FAST tokenizer to a dataset's actions"
    fit = verbs.add_parser("fit", help=about, description=about, allow_abbrev=False)
    fit.add_argument("--data", required=True, metavar="DIR", help="dataset")
    fit.add_argument("--embodiment", required=True, metavar="NAME", help="robot that made it")
    fit.add_argument("--out", required=True, type=Path, metavar="DIR", help="new folder of the tokenizer")
    fit.add_argument("--horizon", type=int, default=50, help="steps of a chunk, as the model has them (default 50)")
    fit.add_argument("--vocab-size", type=int, default=1024, help="most codes (default 1024)")
    fit.add_argument("--scale", type=float, default=10, help="larger is finer and longer (default 10)")
    fit.add_argument(
        "--normalization", choices=("quantile", "zscore"), default="quantile", help="the model's (default quantile)"
    )
    about = "describe a FAST tokenizer"
    show = verbs.add_parser("show", help=about, description=about, allow_abbrev=False)
    show.add_argument("folder", type=Path, metavar="DIR")


def run(arguments: argparse.Namespace, registry: Registry) -> None:
    if arguments.verb == "show":
        print(describe(FastTokenizer.load(arguments.folder)))
        return
    if arguments.out.exists():
        raise ConfigError(f"{arguments.out} exists already; give the name of a new folder")
    if arguments.horizon < 1:
        raise ConfigError(f"--horizon must be at least 1, not {arguments.horizon}")
    demonstrations, codec = _open(arguments, registry)
    fitting, others = split(demonstrations)
    tokenizer = FastTokenizer.fit(
        [_chunk(demonstrations, codec, row)[0] for row in fitting],
        scale=arguments.scale,
        vocab_size=arguments.vocab_size,
    )
    measured = measure(tokenizer, demonstrations, codec, others)
    tokenizer.save(arguments.out)
    print(describe(tokenizer))
    print(f"fitted on {len(fitting):,} chunks, measured on {len(others):,} of other episodes")
    print(measured.table())
    print(f"saved; in a model config: action_tokenizer: {arguments.out}")


def describe(tokenizer: FastTokenizer) -> str:
    made_for = f"fitted on chunks of {tokenizer.horizon} steps of {tokenizer.width} values"
    return (
        f"FAST tokenizer: {tokenizer.vocab_size} codes, scale {tokenizer.scale:g}, smallest coefficient "
        f"{tokenizer.min_token / tokenizer.scale:g}, {made_for if tokenizer.horizon else 'for chunks of any shape'}"
    )


@attrs.frozen(kw_only=True, eq=False)
class Measurement:
    """What a tokenizer makes of chunks `[T, A]` that it was not fitted on."""

    values: int
    """`T * A`."""

    tokens: NDArray[np.int64]
    """Codes of each chunk, `[N]`."""

    errors: NDArray[np.floating]
    """Absolute differences after coding and decoding, in the embodiment's units, `[N, T, A]`."""

    names: tuple[str, ...]
    units: tuple[str, ...]

    def table(self) -> str:
        mean, most = self.tokens.mean(), self.tokens.max()
        lines = [
            f"tokens per chunk: {mean:.1f} on average, {most} at most, for {self.values} values",
            f"{'error after decoding':24} {'mean':>10} {'max':>10}",
        ]
        for i, (name, unit) in enumerate(zip(self.names, self.units, strict=True)):
            error = self.errors[..., i]
            lines.append(f"  {name:22} {error.mean():10.3g} {error.max():10.3g} {unit}")
        return "\n".join(lines)


def split(demonstrations: "Demonstrations") -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows at which chunks begin: those to fit on, and those of every tenth episode, to measure on.

    By episode, because neighbouring chunks share most of their actions. Raises `DataError` when there are too few.
    """
    bounds = demonstrations.dataset.episode_bounds
    rows = demonstrations.rows
    kept = (np.searchsorted(bounds[:, 0], rows, side="right") - 1) % 10 == min(9, len(bounds) - 1)
    fitting, others = rows[~kept], rows[kept]
    if len(fitting) < MIN_CHUNKS:
        raise DataError(
            f"dataset {demonstrations.dataset.path}: {len(fitting)} chunks to fit on are too few (it has {len(bounds)} "
            f"episodes, every tenth is kept to measure on), at least {MIN_CHUNKS} are needed; record more episodes, or "
            "use physical-intelligence/fast"
        )
    return _thin(fitting), _thin(others)


def measure(
    tokenizer: FastTokenizer, demonstrations: "Demonstrations", codec: "Codec", rows: NDArray[np.int64]
) -> Measurement:
    """Code and decode the chunks that begin at `rows`, back to the embodiment's units."""
    action = codec.embodiment.action
    tokens: list[int] = []
    errors: list[NDArray[np.floating]] = []
    for row in rows:
        chunk, actions = _chunk(demonstrations, codec, row)
        codes = tokenizer.encode(chunk)
        back = tokenizer.decode(codes, horizon=len(chunk), width=action.width)
        tokens.append(len(codes))
        errors.append(np.abs(codec.decode(back, demonstrations.states[row]) - actions))
    return Measurement(
        values=codec.spec.horizon * action.width,
        tokens=np.array(tokens),
        errors=np.stack(errors),
        names=action.names,
        units=tuple(field.unit for field, part in action.slices() for _ in range(part.stop - part.start)),
    )


def _chunk(demonstrations: "Demonstrations", codec: "Codec", row: Any) -> tuple[NDArray[np.floating], Any]:
    """The chunk at `row` `[T, A]`: as a model is taught it, and in the embodiment's units."""
    rows, _ = demonstrations.window(int(row))
    actions = demonstrations.actions[rows]
    return codec.encode_actions(actions, demonstrations.states[row])[:, : actions.shape[1]], actions


def _thin(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    return rows[np.linspace(0, len(rows) - 1, min(len(rows), MAX_CHUNKS)).astype(np.int64)]


def _open(arguments: argparse.Namespace, registry: Registry) -> tuple["Demonstrations", "Codec"]:
    from fla_sdk.codec import Codec
    from fla_sdk.data import statistics
    from fla_sdk.data.demonstrations import Demonstrations
    from fla_sdk.model import ModelSpec
    from fla_sdk.testing import CharacterTokenizer
    from fla_sdk.training.preparation import open_dataset

    robot = registry.embodiment(arguments.embodiment)
    demonstrations = Demonstrations(open_dataset(arguments.data, registry), robot, horizon=arguments.horizon)
    spec = ModelSpec(
        image_slots=tuple(camera.slot for camera in robot.cameras if camera.slot is not None),
        action_dim=max(robot.state.width, robot.action.width),
        horizon=arguments.horizon,
        normalization=arguments.normalization,
    )
    stats = statistics.compute([demonstrations])
    return demonstrations, Codec(embodiment=robot, spec=spec, stats=stats, tokenizer=CharacterTokenizer())


COMMAND = Command(name="tokenizer", help="fit a FAST tokenizer to a dataset's actions", configure=configure, run=run)
