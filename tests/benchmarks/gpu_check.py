"""Every benchmark on a GPU, from a checkout, with the machine's own Python packages: `make gpu-check`.

    python3 tests/benchmarks/gpu_check.py [--device cuda] [--boards DIR] [--minutes 20]

Needs torch >= 2.11 with CUDA; the ONNX part runs on the providers that the installed onnxruntime has.
  1. training: images per second of the default config's GAN step, and its share of the matrix peak;
  2. search: a batch of tiles against one-at-a-time searches (search_speed.py);
  3. end to end: fit and evaluate on drawn boards (or `--boards`, a data set), seconds and AUROC;
  4. scoring: PyTorch and ONNX Runtime, ms per image, with parity (as `anogan benchmark`).
Writes results/gpu_check_<device>.json after each part, so that a run cut short leaves what it measured.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))  # A checkout with the machine's own packages: anogan is not installed there.

import torch  # noqa: E402

from anogan.config import Config, load_config  # noqa: E402
from anogan.errors import AnoganError  # noqa: E402
from anogan.gan.tiles import TileSource  # noqa: E402
from anogan.gan.training import GanStage  # noqa: E402
from anogan.images.sample_board import draw_board, write_sample_set  # noqa: E402
from anogan.recipes import evaluate, fit  # noqa: E402
from anogan.recipes.benchmark import benchmark  # noqa: E402
from anogan.recipes.export import export_model, some_images  # noqa: E402


def synchronise(device: torch.device) -> None:
    """Waits until the device has done what it was told, so that a clock tells the truth."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def matmul_tflops(device: torch.device, side: int) -> float:
    """bf16 matrix products per second, the peak that shares are taken of."""
    a = torch.randn(side, side, device=device, dtype=torch.bfloat16)
    for _ in range(3):
        a @ a
    synchronise(device)
    started, rounds = time.perf_counter(), 20
    for _ in range(rounds):
        a @ a
    synchronise(device)
    return 2 * side**3 * rounds / (time.perf_counter() - started) / 1e12


def training(config: Config, device: torch.device, steps: int) -> dict[str, Any]:
    """Tiles per second of the GAN stage, and of its arithmetic without drawing tiles."""
    source = TileSource([draw_board(seed, 256)[0] for seed in range(16)], config)
    stage = GanStage(config, source, source, device)
    for step in range(5):
        stage.step(step)
    synchronise(device)
    started = time.perf_counter()
    for step in range(5, 5 + steps):
        stage.step(step)
    synchronise(device)
    spent = time.perf_counter() - started
    started = time.perf_counter()
    for step in range(5, 5 + steps):
        source.damaged_batch(step, config.gan.batch_size)
    drawing = time.perf_counter() - started
    n = config.gan.batch_size
    return {
        "tiles_per_s": round(n * steps / spent, 1),
        "ms_per_step": round(1000 * spent / steps, 2),
        "of_which_ms_drawing_tiles": round(1000 * drawing / steps, 2),
        "batch": n,
    }


def end_to_end(config: Config, boards: Path, model: Path) -> dict[str, Any]:
    """Seconds to fit, and the figures on the test part."""
    started = time.perf_counter()
    fit(boards, model, config)
    fitted = time.perf_counter() - started
    figures = evaluate(boards, model).to_dict()
    kept = ("image_auroc", "accuracy", "pixel_auroc", "aupro", "false_reject_rate", "ms_per_image")
    return {"fit_seconds": round(fitted, 1), **{name: figures[name] for name in kept}}


def search(device: str) -> dict[str, Any]:
    """What search_speed.py prints on this device."""
    command = [sys.executable, str(HERE / "search_speed.py"), "--device", device]
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        subprocess.run([*command, "--out", folder], check=True, env=environment, stdout=subprocess.DEVNULL)
        found: dict[str, Any] = json.loads((Path(folder) / f"search_speed_{device}.json").read_text("utf-8"))
    return found


def scoring(model: Path, boards: Path, work: Path) -> list[dict[str, Any]]:
    """Rows of `anogan benchmark`."""
    exported = work / "scorer.onnx"
    export_model(exported, model, data=boards)
    images = some_images(model, boards, 16)
    rows: list[dict[str, Any]] = benchmark(model, exported, images, batches=(1, 16)).to_dict()["rows"]
    return rows


def main() -> None:
    """Runs the parts in order."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"), help="cpu: a rehearsal")
    parser.add_argument("--boards", type=Path, help="a data set with good/ and test/; else boards are drawn")
    parser.add_argument("--config", type=Path, default=ROOT / "configs" / "demo.yaml")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings")
    parser.add_argument("--steps", type=int, default=50, help="training steps to time")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit(f"torch {torch.__version__} finds no CUDA GPU; run this on a machine that has one.")
    device = torch.device(arguments.device)
    on_gpu = device.type == "cuda"
    result: dict[str, Any] = {
        "machine": torch.cuda.get_device_name(device) if on_gpu else "CPU (rehearsal)",
        "torch": torch.__version__,
        "config": arguments.config.name,
        "settings": arguments.settings,
    }

    def keep(part: str, found: Any) -> None:
        result[part] = found
        print(json.dumps({part: found}, indent=1), flush=True)
        arguments.out.mkdir(parents=True, exist_ok=True)
        path = arguments.out / f"gpu_check_{device.type}.json"
        path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")

    settings = [*arguments.settings, f"runtime.device={device.type}"]
    try:
        config = load_config(arguments.config, settings)
        keep("matmul_bf16_tflops", round(matmul_tflops(device, 8192 if on_gpu else 512), 3))
        keep("training", training(config, device, arguments.steps))
        keep("search", search(device.type))
        with tempfile.TemporaryDirectory() as folder:
            work = Path(folder)
            boards = arguments.boards
            if boards is None:
                boards = work / "boards"
                write_sample_set(boards)
            keep("end_to_end", end_to_end(config, boards, work / "model"))
            keep("scoring", scoring(work / "model", boards, work))
    except AnoganError as error:
        raise SystemExit(f"Error: {error}") from None


if __name__ == "__main__":
    main()
