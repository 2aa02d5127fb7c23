"""`fla serve CHECKPOINT`: answer robots over the network."""

import argparse
import os
import signal
import ssl
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from fla_sdk.cli.options import add_options, parse_options
from fla_sdk.data.dataset import EpisodeWriter
from fla_sdk.embodiment import Embodiment
from fla_sdk.errors import ConfigError
from fla_sdk.plugins import Registry
from fla_sdk.policy.interface import PolicyLike
from fla_sdk.records import Command
from fla_sdk.serving.access import tls
from fla_sdk.serving.limits import Limits
from fla_sdk.serving.metrics import Metrics
from fla_sdk.serving.observer import Exchange, Observer
from fla_sdk.serving.recorder import COLUMNS, RequestRecorder
from fla_sdk.serving.reload import Reloader
from fla_sdk.serving.tokens import Token, Tokens

WATCH_EVERY_S = 2.0


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "checkpoint",
        help="checkpoint, folder of a run, gs://... or hf://...; a dataset to replay; scripted:hold, scripted:home or "
        "scripted:sine, which need no model",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one (default 8000)")
    parser.add_argument("--embodiment", metavar="NAME", help="robot of clients that name none (default: the first)")
    parser.add_argument("--assets", metavar="NAME", help="statistics to take from a checkpoint of openpi")
    add_options(parser, "model, such as horizon=10", flag="--model-option")
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
    _configure_access(parser.add_argument_group("who may connect"))
    _configure_operation(parser.add_argument_group("operation"))


def _configure_access(group: argparse._ArgumentGroup) -> None:  # pyright: ignore[reportPrivateUsage]
    group.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help="tokens that clients must send, one per line: TOKEN [name=WHOSE] [expires=2027-01-01T00:00:00Z]; read "
        "again when it changes; a single token may stand in FLA_TOKEN instead",
    )
    group.add_argument("--allow-public", action="store_true", help="listen beyond this machine without a token")
    group.add_argument(
        "--tls-cert", type=Path, metavar="FILE", help="certificate chain, PEM: serve wss:// and https://"
    )
    group.add_argument("--tls-key", type=Path, metavar="FILE", help="its private key, PEM, without a password")
    group.add_argument("--max-connections", type=int, metavar="N", help="at once (default: no limit)")
    group.add_argument("--max-rate", type=float, metavar="HZ", help="requests per second of one connection")
    group.add_argument("--max-message-mb", type=float, default=64.0, metavar="MB", help="of a message (default 64)")
    group.add_argument("--queue", type=int, default=256, metavar="N", help="requests that may wait (default 256)")


def _configure_operation(group: argparse._ArgumentGroup) -> None:  # pyright: ignore[reportPrivateUsage]
    group.add_argument(
        "--drain-s",
        type=float,
        default=10.0,
        metavar="S",
        help="at SIGTERM, how long to go on with requests that came before (default 10); a second signal ends at once",
    )
    group.add_argument(
        "--watch",
        action="store_true",
        help="serve newer checkpoints of the run's folder as they come, without losing a robot; SIGHUP does it once",
    )
    group.add_argument(
        "--record", type=Path, metavar="DIR", help="record what robots see and are answered, in LeRobot's"
    )
    group.add_argument("--record-gb", type=float, default=5.0, metavar="GB", help="then recording ends (default 5)")
    group.add_argument(
        "--record-hz", type=float, metavar="HZ", help="how often robots ask (default: their control rate)"
    )
    group.add_argument("--log-format", choices=("text", "json"), default="text", help="of the log on stderr")
    group.add_argument("--log-level", choices=("debug", "info", "warning", "error"), help="json: info, text: warning")


def run(arguments: argparse.Namespace, registry: Registry) -> None:
    """Serves until Ctrl-C or SIGTERM. Prints `serving on ws://...` once compiled and ready."""
    from fla_sdk.policy.opening import open_policy
    from fla_sdk.serving import journal
    from fla_sdk.serving.server import PolicyServer

    tokens = _tokens(arguments.token_file)
    certificate = _tls(arguments.tls_cert, arguments.tls_key)
    limits = _limits(arguments)
    level = {"json": "info", "text": "warning"}[arguments.log_format]
    with journal.written(arguments.log_format, arguments.log_level or level), ExitStack() as stack:
        load = partial(
            open_policy,
            arguments.checkpoint,
            registry,
            embodiment=arguments.embodiment,
            denoising_steps=arguments.denoising_steps,
            guidance=arguments.guidance,
            assets=arguments.assets,
            model_options=parse_options(arguments.model_option, flag="--model-option"),
            max_batch=arguments.max_batch,
        )
        newest = _newest(arguments.checkpoint, watch=arguments.watch)
        begun_with = newest()
        policy, metrics = load(progress=partial(print, flush=True)), Metrics()
        observers: list[Observer] = [_Plugins(registry), journal.Journal()]
        if arguments.record is not None:
            observers.append(stack.enter_context(_recorder(arguments, registry, policy, metrics)))
        server = PolicyServer(
            policy,
            host=arguments.host,
            port=arguments.port,
            token=tokens,
            tls=certificate,
            allow_public=arguments.allow_public,
            limits=limits,
            observers=observers,
            queue_capacity=arguments.queue,
            batch_wait_ms=arguments.batch_wait_ms,
            drain_s=arguments.drain_s,
            metrics=metrics,
        )
        server.status.checkpoint = Path(arguments.checkpoint).name or arguments.checkpoint
        every_s = WATCH_EVERY_S if arguments.watch else None
        reloader = Reloader(load, server.replace, newest=newest, served=begun_with, metrics=metrics, every_s=every_s)
        stack.enter_context(reloader)
        stack.callback(signal.signal, signal.SIGHUP, signal.signal(signal.SIGHUP, reloader.now))
        server.run()


def _newest(place: str, *, watch: bool) -> Callable[[], Path | None]:
    """The checkpoint that `place` means at the moment; None where it is no folder of checkpoints."""
    from fla_sdk.errors import CheckpointError
    from fla_sdk.policy import checkpoint

    def newest() -> Path | None:
        try:
            return checkpoint.find(Path(place).expanduser())
        except CheckpointError:
            return None

    if watch and newest() is None:
        raise ConfigError(f"--watch is for the folder of a run, in which checkpoints appear; {place} is none")
    return newest


def _recorder(
    arguments: argparse.Namespace, registry: Registry, policy: PolicyLike, metrics: Metrics
) -> RequestRecorder:
    storage = registry.dataset_format("lerobot")
    robots: Mapping[str, Embodiment] = getattr(policy, "embodiments", None) or {}
    if not robots:
        raise ConfigError("--record needs to know the robot, and this policy does not say whom it drives")
    if not arguments.record_gb > 0 or (arguments.record_hz is not None and not arguments.record_hz > 0):
        raise ConfigError("--record-gb and --record-hz must be above 0")

    def create(path: Path, robot: Embodiment) -> EpisodeWriter:
        return storage.create_for(
            path, robot, fps=arguments.record_hz, optional_cameras=False, video=True, columns=COLUMNS, append=True
        )

    return RequestRecorder(
        arguments.record, create, robots=robots, metrics=metrics, max_bytes=arguments.record_gb * 1e9
    )


class _Plugins(Observer):
    """Tells plugins of every answer."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def answered(self, exchange: Exchange) -> None:
        assert exchange.timing is not None
        name = exchange.embodiment or "unnamed"
        self._registry.policy_called(embodiment=name, milliseconds=exchange.timing.infer_ms)


def _tokens(file: Path | None) -> Tokens | None:
    """The file's, and the one in the environment."""
    known = os.environ.get("FLA_TOKEN")
    if file is None and not known:
        return None
    return Tokens([Token(secret=known)] if known else [], file=file)


def _tls(certificate: Path | None, key: Path | None) -> ssl.SSLContext | None:
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise ConfigError("--tls-cert and --tls-key belong together: one of them is missing")
    return tls(certificate, key)


def _limits(arguments: argparse.Namespace) -> Limits:
    return Limits(
        message_bytes=round(arguments.max_message_mb * 2**20),
        connections=arguments.max_connections,
        requests_per_s=arguments.max_rate,
    )


COMMAND = Command(name="serve", help="serve a checkpoint to robots", configure=configure, run=run)
