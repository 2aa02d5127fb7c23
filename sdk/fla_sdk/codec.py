"""`Codec`: the only path between a robot's terms and a model's, in both directions.

Training, evaluation, serving and the conformance kit use this same object, so there is no second path to drift:

    Sample -> convert -> relative actions -> normalize -> prompt to tokens -> pad -> ModelInput / Batch
    robot actions <- convert back <- absolute actions <- unnormalize <- cut <- model output
"""

from collections.abc import Collection, Sequence
from typing import Any, cast

import attrs
import numpy as np
from numpy.typing import NDArray

from fla_sdk import prompts, transforms
from fla_sdk.embodiment import Embodiment
from fla_sdk.errors import ConfigError, DataError, StatsError, nearest
from fla_sdk.model import ActionTokenizer, Batch, ModelInput, ModelSpec, Tokenizer
from fla_sdk.normalization import NormStats, normalize, unnormalize
from fla_sdk.sample import PendingImage, Sample

Floats = NDArray[np.floating]


@attrs.frozen(kw_only=True, eq=False)
class Codec:
    """Embodiment x ModelSpec x NormStats. Raises when the three do not fit each other, before any work starts."""

    embodiment: Embodiment
    spec: ModelSpec
    stats: NormStats
    tokenizer: Tokenizer
    _relative: NDArray[np.int64] = attrs.field(
        init=False, default=attrs.Factory(lambda self: self.embodiment.relative_to(), takes_self=True)
    )

    def __attrs_post_init__(self) -> None:
        check_fit(self.embodiment, self.spec)
        if self.spec.action_tokens != "none" and not hasattr(self.tokenizer, "encode_actions"):
            raise ConfigError(
                f"the model writes actions as tokens (action_tokens is {self.spec.action_tokens!r}), but "
                f"{type(self.tokenizer).__name__} has no encode_actions; set action_tokenizer in the model config"
            )
        for kind, space, stats in (
            ("state", self.embodiment.state, self.stats.state),
            ("actions", self.embodiment.action, self.stats.actions),
        ):
            if stats.width < space.width:
                raise StatsError(
                    f"{self.embodiment.name}: statistics of {kind} have {stats.width} dimensions, the embodiment has "
                    f"{space.width} ({', '.join(space.names)}); they were computed for another robot"
                )

    def encode(self, sample: Sample) -> ModelInput:
        """What the model sees of `sample` before it acts; leaves are unbatched numpy arrays."""
        return self._inputs(sample, None)

    def encode_example(self, sample: Sample) -> Batch:
        """A training example: `encode` and the actions `[T, A]`, with masks over padded dimensions and steps.

        For models that are taught to write actions, the tokens of these follow the prompt.
        """
        if sample.actions is None:
            raise DataError(f"{self.embodiment.name}: a training sample needs actions, this one has none")
        steps, width = sample.actions.shape
        if (steps, width) != (self.spec.horizon, self.embodiment.action.width):
            raise DataError(
                f"{self.embodiment.name}: actions must be [{self.spec.horizon}, {self.embodiment.action.width}] "
                f"(horizon of the model, width of the embodiment), got [{steps}, {width}]"
            )
        is_pad = np.zeros(steps, np.bool_) if sample.actions_is_pad is None else sample.actions_is_pad
        codes = None
        if self.spec.action_tokens != "none":
            codes = self._speller.encode_actions(self._known_actions(sample.actions, sample.state))
        inputs = self._inputs(sample, codes)
        return Batch(
            inputs=inputs,
            actions=self.encode_actions(sample.actions, sample.state),
            action_dims=np.arange(self.spec.action_dim) < width,
            action_steps=~is_pad,
            token_loss=inputs.token_ar,
            returns=None if sample.returns is None else np.float32(sample.returns),
        )

    def encode_actions(self, actions: Floats, state: Floats) -> Floats:
        """`[T, A]` in the embodiment's units at `state` `[S]` -> float32 `[T, D]` as the model predicts them."""
        return transforms.pad(self._known_actions(actions, state), self.spec.action_dim).astype(np.float32)

    def model_actions(self, actions: Floats, state: Floats) -> Floats:
        """Converted and relative, but not yet normalized: what action statistics are computed from."""
        return model_actions(self.embodiment, actions, state)

    def decode(self, output: NDArray[Any], state: Floats) -> Floats:
        """Model output at the observation's `state` `[S]` -> actions `[T, A]` in the embodiment's units.

        The output is `[T, D]`; or the ids `[M]` that a model answered with, 0 after their end: raises
        `ActionTokenError` when they spell no chunk (openpi answers with a chunk of zeros).
        """
        output, width = np.asarray(output), self.embodiment.action.width
        if self.spec.action_tokens == "sampled" and output.ndim == 1:
            output = self._spelt_actions([int(one) for one in np.trim_zeros(output, "b")])
        known = unnormalize(output[..., :width], self.stats.actions, self.spec.normalization)
        known = transforms.absolute(known, self._model_state(state), self._relative)
        conversion = self.embodiment.conversion
        return known if conversion is None else conversion.actions_from_model(known)

    def prompt(self, sample: Sample) -> str:
        """The text that the model is given with `sample`, without what it answers."""
        wording = self._wording(sample, self._known_state(sample.state))
        return "".join((*wording.prompt, wording.cue))

    def _inputs(self, sample: Sample, codes: Sequence[int] | None) -> ModelInput:
        state = self._known_state(sample.state)
        images = {
            camera.slot: _fitted(sample.images[camera.name], self.spec.image_size)
            for camera in self.embodiment.cameras
            if camera.slot is not None and camera.name in sample.images
        }
        wording = self._wording(sample, state)
        prompt = prompts.write(self.tokenizer, wording, advantage=sample.advantage, codes=codes)
        what = "the prompt" if codes is None else f"the prompt with {len(codes)} tokens of actions"
        tokens, token_mask = prompts.pad_tokens(prompt.ids, max_tokens=self.spec.max_tokens, what=what)
        return ModelInput(
            images=images,
            image_masks=dict.fromkeys(images, np.True_),
            state=transforms.pad(state, self.spec.action_dim).astype(np.float32),
            tokens=tokens,
            token_mask=token_mask,
            token_ar=None if codes is None else _within(prompt.answer, len(tokens)),
            indicator=None if sample.advantage is None else _within(prompt.indicator, len(tokens)),
        )

    def _wording(self, sample: Sample, state: Floats) -> prompts.Wording:
        text = self.embodiment.prompt.replace("{task}", sample.task)
        return prompts.STYLES[self.spec.prompt_style](text, state)

    def _known_state(self, state: Floats) -> Floats:
        """`[S]`, converted and normalized."""
        return normalize(self._model_state(state), self.stats.state, self.spec.normalization)

    def _known_actions(self, actions: Floats, state: Floats) -> Floats:
        """`[T, A]`, converted, relative and normalized."""
        return normalize(self.model_actions(actions, state), self.stats.actions, self.spec.normalization)

    def _spelt_actions(self, ids: list[int]) -> Floats:
        wording = prompts.STYLES[self.spec.prompt_style]("", np.zeros(0))
        codes = prompts.read(self.tokenizer, wording, ids)
        return self._speller.decode_actions(codes, horizon=self.spec.horizon, width=self.embodiment.action.width)

    @property
    def _speller(self) -> ActionTokenizer:
        return cast(ActionTokenizer, self.tokenizer)

    def _model_state(self, state: Floats) -> Floats:
        return model_state(self.embodiment, state)


def _fitted(image: NDArray[np.uint8] | PendingImage, size: tuple[int, int]) -> NDArray[np.uint8] | PendingImage:
    if isinstance(image, PendingImage):
        if image.shape[:2] == size:
            return image
        image = image.decoded()
    return transforms.resize_with_pad(image, *size)


def _within(places: range, length: int) -> NDArray[np.bool_]:
    """`[length]`: True at `places`."""
    index = np.arange(length)
    return (index >= places.start) & (index < places.stop)


def model_state(embodiment: Embodiment, state: Floats) -> Floats:
    """States `[..., S]` in the model's convention, not yet normalized: what state statistics are computed from."""
    return state if embodiment.conversion is None else embodiment.conversion.state_to_model(state)


def model_actions(embodiment: Embodiment, actions: Floats, state: Floats) -> Floats:
    """Actions `[..., T, A]` at states `[..., S]`, converted and relative, not yet normalized."""
    if embodiment.conversion is not None:
        actions = embodiment.conversion.actions_to_model(actions)
    return transforms.relative(actions, model_state(embodiment, state), embodiment.relative_to())


def check_fit(embodiment: Embodiment, spec: ModelSpec) -> None:
    """Raise `ConfigError` when the model has no room for the robot's dimensions or no slot for its cameras."""
    for kind, space in (("state", embodiment.state), ("action", embodiment.action)):
        if space.width > spec.action_dim:
            raise ConfigError(
                f"embodiment {embodiment.name!r} has {space.width} {kind} dimensions ({', '.join(space.names)}), the "
                f"model has room for {spec.action_dim}; set a larger action_dim in the model config"
            )
    for camera in embodiment.cameras:
        if camera.slot is not None and camera.slot not in spec.image_slots:
            hint = f"; did you mean {close!r}?" if (close := nearest(camera.slot, spec.image_slots)) else ""
            raise ConfigError(
                f"embodiment {embodiment.name!r}: camera {camera.name!r} goes to slot {camera.slot!r}, which the model "
                f"does not have{hint} (slots: {', '.join(spec.image_slots)})"
            )
    if spec.prompt_style not in prompts.STYLES:
        raise ConfigError(f"unknown prompt style {spec.prompt_style!r} (known: {', '.join(prompts.STYLES)})")


def collate(examples: Sequence[Batch], *, slots: Collection[str] = (), size: tuple[int, int] = (0, 0)) -> Batch:
    """Stack examples along a new first axis. A slot that only some of them fill is masked out in the others.

    `slots` are there in any case, with images of `size` `(height, width)`.
    """
    inputs = collate_inputs([example.inputs for example in examples], slots=slots, size=size)
    return Batch(
        inputs=inputs,
        actions=np.stack([example.actions for example in examples]),
        action_dims=np.stack([example.action_dims for example in examples]),
        action_steps=np.stack([example.action_steps for example in examples]),
        token_loss=_stack_masks([example.token_loss for example in examples], inputs.tokens.shape[-1]),
        returns=_stack_returns([example.returns for example in examples]),
        origin=_stack_known([example.origin for example in examples]),
    )


def collate_inputs(
    inputs: Sequence[ModelInput], *, slots: Collection[str] = (), size: tuple[int, int] = (0, 0), length: int = 0
) -> ModelInput:
    """Stack model inputs along a new first axis; `slots` as in `collate`.

    Prompts are padded to the longest among them, or to `length` if that is longer.
    """
    shapes = dict.fromkeys(slots, (*size, 3)) | {slot: one.images[slot].shape for one in inputs for slot in one.images}
    slots = sorted(shapes)
    length = max(length, *(one.tokens.shape[-1] for one in inputs))
    return ModelInput(
        images={s: _stack_images([one.images.get(s) for one in inputs], shapes[s]) for s in slots},
        image_masks={s: np.array([bool(one.image_masks.get(s, False)) for one in inputs]) for s in slots},
        state=np.stack([one.state for one in inputs]),
        tokens=np.stack([transforms.pad(one.tokens, length) for one in inputs]),
        token_mask=_stack_masks([one.token_mask for one in inputs], length),
        token_ar=_stack_masks([one.token_ar for one in inputs], length),
        indicator=_stack_masks([one.indicator for one in inputs], length),
    )


def _stack_images(images: Sequence[NDArray[np.uint8] | PendingImage | None], shape: Sequence[int]) -> NDArray[np.uint8]:
    """`[B, H, W, 3]`, zeros where there is none."""
    stacked = np.empty((len(images), *shape), np.uint8)
    for place, image in zip(stacked, images, strict=True):
        if isinstance(image, PendingImage):
            image.into(place)
        else:
            place[...] = 0 if image is None else image
    return stacked


def _stack_masks(masks: Sequence[NDArray[np.bool_] | None], length: int) -> NDArray[np.bool_] | None:
    """`[B, length]`, False where there is none; None when none has any."""
    if all(mask is None for mask in masks):
        return None
    known = [np.zeros(0, np.bool_) if mask is None else mask for mask in masks]
    return np.stack([transforms.pad(mask, length) for mask in known])


def _stack_known(arrays: Sequence[NDArray[Any] | None]) -> NDArray[Any] | None:
    """None when any is unknown."""
    known = [one for one in arrays if one is not None]
    return np.stack(known) if len(known) == len(arrays) else None


def _stack_returns(returns: Sequence[np.float32 | None]) -> NDArray[np.float32] | None:
    known = [one for one in returns if one is not None]
    if known and len(known) < len(returns):
        raise DataError(
            f"{len(known)} samples of a batch have a return, {len(returns) - len(known)} have none: leave out datasets "
            "without returns, or add them"
        )
    return np.stack(known) if known else None
