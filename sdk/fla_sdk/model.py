"""What a model is to the rest of the SDK: its spec, its inputs, and two verbs.

Nothing here imports jax: the containers are NamedTuples, which JAX treats as pytrees, and their leaves are numpy
arrays until they reach the device.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import attrs
import numpy as np

from fla_sdk.errors import ObservationError

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

    token_ar: Array | None = None
    """bool `[L]`: True on tokens that spell actions. Each of them sees the prompt and those before it, and the prompt
    sees none of them. None where there are none: always when a chunk is to be sampled."""

    indicator: Array | None = None
    """bool `[L]`: True on tokens that say how good the actions are (`Advantage: positive`). Masking them out gives the
    unconditioned prompt. None where the prompt does not say."""


class Batch(NamedTuple):
    """A training example: unbatched from the codec, with a leading batch axis in the model."""

    inputs: ModelInput
    actions: Array
    """float32 `[T, D]`: normalized, zero-padded to the model's width."""

    action_dims: Array
    """bool `[D]`: True on dimensions that the robot has. The loss is taken over these alone."""

    action_steps: Array
    """bool `[T]`: True on steps before the end of the episode. The loss is taken over these alone."""

    token_loss: Array | None = None
    """bool `[L]`: True on tokens that the model is taught to write. None for models that write none."""

    returns: Array | None = None
    """float32 `[]`: the sample's return, for models that judge. None where it is not known."""

    origin: Array | None = None
    """int32 `[2]`: which part of the mixture, and which row of its dataset. For reports; no model looks at it."""


class Losses(NamedTuple):
    """How far a model is from the actions it was shown."""

    steps: Array
    """float32 `[B, T]`: what is minimised, already averaged over the robot's own action dimensions. Steps past the end
    of an episode are not masked: the trainer weighs steps by `Batch.action_steps`."""

    dims: Array | None = None
    """float32 `[B, D]`: the same by action dimension, averaged over steps, for reports; None where there is no such."""


class Rows(NamedTuple):
    """Which rows of a whole batch a part of it is.

    Random numbers are drawn for the whole and cut, so that a batch in parts teaches what it would at once.
    """

    index: Array
    """int32 `[B]`."""

    total: int


class ActionPrefix(NamedTuple):
    """The rest of the chunk that a robot executes while the next one is computed (real-time chunking)."""

    actions: Array
    """float32 `[B, T, D]`, normalized as the model predicts them: the actions not yet executed when the observation was
    taken, first things first, padded at the end."""

    delay: Array
    """int32 `[B]`: how many of them will have been executed when the new chunk arrives (`d` in arXiv:2506.07339)."""

    length: Array
    """int32 `[B]`: how many of them are real; the chunk's horizon less the execution horizon (`H - s`)."""


def action_prefix(rest: Array, *, delay: int, horizon: int) -> ActionPrefix:
    """The prefix for a batch of one: `rest` `[n, D]`, normalized, is what was left of the old chunk.

    With `n` left of a chunk of `horizon`, `s = horizon - n` were executed, and the next chunk is executed as long.
    Raises `ObservationError` unless `delay <= s` and `delay <= n` (arXiv:2506.07339, section 3).
    """
    left, executed = rest.shape[0], horizon - rest.shape[0]
    if not 0 <= delay <= min(left, executed):
        raise ObservationError(
            f"a delay of {delay} steps does not fit a chunk of {horizon} of which {left} are left: it must be at most "
            f"{left}, what is left, and at most {executed}, what was executed; execute more of each chunk, or less"
        )
    actions = np.zeros((1, horizon, rest.shape[1]), np.float32)
    actions[0, :left] = rest
    return ActionPrefix(actions, np.array([delay], np.int32), np.array([left], np.int32))


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

    action_tokens: Literal["none", "taught", "sampled"] = "none"
    """Actions as text: `none`; `taught` in training beside another way to act (knowledge insulation); or what the model
    answers with (`sampled`, Pi0-FAST), to be decoded by the tokenizer."""

    serving_dtype: str = "float32"
    """Type that parameters are converted to when a policy is loaded; openpi serves in `bfloat16`."""


class Tokenizer(Protocol):
    """Text to token ids."""

    def encode(self, text: str, *, bos: bool = False, eos: bool = False) -> Sequence[int]:
        """Ids of `text`, with the begin and end marks when asked for."""
        ...


class ActionTokenizer(Tokenizer, Protocol):
    """A tokenizer that also spells action chunks; what models with `action_tokens` need."""

    def encode_actions(self, actions: Array) -> Sequence[int]:
        """Ids of a normalized chunk `[T, A]`, in the vocabulary of the text, without marks around them."""
        ...

    def decode_actions(self, ids: Sequence[int], *, horizon: int, width: int) -> Array:
        """The inverse: `[horizon, width]`. Raises `ActionTokenError` when the ids spell no such chunk."""
        ...


class ActionModel(Protocol):
    """A Flax NNX module that learns from batches and answers with action chunks."""

    def loss(self, rng: Array, batch: Batch, *, train: bool = True, rows: Rows | None = None) -> Losses:
        """How far the model is from the batch's actions.

        `train=False` measures: nothing of the inputs is disturbed or hidden, so that losses of the same `rng` compare.
        `rows` is given where `batch` is part of a larger one.
        """
        ...

    def sample(
        self,
        rng: Array,
        inputs: ModelInput,
        *,
        steps: int = 10,
        noise: Array | None = None,
        prefix: ActionPrefix | None = None,
        guidance: Array | float | None = None,
    ) -> Array:
        """Action chunks, float32 `[B, T, D]`, normalized; token ids `[B, M]` where `action_tokens` is `sampled`.

        `steps` is the number of denoising steps; `noise` `[B, T, D]` replaces the draw from `rng`. `prefix` is what is
        left of the chunk that the robot executes now. `guidance` is the weight of classifier-free guidance towards the
        prompt's indicator, one for all or `[B, 1, 1]`: 1 follows the prompt as it is. A model raises `ConfigError` for
        what it cannot do.
        """
        ...


@runtime_checkable
class FlowModel(ActionModel, Protocol):
    """A model that denoises chunks by a velocity, which two models can be compared by."""

    def velocities(self, rng: Array, batch: Batch, *, train: bool = True, rows: Rows | None = None) -> Array:
        """float32 `[R, T, D]`: the velocity at the noise and times that `loss` draws from the same `rng`.

        The draws of one sample follow each other.
        """
        ...
