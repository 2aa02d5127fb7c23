"""torchcodec brings no FFmpeg; where the system has none, it is measured with the one inside the wheel of PyAV."""

import os
import sys
import tempfile
from pathlib import Path

import av

_LENT = "FLA_BENCH_FFMPEG"


def lend_to_torchcodec() -> None:
    """Start this script again, with PyAV's FFmpeg where torchcodec finds it. Call it first of all."""
    if _LENT in os.environ:
        return
    links = Path(tempfile.mkdtemp(prefix="ffmpeg-"))
    for file in (Path(av.__file__).parents[1] / "av.libs").glob("lib[as][vw]*.so.*"):
        name, major = file.name.split("-")[0], file.name.split(".so.")[1].split(".")[0]
        (links / f"{name}.so.{major}").symlink_to(file)
    os.environ |= {_LENT: str(links), "LD_LIBRARY_PATH": f"{links}:{os.environ.get('LD_LIBRARY_PATH', '')}"}
    os.execv(sys.executable, [sys.executable, *sys.argv])
