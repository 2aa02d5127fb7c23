"""`Mixture`: an endless, weighted, repeatable stream of batches over demonstrations of several robots."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fla_sdk.codec import Codec, collate
from fla_sdk.data.demonstrations import Demonstrations
from fla_sdk.errors import DataError
from fla_sdk.model import Batch


class Mixture:
    """Batches drawn from `parts` by `weights`; the order depends on `seed` alone, not on threads or timing.

    Every part is shuffled and repeated on its own. `state` and `restore` make a resumed run continue with the very next
    batch.
    """

    def __init__(
        self,
        parts: Sequence[tuple[Demonstrations, Codec]],
        *,
        weights: Sequence[float],
        batch_size: int,
        seed: int,
        threads: int = 2,
        loss_dims: str = "own",
    ) -> None:
        """`loss_dims="all"` marks padded dimensions and steps as real, as openpi trains."""
        import grain  # pyright: ignore[reportMissingTypeStubs]

        if not parts:
            raise DataError("a mixture needs at least one dataset")
        if any(weight <= 0 for weight in weights):
            raise DataError(f"weights of a mixture must be above 0, got {', '.join(f'{w:g}' for w in weights)}")
        streams: list[Any] = []
        for number, (demonstrations, codec) in enumerate(parts):
            rows: Any = grain.MapDataset.range(len(demonstrations)).seed(seed + number).shuffle().repeat()
            streams.append(rows.map(_Encoder(demonstrations, codec, everything=loss_dims == "all")))
        total = sum(weights)
        mixed: Any = grain.MapDataset.mix(streams, weights=[w / total for w in weights])
        batches = mixed.batch(batch_size, batch_fn=collate)
        options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(4, 2 * threads))
        self._iterator: Any = iter(batches.to_iter_dataset(options))

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


class _Encoder:
    """Row number -> training example; a class rather than a closure, so that grain can name it in errors."""

    def __init__(self, demonstrations: Demonstrations, codec: Codec, *, everything: bool) -> None:
        self._demonstrations, self._codec, self._everything = demonstrations, codec, everything

    def __call__(self, row: int) -> Batch:
        example = self._codec.encode_example(self._demonstrations[int(row)])
        if not self._everything:
            return example
        return example._replace(
            action_dims=np.ones_like(example.action_dims), action_steps=np.ones_like(example.action_steps)
        )
