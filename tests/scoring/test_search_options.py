"""Options of the latent search: what keeps a defect from pulling z, and better starts without an encoder."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from anogan.config import Config, config_from_dict
from anogan.errors import ConfigError
from anogan.gan.networks import sample_prior
from anogan.scoring.bank import Bank
from anogan.scoring.inverter import Inverter
from anogan.scoring.residuals import (
    MAX_MASKED,
    defect_mask,
    masked_image,
    residual_score,
    trimmed_residual,
)
from anogan.scoring.search import SearchResult
from tests.export.conftest import build_model, build_torch_scorer, small_config

ROBUST: dict[str, dict[str, Any]] = {
    "trimmed": {"residual": "trimmed", "trimmed_share": 0.1},
    "mask": {"mask": 0.3},
}


def inverter_of(config: Config) -> Inverter:
    model = build_model(config, (32, 32))
    return Inverter(config, model.networks, model.feature_scales)


def search_only(**search: Any) -> Config:
    return small_config(encoder={"mode": "none"}, search=search)


def known_tiles(inverter: Inverter, n: int = 3) -> tuple[Tensor, Tensor]:
    """Tiles that the generator can make, and their codes."""
    z = sample_prior(n, inverter.config, torch.Generator().manual_seed(9), torch.device("cpu"))
    with torch.no_grad():
        return inverter.networks.generator(z), z


def damaged(tiles: Tensor, value: float = 1.0) -> Tensor:
    """The same tiles with a spot of 8 x 8 pixels, 6 % of a tile."""
    bad = tiles.clone()
    bad[:, :, 10:18, 12:20] = value
    return bad


# ---- trimmed residual


def test_trimmed_residual_does_not_see_how_bad_the_worst_pixels_are() -> None:
    x = torch.rand(2, 3, 16, 16)
    reconstruction = x + 0.01 * torch.rand_like(x)
    values = []
    for level in (0.5, 2.0):
        bad = x.clone()
        bad[:, :, :3, :3] += level  # 9 of 256 pixels.
        values.append(trimmed_residual(bad, reconstruction, 0.05))
    torch.testing.assert_close(*values)
    assert (values[0] < 0.01).all()


def test_trimmed_residual_is_the_mean_of_the_pixels_that_are_left() -> None:
    x = torch.rand(4, 3, 8, 8)
    reconstruction = torch.rand_like(x)
    kept = (x - reconstruction).abs().mean(dim=1).flatten(1).sort(dim=1).values[:, :48]
    torch.testing.assert_close(trimmed_residual(x, reconstruction, 0.25), kept.mean(dim=1))


def test_trimming_less_than_a_pixel_is_the_plain_residual() -> None:
    x, reconstruction = torch.rand(2, 1, 8, 8), torch.rand(2, 1, 8, 8)
    torch.testing.assert_close(
        trimmed_residual(x, reconstruction, 0.01), residual_score(x, reconstruction), rtol=1e-6, atol=0
    )


# ---- joint mask


def test_no_other_mask_is_cheaper() -> None:
    x, reconstruction = torch.rand(1, 3, 12, 12), torch.rand(1, 3, 12, 12)
    level = 0.45  # About one pixel of eight differs by more.
    difference = (x - reconstruction).abs().mean(dim=1, keepdim=True)

    def cost(mask: Tensor) -> float:
        return float(((1 - mask) * difference + level * mask).mean())

    best = defect_mask(x, reconstruction, level)
    assert 0 < best.mean() < MAX_MASKED
    draw = torch.Generator().manual_seed(0)
    for share in (0.0, 0.05, 0.2, 0.5, 1.0):
        for _ in range(20):
            other = (torch.rand(best.shape, generator=draw) < share).float()
            assert cost(best) <= cost(other) + 1e-7
    for flip in range(0, 144, 7):
        other = best.clone().flatten()
        other[flip] = 1 - other[flip]
        assert cost(best) <= cost(other.view_as(best)) + 1e-7


def test_a_start_far_from_the_image_is_masked_by_a_quarter_at_most() -> None:
    x, reconstruction = torch.ones(2, 1, 16, 16), -torch.rand(2, 1, 16, 16)
    assert (defect_mask(x, reconstruction, 0.1).mean(dim=(1, 2, 3)) <= MAX_MASKED).all()


def test_masked_pixels_fit_and_all_others_are_untouched() -> None:
    x = torch.rand(1, 3, 16, 16)
    bad = x.clone()
    bad[:, :, 4:7, 4:7] += 1.5
    mask = defect_mask(bad, x, 0.5)
    assert mask.sum() == 9
    torch.testing.assert_close(masked_image(bad, x, mask), x, rtol=0, atol=0)


# ---- in the search


@pytest.mark.parametrize("name", ROBUST)
def test_search_does_not_see_what_the_defect_looks_like(name: str) -> None:
    """A bright and a dark spot of one shape lead to the same z; without the option they do not."""
    # Features see the whole image, unless a mask hides the defect from them too.
    weight = 0.0 if name == "trimmed" else 0.3
    settings = {"steps": 30, "lambda": weight}
    moved = []
    for extra in ({}, ROBUST[name]):
        inverter = inverter_of(search_only(**settings, **extra))
        tiles, z = known_tiles(inverter)
        bright, dark = (_search_from(inverter, damaged(tiles, value), z) for value in (3.0, -3.0))
        moved.append(float((bright.z - dark.z).abs().mean()))
    assert moved[0] > 1e-3
    assert moved[1] < 1e-5


def _search_from(inverter: Inverter, x: Tensor, z: Tensor) -> SearchResult:
    from anogan.scoring.search import latent_search

    near = z + 0.1 * torch.randn(z.shape, generator=torch.Generator().manual_seed(4))
    return latent_search(x, near[None], inverter.objective, inverter.config.search)


@pytest.mark.parametrize("name", ROBUST)
def test_the_whole_defect_still_counts_in_the_score(name: str) -> None:
    """Only the search looks away: R(x) is the plain mean over all pixels."""
    config = small_config(search=ROBUST[name], tiles={"overlap": 0})
    image = np.full((32, 32, 3), 128, np.uint8)
    image[8:16, 8:16] = 255
    scorer = build_torch_scorer(build_model(config, (32, 32)))
    (evidence,) = scorer.evidence([image])
    x = torch.from_numpy(image / 255 * 2 - 1).float().permute(2, 0, 1)
    expected = (x - torch.from_numpy(evidence.reconstruction)).abs().mean()
    assert evidence.residual_score == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("options", [*ROBUST.values(), {"bank": 16, "restarts": 2}])
def test_result_of_a_tile_does_not_depend_on_its_batch(options: dict[str, Any]) -> None:
    inverter = inverter_of(search_only(steps=5, **options))
    x = damaged(known_tiles(inverter, 4)[0])
    together = inverter.search(x)
    for i in (3, 0, 2):
        alone = inverter.search(x[i : i + 1])
        torch.testing.assert_close(alone.z[0], together.z[i], rtol=0, atol=2e-5)
        torch.testing.assert_close(alone.objective[0], together.objective[i], rtol=1e-5, atol=1e-6)


# ---- bank of starting codes


def test_bank_gives_the_codes_whose_pictures_are_nearest() -> None:
    inverter = inverter_of(search_only())
    codes = sample_prior(20, inverter.config, torch.Generator().manual_seed(1), torch.device("cpu"))
    generator = inverter.networks.generator
    wanted = [13, 4, 19]
    best = Bank(generator, codes).best(generator(codes[wanted]), 2)
    assert best.shape == (2, 3, *codes.shape[1:])
    torch.testing.assert_close(best[0], codes[wanted], rtol=0, atol=0)
    distance = (generator(codes)[None] - generator(codes[wanted])[:, None]).abs().flatten(2).mean(dim=2)
    torch.testing.assert_close(best[1], codes[distance.sort(dim=1).indices[:, 1]], rtol=0, atol=0)


def test_search_from_the_bank_starts_lower_than_from_fixed_codes() -> None:
    fixed, screened = (inverter_of(search_only(restarts=2, bank=bank)) for bank in (0, 64))
    x = known_tiles(fixed, 6)[0]
    assert (screened.search(x, 0).objective.mean() < fixed.search(x, 0).objective.mean()).all()


def test_the_same_tile_gets_the_same_starts_in_every_scorer() -> None:
    starts = []
    for _ in range(2):
        inverter = inverter_of(search_only(restarts=2, bank=16))
        starts.append(inverter.starts(known_tiles(inverter)[0]))
    torch.testing.assert_close(*starts, rtol=0, atol=0)


# ---- refusals


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"encoder": {"mode": "none"}, "search": {"bank": 2, "restarts": 3}}, "restarts 3"),
        ({"search": {"bank": 8}}, r"encoder\.mode: none"),
        ({"search": {"residual": "trimmed", "trimmed_share": 0.5}}, "trimmed_share"),
        ({"search": {"mask": -0.1}}, "mask"),
    ],
)
def test_options_that_do_not_fit_are_refused(sections: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        config_from_dict(sections, "a test")
