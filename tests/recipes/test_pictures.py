"""The pictures that a model keeps show what belongs together side by side."""

from anogan.gan.loop import History
from anogan.recipes.pictures import _curves


def test_training_and_held_out_errors_share_a_panel_and_other_figures_stay_out() -> None:
    gan, head = History(), History()
    gan.add(1, {"reconstruction": 0.3, "held_out_reconstruction": 0.4, "distinct_images": 60.0})
    head.add(1, {"head_loss": 0.9})

    curves = _curves({"gan": gan, "head": head})

    assert curves["reconstruction error/training tiles"] == [(1, 0.3)]
    assert curves["reconstruction error/held-out tiles"] == [(1, 0.4)]
    assert curves["loss of the head/training tiles"] == [(1, 0.9)]
    assert len(curves) == 3
