"""The comparison's page says what the comparison says, in one file, to a person."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from anogan.errors import DataError
from anogan.metrics.comparison import Comparison, Outcome, Role, Spread, compare_outcomes
from anogan.report.comparison import (
    best_rows,
    deviation_text,
    mean_text,
    range_text,
    write_comparison_report,
)
from anogan.report.plots import seed_dots


def _outcome(name: str, auroc: float, seed: int, role: Role = "model") -> Outcome:
    figures = {
        "image_auroc": auroc,
        "accuracy": auroc - 0.1,
        "false_reject_rate": 0.01 * seed,
        "ms_per_image": 12.34,
        "training_seconds": 100.0,
    }
    return Outcome(name, "板 <pcb>", role, seed, figures, {"short": auroc, "open": auroc - 0.2})


@pytest.fixture
def comparison() -> Comparison:
    outcomes = [_outcome("demo", 0.9 + 0.02 * seed, seed) for seed in range(3)]
    outcomes += [_outcome("patch PCA", 0.95, seed, "baseline") for seed in range(3)]
    return compare_outcomes([*outcomes, Outcome("broken", "板 <pcb>", "model", 0, error="it diverged.")])


def test_rates_are_percent_areas_have_three_digits_and_one_seed_has_no_spread() -> None:
    several, single = Spread(0.9876, 0.0123, 0.97, 0.99, 3), Spread(0.9876, 0.0, 0.9876, 0.9876, 1)

    assert (mean_text("image_auroc", several), deviation_text("image_auroc", several)) == ("0.988", "± 0.012")
    assert (mean_text("accuracy", several), range_text("accuracy", several)) == ("98.8 %", "97 % to 99 %")
    assert (deviation_text("accuracy", single), range_text("accuracy", single)) == ("", "")
    assert mean_text("ms_per_image", Spread(12.34, 0, 12.34, 12.34, 1)) == "12.3"
    assert mean_text("aupro", None) == "–"


def test_the_best_is_the_least_where_less_is_better_and_means_that_read_alike_share_it() -> None:
    found = {"a": (0.99962, 5.0), "b": (1.0, 9.0), "c": (0.999, 7.0), "d": (None, None)}
    rows = compare_outcomes(
        [
            Outcome(name, "pcb", "model", 0, {"image_auroc": auroc, "ms_per_image": ms})
            for name, (auroc, ms) in found.items()
        ]
    ).rows

    assert best_rows(rows, "image_auroc") == {"a", "b"}
    assert best_rows(rows, "ms_per_image") == {"a"}
    assert best_rows(rows, "aupro") == set()


def test_the_page_holds_verdicts_figures_kinds_and_failures(comparison: Comparison, tmp_path: Path) -> None:
    page = write_comparison_report(tmp_path / "compare.html", comparison).read_text("utf-8")

    assert "no AnoGAN here that could be measured (broken failed) beats the baseline patch PCA" in page
    assert "<b>0.920</b>" in page
    assert "± 0.020" in page
    assert "0.900 to 0.940" in page
    assert "it diverged." in page
    assert page.index(">open<") < page.index(">short<")  # The hardest kind comes first.


def test_the_best_mean_of_each_column_is_marked_and_no_other(comparison: Comparison, tmp_path: Path) -> None:
    page = write_comparison_report(tmp_path / "compare.html", comparison).read_text("utf-8")
    marked = re.findall(r'<td class="n best"><b>([^<]+)</b>', page)

    # Means of demo and of patch PCA; both are alike in time and rejected good parts.
    assert marked == ["1 %", "12.3", "100", "0.950", "85 %", "1 %", "12.3", "100"]


def test_names_from_outside_cannot_become_markup_and_nothing_is_loaded(
    comparison: Comparison, tmp_path: Path
) -> None:
    page = write_comparison_report(tmp_path / "compare.html", comparison).read_text("utf-8")

    assert "板 &lt;pcb&gt;" in page
    assert "<pcb>" not in page
    assert not re.search(r"https?:|@import|url\(|<script", page)


def test_what_limits_the_figures_stands_below_their_table(tmp_path: Path) -> None:
    doubted = replace(_outcome("demo", 0.9, 0), doubtful="It <b>collapsed</b>.", n_defect=3, n_masked=2)
    lost = Outcome("demo", "板 <pcb>", "model", 1, error="memory.")
    other = replace(_outcome("PCA", 0.8, 0, "baseline"), n_defect=3, n_masked=2)
    elsewhere = replace(_outcome("demo", 0.9, 0), data="tiles", n_defect=3, n_masked=3)
    outcomes = [doubted, lost, other, elsewhere]
    page = write_comparison_report(tmp_path / "compare.html", compare_outcomes(outcomes)).read_text("utf-8")

    assert "<strong>demo is doubtful:</strong> seed 0: It &lt;b&gt;collapsed&lt;/b&gt;.</p>" in page
    assert "the training of demo is doubtful" in page
    assert page.count("defective images have a mask") == 1
    assert "2 of 3 defective images have a mask" in page
    assert re.findall(r"</td><td class=\"n\">([^<]+)</td>\n", page) == ["1 of 2", "1", "1"]


def test_a_comparison_where_all_failed_is_still_a_page(tmp_path: Path) -> None:
    failed = compare_outcomes([Outcome("demo", "pcb", "model", 0, error="no images.")])
    page = write_comparison_report(tmp_path / "compare.html", failed).read_text("utf-8")

    assert "no images." in page
    assert "<img" not in page


def test_more_entrants_give_a_higher_plot_and_none_is_refused() -> None:
    def height(png: bytes) -> int:
        return int.from_bytes(png[20:24], "big")

    groups = {f"entrant {i} $x_{i}": [0.5, 0.6 + i / 100] for i in range(9)}
    first = dict(list(groups.items())[:2])

    assert height(seed_dots(groups, set(), "AUPRO")) > height(seed_dots(first, set(first), "AUPRO"))
    with pytest.raises(DataError, match="no finite value"):
        seed_dots({"demo": [float("nan")]}, set(), "AUPRO")
