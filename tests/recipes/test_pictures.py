"""The pictures that a model keeps show what belongs together side by side."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from anogan.gan.loop import History
from anogan.recipes.models import load_scorer
from anogan.recipes.pictures import _curves, _drawn_defects
from anogan.report.overlay import DEFECT_COLOUR
from anogan.scoring import Scorer


def test_training_and_held_out_errors_share_a_panel_and_other_figures_stay_out() -> None:
    gan, head = History(), History()
    gan.add(1, {"reconstruction": 0.3, "held_out_reconstruction": 0.4, "distinct_images": 60.0})
    head.add(1, {"head_loss": 0.9})

    curves = _curves({"gan": gan, "head": head})

    assert curves["reconstruction error/training tiles"] == [(1, 0.3)]
    assert curves["reconstruction error/held-out tiles"] == [(1, 0.4)]
    assert curves["loss of the head/training tiles"] == [(1, 0.9)]
    assert len(curves) == 3


def test_what_the_head_learned_to_mark_is_shown_outlined_kind_by_kind(trained: Path) -> None:
    scorer, good = load_scorer(trained), sorted((trained.parent / "good").iterdir())[:2]

    (picture,) = _drawn_defects(scorer, good).values()
    sheet = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]

    kinds, columns, cell = (
        len(scorer.config.defects.kinds),
        6,
        96,
    )  # Tiles of 32 pixels, three times as large.
    assert sheet.shape[1] // cell == columns
    assert sheet.shape[0] // cell == 3 * kinds // columns
    outlined = (sheet == DEFECT_COLOUR).all(axis=2)
    rows, places = np.divmod(np.argwhere(outlined), [sheet.shape[0] // (3 * kinds // columns), cell + 4])[0].T
    assert len(set(zip(rows.tolist(), places.tolist(), strict=True))) > 2 * kinds  # Some are hardly visible.


def test_without_a_head_no_defects_are_shown(trained: Path) -> None:
    scorer = load_scorer(trained)

    assert _drawn_defects(Scorer(replace(scorer.model, head=None)), [trained.parent / "good" / "0.png"]) == {}
