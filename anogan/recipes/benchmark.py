"""How fast a model scores on this machine: PyTorch and ONNX Runtime, each in a process of its own.

A fresh process per measurement keeps the thread pools, caches and peak memory of one from counting for
another.
"""

from __future__ import annotations

import multiprocessing
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anogan.config import RuntimeConfig
from anogan.errors import ConfigError
from anogan.inspection import Inspection
from anogan.station.timing import MATRIX_SIDE, Job, Runtime, Timing, best_gflops, measure, measure_station


@dataclass(frozen=True)
class Row:
    """One measurement.

    Attributes:
        runtime: See `Job`.
        device: `cpu`, or the GPU's provider.
        precision: Of the arithmetic.
        batch: Images per call.
        calls: Calls measured.
        ms_p50: Milliseconds per image, median call.
        ms_p99: And 99th percentile.
        images_per_s: From the median.
        peak_memory_mb: Greatest resident memory of the process; None where the system does not tell.
        gflops: Multiply-adds times two of the networks, per second; None where they were not counted.
        matmul_share: `gflops` over what the same process multiplied float32 matrices with.
        score_difference: Greatest difference from the first row's scores, as a share of the score,
            or of 1 if that is larger.
    """

    runtime: str
    device: str
    precision: str
    batch: int
    calls: int
    ms_p50: float
    ms_p99: float
    images_per_s: float
    peak_memory_mb: float | None
    gflops: float | None
    matmul_share: float | None
    score_difference: float


@dataclass(frozen=True)
class Benchmark:
    """All measurements and the machine they were made on."""

    machine: dict[str, Any]
    model: str
    image_size: tuple[int, int]
    rows: tuple[Row, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self) | {"image_size": list(self.image_size), "rows": [asdict(r) for r in self.rows]}


def benchmark(
    folder: Path | None,
    exported: Path,
    images: Sequence[NDArray[Any]],
    *,
    batches: Sequence[int] = (1, 4, 16),
    compiled: bool = False,
    threads: int | None = None,
    seconds: float = 2.0,
    event: Callable[[str], None] = lambda _: None,
) -> Benchmark:
    """Measures every runtime and device that is here.

    Args:
        folder: The model folder; None measures ONNX Runtime alone.
        exported: The file that was exported from it.
        images: Images to score, all of one size.
        batches: Images per call.
        compiled: Whether torch.compile is measured too; compiling takes half a minute.
        threads: CPU threads; None is every core.
        seconds: Time for each measurement.
        event: Told what is being measured.

    Raises:
        ConfigError: A batch size is below 1.
    """
    if not batches or min(batches) < 1:
        raise ConfigError(f"Batch sizes are {list(batches)}; expected numbers from 1.")
    with tempfile.TemporaryDirectory() as work:
        stored = Path(work) / "images.npy"
        np.save(stored, np.stack(images))
        jobs = [
            Job(runtime, device, path, batch, stored, seconds, threads)
            for runtime, device, path in _contenders(folder, exported, compiled=compiled)
            for batch in batches
        ]
        found = []
        for job in jobs:
            event(f"measuring {job.runtime} on {job.device}, batch {job.batch}")
            found.append(_in_own_process(job))
    work_per_image = None if folder is None else flops_per_image(folder, images[0].shape[:2])
    reference = found[0].scores
    rows = tuple(_row(job, f, reference, work_per_image) for job, f in zip(jobs, found, strict=True))
    height, width = images[0].shape[:2]
    return Benchmark(machine(), str(folder or exported), (height, width), rows)


def _contenders(
    folder: Path | None, exported: Path, *, compiled: bool
) -> Iterator[tuple[Runtime, str, Path]]:
    import onnxruntime

    from anogan.station.session import AUTOMATIC, PROVIDERS

    if folder is not None:
        import torch

        for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
            yield "pytorch", device, folder
            if compiled:
                yield "compiled", device, folder
    there = onnxruntime.get_available_providers()
    for device in reversed(AUTOMATIC):
        if PROVIDERS[device] in there:
            yield "onnx", device, exported


def _in_own_process(job: Job) -> Timing:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
        return pool.submit(measure_station if job.runtime == "onnx" else measure_torch, job).result()


def measure_torch(job: Job) -> Timing:
    """Times a model folder in PyTorch, in this process."""
    import torch

    from anogan.recipes.models import load_scorer

    device: Any = job.device
    scorer = load_scorer(job.path, runtime=RuntimeConfig(device=device, threads=job.threads))
    if job.runtime == "compiled":
        objective, model = scorer._inverter.objective, scorer.model
        for module in (objective.generator, *objective.stages, model.networks.encoder, model.head):
            if module is not None:
                module.compile()
    a = torch.randn(MATRIX_SIDE, MATRIX_SIDE, device=job.device)
    # Reading one value waits for the device.
    variant = next(iter(scorer.config.network.variants), None)

    def score(images: list[NDArray[Any]]) -> list[Inspection]:
        return scorer.score(images, variant)

    return measure(job, score, "fp32", lambda: best_gflops(lambda: float((a @ a)[0, 0])))


def _row(job: Job, found: Timing, reference: Sequence[float], flops: float | None) -> Row:
    median = float(np.median(found.ms))
    differences = [abs(a - b) / max(1, abs(b)) for a, b in zip(found.scores, reference, strict=True)]
    gflops = None if flops is None else flops / median * 1000 / 1e9
    on_gpu = job.device != "cpu"
    share = None if gflops is None or (on_gpu and job.runtime == "onnx") else gflops / found.matmul_gflops
    return Row(
        runtime=job.runtime,
        device=job.device,
        precision=found.precision,
        batch=job.batch,
        calls=len(found.ms),
        ms_p50=median,
        ms_p99=float(np.percentile(found.ms, 99)),
        images_per_s=1000 / median,
        peak_memory_mb=found.peak_memory_mb,
        gflops=gflops,
        matmul_share=share,
        score_difference=max(differences),
    )


def flops_per_image(folder: Path, size: tuple[int, int]) -> float:
    """Floating-point operations of convolutions, attentions and comparisons for one image, two per product.

    Without early stop, and as if every tile had an alarm for a memory to compare: each step runs G and D (and
    pretrained features, if the search looks at them) forward and backward, each of which costs as much as the
    other, and with a mask D once more, on what is under it.
    """
    from anogan.export.layers import fold
    from anogan.export.pretrained import Pretrained
    from anogan.export.work import multiply_adds
    from anogan.images.tiling import TilePyramid
    from anogan.recipes.models import load_scorer

    scorer = load_scorer(folder)
    model, config = scorer.model, scorer.config
    tile, grid = config.tiles.size, config.network.latent_grid
    generator = multiply_adds(fold(model.networks.generator, "generator"), grid)
    hidden = multiply_adds(fold(list(model.networks.discriminator)[:-1], "discriminator"), tile)
    encoder, head = (
        0 if network is None else multiply_adds(fold(network, "network"), tile)
        for network in (model.networks.encoder, model.head)
    )
    pretrained = 0
    if model.perceptual is not None:
        shape = (config.images.channels, tile, tile)
        pretrained = multiply_adds(sum(Pretrained.of(model.perceptual, shape, 0).stages, ()), tile)
    remembered = 0 if model.memory is None else model.memory.multiply_adds(tile)
    tiles = TilePyramid(model.image_size or size, tile, config.tiles.overlap, config.tiles.scales).n_tiles
    seen = hidden if config.search.lambda_ > 0 else 0
    seen += pretrained if config.features.search_weight > 0 else 0
    once_more = seen if config.search.mask > 0 else 0
    steps = config.search.steps * (2 * (generator + seen) + once_more) + generator + 2 * seen
    evidence = generator + 2 * (hidden + pretrained) + head + remembered
    return 2.0 * tiles * (encoder + config.search.restarts * steps + evidence)


def machine() -> dict[str, Any]:
    """What the figures belong to."""
    import onnxruntime

    found: dict[str, Any] = {
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "onnxruntime": onnxruntime.__version__,
    }
    torch = sys.modules.get("torch")
    if torch is not None:
        found["torch"] = torch.__version__
        found["gpu"] = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return found


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith("model name")]
    return names[0] if names else platform.processor()
