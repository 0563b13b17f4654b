"""Score settings are picked by drawn defects alone, and only for a gain."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from anogan.bundle import load_bundle
from anogan.config import Config, config_from_dict
from anogan.gan.networks import build_networks
from anogan.images.decode import write_image
from anogan.images.registration import Aligner, grey
from anogan.recipes import selection as selecting
from anogan.recipes.fitting import fit
from anogan.recipes.models import scorer_of
from anogan.recipes.score_trial import (
    FOLDS,
    GROUPS,
    MAX_COPIES,
    MIN_PARTS,
    ScoreTrial,
    jackknife_error,
    shown,
)
from anogan.recipes.selection import (
    TOLERANCE,
    MemoryTrial,
    ScoreSelection,
    with_score_settings,
)
from anogan.recipes.training import Reporter
from anogan.scoring import Model, Scorer
from anogan.scoring.head_network import build_head
from anogan.scoring.memory import Memory
from tests.recipes.fits import Listener
from tests.tiny import no_pictures, write_parts

TINY: dict[str, Any] = {
    "tiles": {"size": 32, "overlap": 8},
    "network": {"latent_dim": 4, "latent_grid": 8, "width": 8},
    "gan": {"steps": 3, "batch_size": 4},
    "head": {"steps": 2, "width": 8},
    "search": {"steps": 1},
    "defects": {"kinds": ["blob"], "min_size": 5, "max_size": 10},
    "calibration": {"false_reject": 0.2},
    "runtime": {"device": "cpu", "precision": "fp32", "threads": 1},
}
WRONG = {
    "residual_weight": 0.0,
    "discrimination_weight": 0.0,
    "smoothing_sigma": 9.0,
    "pooling": "top",
    "top_share": 1.0,
}


def part(seed: int) -> NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    stripes = 110 + 50 * np.sign(np.sin(np.arange(48) / 3.0))[None, :, None]
    return np.clip(stripes + rng.normal(0, 5, (48, 48, 3)), 0, 255).astype(np.uint8)


def scorer_with(**score: Any) -> Scorer:
    """A model that was never trained: what it cannot draw stands out against its calibration all the same."""
    config: Config = config_from_dict(TINY | {"score": score}, "the test")
    torch.manual_seed(0)
    networks = build_networks(config).eval_frozen()
    return Scorer(Model(config, networks, torch.ones(3), build_head(config).eval(), (48, 48)))


def pick_score_settings(scorer: Scorer, images: list[NDArray[np.uint8]], *told: Any) -> ScoreSelection:
    return selecting.pick_score_settings(scorer, shown(scorer, images), *told)


def try_memory(scorer: Scorer, images: list[NDArray[np.uint8]], *told: Any) -> MemoryTrial | None:
    return selecting.try_memory(scorer, shown(scorer, images), *told)


@pytest.fixture(scope="module")
def images() -> list[NDArray[np.uint8]]:
    return [part(seed) for seed in range(8)]


@pytest.fixture(scope="module")
def selection(images: list[NDArray[np.uint8]]) -> ScoreSelection:
    return pick_score_settings(scorer_with(**WRONG), images)


def test_settings_that_miss_the_defects_are_replaced(selection: ScoreSelection) -> None:
    configured = selection.candidates[0]
    chosen = selection.chosen

    assert chosen in selection.candidates
    assert configured.score.smoothing_sigma == 9.0
    assert chosen.merit == max(c.merit for c in selection.candidates) > configured.merit + TOLERANCE
    assert chosen.image_auroc is not None
    assert configured.image_auroc is not None
    assert chosen.image_auroc > configured.image_auroc


def test_settings_that_serve_as_well_as_the_best_stay(
    selection: ScoreSelection, images: list[NDArray[np.uint8]]
) -> None:
    again = pick_score_settings(with_score_settings(scorer_with(), selection.chosen), images)

    assert again.chosen == selection.chosen
    assert again.candidates[0].merit == pytest.approx(max(c.merit for c in selection.candidates))


def test_a_gain_within_the_noise_of_few_images_changes_nothing(
    images: list[NDArray[np.uint8]], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = pick_score_settings(scorer_with(), images)
    configured, best = found.candidates[0], max(found.candidates, key=lambda c: c.merit)
    gain = best.merit - configured.merit
    assert gain > TOLERANCE  # Else there is nothing to resist.
    monkeypatch.setattr("anogan.recipes.selection.jackknife_error", lambda *_: gain / 2 + 0.01)
    assert pick_score_settings(scorer_with(), images).chosen == configured
    monkeypatch.setattr("anogan.recipes.selection.jackknife_error", lambda *_: gain / 2 - 0.01)
    assert pick_score_settings(scorer_with(), images).chosen == best


def test_an_error_is_that_of_leaving_out_group_by_group() -> None:
    one, other = np.array([0.8, 0.81, 0.79, 0.8]), np.array([0.9, 0.85, 0.9, 0.91])
    difference = other - one
    expected = np.sqrt(3 / 4 * ((difference - difference.mean()) ** 2).sum())
    assert jackknife_error(one, other) == pytest.approx(expected)
    assert jackknife_error(one, one + 0.1) == pytest.approx(0, abs=1e-12)
    assert jackknife_error(one, np.array([0.9, np.nan, 0.9, 0.9])) == float("inf")


def test_photographs_of_one_part_leave_the_merit_together_with_their_copies(
    images: list[NDArray[np.uint8]], monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer = scorer_with()
    trial = ScoreTrial(scorer, shown(scorer, images, parts=list("aabcdeff")), lambda *_: None)
    same = trial._statistics(trial._smoothed(1.5)[0], "global")[:1] * FOLDS
    monkeypatch.setattr(ScoreTrial, "_statistics", lambda *_: same)  # Else they change with the images.
    whole = trial.configured()
    found = trial.merits_without(whole)

    assert len(found) == 6
    others = ScoreTrial(scorer, shown(scorer, images[:6]), lambda *_: None).configured()
    assert found[-1] == pytest.approx(others.merit)
    assert found[-1] != pytest.approx(whole.merit, abs=1e-6)


def test_images_lie_in_few_groups_and_parts_in_one_fold_each() -> None:
    scorer = scorer_with()
    many = shown(scorer, [part(seed) for seed in range(25)])
    assert many.groups.tolist() == [number % GROUPS for number in range(25)]
    assert many.suffices
    assert not shown(scorer, [part(seed) for seed in range(9)], parts=list("aaabbbccc")).suffices


def test_few_images_get_several_damaged_copies_each(images: list[NDArray[np.uint8]]) -> None:
    asked: list[tuple[int, int]] = []
    scorer = scorer_with()
    seen: list[int] = []
    evidence = Scorer.evidence

    def counted(self: Scorer, given: Any, variants: Any = None) -> Any:
        seen.append(len(given))
        return evidence(self, given, variants)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Scorer, "evidence", counted)
        pick_score_settings(scorer, images, lambda done, total: asked.append((done, total)))
    assert seen == [1 + MAX_COPIES] * len(images)
    assert asked[-1] == (len(images), len(images))


def test_every_candidate_keeps_the_settings_that_are_not_compared(images: list[NDArray[np.uint8]]) -> None:
    found = pick_score_settings(scorer_with(border=3, select=True), images)

    assert {(c.score.border, c.score.select) for c in found.candidates} == {(3, True)}
    assert len({c.score for c in found.candidates}) > 100


@pytest.mark.parametrize(
    ("configured", "registration", "tried"),
    [
        ("per-pixel", "none", {"per-pixel", "global"}),
        ("per-pixel", "translation", {"per-pixel"}),
        ("global", "none", {"global"}),
    ],
)
def test_parts_that_lie_differently_get_no_map_of_their_own_and_those_laid_in_place_keep_theirs(
    configured: str, registration: Any, tried: set[str], images: list[NDArray[np.uint8]]
) -> None:
    sections = {"calibration": {"map": configured}, "images": {"registration": registration}}
    config = config_from_dict(TINY | sections, "the test")
    aligner = None if registration == "none" else Aligner(grey(images[0], 255), registration)
    model = replace(scorer_with().model, config=config, aligner=aligner)

    found = pick_score_settings(Scorer(model), images)
    assert found.candidates[0].map == configured
    assert {c.map for c in found.candidates} == tried


def test_parts_that_turn_out_to_lie_differently_get_one_normal_value_for_all_pixels() -> None:
    """Stripes at another place on each: what the others look like at a pixel says nothing of this one."""
    shifted = [np.roll(part(seed), 5 * seed, axis=1) for seed in range(12)]
    scorer = scorer_with()
    found = pick_score_settings(scorer, shifted)

    assert found.chosen.map == "global"
    assert with_score_settings(scorer, found.chosen).config.calibration.map == "global"


def test_what_registration_invents_counts_neither_as_good_nor_as_defect(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng, column = np.random.default_rng(0), 6
    scene = cv2.GaussianBlur(rng.uniform(0, 255, (48, 48 + column, 3)), (0, 0), 2).astype(np.uint8)
    score, images = {"discrimination_weight": 0, "head_weight": 0}, {"registration": "translation"}
    config = config_from_dict(TINY | {"score": score, "images": images}, "the test")
    aligner = Aligner(grey(scene[:, :48], 255), "translation")
    scorer = Scorer(replace(scorer_with().model, config=config, aligner=aligner))

    def two_spots(image: NDArray[np.uint8], *_: Any) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        damaged, mask = image.copy(), np.zeros((48, 48), np.bool_)
        for left in (0, 20):
            damaged[20:24, left : left + 4], mask[20:24, left : left + 4] = 255, True
        return damaged, mask

    def evidence(_: Scorer, images: list[NDArray[np.uint8]], variants: Any) -> list[Any]:
        """Marks the spot in the photograph weakly, and the repeated edge at random."""
        found = [(image.min(axis=2) == 255) + rng.uniform(0, 0.1, (48, 48)) for image in images]
        for values in found:
            values[:, :column] = rng.uniform(0, 9, (48, column))
        return [SimpleNamespace(parts={"residual": values.astype(np.float32)}) for values in found]

    monkeypatch.setattr("anogan.recipes.score_trial.draw_defects", two_spots)
    monkeypatch.setattr(Scorer, "evidence", evidence)
    found = ScoreTrial(scorer, shown(scorer, [scene[:, column:]] * 8), lambda *_: None).configured()

    assert found.image_auroc == 1
    assert found.pixel_auroc == pytest.approx(1, abs=1e-4)


class SteepSpots(nn.Module):
    """Stands for a head that marks what differs from its surroundings along the stripes."""

    def forward(self, seen: Tensor) -> Tensor:
        grey = seen[:, :3].mean(dim=1, keepdim=True)
        return 20 * (grey - grey.mean(dim=2, keepdim=True)).abs()


def remembering(distance: float) -> Scorer:
    """A model whose memory lies so far, in reaches, from whatever it sees."""
    settings = {"patches": 1, "window": 16}
    config = config_from_dict(TINY | {"memory": settings}, "the test")
    memory = Memory(torch.zeros(1, 3, 16, 16), torch.tensor([distance]), torch.zeros(1, 1), torch.tensor(1.0))
    return Scorer(replace(scorer_with().model, config=config, head=SteepSpots(), memory=memory))


def test_a_memory_that_hides_drawn_defects_is_found_out(images: list[NDArray[np.uint8]]) -> None:
    told: list[tuple[int, int]] = []
    hiding = try_memory(remembering(0.0), images, lambda done, total: told.append((done, total)))
    assert hiding is not None
    assert hiding.with_memory.image_auroc == 0.5
    assert hiding.without.image_auroc is not None
    assert hiding.without.image_auroc > 0.9
    assert not hiding.helps
    assert f"image_auroc {hiding.without.image_auroc:.3f}, with it 0.500" in str(hiding)
    assert told == [(done, 2 * len(images)) for done in range(1, 2 * len(images) + 1)]


def test_a_memory_that_hides_nothing_stays(images: list[NDArray[np.uint8]]) -> None:
    harmless = try_memory(remembering(1e3), images)
    assert harmless is not None
    assert harmless.with_memory == harmless.without
    assert harmless.helps
    assert harmless.to_dict()["kept"]


def test_there_is_nothing_to_try_without_a_memory_or_of_few_images(images: list[NDArray[np.uint8]]) -> None:
    assert try_memory(scorer_with(), images) is None
    assert try_memory(remembering(0.0), images[: MIN_PARTS - 1]) is None


@no_pictures()
@pytest.mark.parametrize("helps", [False, True])
def test_fit_keeps_a_memory_only_where_it_helps(
    helps: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trial's outcome is given here: two steps of training remember nothing worth a trial."""
    monkeypatch.setattr(MemoryTrial, "helps", helps)
    (tmp_path / "good").mkdir()
    for seed in range(30):
        write_image(tmp_path / "good" / f"{seed}.png", part(seed))
    changes = {
        "split": {"early_stop": 0.2, "calibrate": 0.3},
        "memory": {"patches": 16, "window": 16, "tiles": 640, "alarm": -1.0},
        "score": {"select": True},
    }
    listener = Listener()
    fit(
        tmp_path, tmp_path / "model", config_from_dict(TINY | changes, "the test"), reporter=listener.reporter
    )

    bundle = load_bundle(tmp_path / "model")
    assert bundle.metadata["memory_trial"]["kept"] == helps
    assert (scorer_of(bundle).model.memory is not None) == helps
    assert any("does without it" in event for event in listener.events) != helps


def test_a_model_without_a_head_is_not_offered_weights_of_one(images: list[NDArray[np.uint8]]) -> None:
    scorer = scorer_with()
    headless = Scorer(replace(scorer.model, head=None))

    assert all(c.score.head_weight == 0 for c in pick_score_settings(headless, images).candidates[1:])


def test_images_get_their_exposure_once() -> None:
    """Pixels of training are at one brightness already; measured again, cut highlights would change it."""
    scorer = scorer_with(**WRONG)
    equal = scorer.config.model_copy(
        update={"images": scorer.config.images.model_copy(update={"exposure": "mean"})}
    )
    images = [part(seed) // 4 for seed in range(3)]  # Darker than any that was made equally bright.
    with_exposure = Scorer(replace(scorer.model, config=equal))
    assert pick_score_settings(with_exposure, images) == pick_score_settings(scorer, images)


def test_too_few_images_leave_the_settings_alone(images: list[NDArray[np.uint8]]) -> None:
    scorer = scorer_with(**WRONG)
    found = pick_score_settings(scorer, images[: MIN_PARTS - 1])

    assert (found.chosen.score, found.candidates) == (scorer.config.score, ())
    assert found.n_images == MIN_PARTS - 1
    assert "image_auroc" not in found.to_dict()["chosen"]  # Nothing was measured.


def test_the_same_images_give_the_same_settings_again(
    selection: ScoreSelection, images: list[NDArray[np.uint8]]
) -> None:
    assert pick_score_settings(scorer_with(**WRONG), images) == selection


def test_fit_tells_when_too_few_images_leave_the_settings_alone(tmp_path: Path) -> None:
    write_parts(tmp_path / "good", range(20))
    told: list[str] = []
    config = config_from_dict(TINY | {"score": WRONG | {"select": True}}, "the test")
    fit(tmp_path, tmp_path / "model", config, reporter=Reporter(event=told.append))

    assert any("fewer than 4 parts" in sentence and "score.select" in sentence for sentence in told)


@pytest.mark.parametrize("select", [True, False])
def test_fit_keeps_the_picked_settings_with_the_model_only_when_asked_to(
    select: bool, tmp_path: Path
) -> None:
    (tmp_path / "good").mkdir()
    for seed in range(30):
        write_image(tmp_path / "good" / f"{seed}.png", part(seed))
    split = {"early_stop": 0.2, "calibrate": 0.3}
    config = config_from_dict(TINY | {"split": split, "score": WRONG | {"select": select}}, "the test")
    fit(tmp_path, tmp_path / "model", config)
    bundle = load_bundle(tmp_path / "model")

    assert ("score_selection" in bundle.metadata) == select
    if select:
        assert bundle.metadata["score_selection"]["n_images"] == 6
        assert bundle.metadata["score_selection"]["chosen"]["score"] == bundle.config.score.model_dump(
            mode="json"
        )
        assert bundle.metadata["score_selection"]["configured"]["score"]["smoothing_sigma"] == 9.0
    else:
        assert bundle.config.score == config.score
