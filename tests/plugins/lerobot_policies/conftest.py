"""Small policies that lerobot itself trained for a few steps and saved."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fla_embodiments.planar import PLANAR2
from fla_plugins.lerobot.writer import LeRobotWriter

FPS = 10
SIZES: dict[str, dict[str, Any]] = {
    "act": {
        "chunk_size": 8,
        "n_action_steps": 8,
        "dim_model": 32,
        "n_heads": 2,
        "dim_feedforward": 64,
        "n_encoder_layers": 1,
        "n_vae_encoder_layers": 1,
        "latent_dim": 4,
    },
    "diffusion": {
        "horizon": 8,
        "n_action_steps": 4,
        "n_obs_steps": 2,
        "down_dims": (16, 32),
        "n_groups": 4,
        "diffusion_step_embed_dim": 16,
        "spatial_softmax_num_keypoints": 4,
        "num_train_timesteps": 20,
        "num_inference_steps": 3,
    },
}


def _record(path: Path) -> Path:
    """Two episodes of 16 rows; the actions are the state a tenth of a radian on."""
    names, rng = PLANAR2.state.names, np.random.default_rng(0)
    writer = LeRobotWriter(path, robot="planar2", fps=FPS, state_names=names, action_names=names, cameras=("front",))
    for episode in range(2):
        for row in range(16):
            state = np.array([row / 10, episode - row / 20], np.float32)
            image = rng.integers(0, 256, (64, 64, 3), np.uint8)
            writer.add({"images/front": image, "state": state, "task": "reach"}, state + np.float32(0.1))
        writer.save_episode()
    writer.close()
    return path


def _train(data: Path, out: Path, kind: str) -> None:
    import torch
    from lerobot.datasets import LeRobotDataset, LeRobotDatasetMetadata
    from lerobot.policies import make_policy, make_policy_config, make_pre_post_processors

    meta: Any = LeRobotDatasetMetadata("local/arm", root=data)
    config: Any = make_policy_config(
        kind, device="cpu", push_to_hub=False, pretrained_backbone_weights=None, **SIZES[kind]
    )
    policy = make_policy(config, ds_meta=meta)
    before, after = make_pre_post_processors(config, dataset_stats=meta.stats)
    deltas = {"action": [step / FPS for step in config.action_delta_indices]}
    if config.observation_delta_indices is not None:
        deltas |= {key: [step / FPS for step in config.observation_delta_indices] for key in config.input_features}
    rows = LeRobotDataset("local/arm", root=data, delta_timestamps=deltas, video_backend="pyav")
    optimizer = torch.optim.Adam(policy.parameters(), 1e-3)
    policy.train()
    for _, batch in zip(range(3), torch.utils.data.DataLoader(rows, batch_size=4, shuffle=True), strict=False):
        loss, _ = policy.forward(before(batch))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    for part in (policy, before, after):
        part.save_pretrained(out)


@pytest.fixture(scope="session")
def policies(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with one `pretrained_model` of each kind in `SIZES`."""
    root = tmp_path_factory.mktemp("policies")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("HF_LEROBOT_HOME", str(root / "home"))
        pytest.importorskip("lerobot.policies", reason="needs the extra `lerobot`")
        import torch

        torch.set_num_threads(1)
        torch.manual_seed(0)
        data = _record(root / "data")
        for kind in SIZES:
            _train(data, root / kind, kind)
        yield root
