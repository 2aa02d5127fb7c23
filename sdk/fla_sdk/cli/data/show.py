"""`fla data show DATA`: what a dataset holds, in the terminal, as a page, or for the Rerun viewer."""

import argparse
from pathlib import Path

from fla_sdk.errors import ConfigError
from fla_sdk.plugins import Registry
from fla_sdk.records import Command
from fla_sdk.terminal import progress


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", metavar="DATA", help="path or URI of the dataset")
    parser.add_argument("--embodiment", metavar="NAME", help="its robot: brings units, prompts, the choice of cameras")
    parser.add_argument("--episode", type=int, metavar="N", help="the one to show; three are chosen without it")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page with pictures, curves and histograms")
    parser.add_argument(
        "--rerun", type=Path, metavar="FILE.rrd", help="write the episode (or the first) for the viewer"
    )


def run(arguments: argparse.Namespace, registry: Registry) -> None:
    from fla_sdk.data.report.overview import Overview
    from fla_sdk.training.preparation import open_dataset

    if arguments.rerun and arguments.rerun.suffix != ".rrd":
        raise ConfigError(f"--rerun {arguments.rerun}: files of the Rerun viewer end in .rrd")
    overview = Overview(
        open_dataset(arguments.data, registry),
        registry.embodiment(arguments.embodiment) if arguments.embodiment else None,
        format_name=_format(arguments.data, registry),
    )
    episodes = overview.chosen(arguments.episode)
    for line in overview.lines():
        print(line)
    if arguments.html:
        from fla_sdk.data.report.show_page import write_show_page

        print(write_show_page(arguments.html, overview, episodes))
    if arguments.rerun:
        from fla_sdk.data.report.viewer import write_rrd

        with progress("writing", sum(int(overview.lengths[e]) for e in episodes[:1])) as advance:
            print(write_rrd(arguments.rerun, overview.subject, episodes[:1], advance=advance))


def _format(data: str, registry: Registry) -> str:
    """The format that recognises a folder on this machine; empty for anything else."""
    path = Path(data).expanduser()
    return next((f.name for f in registry.datasets.values() if path.is_dir() and f.recognises(path)), "")


COMMAND = Command(name="show", help="what a dataset holds", configure=configure, run=run)
