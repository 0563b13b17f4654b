"""Every speed benchmark, one after the other: `make bench`.

    python tests/benchmarks/run.py [NAME...] [--model DIR] [--images DIR]

Each runs in a process of its own and writes results/<name>.json. Those that need a trained model take
`--model`, else `anogan-model`, else they are left out and say so; images default to the sample boards' good
test parts.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
MODEL, IMAGES = "{model}", "{images}"  # Filled in from the command line.

BENCHMARKS: dict[str, Sequence[str]] = {
    "search_speed": (),
    "training_throughput": (),
    "search_objective": (MODEL, IMAGES),
    "search_against_public": (MODEL, IMAGES),
}
"""Script name -> its arguments; add a benchmark here."""


def command(name: str, model: Path, images: Path) -> list[str]:
    """How to run one benchmark."""
    filled = {MODEL: str(model), IMAGES: str(images)}
    return [sys.executable, str(HERE / f"{name}.py"), *(filled.get(word, word) for word in BENCHMARKS[name])]


def run(name: str, model: Path, images: Path) -> bool:
    """Runs one benchmark; False if it failed or could not run."""
    print(f"== {name}", flush=True)
    if MODEL in BENCHMARKS[name] and not (model / "manifest.json").is_file():
        print(f"left out: {model} is no model; fit one (`make demo`) or give --model DIR", flush=True)
        return True
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command(name, model, images), env=environment, check=False).returncode == 0


def main() -> int:
    """Exit code 1 if a benchmark failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}")
    parser.add_argument("--model", type=Path, default=ROOT / "anogan-model")
    parser.add_argument("--images", type=Path, default=ROOT / "datasets" / "pcb" / "test" / "good")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"there is no benchmark {unknown[0]}; expected one of {', '.join(BENCHMARKS)}")
    names = arguments.names or list(BENCHMARKS)
    failed = [name for name in names if not run(name, arguments.model, arguments.images)]
    if failed:
        print(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
