"""Timing a scorer in a process of its own; without torch, so that a station's memory is a station's."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from anogan.inspection import Inspection
from anogan.station.scorer import Scorer

Runtime = Literal["pytorch", "compiled", "onnx"]
Score = Callable[[list[NDArray[Any]]], list[Inspection]]
MIN_CALLS, MAX_CALLS = 3, 200
MATRIX_SIDE = 1024
_SCORES_COMPARED = 8


@dataclass(frozen=True)
class Job:
    """One thing to measure.

    Attributes:
        runtime: `pytorch` is eager, `compiled` is through torch.compile, `onnx` is ONNX Runtime.
        device: `cpu`, `cuda` or a provider's name.
        path: Model folder, or exported file for `onnx`.
        batch: Images per call.
        images: NumPy file with (n, H, W, C) pixels to take turns with.
        seconds: Calls are repeated for at least so long.
        threads: CPU threads; None is every core.
    """

    runtime: Runtime
    device: str
    path: Path
    batch: int
    images: Path
    seconds: float
    threads: int | None


@dataclass(frozen=True)
class Timing:
    """What a job took.

    Attributes:
        ms: Milliseconds per image of each call.
        scores: Of the first images, one by one.
        precision: Of the arithmetic.
        peak_memory_mb: Greatest resident memory of the process; None where the system does not tell.
        matmul_gflops: What the process reached with a float32 matrix product.
    """

    ms: tuple[float, ...]
    scores: tuple[float, ...]
    precision: str
    peak_memory_mb: float | None
    matmul_gflops: float


def measure_station(job: Job) -> Timing:
    """Times an exported file; every variant takes the same time, so the first one is measured."""
    scorer = Scorer(job.path, providers=[job.device], threads=job.threads)
    variant = next(iter(scorer.variants), None)

    def score(images: list[NDArray[Any]]) -> list[Inspection]:
        return scorer.score(images, variant)

    return measure(job, score, scorer.manifest.precision, numpy_matmul_gflops)


def measure(job: Job, score: Score, precision: str, matmul_gflops: Callable[[], float]) -> Timing:
    """Times calls of `score` after one that warms up."""
    images = np.load(job.images)
    batch = [images[i % len(images)] for i in range(job.batch)]
    score(batch)
    times: list[float] = []
    started = time.perf_counter()
    while len(times) < MIN_CALLS or (time.perf_counter() - started < job.seconds and len(times) < MAX_CALLS):
        before = time.perf_counter()
        score(batch)
        times.append(1000 * (time.perf_counter() - before) / job.batch)
    peak = peak_memory_mb()
    scores = [found.score for image in images[:_SCORES_COMPARED] for found in score([image])]
    return Timing(tuple(times), tuple(scores), precision, peak, matmul_gflops())


def best_gflops(multiply: Callable[[], object]) -> float:
    """10^9 operations per second of the best of five products of `MATRIX_SIDE` square matrices."""
    best = float("inf")
    for _ in range(5):
        before = time.perf_counter()
        multiply()
        best = min(best, time.perf_counter() - before)
    return 2 * MATRIX_SIDE**3 / best / 1e9


def numpy_matmul_gflops() -> float:
    """With NumPy's library, on the CPU."""
    a = np.random.default_rng(0).standard_normal((MATRIX_SIDE, MATRIX_SIDE)).astype(np.float32)
    return best_gflops(lambda: a @ a)


def peak_memory_mb() -> float | None:
    """Greatest resident memory of this process so far, in MB; None on Windows."""
    try:
        # Not getrusage there: it begins with the size of the process that started this one.
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1e3
    except OSError:
        pass
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3  # macOS counts bytes.
