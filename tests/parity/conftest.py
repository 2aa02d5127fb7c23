"""Golden numbers: recorded outputs of the reference implementation, as data files.

`pytest tests/parity --golden DIR`, or the variable `FLA_GOLDEN_DIR`, compares with another set of the same layout.
Every dimension is read from the set. What it has not recorded is skipped; of our own set nothing is.
"""

import json
import os
import tarfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest

OWN = Path(__file__).parent / "golden"


class Recorded(dict[str, Any]):
    """Entries of a golden file. Asking for one that another set has not recorded skips the test."""

    file: Path

    def __missing__(self, key: str) -> NoReturn:
        self.lacks(key)

    def lacks(self, what: str) -> NoReturn:
        """Skip the test; fail it when this is our own set, which has everything."""
        if self.file.parent == OWN:
            raise KeyError(f"{self.file.name} has no {what}")
        pytest.skip(f"{self.file} has no {what}")


class Golden:
    """A folder of golden files, and how close is close enough."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def file(self, name: str) -> Path:
        """A file of the set. One that another set lacks skips the test."""
        file = self.folder / name
        if self.folder != OWN and not file.is_file():
            pytest.skip(f"{self.folder} has no {name}")
        return file

    def npz(self, name: str) -> Recorded:
        file = self.file(f"{name}.npz")
        with np.load(file, allow_pickle=False) as arrays:
            return _recorded(arrays, file)

    def json(self, name: str) -> Any:
        file = self.file(f"{name}.json")
        return json.loads(file.read_text(), object_hook=lambda entries: _recorded(entries, file))

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

    def fast_config(self, name: str) -> Any:
        """The Pi0-FAST model `name` of `cases.json`."""
        dims = self.json("cases")
        language, dtype, _ = dims["fast_cases"][name]
        return self.fast_config_of(dims, language=language, dtype=dtype)

    def fast_config_of(self, dims: dict[str, Any], *, language: str, dtype: str) -> Any:
        """`config`, for Pi0-FAST."""
        from fla_models.configs import Pi0FastConfig

        shared = self.config(dims, pi05=True, language=language, expert=language, dtype=dtype)
        return Pi0FastConfig(
            vision=shared.vision,
            language=shared.language,
            vocab_size=dims["vocab"],
            action_dim=dims["action_dim"],
            horizon=dims["action_horizon"],
            max_tokens=dims["fast"]["max_token_len"],
            max_decode=dims["fast"]["max_decoding_steps"],
            image_slots=tuple(sorted(dims["fast"]["image_masks"])),
            dtype=dtype,  # pyright: ignore[reportArgumentType]
            compat="openpi",
        )

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

    def checkpoint(self, place: Path) -> tuple[Path, Any, dict[str, Any]]:
        """The reference's checkpoint, unpacked in `place`: its folder, our config of its model, what is known of it."""
        with tarfile.open(self.file("checkpoint.tar.gz")) as archive:
            archive.extractall(place, filter="data")
        about = self.json("checkpoint")
        experts = {"language": about["paligemma_variant"], "expert": about["action_expert_variant"]}
        config = self.config(about["config"], pi05=about["pi05"], dtype="float32", **experts)
        return place / "checkpoint" / str(about["checkpoint_step_dir"]), config, about

    @staticmethod
    def optimizer(schedule: Mapping[str, Any], update: Mapping[str, Any], **more: Any) -> Any:
        """The `Optimizer` for arguments of the reference's schedule and of its AdamW or SGD."""
        from fla_sdk.training.config import Optimizer

        rate = {"end_lr" if name == "decay_lr" else name: value for name, value in schedule.items()}
        rate["schedule"] = "rsqrt" if "timescale" in schedule else "cosine"
        arguments = {"clip_norm" if name == "clip_gradient_norm" else name: value for name, value in update.items()}
        if "momentum" in arguments:  # the schedule replaces its learning rate, and it does not clip
            arguments |= {"kind": "sgd", "clip_norm": None}
            del arguments["lr"]
        return Optimizer(**rate, **arguments, **more)

    @staticmethod
    def batch(z: dict[str, Any], prefix: str = "") -> Any:
        """The training batch in an npz, without padded dimensions or steps."""
        from fla_sdk.model import Batch, ModelInput

        start = f"{prefix}image/"
        slots = [name.removeprefix(start) for name in z if name.startswith(start)]
        written = z.get(f"{prefix}token_ar_mask")  # the actions, where the model writes them as text
        inputs = ModelInput(
            images={slot: z[f"{prefix}image/{slot}"] for slot in slots},
            image_masks={slot: z[f"{prefix}image_mask/{slot}"] for slot in slots},
            state=z[f"{prefix}state"],
            tokens=z[f"{prefix}tokenized_prompt"],
            token_mask=z[f"{prefix}tokenized_prompt_mask"],
            token_ar=None if written is None else written.astype(bool),
        )
        actions = z[f"{prefix}actions"]
        size, horizon, width = actions.shape
        dims, steps = np.ones((size, width), bool), np.ones((size, horizon), bool)
        return Batch(inputs, actions, dims, steps, z.get(f"{prefix}token_loss_mask"))

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


def _recorded(entries: Mapping[str, Any], file: Path) -> Recorded:
    recorded = Recorded(entries)
    recorded.file = file
    return recorded


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--golden", metavar="DIR", help="compare with the golden numbers in DIR instead of our own")


def pytest_configure(config: pytest.Config) -> None:
    _golden(config)  # a folder that is none is refused before anything is collected


def _golden(config: pytest.Config) -> Golden:
    named = config.getoption("--golden", default=None) or os.environ.get("FLA_GOLDEN_DIR")
    folder = Path(named).resolve() if named else OWN
    if not (folder / "cases.json").is_file():
        raise pytest.UsageError(f"{folder} is no set of golden numbers: it has no cases.json")
    return Golden(folder)


@pytest.fixture(scope="session")
def golden(pytestconfig: pytest.Config) -> Golden:
    return _golden(pytestconfig)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Once for each small model of the set (`flow_case`, `fast_case`), or each recorded run (`train_case`)."""
    asked = {"flow_case", "fast_case", "train_case"}.intersection(metafunc.fixturenames)
    if not asked:
        return
    golden = _golden(metafunc.config)
    cases = golden.json("cases")
    if "flow_case" in asked:
        flow = cases.get("flow_cases", {})
        if marker := metafunc.definition.get_closest_marker("gradients"):
            # Recorded for float32 parameters alone; of a bfloat16 model they agree in their norms only.
            flow = {name: case for name, case in flow.items() if case[4] is None and case[3] in marker.args}
        metafunc.parametrize("flow_case", list(flow), indirect=True, scope="session")
    if "fast_case" in asked:
        metafunc.parametrize("fast_case", list(cases.get("fast_cases", ())), indirect=True, scope="session")
    if "train_case" in asked:
        names = sorted(file.stem for file in golden.folder.glob("train_*.npz"))
        metafunc.parametrize("train_case", names, scope="session")
