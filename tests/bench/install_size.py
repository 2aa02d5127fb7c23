"""How much disk `pip install fla-sdk` takes in an empty environment, package by package.

    .venv/bin/python tests/bench/install_size.py [PYTHON]

Bytecode is not counted: pip writes it, and its size depends on the interpreter.
"""

import subprocess
import sys
import tempfile
from importlib.metadata import distributions
from pathlib import Path

ROOT = Path(__file__).parents[2]


def installed_bytes(site_packages: Path) -> dict[str, int]:
    """Distribution -> bytes of the files that it lists, without bytecode."""
    return {
        found.name: sum(
            size
            for file in found.files or ()
            if file.suffix != ".pyc" and (path := Path(str(found.locate_file(file)))).is_file()
            for size in [path.stat().st_size]
        )
        for found in distributions(path=[str(site_packages)])
    }


def main() -> None:
    """Install this checkout without extras and print megabytes (10^6 bytes), largest first."""
    python = sys.argv[1] if len(sys.argv) > 1 else sys.executable
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([python, "-m", "venv", folder], check=True)
        site_packages = next(Path(folder).glob("lib/python*/site-packages"))
        before = installed_bytes(site_packages)
        pip = [f"{folder}/bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, str(ROOT)], check=True)
        sizes = {name: size for name, size in installed_bytes(site_packages).items() if name not in before}
    for name, size in sorted(sizes.items(), key=lambda item: -item[1]):
        print(f"{name:24} {size / 1e6:7.2f} MB")
    print(f"{'all of it':24} {sum(sizes.values()) / 1e6:7.2f} MB")


if __name__ == "__main__":
    main()
