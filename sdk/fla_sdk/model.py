"""What a model is to the rest of the SDK: its spec, its inputs, and two verbs.

Nothing here imports jax: the containers are NamedTuples, which JAX treats as pytrees, and their leaves are numpy
arrays until they reach the device.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import attrs

Array = Any
"""A numpy or a jax array; shapes are in the docstrings."""


class ModelInput(NamedTuple):
    """What the model sees. Unbatched from the codec; with a leading batch axis `B` in the model."""

    images: Mapping[str, Array]
    """Slot -> uint8 `[H, W, 3]`. A slot that no sample of the batch fills is absent and costs nothing."""

    image_masks: Mapping[str, Array]
    """Slot -> bool `[]`: False where this sample has no such camera but another one of the batch has."""

    state: Array
    """float32 `[D]`: normalized, zero-padded to the model's width."""

    tokens: Array
    """int32 `[L]`: the prompt, padded with 0 to the shortest bucket that holds it."""

    token_mask: Array
    """bool `[L]`: True on real tokens."""


class Batch(NamedTuple):
    """A training example: unbatched from the codec, with a leading batch axis in the model."""

    inputs: ModelInput
    actions: Array
    """float32 `[T, D]`: normalized, zero-padded to the model's width."""

    action_dims: Array
    """bool `[D]`: True on dimensions that the robot has. The loss is taken over these alone."""

    action_steps: Array
    """bool `[T]`: True on steps before the end of the episode. The loss is taken over these alone."""


@attrs.frozen(kw_only=True)
class ModelSpec:
    """What the codec must know about a model: the shape of its inputs and outputs."""

    image_slots: tuple[str, ...]
    """Names of the camera slots, in the order of the sequence."""

    image_size: tuple[int, int] = (224, 224)
    """`(height, width)` that images are resized to, with padding."""

    action_dim: int = 32
    """Width of state and actions inside the model; a robot's own are zero-padded to it."""

    horizon: int = 50
    """Number of actions in a chunk."""

    max_tokens: int = 200
    """Longest prompt, in tokens."""

    prompt_style: str = "pi05"
    """How state and task become text: a key of `fla_sdk.prompts.STYLES`."""

    normalization: str = "quantile"
    """`quantile` (1st and 99th percentile to -1 and 1) or `zscore`."""

    serving_dtype: str = "float32"
    """Type that parameters are converted to when a policy is loaded; openpi serves in `bfloat16`."""


class Tokenizer(Protocol):
    """Text to token ids."""

    def encode(self, text: str, *, bos: bool = False, eos: bool = False) -> Sequence[int]:
        """Ids of `text`, with the begin and end marks when asked for."""
        ...


class ActionModel(Protocol):
    """A Flax NNX module that learns from batches and answers with action chunks."""

    def loss(self, rng: Array, batch: Batch) -> Array:
        """Per-step losses, float32 `[B, T]`, already averaged over the robot's own action dimensions.

        Steps past the end of an episode are not masked here: the trainer weighs steps by `batch.action_steps`.
        """
        ...

    def sample(
        self,
        rng: Array,
        inputs: ModelInput,
        *,
        steps: int = 10,
        noise: Array | None = None,
        prefix: Array | None = None,
        guidance: float | None = None,
    ) -> Array:
        """Action chunks, float32 `[B, T, D]`, normalized.

        `steps` is the number of denoising steps; `noise` `[B, T, D]` replaces the draw from `rng`. `prefix` (actions
        already committed) and `guidance` are for models that support them; others raise `NotImplementedError`.
        """
        ...
