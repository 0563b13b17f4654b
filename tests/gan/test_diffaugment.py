from __future__ import annotations

import pytest
import torch

from anogan.gan.diffaugment import POLICIES, ada_step, augment


def drawn(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_transform_changes_images_each_in_its_own_way(name: str) -> None:
    x = torch.rand(1, 3, 16, 16).expand(8, -1, -1, -1) * 2 - 1
    y = augment(x, [name], drawn())
    assert y.shape == x.shape
    assert not torch.equal(y, x)
    assert len({tuple(image.flatten().tolist()) for image in y}) > 1


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_gradient_flows_through_the_transform(name: str) -> None:
    x = (torch.rand(8, 3, 16, 16) * 2 - 1).requires_grad_(True)
    (augment(x, [name], drawn()) * torch.randn(8, 3, 16, 16)).sum().backward()
    assert (x.grad.flatten(1).abs().amax(dim=1) > 0).all()


def test_same_draw_gives_the_same_images() -> None:
    x, every = torch.rand(4, 3, 16, 16), sorted(POLICIES)
    assert torch.equal(augment(x, every, drawn(5)), augment(x, every, drawn(5)))
    assert not torch.equal(augment(x, every, drawn(5)), augment(x, every, drawn(6)))


def test_translation_shifts_by_whole_pixels_up_to_an_eighth() -> None:
    x = torch.full((64, 1, 16, 16), -1.0)
    x[:, 0, 8, 8] = 1.0
    moved = augment(x, ["translation"], drawn())
    where = moved[:, 0].flatten(1).argmax(dim=1)
    rows, columns = where // 16 - 8, where % 16 - 8
    assert (moved.flatten(1).amax(dim=1) == 1).all()
    assert set(rows.tolist()) == set(columns.tolist()) == {-2, -1, 0, 1, 2}


def test_probability_is_the_share_of_images_that_change() -> None:
    x = torch.rand(2000, 1, 4, 4) + 0.1
    for p in (0.0, 0.3, 1.0):
        changed = (augment(x, ["color"], drawn(), torch.tensor(p)) != x).flatten(1).any(dim=1).float().mean()
        assert changed.item() == pytest.approx(p, abs=0.04)


def test_ada_raises_p_while_the_discriminator_overfits_and_lowers_it_after() -> None:
    p = torch.tensor(0.1)
    assert ada_step(p, torch.ones(64), 0.6, 64) > p
    assert ada_step(p, torch.tensor([1.0, -1.0] * 32), 0.6, 64) < p
    assert ada_step(torch.tensor(0.0), -torch.ones(4), 0.6, 64) == 0
    assert ada_step(torch.tensor(0.8), torch.ones(4), 0.6, 10**6) == pytest.approx(0.8)
