"""`fla serve CHECKPOINT`: answer robots over the network."""

import argparse
import os
from functools import partial
from pathlib import Path

from fla_sdk.cli.options import add_options, parse_options
from fla_sdk.errors import ConfigError
from fla_sdk.plugins import Registry
from fla_sdk.records import Command
from fla_sdk.serving.observer import Exchange, Observer


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
    parser.add_argument(
        "--max-batch",
        type=int,
        default=1,
        metavar="N",
        help="robots that are answered together; 1, 2, 4, ... N are compiled at the start (default 1)",
    )
    parser.add_argument(
        "--batch-wait-ms",
        type=float,
        default=0.0,
        metavar="MS",
        help="let an idle model wait so long for more robots (default 0: batches form while the model is busy)",
    )
    parser.add_argument(
        "--no-real-time-chunking",
        action="store_true",
        help="do not compile for robots that move while they ask; starts sooner",
    )
    parser.add_argument("--token-file", type=Path, help="file with the token clients must send; or set FLA_TOKEN")
    parser.add_argument("--allow-public", action="store_true", help="listen beyond this machine without a token")


def run(arguments: argparse.Namespace, registry: Registry) -> None:
    """Serves until Ctrl-C or SIGTERM. Prints `serving on ws://...` once compiled and ready."""
    from fla_sdk.policy.opening import open_policy
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
        max_batch=arguments.max_batch,
        rest=not arguments.no_real_time_chunking,
        progress=partial(print, flush=True),
    )
    serve(
        policy,
        host=arguments.host,
        port=arguments.port,
        token=token,
        allow_public=arguments.allow_public,
        observers=[_Plugins(registry)],
        batch_wait_ms=arguments.batch_wait_ms,
    )


class _Plugins(Observer):
    """Tells plugins of every answer."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def answered(self, exchange: Exchange) -> None:
        assert exchange.timing is not None
        name = exchange.embodiment or "unnamed"
        self._registry.policy_called(embodiment=name, milliseconds=exchange.timing.infer_ms)


def _token(file: Path | None) -> str | None:
    if file is None:
        return os.environ.get("FLA_TOKEN") or None
    if not file.is_file() or not (token := file.read_text().strip()):
        raise ConfigError(f"--token-file {file}: there is no token in it")
    return token


COMMAND = Command(name="serve", help="serve a checkpoint to robots", configure=configure, run=run)
