"""Models, configs and baselines side by side, over data sets and seeds."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anogan import __version__
from anogan.bundle import MANIFEST, load_bundle, read_manifest
from anogan.config import Config
from anogan.errors import AnoganError, ConfigError, DataError, is_out_of_memory
from anogan.files import write_json
from anogan.gan.device import pick_device, set_threads
from anogan.gan.tiles import load_images
from anogan.images.folders import Dataset, scan_dataset
from anogan.metrics.comparison import FIGURES, Comparison, Outcome, Role, compare_outcomes
from anogan.recipes.calibrate import calibrate_scorer
from anogan.recipes.evaluation import EvaluationRun, evaluate, evaluate_scorer
from anogan.recipes.fitting import fit
from anogan.recipes.good_images import (
    aligner_for,
    hashes_of,
    laid_in_place,
    network_image_size,
    pixel_aspect,
    readable_digest,
    refuse_leak,
)
from anogan.recipes.shared_stages import SharedStages
from anogan.recipes.training import Reporter
from anogan.recipes.variants import split_dataset
from anogan.recipes.work_folder import deciding_settings
from anogan.report.comparison import write_comparison_report
from anogan.scoring.baselines import BASELINES, BaselineScorer, fit_baseline

REPORT, TABLE = "compare.html", "compare.json"
_REMEMBERED = {"figures", "per_kind", "n_defect", "n_masked"}


@dataclass(frozen=True)
class FittedEntrant:
    """A model folder, evaluated as it is."""

    name: str
    path: Path


@dataclass(frozen=True)
class ConfigEntrant:
    """A config, fitted for each data set and seed; `config_of` gives it for a data folder."""

    name: str
    config_of: Callable[[Path], Config]


Entrant = FittedEntrant | ConfigEntrant
Measured = tuple[EvaluationRun, float | None]  # With the seconds of training, where they are known.


@dataclass(frozen=True)
class _Job:
    """One cell of the comparison: an entrant on a data set with a seed."""

    name: str
    role: Role
    seed: int
    dataset: Dataset
    measure: Callable[[], Measured]
    key: str | None = None  # What its outcome depends on; None is never remembered.


@dataclass
class _Session:
    """What all jobs share."""

    work: Path
    reporter: Reporter
    digests: dict[Path, str] = field(default_factory=dict)

    def digest(self, *things: object) -> str:
        """Of settings and of the contents of images."""
        return hashlib.sha256(repr((__version__, *map(self._plain, things))).encode()).hexdigest()[:16]

    def on_image(self, _: str, done: int, total: int) -> None:
        self.reporter.progress("scoring", done, total, {})

    def _plain(self, thing: object) -> object:
        if isinstance(thing, Config):
            return deciding_settings(thing)
        if isinstance(thing, tuple):
            return [self._file(path) for path in thing]
        return thing

    def _file(self, path: Path) -> str:
        if path not in self.digests:
            self.digests[path] = readable_digest(path) or "unreadable"
        return self.digests[path]


def compare_entrants(
    entrants: Sequence[Entrant],
    data: Sequence[Path],
    *,
    seeds: Sequence[int] = (0, 1, 2),
    baselines: bool = False,
    work: Path,
    reporter: Reporter | None = None,
) -> Comparison:
    """Fits what is not fitted yet, evaluates everything the same way, writes the table.

    Below `work` lie `compare.html`, `compare.json`, the models and the stages of their training. A later call
    with the same settings and images takes the models from there, so an interrupted comparison goes on where
    it was. Configs that differ only in what a stage does not read share it: two scores of one GAN are
    compared on that GAN. A run that fails is told in the table and the others go on.

    Args:
        entrants: With names of their own.
        data: Data sets with `good/` and `test/`.
        seeds: Of split and training, for configs and baselines.
        baselines: Compare `BASELINES` as well, with the settings of the first entrant.
        work: Folder for report and models.
        reporter: Told about progress and events.

    Raises:
        ConfigError: Names repeat, a data or model folder is named twice, or a config is wrong.
        DataError: A data set has no labelled test images.
        BundleError: A model folder is missing or damaged.
        StorageError: The report cannot be written.
    """
    _require_names(entrants)
    _refuse_twice("data", data)
    _refuse_twice("model", [entrant.path for entrant in entrants if isinstance(entrant, FittedEntrant)])
    session = _Session(work, reporter or Reporter())
    sets = [_labelled(folder) for folder in data]
    jobs = [job for dataset in sets for job in _jobs(session, entrants, dataset, seeds, baselines)]
    names = _names_of(data)
    outcomes: list[Outcome] = []
    for index, job in enumerate(jobs):
        name = names[job.dataset.root]
        session.reporter.event(f"{index + 1} of {len(jobs)}: {job.name} on {name}, seed {job.seed}.")
        outcomes.append(_outcome(session, job, name))
        # After each: hours of work are readable before the last of them.
        comparison = compare_outcomes(outcomes)
        _write(work, comparison)
    return comparison


def _write(work: Path, comparison: Comparison) -> None:
    write_json(work / TABLE, {"package_version": __version__, **comparison.to_dict()})
    write_comparison_report(work / REPORT, comparison)


def _require_names(entrants: Sequence[Entrant]) -> None:
    names = [entrant.name for entrant in entrants]
    repeated = sorted({name for name in names if names.count(name) > 1} | set(BASELINES) & set(names))
    if repeated or not names:
        raise ConfigError(
            f"Two entrants are called {repeated[0]!r}; give each a name of its own."
            if repeated
            else "There is nothing to compare; name model folders or configs."
        )


def _refuse_twice(what: str, folders: Sequence[Path]) -> None:
    """One folder by two names: its figures would look like those of a repeated experiment."""
    seen: dict[Path, Path] = {}
    for folder in folders:
        where = folder.resolve()
        if where in seen:
            also = "" if str(seen[where]) == str(folder) else f", first as {seen[where]}"
            raise ConfigError(f"The {what} folder {folder} is named twice{also}; name it once.")
        seen[where] = folder


def _names_of(data: Sequence[Path]) -> dict[Path, str]:
    """The folders' own names, or whole paths where these repeat."""
    names = [folder.resolve().name for folder in data]
    return {f: n if names.count(n) == 1 else str(f) for f, n in zip(data, names, strict=True)}


def _labelled(folder: Path) -> Dataset:
    dataset = scan_dataset(folder)
    if not dataset.test:
        raise DataError(
            f"{folder} has no test images to compare by; expected test/good/ and test/<defect kind>/."
        )
    return dataset


def _jobs(
    session: _Session, entrants: Sequence[Entrant], dataset: Dataset, seeds: Sequence[int], baselines: bool
) -> Iterator[_Job]:
    for entrant in entrants:
        if isinstance(entrant, FittedEntrant):
            seed = int(read_manifest(entrant.path)["config"]["seed"])
            yield _fitted_job(session, entrant.name, seed, dataset, entrant.path)
            continue
        config = entrant.config_of(dataset.root)
        for seed in seeds:
            yield _config_job(session, entrant.name, config.model_copy(update={"seed": seed}), dataset)
    if not baselines:
        return
    config = _settings_of(entrants[0], dataset.root)
    for name in BASELINES:
        for seed in seeds:
            yield _baseline_job(session, name, config.model_copy(update={"seed": seed}), dataset)


def _settings_of(entrant: Entrant, folder: Path) -> Config:
    return (
        load_bundle(entrant.path).config if isinstance(entrant, FittedEntrant) else entrant.config_of(folder)
    )


def _fitted_job(session: _Session, name: str, seed: int, dataset: Dataset, path: Path) -> _Job:
    def measure() -> Measured:
        run = evaluate(dataset.root, path, on_image=session.on_image)
        if run.doubtful is not None:
            session.reporter.event(f"{name}, seed {seed}: {run.doubtful}")
        seconds = read_manifest(path)["metadata"].get("training_seconds")
        return run, None if seconds is None else float(seconds)

    return _Job(name, "model", seed, dataset, measure)


def _config_job(session: _Session, name: str, config: Config, dataset: Dataset) -> _Job:
    def measure() -> Measured:
        label = f"{_file_name(name)}-seed{config.seed}-{session.digest(config, dataset.good)}"
        path = session.work / "models" / label
        if (path / MANIFEST).is_file():
            session.reporter.event(f"Taken from {path}, fitted earlier; delete it to fit it again.")
        else:
            begun = path.with_name(f"{label}.checkpoints").is_dir()
            stages = SharedStages(session.work / "stages")
            fit(dataset.root, path, config, resume=begun, reporter=session.reporter, stages=stages)
        return _fitted_job(session, name, config.seed, dataset, path).measure()

    return _Job(name, "model", config.seed, dataset, measure)


def _baseline_job(session: _Session, name: str, config: Config, dataset: Dataset) -> _Job:
    def measure() -> Measured:
        scorer, seconds = _fit_baseline(session, name, config, dataset)
        return evaluate_scorer(scorer, dataset.test, session.on_image), seconds

    masks = [sample.mask_path for sample in dataset.test if sample.mask_path is not None]
    tests = (*(sample.path for sample in dataset.test), *masks)
    kinds = [(sample.kind, sample.mask_path is not None) for sample in dataset.test]
    key = f"{_file_name(name)}-seed{config.seed}-{session.digest(config, dataset.good, tests, kinds)}"
    return _Job(name, "baseline", config.seed, dataset, measure, key)


def _fit_baseline(
    session: _Session, name: str, config: Config, dataset: Dataset
) -> tuple[BaselineScorer, float]:
    """On the images that a model would be fitted on, calibrated on those that would calibrate it."""
    started = time.monotonic()
    split = split_dataset(dataset, config)
    refuse_leak(dataset, hashes_of(split))
    size = network_image_size(split, config)
    images, errors = load_images(split.train, config, size)
    if errors:
        first = next(iter(errors.values()))
        raise DataError(f"{len(errors)} of {len(split.train)} good images cannot be used; the first: {first}")
    set_threads(config.runtime)
    aligner = aligner_for(config, images, pixel_aspect(split.train, size))
    baseline = fit_baseline(
        name,
        laid_in_place(images, aligner, session.reporter.event),
        config,
        pick_device(config.runtime),
        lambda done, total: session.reporter.progress(f"training {name}", done, total, {}),
    )
    scorer = BaselineScorer(baseline, config, size, aligner=aligner)
    calibration = calibrate_scorer(scorer, split.early_stop, split.calibrate)
    if (warning := calibration.outlier_warning()) is not None:
        session.reporter.event(f"{name}: {warning}")
    return scorer.with_calibration(calibration), round(time.monotonic() - started, 1)


def _outcome(session: _Session, job: _Job, data: str) -> Outcome:
    remembered = session.work / "baselines" / f"{job.key}.json"
    if job.key is not None and (known := _recall(remembered)) is not None:
        return Outcome(job.name, data, job.role, job.seed, **known)
    try:
        run, seconds = job.measure()
    except Exception as error:
        if not isinstance(error, AnoganError | OSError) and not is_out_of_memory(error):
            raise
        # A large entrant may fill the memory, or a disk; hours of the others are not lost by it.
        told = str(error) if isinstance(error, AnoganError) else f"{type(error).__name__}: {error}"
        session.reporter.event(f"{job.name} failed: {told}")
        return Outcome(job.name, data, job.role, job.seed, error=told)
    figures = {**run.figures(), "training_seconds": seconds}
    found = Outcome(
        job.name,
        data,
        job.role,
        job.seed,
        {name: figures[name] for name in FIGURES},
        {kind: row["image_auroc"] for kind, row in run.evaluation.per_kind.items()},
        unscored=len(run.errors),
        doubtful=run.doubtful,
        n_defect=run.evaluation.n_defect,
        n_masked=run.evaluation.n_masked,
    )
    if run.errors:
        session.reporter.event(
            f"{len(run.errors)} test images could not be scored: {next(iter(run.errors.values()))}"
        )
    elif job.key is not None:
        write_json(
            remembered, {name: value for name, value in found.to_dict().items() if name in _REMEMBERED}
        )
    return found


def _recall(path: Path) -> Mapping[str, Any] | None:
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None  # Not there, or cut short: it is measured again.
    return tree if isinstance(tree, dict) and tree.keys() == _REMEMBERED else None  # Else of another version.


def _file_name(name: str) -> str:
    """The name with what no file name may hold replaced."""
    return "".join(c if c.isalnum() or c in "-_" else "-" for c in name)[:40]
