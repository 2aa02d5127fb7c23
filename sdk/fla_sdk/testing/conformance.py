"""`check_embodiment`: what every embodiment promises, as checks that say how to keep the promise."""

import json
from collections.abc import Callable
from typing import TypeVar

import attrs
import numpy as np
from numpy.typing import NDArray

from fla_sdk.codec import Codec, model_actions, model_state
from fla_sdk.embodiment import Embodiment
from fla_sdk.errors import FlaError
from fla_sdk.model import ModelSpec
from fla_sdk.normalization import NormStats, Stats
from fla_sdk.sample import Sample
from fla_sdk.serving.hello import describe
from fla_sdk.space import Space
from fla_sdk.testing.motion import random_vectors
from fla_sdk.testing.tokenizer import CharacterTokenizer

Floats = NDArray[np.floating]
Number = TypeVar("Number", bound=np.generic)

SLOTS = ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")
"""Image slots of pi0 and pi0.5."""

TOLERANCE = 1e-4
"""Largest error of a way there and back, relative to the range of a dimension; float32 in between costs about 1e-6."""

ROWS = 64


def check_embodiment(embodiment: Embodiment, *, spec: ModelSpec | None = None, seed: int = 0) -> None:
    """Raise `AssertionError` with what to mend when a robot's description breaks a promise; None when all is well.

    `spec` is the model it shall fit: by default one like pi0.5 base, widened when the robot needs more than its 32
    dimensions. Checked: example observations are accepted and complete, the conversion is invertible and writes to none
    of its inputs, relative actions are 0 where the robot stays, actions survive the codec, and the description is JSON.
    """
    width = max(32, embodiment.state.width, embodiment.action.width)
    spec = spec or ModelSpec(image_slots=SLOTS, image_size=(64, 64), action_dim=width, horizon=8, max_tokens=100_000)
    _check_observation(embodiment, seed)
    if embodiment.conversion is not None:
        _check_conversion(embodiment, seed)
    _check_relative(embodiment, seed)
    for normalization in ("quantile", "zscore"):
        _check_codec(embodiment, spec, normalization, seed)
    _check_description(embodiment)


def _promise(kept: bool, embodiment: Embodiment, advice: str) -> None:
    # Not an `assert` statement: those are gone under `python -O`, and pytest rewrites only the vendor's own module.
    if not kept:
        raise AssertionError(f"embodiment {embodiment.name!r}: {advice}")


def _check_observation(embodiment: Embodiment, seed: int) -> None:
    observation = embodiment.example_observation(seed)
    nested = {"images": {key.split("/", 1)[1]: v for key, v in observation.items() if key.startswith("images/")}}
    nested |= {key: value for key, value in observation.items() if not key.startswith("images/")}
    for form, one in (("flat", observation), ("nested", nested)):
        try:
            sample = embodiment.observe(one)
        except FlaError as error:
            raise AssertionError(
                f"embodiment {embodiment.name!r}: its own example_observation() is refused in {form} form: {error}"
            ) from error
        _promise(
            set(sample.images) == {camera.name for camera in embodiment.cameras},
            embodiment,
            f"the cameras {sorted(sample.images)} were found in the {form} example, "
            f"{[c.name for c in embodiment.cameras]} are declared; do the aliases of two cameras overlap?",
        )
        _promise(
            np.array_equal(sample.state, observation["state"]),
            embodiment,
            f"the state of the {form} example arrives changed; do the aliases name another key of the observation?",
        )


def _check_relative(embodiment: Embodiment, seed: int) -> None:
    """Where a robot is told to stay, relative actions are 0: the conversion must treat both sides alike."""
    index: list[int] = embodiment.relative_to().tolist()
    states = random_vectors(embodiment.state, ROWS, seed=seed)
    actions = random_vectors(embodiment.action, ROWS, seed=seed + 1)
    for dimension, place in enumerate(index):
        if place >= 0:
            actions[:, dimension] = states[:, place]
    steps = model_actions(embodiment, actions[:, None], states)[:, 0]
    for dimension, name in enumerate(embodiment.action.names):
        apart = float(np.abs(steps[:, dimension]).max())
        _promise(
            index[dimension] < 0 or apart < 1e-5,
            embodiment,
            f"{name!r} is predicted relative to the state, but where action and state are equal the model sees a step "
            f"of {apart:.3g}; state_to_model and actions_to_model must convert this dimension alike",
        )


def _check_conversion(embodiment: Embodiment, seed: int) -> None:
    conversion = embodiment.conversion
    assert conversion is not None
    states = random_vectors(embodiment.state, ROWS, seed=seed)
    actions = random_vectors(embodiment.action, ROWS, seed=seed + 1)
    _converted(embodiment, "state_to_model", conversion.state_to_model, states, embodiment.state)
    there = _converted(embodiment, "actions_to_model", conversion.actions_to_model, actions, embodiment.action)
    back = _converted(embodiment, "actions_from_model", conversion.actions_from_model, there, embodiment.action)
    _check_close(embodiment, back, actions, "actions_from_model(actions_to_model(a)) must be a")


def _converted(
    embodiment: Embodiment, name: str, function: Callable[[Floats], Floats], vectors: Floats, space: Space
) -> Floats:
    """`function(vectors)`, having checked that it leaves them alone, keeps their shape and takes any leading axes."""
    given = _frozen(vectors)
    try:
        result = function(given)
    except ValueError as error:
        if "read-only" not in str(error):
            raise
        raise AssertionError(
            f"embodiment {embodiment.name!r}: {name} writes to its input, which may be a column of a dataset; "
            "work on a copy, such as `vectors = vectors.copy()`"
        ) from error
    _promise(
        result.shape == vectors.shape,
        embodiment,
        f"{name} returned shape {result.shape} for {vectors.shape}; it must keep [..., {space.width}]",
    )
    wild = ", ".join(name for i, name in enumerate(space.names) if not np.isfinite(result[:, i]).all())
    _promise(not wild, embodiment, f"{name} is not finite for vectors within the limits, in {wild}")
    for shape in ((space.width,), (2, -1, space.width)):
        part = _frozen(vectors[0] if len(shape) == 1 else vectors.reshape(shape))
        expected = result[0] if len(shape) == 1 else result.reshape(part.shape)
        _promise(
            np.allclose(function(part), expected, rtol=1e-5, atol=1e-6),
            embodiment,
            f"{name} gives other numbers for vectors of shape {part.shape} than for {vectors.shape}; "
            "index the last axis as `vectors[..., i]`",
        )
    return result


def _check_codec(embodiment: Embodiment, spec: ModelSpec, normalization: str, seed: int) -> None:
    states = random_vectors(embodiment.state, ROWS, seed=seed)
    actions = random_vectors(embodiment.action, spec.horizon, seed=seed + 1)
    stats = NormStats(
        state=Stats.of(model_state(embodiment, states)),
        actions=Stats.of(model_actions(embodiment, np.broadcast_to(actions, (ROWS, *actions.shape)), states)[:, 0]),
    )
    codec = Codec(
        embodiment=embodiment,
        spec=attrs.evolve(spec, normalization=normalization),
        stats=stats,
        tokenizer=CharacterTokenizer(),
    )
    observed = embodiment.observe(embodiment.example_observation(seed))
    sample = Sample(
        images={name: _frozen(np.asarray(image)) for name, image in observed.images.items()},
        state=_frozen(states[0]),
        task=observed.task,
        actions=_frozen(actions),
    )
    batch = codec.encode_example(sample)
    used = {camera.slot for camera in embodiment.cameras if camera.slot is not None}
    _promise(
        set(batch.inputs.images) == used,
        embodiment,
        f"images reach the slots {sorted(batch.inputs.images)}, the cameras declare {sorted(used)}",
    )
    _promise(
        bool(np.isfinite(batch.inputs.state).all() and np.isfinite(batch.actions).all()),
        embodiment,
        "states or actions within the limits are not finite as the model sees them; look at the conversion",
    )
    back = codec.decode(batch.actions, states[0])
    _check_close(embodiment, back, actions, f"decode(encode(a)) must be a ({normalization} normalization)")


def _check_close(embodiment: Embodiment, back: Floats, actions: Floats, rule: str) -> None:
    for field, part in embodiment.action.slices():
        low, high = field.limits or (-1.0, 1.0)
        error = np.abs(np.asarray(back)[..., part] - actions[..., part]).max()
        _promise(
            bool(error <= TOLERANCE * (high - low)),
            embodiment,
            f"{rule}: {', '.join(field.names)} came back {error:.3g} {field.unit} off in {low:g} to {high:g}",
        )


def _check_description(embodiment: Embodiment) -> None:
    description = describe({embodiment.name: embodiment})
    try:
        again = json.loads(json.dumps(description))
    except (TypeError, ValueError) as error:
        raise AssertionError(
            f"embodiment {embodiment.name!r}: its description cannot be sent to clients: {error}; "
            "use plain strings and numbers for names, units and limits"
        ) from error
    _promise(again == description, embodiment, "its description changes on the way through JSON")


def _frozen(array: NDArray[Number]) -> NDArray[Number]:
    copy = array.copy()
    copy.flags.writeable = False
    return copy
