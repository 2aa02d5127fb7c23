"""Golden numbers: recorded outputs of the reference implementation, as data files.

`FLA_GOLDEN` names another folder of the same layout; every dimension is read from its `cases.json`.
"""

import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest


class Golden:
    """A folder of golden files, and how close is close enough."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def npz(self, name: str) -> dict[str, Any]:
        with np.load(self.folder / f"{name}.npz", allow_pickle=False) as arrays:
            return dict(arrays)

    def json(self, name: str) -> Any:
        return json.loads((self.folder / f"{name}.json").read_text())

    @staticmethod
    def fill(path: str, shape: tuple[int, ...]) -> np.ndarray:
        """The value that the reference run gave to the parameter at `path`, float32."""
        noise = np.random.default_rng(zlib.crc32(path.encode())).standard_normal(shape, dtype=np.float32)
        value = np.float32(0.15) * noise
        return value + np.float32(1) if path.endswith("/scale") and "/img/" in path else value

    @staticmethod
    def close(actual: Any, expected: Any, *, within: float, where: Any = True, what: str = "") -> None:
        """Assert max|actual - expected| <= within * max|expected|, both maxima over entries at `where`."""
        a, b = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
        assert a.shape == b.shape, f"{what}: shape {a.shape}, golden {b.shape}"
        chosen = np.broadcast_to(where, b.shape)
        assert chosen.any(), f"{what}: nothing to compare"
        assert np.isfinite(a[chosen]).all(), f"{what}: not finite"
        error, size = np.abs(a - b)[chosen].max(), np.abs(b)[chosen].max()
        assert error <= within * size, f"{what}: error {error:.3g} of {size:.3g}, {error / size:.2e} > {within:.0e}"

    @staticmethod
    def config(dims: dict[str, Any], *, pi05: bool, language: str, expert: str, dtype: str) -> Any:
        """The model of a recorded run; `dims` has its dimensions, `language` and `expert` are names in it."""
        from fla_models.configs import GemmaConfig, LoraConfig, Pi0Config, SiglipConfig

        def gemma(name: str) -> GemmaConfig:
            sizes = dims["gemma"][name]
            lora = {k: LoraConfig(**v) for k, v in sizes.get("lora", {}).items()}
            return GemmaConfig(
                **{k: sizes[k] for k in ("width", "depth", "mlp_dim", "head_dim")},
                heads=sizes["num_heads"],
                kv_heads=sizes["num_kv_heads"],
                lora_attention=lora.get("attn"),
                lora_mlp=lora.get("ffn"),
            )

        tower = dict(dims["siglip"])
        return Pi0Config(
            pi05=pi05,
            vision=SiglipConfig(heads=tower.pop("num_heads"), **tower),
            language=gemma(language),
            expert=gemma(expert),
            vocab_size=dims["vocab"],
            action_dim=dims["action_dim"],
            horizon=dims["action_horizon"],
            max_tokens=dims["max_token_len"],
            dtype=dtype,  # pyright: ignore[reportArgumentType]
            compat="openpi",
        )

    @staticmethod
    def batch(z: dict[str, Any], prefix: str = "") -> Any:
        """The training batch in an npz, without padded dimensions or steps."""
        from fla_models.configs import SLOTS
        from fla_sdk.model import Batch, ModelInput

        inputs = ModelInput(
            images={slot: z[f"{prefix}image/{slot}"] for slot in SLOTS},
            image_masks={slot: z[f"{prefix}image_mask/{slot}"] for slot in SLOTS},
            state=z[f"{prefix}state"],
            tokens=z[f"{prefix}tokenized_prompt"],
            token_mask=z[f"{prefix}tokenized_prompt_mask"],
        )
        actions = z[f"{prefix}actions"]
        size, horizon, width = actions.shape
        return Batch(inputs, actions, np.ones((size, width), bool), np.ones((size, horizon), bool))

    @staticmethod
    def same_leaves(
        leaves: Mapping[str, Any], z: dict[str, Any], prefix: str, *, l2: float, projection: float, absolute: float = 0
    ) -> int:
        """Compare leaves with the norm, a random projection and the first entries of each under `prefix`.

        Relative tolerances; `absolute` is for leaves that hold nothing but rounding. Returns how many were compared.
        Key biases are left out: their true gradient is 0, and Adam turns its rounding noise into steps of full size.
        """
        compared = 0
        names = (f"{prefix}/{what}" for what in ("paths", "l2", "proj", "head"))
        for path, norm, along, head in zip(*(z[name] for name in names), strict=True):
            if path.endswith("MultiHeadDotProductAttention_0/key/bias") or path not in leaves:
                continue
            leaf = np.asarray(leaves[path]).astype(np.float32).astype(np.float64)
            seed = zlib.crc32(f"proj:{path}".encode())
            direction = np.random.default_rng(seed).standard_normal(leaf.shape, dtype=np.float32)
            what = f"{prefix} {path}"
            assert abs(np.linalg.norm(leaf) - norm) <= l2 * norm + absolute, what
            assert abs(float(np.sum(leaf * direction)) - along) <= projection * norm + absolute, what
            first = leaf.ravel()[: len(head)]
            assert np.abs(first - head[: first.size]).max() <= projection * norm + absolute, what
            compared += 1
        return compared


def _folder() -> Path:
    return Path(os.environ.get("FLA_GOLDEN") or Path(__file__).parent / "golden")


@pytest.fixture(scope="session")
def golden() -> Golden:
    return Golden(_folder())


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Once for each flow model of `cases.json` (`flow_case`), or each recorded run of Pi0 or Pi0.5 (`train_case`)."""
    if "flow_case" in metafunc.fixturenames:
        cases = Golden(_folder()).json("cases")["flow_cases"]
        if marker := metafunc.definition.get_closest_marker("gradients"):
            # Recorded for float32 parameters alone; of a bfloat16 model they agree in their norms only.
            types = marker.args
            cases = {name: case for name, case in cases.items() if case[4] is None and case[3] in types}
        metafunc.parametrize("flow_case", list(cases), indirect=True, scope="session")
    if "train_case" in metafunc.fixturenames:
        names = sorted(file.stem for file in _folder().glob("train_pi*.npz"))
        metafunc.parametrize("train_case", names, scope="session")
