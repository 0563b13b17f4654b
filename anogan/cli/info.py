"""`anogan info`."""

from __future__ import annotations

import json
from typing import Any

import typer

from anogan.cli._model import require_model
from anogan.cli._options import JsonOption, ModelOption
from anogan.cli._plain import finite
from anogan.cli._promise import promise_sentences
from anogan.cli._terminal import stdout

NAME = "info"
EXAMPLE = "anogan info --model anogan-model"
_SHOWN_SETTINGS = (
    "seed",
    "images",
    "tiles",
    "network",
    "gan",
    "encoder",
    "head",
    "memory",
    "search",
    "score",
)


def command(model: ModelOption = None, json_: JsonOption = False) -> None:
    """Show what a model is, what it promises, and that its files are whole."""
    path = require_model(model)
    from anogan.bundle import bundle_digest, load_bundle, read_manifest
    from anogan.calibration import Calibration

    bundle = load_bundle(path)  # Reads every file and compares its hash.
    manifest = read_manifest(path)
    calibration = None
    if bundle.calibration:
        calibration = Calibration.from_json_dict(bundle.calibration, bundle.calibration_arrays)
    promise = [] if calibration is None else promise_sentences(calibration)
    warning = None if calibration is None else calibration.estimate.warning()
    outliers = None if calibration is None else calibration.outlier_warning()
    facts = _facts(manifest) | {
        "path": str(path),
        "digest": bundle_digest(path),
        "promise": promise,
        "warning": warning,
        "outliers": outliers,
    }
    if json_:
        typer.echo(json.dumps(finite(facts), allow_nan=False))
    else:
        _print(facts)


def _facts(manifest: dict[str, Any]) -> dict[str, Any]:
    metadata = manifest["metadata"]
    data = metadata.get("data", {})
    return {
        "package_version": manifest["package_version"],
        "schema_version": manifest["schema_version"],
        "created": manifest["created"],
        "image_size": metadata.get("image_size"),
        # Hashes of images and names of parts are for `calibrate`; nobody reads thousands of them here.
        "data": {key: value for key, value in data.items() if not isinstance(value, list)}
        | {key: metadata[key] for key in ("calibration_source",) if key in metadata},
        "training": {key: metadata.get(key) for key in ("device", "torch", "training_seconds", "seed")},
        "metrics": metadata.get("metrics", {}),
        "health": metadata.get("health"),
        "calibration": {key: value for key, value in manifest["calibration"].get("estimate", {}).items()}
        | {
            "review_threshold": manifest["calibration"].get("review_threshold"),
            "limits": manifest["calibration"].get("limits", {}),
        },
        "config": manifest["config"],
        "files": manifest["files"],
        "verified": True,
    }


def _print(facts: dict[str, Any]) -> None:
    out = stdout()
    out.print(
        f"{facts['path']}, made by anogan {facts['package_version']} on {facts['created']}", style="bold"
    )
    for sentence in [*facts["promise"], facts["warning"], facts["outliers"]]:
        if sentence is not None:
            out.print(sentence)
    size = facts["image_size"]
    images = "of any size" if size is None else f"of {size[1]}x{size[0]} pixels"
    rows = {"images": f"{images}, {_pairs(facts['config']['images'])}", "data": _pairs(facts["data"])}
    rows |= {"training": _pairs(facts["training"]), "metrics": _pairs(facts["metrics"])}
    limits = facts["calibration"]["limits"]
    ranges = [f"{name} {low:.3g} to {high:.3g}" for name, (low, high) in limits.items()]
    rows["limits"] = ", ".join(ranges) or "none: images unlike all good ones are not told"
    if facts["health"] is not None:
        from anogan.gan.alarms import health_sentence
        from anogan.gan.keeping import kept_sentence

        rows["health"] = health_sentence(facts["health"])
        if "kept" in facts["health"]:
            rows["kept"] = kept_sentence(facts["health"]["kept"])
    settings = facts["config"]
    rows |= {key: _plain(settings[key]) for key in _SHOWN_SETTINGS if key in settings and key != "images"}
    for name, text in rows.items():
        out.print(f"  {name:<10} {text}")
    total = sum(entry["bytes"] for entry in facts["files"].values())
    out.print(f"  {'files':<10} {len(facts['files'])}, {total / 1e6:.1f} MB, every SHA-256 verified")
    for name, entry in facts["files"].items():
        out.print(f"    {entry['sha256'][:12]}  {entry['bytes']:>10,}  {name}")


def _pairs(tree: dict[str, Any]) -> str:
    return ", ".join(f"{key} {_plain(value)}" for key, value in tree.items())


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return _pairs(value)
    if value is None or isinstance(value, bool):
        return json.dumps(value)  # As in the config file.
    return f"{value:.4g}" if isinstance(value, float) else str(value)
