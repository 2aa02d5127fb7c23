"""Models whose adapters were merged into their weights, against the recorded outputs of those that had them."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import pytest

from fla_models.merging import merge
from fla_models.plugin import fla_models
from fla_sdk.policy import parameters

FAMILIES = {family.name: family for family in fla_models()}
QUICK = {"xla_backend_optimization_level": 0}


def _adapted(golden: Any, cases: str) -> list[str]:
    recorded = golden.json("cases")
    experts = slice(1, 3) if cases == "flow_cases" else slice(0, 1)
    return [
        name
        for name, case in recorded.get(cases, {}).items()
        if case[-2:] == ["float32", None] and any("lora" in recorded["gemma"][expert] for expert in case[experts])
    ]


def _merged(golden: Any, family: Any, config: Any) -> tuple[Any, Mapping[str, Any]]:
    """The static part of the model without adapters, and its parameters."""
    shapes = parameters.shapes(family, config)
    assert any("lora" in path for path in shapes)
    plain, values = merge(config, {path: golden.fill(path, shape) for path, shape in shapes.items()})
    assert not any(expert.has_lora for expert in plain.experts)
    graph, expected = parameters.abstract(family, plain)
    parameters.check(values, expected, where="merged parameters")
    assert {value.dtype for value in values.values()} == {np.dtype(np.float32)}
    return graph, values


def test_velocities(golden: Any) -> None:
    """`sample` in one step is the noise less the velocity."""
    names = _adapted(golden, "flow_cases")
    if not names:
        pytest.skip("this set has no flow model with adapters")
    recorded, z = golden.json("cases"), golden.npz("inputs_flow")
    for name in names:
        pi05, language, expert, dtype, _ = recorded["flow_cases"][name]
        config = golden.config(recorded, pi05=pi05, language=language, expert=expert, dtype=dtype)
        graph, values = _merged(golden, FAMILIES["pi05" if pi05 else "pi0"], config)
        inputs, noise = golden.batch(z).inputs, z["sample_noise"]

        def sample(values: Any, inputs: Any, noise: Any, graph: Any = graph) -> Any:
            return parameters.merge(graph, values).sample(jax.random.key(0), inputs, steps=1, noise=noise)

        got = jax.jit(sample, compiler_options=QUICK)(values, inputs, noise)
        golden.close(noise - got, noise - golden.npz(f"model_{name}")["sample_1"], within=5e-5, what=name)


def test_losses_of_written_actions(golden: Any) -> None:
    names = _adapted(golden, "fast_cases")
    if not names:
        pytest.skip("this set has no Pi0-FAST with adapters")
    for name in names:
        graph, values = _merged(golden, FAMILIES["pi0_fast"], golden.fast_config(name))
        batch = golden.batch(golden.npz("inputs_fast"))

        def loss(values: Any, batch: Any, graph: Any = graph) -> Any:
            return parameters.merge(graph, values).loss(jax.random.key(0), batch).steps

        got = jax.jit(loss, compiler_options=QUICK)(values, batch)
        golden.close(got[:, 0], golden.npz(f"model_{name}")["loss"], within=5e-5, what=name)
