"""`fla serve CHECKPOINT`: answer robots over the network."""

import argparse
import os
from pathlib import Path
from typing import Any

from fla_sdk.cli.options import add_options, parse_options
from fla_sdk.errors import ConfigError
from fla_sdk.plugins import Registry
from fla_sdk.records import Command


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", help="checkpoint, folder of a run, dataset to replay, gs://... or hf://...")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one (default 8000)")
    parser.add_argument("--embodiment", metavar="NAME", help="robot of clients that name none (default: the first)")
    parser.add_argument("--assets", metavar="NAME", help="statistics to take from a checkpoint of openpi")
    add_options(parser, "model, such as horizon=10,", flag="--model-option")
    parser.add_argument("--denoising-steps", type=int, default=10, help="steps per chunk (default 10)")
    parser.add_argument(
        "--guidance",
        type=float,
        metavar="W",
        help="ask for a good advantage; above 1, push further that way (for models trained with advantages)",
    )
    parser.add_argument("--token-file", type=Path, help="file with the token clients must send; or set FLA_TOKEN")
    parser.add_argument("--allow-public", action="store_true", help="listen beyond this machine without a token")


def run(arguments: argparse.Namespace, registry: Registry) -> None:
    """Serves until Ctrl-C or SIGTERM. Prints `serving on ws://...` once compiled and ready."""
    from fla_sdk.policy.opening import open_policy
    from fla_sdk.policy.policy import Policy
    from fla_sdk.serving.server import serve

    token = _token(arguments.token_file)
    policy = open_policy(
        arguments.checkpoint,
        registry,
        embodiment=arguments.embodiment,
        denoising_steps=arguments.denoising_steps,
        guidance=arguments.guidance,
        assets=arguments.assets,
        model_options=parse_options(arguments.model_option, flag="--model-option"),
    )
    announced: dict[str, Any] = {}
    if isinstance(policy, Policy):
        announced = {
            "embodiments": {name: codec.embodiment for name, codec in policy.codecs.items()},
            "default_embodiment": policy.default,
            "horizon": policy.spec.horizon,
        }

    def on_call(name: str, milliseconds: float) -> None:
        registry.policy_called(embodiment=name, milliseconds=milliseconds)

    serve(
        policy,
        host=arguments.host,
        port=arguments.port,
        token=token,
        allow_public=arguments.allow_public,
        on_call=on_call,
        **announced,
    )


def _token(file: Path | None) -> str | None:
    if file is None:
        return os.environ.get("FLA_TOKEN") or None
    if not file.is_file() or not (token := file.read_text().strip()):
        raise ConfigError(f"--token-file {file}: there is no token in it")
    return token


COMMAND = Command(name="serve", help="serve a checkpoint to robots", configure=configure, run=run)
