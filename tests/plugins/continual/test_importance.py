"""Fisher information and MAS: where they are known in closed form, and of a checkpoint."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fla_sdk as fla
from fla_plugins.continual import importance
from fla_plugins.continual.trained import open_trained
from fla_sdk.cli import main
from fla_sdk.errors import ConfigError, UnknownNameError
from fla_sdk.policy.checkpoint import read_importance


def test_fisher_of_a_linear_gaussian_model() -> None:
    """y = x'w + noise of deviation s: the information is X'X / s^2, of which we keep the diagonal of the mean."""
    rng, s = np.random.default_rng(0), 0.3
    x, w = rng.normal(size=(40, 5)).astype(np.float32), rng.normal(size=5).astype(np.float32)
    y = x @ w + s * rng.choice([-1, 1], 40).astype(np.float32)  # squared residuals of exactly s^2

    def loss(params: Any, sample: Any) -> jax.Array:
        inputs, label = sample
        return jnp.square(label - inputs @ params["w"]) / (2 * s**2)

    found = importance.fisher(loss, {"w": w}, zip(x, y, strict=True))
    np.testing.assert_allclose(found["w"], np.diag(x.T @ x) / s**2 / 40, rtol=1e-4)


def test_squares_are_taken_sample_by_sample() -> None:
    """Gradients 1 and -3: squares 1 and 9, mean 5; the batch's gradient is -1, and its square 1."""
    samples = [jnp.array(1.0), jnp.array(-3.0)]
    found = importance.fisher(lambda params, x: params["w"] * x, {"w": np.float32(2)}, samples)
    assert found["w"] == 5


def test_mas_of_a_linear_model() -> None:
    """|Wx|^2 has gradient 2 W x x'."""
    rng = np.random.default_rng(1)
    w, x = rng.normal(size=(3, 4)).astype(np.float32), rng.normal(size=(10, 4)).astype(np.float32)
    found = importance.sensitivity(lambda params, one: params["w"] @ one, {"w": w}, x)
    expected = np.mean([np.abs(2 * np.outer(w @ one, one)) for one in x], axis=0)
    np.testing.assert_allclose(found["w"], expected, rtol=1e-4)


def test_of_a_checkpoint(trained: Path, arms: dict[str, Path], registry: fla.Registry) -> None:
    one = fla.Source(data=str(arms["planar2"]), embodiment="planar2", episodes="0")
    opened = open_trained(trained, registry)
    found = importance.measure(opened, [one], registry, samples=4)
    assert found.keys() == opened.params.keys()
    assert all(np.isfinite(leaf).all() and (leaf >= 0).all() for leaf in found.values())
    again = importance.measure(opened, [one], registry, samples=4)
    assert all(np.array_equal(found[path], again[path]) for path in found)
    with pytest.raises(UnknownNameError, match="embodiment of checkpoint"):
        importance.measure(opened, [fla.Source(data=str(arms["planar3"]), embodiment="planar3")], registry)
    with pytest.raises(UnknownNameError, match="kind of importance 'ewk'; did you mean 'ewc'"):
        importance.measure(opened, [one], registry, kind="ewk")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="samples is 0"):
        importance.measure(opened, [one], registry, samples=0)


def test_the_command_and_earlier_importances(
    trained: Path, arms: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*more: str) -> dict[str, Any]:
        options = ["--data", str(arms["planar2"]), "--embodiment", "planar2", "--samples", "3"]
        assert main(["fisher", str(trained), *options, *more]) == 0
        return read_importance(tmp_path / "again" if "--out" in more else trained / "importance" / "ewc.safetensors")

    fresh = run()
    said = capsys.readouterr().out
    assert "importance (ewc): 3/3" in said
    assert [line.split()[0] for line in said.splitlines()[-5:-1]] == [
        "action_expert",
        "language",
        "projections",
        "vision",
    ]
    before = ["--previous", str(trained / "importance" / "ewc.safetensors"), "--out", str(tmp_path / "again")]
    for gamma in (0.0, 0.25, 1.0):
        both = run(*before, "--gamma", str(gamma))
        for path, leaf in fresh.items():
            np.testing.assert_allclose(both[path], (1 + gamma) * leaf, rtol=1e-6)


def test_mas_of_a_checkpoint(trained: Path, arms: dict[str, Path], registry: fla.Registry) -> None:
    source = fla.Source(data=str(arms["planar2"]), embodiment="planar2")
    found = importance.measure(open_trained(trained, registry), [source], registry, kind="mas", samples=2)
    assert max(float(leaf.max()) for leaf in found.values()) > 0
