"""What is wrong with a folder of photographs, before hours of training on it.

`examine` reads every image once, keeps a small `Look` of each, and lets one function per kind of fault
search these.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from anogan.config import Config, ImagesConfig
from anogan.errors import ImageError
from anogan.images.doctor_findings import FINDERS, Finding, Folder, Severity
from anogan.images.doctor_looks import Look, take_look
from anogan.images.folders import GOOD, Dataset, passed_over, passed_over_sentence, scan_dataset

__all__ = ["DoctorReport", "Finding", "Severity", "examine"]

_ORDER: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True)
class DoctorReport:
    """All that was found, errors first.

    Attributes:
        root: The folder.
        n_good: Good images to train on, unreadable ones included.
        n_test: Test images.
        findings: Empty for a clean folder.
    """

    root: Path
    n_good: int
    n_test: int
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """No finding is an error."""
        return all(finding.severity != "error" for finding in self.findings)

    def to_dict(self) -> dict[str, object]:
        """Plain JSON types; paths are relative to `root`."""
        return {
            "root": str(self.root),
            "ok": self.ok,
            "n_good": self.n_good,
            "n_test": self.n_test,
            "findings": [
                {
                    "kind": finding.kind,
                    "severity": finding.severity,
                    "message": finding.message,
                    "paths": [path.relative_to(self.root).as_posix() for path in finding.paths],
                }
                for finding in self.findings
            ],
        }


def examine(root: Path, *, seed: int = 0, config: Config | None = None) -> DoctorReport:
    """Looks for what would spoil training or make its figures wrong.

    Args:
        root: A folder in one of the layouts of `scan_dataset`.
        seed: Of the split into training and calibration images, as for `fit`.
        config: The settings that `fit` would use; without them the defaults, and any channels and bit depth.

    Returns:
        The findings, errors first. Kinds: unreadable, too-small, mixed-sizes, shrunk, mixed-modes,
        wrong-mode, unused-bits, too-bright, leak, near-leak, duplicate, near-duplicate, blank, outlier,
        blurred, over-exposed, under-exposed, too-few, passed-over.

    Raises:
        DataError: The folder is missing, empty or of no known layout.
    """
    dataset = scan_dataset(root)
    looks, findings = _look_at_all(dataset, None if config is None else config.images)
    folder = Folder(root, looks, config or Config(), seed, dataset.variants)
    for finder in FINDERS:
        findings.extend(finder(folder))
    if paths := passed_over(dataset):
        findings.append(Finding("passed-over", "warning", passed_over_sentence(dataset, paths), paths))
    findings.sort(key=lambda finding: _ORDER.index(finding.severity))
    return DoctorReport(root, len(dataset.good), len(dataset.test), tuple(findings))


def _look_at_all(dataset: Dataset, config: ImagesConfig | None) -> tuple[list[Look], list[Finding]]:
    looks, findings = [], []
    parts = [(path, GOOD) for path in dataset.good]
    parts += [(sample.path, f"test/{sample.kind}") for sample in dataset.test]
    for path, part in parts:
        try:
            looks.append(take_look(path, part, config))
        except ImageError as error:
            findings.append(Finding("unreadable", "error", str(error), (path,)))
    return looks, findings
