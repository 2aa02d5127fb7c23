"""The plugin costs nothing until it is used, and never needs the heavy libraries."""

import subprocess
import sys

PROBE = """
import sys
from pathlib import Path
from fla_plugins.lerobot import plugin
print(sorted({"pyarrow", "av", "PIL", "torch", "lerobot", "datasets"} & set(sys.modules)))
path = Path(sys.argv[1])
dataset = plugin.fla_open_dataset(str(path))
dataset.frame("observation.images.front", 3)
print(sorted({"torch", "lerobot", "datasets"} & set(sys.modules)))
"""


def test_importing_the_plugin_imports_no_heavy_library_and_reading_no_torch(record):
    command = [sys.executable, "-c", PROBE, str(record(video=True))]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    assert result.stdout.splitlines() == ["[]", "[]"]


def test_video_encoders_are_silent(record, capfd):
    record(video=True)
    assert capfd.readouterr() == ("", "")
