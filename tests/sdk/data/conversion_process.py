"""A conversion to be killed: `python conversion_process.py SOURCE OUT`."""

import sys

from fla_sdk.cli import main

if __name__ == "__main__":
    source, out = sys.argv[1:]
    sys.exit(main(["data", "convert", source, out, "--resume", "--skip-damaged"]))
