"""`anogan benchmark`."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from anogan.cli._folders import make_folder
from anogan.cli._model import is_exported, require_model
from anogan.cli._options import JsonOption, ModelOption
from anogan.cli._terminal import print_note, stdout
from anogan.errors import ConfigError, DataError, ImageError, StorageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from anogan.recipes.benchmark import Benchmark

NAME = "benchmark"
EXAMPLE = "anogan benchmark anogan-model --batch 1,16 --out speed"
_IMAGES = 8


def command(
    model: Annotated[
        Path | None,
        typer.Argument(
            help="Model folder, or an exported .onnx file.", show_default="$ANOGAN_MODEL, else anogan-model"
        ),
    ] = None,
    named: ModelOption = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data", "-d", help="Images to score.", show_default="what the model was fitted or calibrated on"
        ),
    ] = None,
    batch: Annotated[str, typer.Option(metavar="N,N,...", help="Images per call.")] = "1,4,16",
    compiled: Annotated[bool, typer.Option("--compiled", help="Measure torch.compile as well.")] = False,
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads.", show_default="every core")
    ] = None,
    seconds: Annotated[float, typer.Option(min=0, help="Time for each measurement.")] = 2.0,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for benchmark.json and benchmark.png.")
    ] = None,
    json_: JsonOption = False,
) -> None:
    """Measure how fast a model scores here, in PyTorch and in ONNX Runtime, and whether they agree."""
    batches = _numbers(batch)
    if model is not None and named is not None:
        raise ConfigError(f"{model} and --model {named} were both given; choose one.")
    path = require_model(model or named, exported=True)
    if compiled and is_exported(path):
        raise ConfigError("--compiled is for a model folder; an exported file has no PyTorch to compile.")
    if out is not None:
        make_folder(out, "The benchmark", "give another --out")
    from anogan.recipes.benchmark import benchmark

    with tempfile.TemporaryDirectory() as work:
        folder, exported, images = _prepared(path, data, Path(work))
        found = benchmark(
            folder,
            exported,
            images,
            batches=batches,
            compiled=compiled,
            threads=threads,
            seconds=seconds,
            event=(lambda _: None) if json_ else print_note,
        )
    if out is not None:
        _write(out, found)
    if json_:
        typer.echo(json.dumps(found.to_dict(), allow_nan=False))
    else:
        _print(found)


def _numbers(text: str) -> list[int]:
    words = text.split(",")
    if not all(word.strip().isdecimal() and int(word) > 0 for word in words):
        raise ConfigError(f"--batch {text}: expected whole numbers from 1, such as 1,16.")
    return [int(word) for word in words]


def _prepared(path: Path, data: Path | None, work: Path) -> tuple[Path | None, Path, list[NDArray[Any]]]:
    """Model folder if any, exported file, images of one size."""
    if is_exported(path):
        from anogan.station import Scorer

        if data is None:
            raise ConfigError("An exported file knows no images; give some with --data.")
        return None, path, _alike(data, Scorer(path).read)
    from anogan.recipes.export import export_model, some_images

    images = some_images(path, data, _IMAGES)
    exported = export_model(work / "scorer.onnx", path, data=data)
    return path, exported.path, _of_one_size(images)


def _alike(data: Path, read: Any) -> list[NDArray[Any]]:
    from anogan.images.folders import find_images, scan_dataset

    in_test = [sample.path for sample in scan_dataset(data).test] if (data / "test").is_dir() else []
    found: list[NDArray[Any]] = []
    for path in in_test or find_images([data]):  # A data set's masks are no photographs.
        try:
            found.append(read(path))
        except ImageError as error:
            print_note(f"{error} It is left out.")
        if len(found) == _IMAGES:
            break
    return _of_one_size(found)


def _of_one_size(images: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
    alike = [image for image in images if image.shape == images[0].shape]
    if not alike:
        raise DataError("There is no image to score; give some with --data.")
    return alike


def _write(folder: Path, found: Benchmark) -> None:
    from anogan.report.speed import speed_plot

    rows = [(f"{r.runtime} {r.device} {r.precision}", r.batch, r.images_per_s) for r in found.rows]
    try:
        text = json.dumps(found.to_dict(), indent=1, allow_nan=False)
        (folder / "benchmark.json").write_text(text + "\n", encoding="utf-8")
        (folder / "benchmark.png").write_bytes(speed_plot(rows))
    except OSError as error:
        raise StorageError(f"{folder} cannot be written ({error.strerror}); give another --out.") from error


def _print(found: Benchmark) -> None:
    out = stdout()
    height, width = found.image_size
    out.print(f"{found.model}, images of {width}x{height}, on {found.machine['processor']}", style="bold")
    # Narrow enough for 80 columns: a cut figure is no figure.
    table = Table(box=None, pad_edge=False, collapse_padding=True, padding=(0, 2))
    for name in ("runtime", "batch", "p50 ms", "p99 ms", "images/s", "MB", "of peak", "differs"):
        table.add_column(name, justify="left" if name == "runtime" else "right", no_wrap=True)
    for row in found.rows:
        table.add_row(
            f"{row.runtime} {row.device} {row.precision}",
            str(row.batch),
            f"{row.ms_p50:.1f}",
            f"{row.ms_p99:.1f}",
            f"{row.images_per_s:.2f}",
            "-" if row.peak_memory_mb is None else f"{row.peak_memory_mb:.0f}",
            "-" if row.matmul_share is None else f"{row.matmul_share:.0%}",
            f"{row.score_difference:.1e}",
        )
    out.print(table)
    out.print(
        "ms are per image, MB the peak memory; `of peak` is the share of this machine's own float32 matrix "
        "product, `differs` the greatest difference from the first row's scores, as a share of the score."
    )
