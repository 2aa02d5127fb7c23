"""One training run, killed by SIGKILL again and again, against one that nobody disturbs.

    .venv/bin/python tests/bench/killed_runs.py [--kills 20] [--threads 4]

A small Pi0.5 on two recorded arms, float32, CPU. Each life of the run is killed at a random moment, after its first
step at the earliest, and the next one resumes. In the end parameters, moving average and optimizer must be equal to the
bit.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np

from fla_sdk.evaluation.recording import record
from fla_sdk.plugins import load_plugins
from fla_sdk.policy import checkpoint
from fla_sdk.training.config import Optimizer, Source, TrainConfig, to_yaml

EXPERT = {"width": 16, "depth": 1, "heads": 2, "kv_heads": 1, "head_dim": 8, "mlp_dim": 32}
MODEL = {
    "vision": {"width": 16, "depth": 1, "heads": 2, "mlp_dim": 32, "patch": 32},
    "language": EXPERT,
    "expert": EXPERT,
    "vocab_size": 300,
    "unroll": False,
}


def leaves(path: Path) -> dict[str, bytes]:
    """Every array of a checkpoint."""
    found: dict[str, bytes] = {}
    for item in ("params", "train_state"):
        tree = checkpoint.restore(path / item, kind=np.ndarray)
        for where, leaf in jax.tree_util.tree_leaves_with_path(tree):
            found[item + jax.tree_util.keystr(where)] = np.asarray(leaf).tobytes()
    return found


def start(config: TrainConfig) -> subprocess.Popen[str]:
    file = config.out.parent / f"{config.out.name}.yaml"
    file.write_text(to_yaml(config))
    command = [sys.executable, "-m", "fla_sdk.cli", "train", str(file), "--resume"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def main() -> None:
    """Print how far each life came, and whether the end is the same."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    chance = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["JAX_COMPILATION_CACHE_DIR"] = f"{folder}/compiled"
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        registry = load_plugins()
        for robot in ("planar2", "planar3"):
            record(registry, benchmark="planar", embodiment=robot, episodes=3, out=Path(folder) / robot)

        def config(name: str) -> TrainConfig:
            return TrainConfig(
                model="pi05/tiny",
                model_options=MODEL,
                sources=[Source(data=f"{folder}/{robot}", embodiment=robot) for robot in ("planar2", "planar3")],
                steps=args.kills * 60,
                batch_size=4,
                optimizer=Optimizer(peak_lr=1e-2, end_lr=1e-3, warmup_steps=2, decay_steps=args.kills * 60),
                save_every=10,
                log_every=5,
                loader_threads=args.threads,
                frame_cache="never",
                out=Path(folder) / name,
            )

        alone = start(config("alone"))
        alone.communicate()
        assert alone.returncode == 0
        kills = lives = 0
        while True:
            lives += 1
            process = start(config("killed"))
            assert process.stdout is not None
            step = 0
            deadline: float | None = None
            for line in process.stdout:
                if line.startswith("step "):
                    step = int(line.split()[1].split("/")[0])
                    if deadline is None and kills < args.kills:
                        deadline = time.monotonic() + chance.uniform(0, 1.0)
                if deadline is not None and time.monotonic() > deadline:
                    process.send_signal(signal.SIGKILL)
                    break
            process.stdout.close()
            if process.wait() == -signal.SIGKILL:
                kills += 1
                saved = checkpoint.steps(Path(folder) / "killed" / "checkpoints")
                print(f"life {lives}: killed near step {step}, checkpoints {saved}", flush=True)
            else:
                assert process.returncode == 0
                break
        one, other = (leaves(checkpoint.find(Path(folder) / name)) for name in ("alone", "killed"))
        differing = [name for name in one if one[name] != other.get(name)]
        print(f"killed {kills} times; {len(one)} arrays, {len(differing)} of them differ: {differing[:5]}")
        raise SystemExit(bool(differing))


if __name__ == "__main__":
    main()
