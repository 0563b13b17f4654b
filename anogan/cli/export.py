"""`anogan export`."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anogan.cli._model import EXPORTED, is_exported, require_model
from anogan.cli._options import JsonOption, ModelOption
from anogan.cli._terminal import print_note, stdout
from anogan.errors import ConfigError

if TYPE_CHECKING:
    from anogan.export import Exported
    from anogan.export.graph import Precision as ExportPrecision
    from anogan.station.manifest import StepsCalibration

NAME = "export"
EXAMPLE = "anogan export --model anogan-model --out scorer.onnx"
DEFAULT_OUT = Path("scorer.onnx")


class Precision(StrEnum):
    """Of the exported convolutions."""

    FP32 = "fp32"
    FP16 = "fp16"
    MIXED = "mixed"


def command(
    model: ModelOption = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The ONNX file to write.")] = DEFAULT_OUT,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            "-d",
            help="Images on which PyTorch and the file must agree: a folder of good ones, or one with good/ "
            "and test/. Thresholds that the export sets come from the good ones.",
            show_default="what the model was fitted or calibrated on",
        ),
    ] = None,
    precision: Annotated[
        Precision,
        typer.Option(
            help="fp16 makes a smaller file; mixed also convolves in half precision, for GPUs. Both get a "
            "threshold of their own, from held-out good images."
        ),
    ] = Precision.FP32,
    int8: Annotated[
        bool,
        typer.Option(
            "--int8",
            help="The encoder in 8 bits; its ranges and the threshold from held-out good images.",
        ),
    ] = False,
    triton: Annotated[
        Path | None, typer.Option(help="Also write a model repository for Triton Inference Server.")
    ] = None,
    single_step: Annotated[
        bool,
        typer.Option(
            "--single-step",
            help="Also write three files without a loop, for hosts that drive the search's steps themselves.",
        ),
    ] = False,
    cut_steps: Annotated[
        str | None,
        typer.Option(
            metavar="N,N,...",
            help="Fewer search steps that a station's time budget may cut to; each gets its own threshold, "
            "from held-out good images.",
            show_default="none",
        ),
    ] = None,
    json_: JsonOption = False,
) -> None:
    """Write the model, its latent search included, as one ONNX file for stations without PyTorch.

    The file is written only if it decides as PyTorch does on images that were not trained on.
    """
    steps = _numbers(cut_steps)
    if not (is_exported(out) or out.is_dir()):
        raise ConfigError(
            f"--out {out}: name a file that ends in {EXPORTED}; by that `anogan score` knows it."
        )
    path = require_model(model)
    from anogan.recipes.export import export_model

    exported = export_model(
        out,
        path,
        data=data,
        precision=_chosen(precision, int8=int8),
        cut_steps=steps,
        single_step=single_step,
        event=_silent if json_ else print_note,
    )
    if triton is not None:
        from anogan.export.triton import write_repository

        write_repository(triton, exported)
    if json_:
        typer.echo(json.dumps(_facts(exported), allow_nan=False))
    else:
        _print(exported)
        if triton is not None:
            stdout().print(f"A model repository for Triton is in {triton}.")


def _chosen(precision: Precision, *, int8: bool) -> ExportPrecision:
    if int8 and precision != Precision.FP32:
        raise ConfigError(
            f"--int8 and --precision {precision.value} were both given; an encoder in 8 bits goes with a "
            "search in fp32, so leave out one of them."
        )
    return "int8" if int8 else precision.value


def _silent(_: str) -> None:
    pass


def _numbers(text: str | None) -> list[int]:
    try:
        return [] if text is None else [int(word) for word in text.split(",")]
    except ValueError:
        raise ConfigError(f"--cut-steps {text}: expected whole numbers such as 0,5.") from None


def _facts(exported: Exported) -> dict[str, object]:
    return {
        "path": str(exported.path),
        "bytes": exported.n_bytes,
        "pieces": [str(path) for path in exported.pieces],
        "parity": exported.parity.to_dict(),
        "calibrations": [c.model_dump() for c in exported.manifest.calibrations],
    }


def _print(exported: Exported) -> None:
    out, parity = stdout(), exported.parity
    last = parity.agreements[-1]
    out.print(f"{exported.path} is written, {exported.n_bytes / 1e6:.1f} MB.", style="bold")
    but = f" but for {last.verdicts_near} at a threshold" if last.verdicts_near else ""
    out.print(
        f"On {parity.n_images} images its verdicts are those of PyTorch{but}, and its scores differ by at "
        f"most {last.score:.1e} of their value (median {last.median_score:.1e})."
    )
    whole, *cuts = exported.manifest.calibrations
    if exported.manifest.precision != "fp32":
        out.print(f"In {exported.manifest.precision} the threshold is {_promised(whole)}")
    if exported.pieces:
        names = ", ".join(path.name for path in exported.pieces)
        out.print(f"Beside it, for hosts that drive the steps: {names}.")
    for cut in cuts:
        out.print(f"With {cut.steps} search steps the threshold is {_promised(cut)}")


def _promised(calibration: StepsCalibration) -> str:
    return (
        f"{calibration.threshold:.4g}; at most {100 * calibration.false_reject:.3g} % of good parts are "
        f"rejected, from {calibration.n_good} good images."
    )
