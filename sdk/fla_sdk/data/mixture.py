"""`Mixture`: an endless, weighted, repeatable stream of batches over demonstrations of several robots."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import attrs
import numpy as np

from fla_sdk import transforms
from fla_sdk.codec import Codec, collate
from fla_sdk.data.demonstrations import Demonstrations
from fla_sdk.data.order import WindowOrder
from fla_sdk.errors import ConfigError, DataError, EpisodeError
from fla_sdk.model import Batch
from fla_sdk.sample import Sample

SUBSTITUTES = 100
"""Samples to try in place of a damaged one."""

Sampling = Literal["weight", "size", "temperature"]
Batches = Literal["mixed", "embodiment"]


@attrs.frozen(kw_only=True, eq=False)
class Part:
    """One source of a mixture."""

    demonstrations: Demonstrations
    codec: Codec
    weight: float = 1.0
    window: int | None = None
    """Shuffle the rows of so many episodes together, which keeps reads near each other; None shuffles all rows."""


def shares(parts: Sequence[Part], *, sampling: Sampling, temperature: float) -> list[float]:
    """How often each part is drawn from, summing to 1.

    By `weight` alone; by weight times `size`, which is every sample equally often at equal weights; or by weight times
    size to the power of 1/`temperature`, in between (Arivazhagan et al., arXiv:1907.05019).
    """
    if bad := [f"{part.weight:g}" for part in parts if part.weight <= 0]:
        raise DataError(f"weights of a mixture must be above 0, got {', '.join(bad)}")
    power = {"weight": 0.0, "size": 1.0, "temperature": 1.0 / temperature}[sampling]
    raw = np.array([part.weight * len(part.demonstrations) ** power for part in parts])
    return (raw / raw.sum()).tolist()


class Mixture:
    """Batches drawn from `parts`; the sequence depends on `seed` alone, not on threads, timing or number of processes.

    Every part is shuffled and repeated on its own. `state` and `restore` make a resumed run continue with the very next
    batch. A sample of a damaged episode is replaced by another of the same part, the same one each time, when the
    quarantine's budget allows.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        *,
        batch_size: int,
        seed: int,
        sampling: Sampling = "weight",
        temperature: float = 2.0,
        batches: Batches = "mixed",
        process: tuple[int, int] = (0, 1),
        threads: int = 2,
        loss_dims: str = "own",
    ) -> None:
        """`batch_size` is that of all processes together; this one is `(number, count)` and gives its equal share.

        `batches="embodiment"` fills a batch with one robot. `loss_dims="all"` marks padded dimensions and steps as
        real, as openpi trains.
        """
        import grain  # pyright: ignore[reportMissingTypeStubs]

        if not parts:
            raise DataError("a mixture needs at least one dataset")
        number, count = process
        if batch_size % count:
            raise ConfigError(f"batch_size {batch_size} cannot be divided evenly over {count} processes")
        streams: list[Any] = []
        for place, part in enumerate(parts):
            encode = _Encoder(part, number=place, seed=seed + place, everything=loss_dims == "all")
            streams.append(_rows(part, seed=seed + place).map(encode))
        weights = shares(parts, sampling=sampling, temperature=temperature)

        def batched(stream: Any) -> Any:
            if count == 1:
                return stream.batch(batch_size, batch_fn=collate)
            share: Any = _Share(stream, batch_size=batch_size, number=number, count=count)
            return grain.MapDataset.source(share).batch(batch_size // count, batch_fn=_Uniform(parts))

        if batches == "mixed":
            stream: Any = batched(grain.MapDataset.mix(streams, weights=weights))
        else:
            robots = [part.demonstrations.embodiment.name for part in parts]
            groups = [[i for i, robot in enumerate(robots) if robot == name] for name in dict.fromkeys(robots)]
            of_one_robot = [
                batched(grain.MapDataset.mix([streams[i] for i in group], weights=[weights[i] for i in group]))
                for group in groups
            ]
            stream = grain.MapDataset.mix(of_one_robot, weights=[sum(weights[i] for i in group) for group in groups])
        options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(4, 2 * threads))
        self._iterator: Any = iter(stream.to_iter_dataset(options))

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        return next(self._iterator)

    @property
    def state(self) -> dict[str, Any]:
        """Where the stream is, as plain values."""
        return dict(self._iterator.get_state())

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from `state`."""
        self._iterator.set_state(state)


def _rows(part: Part, *, seed: int) -> Any:
    """Endless places within a part's demonstrations, as a grain dataset."""
    import grain  # pyright: ignore[reportMissingTypeStubs]

    length = len(part.demonstrations)
    if part.window is None:
        return grain.MapDataset.range(length).seed(seed).shuffle().repeat()
    ends = part.demonstrations.dataset.episode_bounds[:, 1]
    order: Any = WindowOrder(part.demonstrations.rows, ends=ends, window=part.window, seed=seed)
    return grain.MapDataset.source(order).map(part.demonstrations.place)


class _Share(Sequence[Batch]):
    """The examples of one process: consecutive rows of each batch, as devices hold them."""

    def __init__(self, stream: Any, *, batch_size: int, number: int, count: int) -> None:
        self._stream, self._whole, self._own = stream, batch_size, batch_size // count
        self._first = number * self._own

    def __len__(self) -> int:
        return len(self._stream) // self._whole * self._own

    def __getitem__(self, place: int) -> Batch:  # pyright: ignore[reportIncompatibleMethodOverride]
        batch, row = divmod(place, self._own)
        return self._stream[batch * self._whole + self._first + row]


class _Uniform:
    """`collate` to the same shapes in every process: all slots that any part fills, and prompts of full length."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self._slots = {
            camera.slot
            for part in parts
            for camera in part.codec.embodiment.cameras
            if camera.slot is not None and camera.name in part.demonstrations.camera_keys
        }
        self._size, self._tokens = parts[0].codec.spec.image_size, parts[0].codec.spec.max_tokens

    def __call__(self, examples: Sequence[Batch]) -> Batch:
        first = examples[0]
        inputs = first.inputs
        tokens = transforms.pad(inputs.tokens, self._tokens)
        mask = transforms.pad(inputs.token_mask, self._tokens)
        padded = first._replace(inputs=inputs._replace(tokens=tokens, token_mask=mask))
        return collate([padded, *examples[1:]], slots=self._slots, size=self._size)


class _Encoder:
    """Place -> training example; a class rather than a closure, so that grain can name it in errors."""

    def __init__(self, part: Part, *, number: int, seed: int, everything: bool) -> None:
        self._demonstrations, self._codec = part.demonstrations, part.codec
        self._number, self._seed, self._everything = number, seed, everything

    def __call__(self, place: int) -> Batch:
        sample, row = self._read(int(place))
        example = self._codec.encode_example(sample)._replace(origin=np.array([self._number, row], np.int32))
        if not self._everything:
            return example
        return example._replace(
            action_dims=np.ones_like(example.action_dims), action_steps=np.ones_like(example.action_steps)
        )

    def _read(self, place: int) -> tuple[Sample, int]:
        """The sample, and the row that it begins at."""
        demonstrations, substitutes = self._demonstrations, np.random.default_rng([self._seed, place])
        for _ in range(SUBSTITUTES):
            try:
                return demonstrations.pending(place), int(demonstrations.rows[place])
            except EpisodeError as error:
                demonstrations.quarantine.add(demonstrations.dataset.path, error.episode, str(error))
                place = int(substitutes.integers(len(demonstrations)))
        raise DataError(f"{demonstrations.dataset.path}: {SUBSTITUTES} samples in a row are of damaged episodes")
