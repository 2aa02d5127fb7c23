"""Training and serving of the models that write actions, and of the one that judges."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fla_sdk.errors import ActionTokenError, ConfigError
from fla_sdk.policy.policy import Policy
from fla_sdk.training.trainer import Trainer

_LANGUAGE = {"width": 16, "depth": 1, "heads": 2, "kv_heads": 1, "head_dim": 8, "mlp_dim": 32}
SMALL = {
    "vision": {"width": 16, "depth": 1, "heads": 2, "mlp_dim": 32, "patch": 32},
    "language": _LANGUAGE,
    "unroll": False,
}


def test_a_checkpoint_keeps_its_action_tokenizer(small_run: Callable[..., Any], registry: Any, tmp_path: Path) -> None:
    from fla_models.tokenizers import FastTokenizer

    fitted = tmp_path / "fitted"
    chunks = np.random.default_rng(0).uniform(-1, 1, (200, 8, 3)).cumsum(axis=1) / 8
    FastTokenizer.fit(chunks, vocab_size=512).save(fitted)
    options = SMALL | {"action_tokenizer": str(fitted), "vocab_size": 1024, "max_tokens": 64, "max_decode": 20}
    config = small_run(tmp_path / "run", model="pi0_fast/tiny", model_options=options, steps=2)
    result = Trainer(config, plugins=registry).fit()
    shutil.rmtree(fitted)
    policy = Policy.load(result.checkpoint, plugins=registry)
    codec = policy.codecs["planar2"]
    with pytest.raises(ActionTokenError):  # two steps teach nobody to spell
        policy.infer({**codec.embodiment.example_observation(), "embodiment": "planar2"})
    assert policy.rest_mode == "none"
    policy.rest_mode = "guided"  # of a model that only finds out when it is asked
    policy.warm_up()
    assert policy.rest_mode == "none"
    with pytest.raises(ConfigError, match="no guidance"):
        Policy.load(result.checkpoint, plugins=registry, guidance=2.0).warm_up()


def test_an_insulated_model_trains_and_acts(small_run: Callable[..., Any], registry: Any, tmp_path: Path) -> None:
    local = {"local": {"window": 8, "global_every": 2}, "qk_norm": True, "post_norms": True}
    expert = _LANGUAGE | local
    options = SMALL | {"language": expert, "expert": expert, "vocab_size": 1024, "flow_samples": 2, "max_delay": 2}
    config = small_run(tmp_path / "run", model="pi06/tiny", model_options=options, steps=2)
    result = Trainer(config, plugins=registry).fit()
    policy = Policy.load(result.checkpoint, plugins=registry)
    assert policy.rest_mode == "trained"
    observation = {**policy.codecs["planar3"].embodiment.example_observation(), "embodiment": "planar3"}
    chunk = policy.infer(observation)["actions"]
    assert chunk.shape == (8, 3)
    # A model that learned to continue gives back what will have been executed.
    bound = policy.infer(observation, rest=chunk[3:], delay=2)["actions"]
    np.testing.assert_allclose(bound[:2], chunk[3:5], atol=1e-4)


def test_a_value_model_wants_returns(small_run: Callable[..., Any], registry: Any, tmp_path: Path) -> None:
    options = SMALL | {"vocab_size": 1024, "horizon": 8}
    with pytest.raises(ConfigError, match="learns from returns"):
        Trainer(small_run(tmp_path / "run", model="value/tiny", model_options=options), plugins=registry).fit()
