"""What a Pi0 or Pi0.5 model promises whatever its weights: padding, absent cameras and bad input."""

import functools
from typing import Any

import attrs
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from fla_models import parameters
from fla_models.configs import SiglipConfig, variants
from fla_models.pi0 import Pi0
from fla_sdk.errors import CheckpointError, ConfigError, ObservationError
from fla_sdk.model import Batch, ModelInput

QUICK = {"xla_backend_optimization_level": 0}


@pytest.fixture(scope="module", params=[False, True], ids=["pi0", "pi05"])
def model(request: pytest.FixtureRequest, small: Any) -> Pi0:
    return small.model(small.config(pi05=request.param))


def _both_verbs(model: Pi0, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
    graph, state = nnx.split(model)
    rng = jax.random.key(0)

    def run(state: Any, batch: Batch) -> tuple[jax.Array, jax.Array]:
        model = nnx.merge(graph, state)
        return model.loss(rng, batch).steps, model.sample(rng, batch.inputs, steps=2)

    loss, actions = jax.jit(run, compiler_options=QUICK)(state, batch)
    return np.asarray(loss), np.asarray(actions)


def _assert_same(ours: tuple[np.ndarray, ...], theirs: tuple[np.ndarray, ...]) -> None:
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5)


def test_shapes_and_dtypes(model: Pi0, small: Any) -> None:
    loss, actions = _both_verbs(model, small.batch())
    assert loss.shape == (2, 3) and loss.dtype == np.float32
    assert actions.shape == (2, 3, small.actions) and actions.dtype == np.float32


def test_absent_camera_equals_masked_camera(model: Pi0, small: Any) -> None:
    full = small.batch()
    other = small.slots[1]
    masked = full.inputs._replace(image_masks={small.slots[0]: np.ones(2, bool), other: np.zeros(2, bool)})
    absent = small.batch(slots=small.slots[:1]).inputs._replace(
        images={small.slots[0]: full.inputs.images[small.slots[0]]}, tokens=full.inputs.tokens, state=full.inputs.state
    )
    ours = _both_verbs(model, full._replace(inputs=absent))
    _assert_same(ours, _both_verbs(model, full._replace(inputs=masked)))
    with pytest.raises(AssertionError):  # the camera does matter where it is there
        _assert_same(ours, _both_verbs(model, full))


def test_no_camera_at_all(model: Pi0, small: Any) -> None:
    full = small.batch()
    none = full._replace(inputs=full.inputs._replace(images={}, image_masks={}))
    masks = {slot: np.zeros(2, bool) for slot in small.slots}
    masked = full._replace(inputs=full.inputs._replace(image_masks=masks))
    _assert_same(_both_verbs(model, none), _both_verbs(model, masked))


def test_order_of_the_images_mapping_does_not_matter(model: Pi0, small: Any) -> None:
    batch = small.batch()
    inputs = batch.inputs
    backwards = inputs._replace(images={slot: inputs.images[slot] for slot in reversed(small.slots)})
    embed = model.PaliGemma.embed
    np.testing.assert_array_equal(embed(inputs).tokens, embed(backwards).tokens)


def test_prompt_padding_changes_nothing(model: Pi0, small: Any) -> None:
    batch = small.batch()
    inputs = batch.inputs
    padded = inputs._replace(
        tokens=np.pad(inputs.tokens, ((0, 0), (0, 3)), constant_values=7),
        token_mask=np.pad(inputs.token_mask, ((0, 0), (0, 3))),
    )
    _assert_same(_both_verbs(model, batch), _both_verbs(model, batch._replace(inputs=padded)))


def test_loss_ignores_targets_of_dimensions_the_robot_lacks(model: Pi0, small: Any) -> None:
    batch = small.batch()
    own = np.array([[True, True, False, False], [True] * 4])
    noise, time = jnp.zeros(batch.actions.shape), jnp.ones(2)  # at time 1 the actions are targets only
    changed = batch.actions + np.where(own, 0, 5)[:, None, :].astype(np.float32)
    ours = model.loss_at(batch._replace(action_dims=own), noise=noise, time=time).steps
    theirs = model.loss_at(batch._replace(action_dims=own, actions=changed), noise=noise, time=time).steps
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    everything = model.loss_at(batch, noise=noise, time=time).steps
    assert not np.allclose(everything[0], ours[0])
    np.testing.assert_allclose(everything[1], ours[1], rtol=1e-6)


def test_loss_does_not_depend_on_the_padding_width(model: Pi0, small: Any) -> None:
    wide_config = attrs.evolve(model.config, action_dim=small.actions + 3)
    wide = small.abstract(wide_config)
    leaves = parameters.flatten(model)
    shapes = {path: leaf.shape for path, leaf in parameters.flatten(wide).items()}
    parameters.assign(
        wide,
        {p: jnp.pad(v, [(0, n - m) for n, m in zip(shapes[p], v.shape, strict=True)]) for p, v in leaves.items()},
    )
    batch = small.batch()
    padding = ((0, 0), (0, 0), (0, 3))
    padded = Batch(
        batch.inputs._replace(state=np.pad(batch.inputs.state, padding[1:])),
        np.pad(batch.actions, padding),
        np.pad(batch.action_dims, padding[1:]),
        batch.action_steps,
    )
    numbers = np.random.default_rng(2)
    noise = jnp.asarray(numbers.standard_normal((2, 3, small.actions + 3), np.float32))
    time = jnp.array([0.3, 0.9])
    narrow = model.loss_at(batch, noise=noise[..., : small.actions], time=time).steps
    np.testing.assert_allclose(wide.loss_at(padded, noise=noise, time=time).steps, narrow, rtol=2e-5)


def test_sample_depends_on_state_only_in_pi0(model: Pi0, small: Any) -> None:
    batch = small.batch()
    moved = batch.inputs._replace(state=batch.inputs.state + 1)
    _, ours = _both_verbs(model, batch)
    _, theirs = _both_verbs(model, batch._replace(inputs=moved))
    assert np.allclose(ours, theirs) == model.config.pi05


@pytest.mark.parametrize("remat", ["cheap", "all"])
def test_scanned_and_unrolled_layers_agree(model: Pi0, small: Any, remat: Any) -> None:
    unrolled = small.abstract(attrs.evolve(model.config, unroll=True, remat=remat))
    parameters.assign(unrolled, parameters.flatten(model))
    _assert_same(_both_verbs(model, small.batch()), _both_verbs(unrolled, small.batch()))


def test_images_are_checked(model: Pi0, small: Any) -> None:
    batch = small.batch()
    image = batch.inputs.images[small.slots[0]]
    for images, message in (
        ({small.slots[0]: np.zeros((2, 8, 8, 1), np.uint8)}, r"\(2, 8, 8, 1\).*\[B, H, W, 3\].*8, 8"),
        ({small.slots[0]: image[0]}, r"\(8, 8, 3\)"),
        ({"base_0_rbg": image}, "'base_0_rbg'.*did you mean 'base_0_rgb'"),
    ):
        with pytest.raises(ObservationError, match=message):
            model.loss(jax.random.key(0), batch._replace(inputs=batch.inputs._replace(images=images)))


def test_what_sample_refuses(model: Pi0, small: Any) -> None:
    inputs = small.batch().inputs
    with pytest.raises(ConfigError, match="at least one step"):
        model.sample(jax.random.key(0), inputs, steps=0)
    with pytest.raises(ConfigError, match="says how good its actions are"):
        model.sample(jax.random.key(0), inputs, guidance=2.0)


def test_wrong_parameters_are_named_and_nothing_changes(model: Pi0) -> None:
    before = {path: np.asarray(leaf) for path, leaf in parameters.flatten(model).items()}
    values = dict(before)
    values["action_in_proj/kernal"] = values.pop("action_in_proj/kernel")
    values["action_out_proj/bias"] = np.zeros(9, np.float32)
    with pytest.raises(CheckpointError) as caught:
        parameters.assign(model, values)
    message = str(caught.value)
    assert "missing action_in_proj/kernel (4, 12)" in message
    assert "unexpected action_in_proj/kernal (did you mean action_in_proj/kernel?)" in message
    assert "action_out_proj/bias: (9,) in the checkpoint, (4,) in the model" in message
    for path, leaf in parameters.flatten(model).items():
        np.testing.assert_array_equal(leaf, before[path])


@pytest.mark.parametrize("pi05", [False, True])
def test_tiny_learns_from_scratch(pi05: bool, small: Any) -> None:
    """Every parameter that can matter gets a gradient within two steps, and a batch can be fitted."""
    config = attrs.evolve(
        variants(pi05=pi05)["tiny"],
        vision=SiglipConfig(width=16, depth=1, mlp_dim=24, heads=2, patch=32),
        language=small.gemma,
        expert=small.gemma,
    )
    model = nnx.jit(lambda: Pi0(config, rngs=nnx.Rngs(0)))()
    numbers = np.random.default_rng(0)
    inputs = ModelInput(
        images={"base_0_rgb": numbers.integers(0, 256, (4, 64, 64, 3), np.uint8)},
        image_masks={"base_0_rgb": np.ones(4, bool)},
        state=numbers.standard_normal((4, config.action_dim), np.float32),
        tokens=np.full((4, 4), 9, np.int32),
        token_mask=np.ones((4, 4), bool),
    )
    actions = numbers.standard_normal((4, config.horizon, config.action_dim), np.float32)
    batch = Batch(inputs, actions, np.ones((4, config.action_dim), bool), np.ones((4, config.horizon), bool))
    graph, state = nnx.split(model)

    @functools.partial(jax.jit, compiler_options=QUICK)
    def step(state: Any, rng: jax.Array) -> tuple[jax.Array, Any, Any]:
        loss, grads = jax.value_and_grad(lambda s: nnx.merge(graph, s).loss(rng, batch).steps.mean())(state)
        return loss, jax.tree.map(lambda p, g: p - 0.05 * g, state, grads), grads

    rng = jax.random.key(0)
    first, state, _ = step(state, rng)
    for _ in range(30):
        _, state, _ = step(state, rng)
    loss, state, grads = step(state, rng)
    assert loss < 0.8 * first
    norms = {path: float(jnp.linalg.norm(g)) for path, g in parameters.flatten(nnx.merge(graph, grads)).items()}
    idle = {path for path, norm in norms.items() if norm == 0}
    # What the language model puts out after its last attention reaches no action.
    assert idle == {"PaliGemma/llm/final_norm/scale"}


def test_a_black_slot_is_never_empty(small: Any) -> None:
    first, second = small.slots
    config = small.config(pi05=True)
    model, black = small.model(config), small.model(attrs.evolve(config, black_slots=(second,)))
    full = small.batch()
    alone = full._replace(inputs=full.inputs._replace(images={first: full.inputs.images[first]}))
    shown = {first: full.inputs.images[first], second: np.zeros_like(full.inputs.images[second])}
    _assert_same(
        _both_verbs(black, alone), _both_verbs(model, full._replace(inputs=full.inputs._replace(images=shown)))
    )
    # A camera of one row leaves the other rows black.
    half = {first: np.ones(2, bool), second: np.array([True, False])}
    mixed = np.array(full.inputs.images[second])
    mixed[1] = 0
    shown[second] = mixed
    _assert_same(
        _both_verbs(black, full._replace(inputs=full.inputs._replace(image_masks=half))),
        _both_verbs(model, full._replace(inputs=full.inputs._replace(images=shown))),
    )
    with pytest.raises(ConfigError, match="black_slots has front"):
        attrs.evolve(config, black_slots=("front",))
