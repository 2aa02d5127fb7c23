"""Rules about the tracked files themselves."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAX_BYTES = 2**20
MAX_LINES = 500

PLACES = {
    "a registry's host": re.compile(
        rb"https?://[^\s\"')]*(py[p]i|python[h]osted|npm[j]s|anaconda|jfrog|artifactory|nexus)[^\s\"')]*"
    ),
    "a folder of one machine": re.compile(rb"(?<![\w.:/~$}-])/(home|Users|root|work|mnt|private/tmp)/(?!someone)\w"),
    "a credential": re.compile(
        rb"(-----BEGIN [A-Z ]*PRIVATE KEY|gh[pousr]_[A-Za-z0-9]{30}|hf_[A-Za-z0-9]{30}|AKIA[A-Z0-9]{16})"
    ),
}


def tracked(*patterns: str) -> list[Path]:
    """Tracked files that match, those of them that exist."""
    command = ["git", "ls-files", "-z", "--", *patterns]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60).stdout
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]


def names(files: list[Path]) -> list[str]:
    return [str(file.relative_to(ROOT)) for file in files]


def test_no_tracked_file_is_large() -> None:
    files = tracked()
    assert len(files) > 100
    assert not names([file for file in files if file.stat().st_size > MAX_BYTES])


def test_no_source_file_is_long() -> None:
    sources = tracked("*.py")
    assert len(sources) > 50
    assert not names([file for file in sources if len(file.read_text().splitlines()) > MAX_LINES])


def test_no_file_is_a_bag_of_tools() -> None:
    bags = {"utils", "util", "helpers", "misc", "common", "tools"}
    assert not names([file for file in tracked("*.py") if file.stem in bags])


def test_source_roots_are_no_packages() -> None:
    for root in ("sdk", "models", "embodiments", "plugins"):
        assert not (ROOT / root / "__init__.py").exists()
        assert (ROOT / root / "README.md").is_file()
        (package,) = (ROOT / root).glob("fla_*/__init__.py")
        assert (package.parent / "py.typed").is_file()


def test_generated_files_are_not_tracked() -> None:
    assert not names(tracked("*.pyc", "*.lock", "out/*", "dist/*", ".venv/*", "*.egg-info/*"))


@pytest.mark.parametrize("what", PLACES)
def test_no_file_names(what: str) -> None:
    files = [file for file in tracked() if file.suffix != ".npz"]
    assert not names([file for file in files if PLACES[what].search(file.read_bytes())])


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("a registry's host", b"--index-url https:" + b"//pypi.example.org/simple"),
        ("a folder of one machine", b"open('" + b"/home/" + b"me/data')"),
        ("a credential", b"hf" + b"_" + b"a" * 34),
    ],
)
def test_the_patterns_find_what_they_look_for(what: str, text: bytes) -> None:
    assert PLACES[what].search(text)


def test_constraints_pin_versions_and_nothing_else() -> None:
    pin = re.compile(r"[a-z0-9][a-z0-9._-]*==[0-9][A-Za-z0-9.+!-]*( ; [^@]*)?")
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert not [line for line in lines if not pin.fullmatch(line)]
    assert {"uv", "jax", "numpy", "lerobot", "pytest"} <= {line.split("==")[0] for line in lines}
