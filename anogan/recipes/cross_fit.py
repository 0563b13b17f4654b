"""Whether the images that trained a model may help to set its threshold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from anogan.calibration import Calibration, outliers
from anogan.scoring.judge import Judge

_UNLIKE = 0.05  # Probability by chance of what is taken for a difference.
_MARGIN = 0.25  # Of the interquartile range of held-out images.


@dataclass(frozen=True)
class Crossed:
    """Images that trained the networks, and the model without what it knows of these images.

    Attributes:
        scorer: Differs from the model in its memory alone.
        paths: The images.
    """

    scorer: Judge
    paths: Sequence[Path]


def why_not_together(together: Calibration) -> str | None:
    """Why the scores of training images may not set the threshold beside those of held-out ones.

    Networks that know their images by heart score them lower, and a threshold of such scores would reject
    more good parts than it promises. Two one-sided tests at 5 %: Mann and Whitney's, of all scores less a
    margin, and a binomial one, of held-out images above the common threshold.

    Args:
        together: The calibration by both. Of a part that several photographs show the highest score counts
            here as there.

    Returns:
        The reason, as the beginning of a sentence; None where no test finds one.
    """
    from scipy.stats import binomtest, mannwhitneyu  # Here: slow to import.

    scores, known = np.array(together.scores), np.array(together.trained, np.bool_)
    trained, held_out = scores[known], scores[~known]
    lower, upper = np.percentile(held_out, [25, 75])
    # What networks learn of each image lowers its score a little; that little hardly moves a threshold.
    nearly = trained + _MARGIN * (upper - lower)
    if (chance := float(mannwhitneyu(nearly, held_out, alternative="less").pvalue)) < _UNLIKE:
        return (
            f"The images that trained the networks score lower than the {len(held_out)} held-out ones "
            f"(probability by chance {chance:.2g})"
        )
    counted = scores[~known & ~outliers(scores)] if together.leave_out_outliers else held_out
    above, rate = int((counted > together.threshold).sum()), together.estimate.requested
    if binomtest(above, len(counted), rate, alternative="greater").pvalue < _UNLIKE:
        return (
            f"{above} of {len(counted)} held-out images score above the threshold that training and held-out "
            f"images have together, far more than {rate:.3g} of them"
        )
    return None
