"""Another set of golden numbers: how it is named, and what happens where it has less than our own."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def _pytest(*arguments: str, **variables: str) -> tuple[int, str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FLA_")}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(HERE / "test_norm_stats.py")]
    done = subprocess.run(
        [*command, *arguments], env=environment | variables, capture_output=True, text=True, timeout=300, check=False
    )
    return done.returncode, done.stdout + done.stderr


def test_what_a_set_lacks_is_skipped(tmp_path: Path) -> None:
    (tmp_path / "cases.json").write_text("{}")
    shutil.copy(HERE / "golden" / "norm_stats_json.json", tmp_path)
    code, output = _pytest("--golden", str(tmp_path))
    assert code == 0, output
    assert "2 passed, 3 skipped" in output
    assert f"{tmp_path} has no running_stats.npz" in output
    (tmp_path / "norm_stats_json.json").write_text(json.dumps({"text": 1}))
    code, output = _pytest("-k", "dtypes", FLA_GOLDEN_DIR=str(tmp_path))
    assert code == 1, output  # what is there counts
    (tmp_path / "norm_stats_json.json").write_text("{}")
    code, output = _pytest("-k", "dtypes", FLA_GOLDEN_DIR=str(tmp_path))
    assert code == 0, output
    assert f"{tmp_path / 'norm_stats_json.json'} has no text" in output


def test_a_folder_without_a_set_is_refused(tmp_path: Path) -> None:
    code, output = _pytest("--golden", str(tmp_path / "nowhere"))
    assert code == 4
    assert f"{tmp_path / 'nowhere'} is no set of golden numbers: it has no cases.json" in output
