"""The loss against the official numbers, and its own additions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from blinkloop.training.loss import Targets, localization_loss
from blinkloop.training.recipe import LossSettings

GOLDEN = Path(__file__).parents[1] / "golden" / "decode_misc.npz"
OFFICIAL = LossSettings(
    official_count_weighting=True,
    count_variance_floor=0.0,
    occupancy_weight=0.0,
    window_px=0,
)


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN) as file:
        return {n: file[n] for n in file.files if n.startswith("loss_")}


def golden_case(golden: dict[str, np.ndarray]) -> tuple[torch.Tensor, Targets]:
    """Maps and targets with our axes: official images are transposed."""
    mask = torch.from_numpy(golden["loss_mask"])
    targets = Targets(
        mask.nonzero()[:, 0],
        torch.from_numpy(golden["loss_tar"])[mask],
        torch.from_numpy(golden["loss_bg"]).transpose(1, 2),
    )
    return torch.from_numpy(golden["loss_y"]), targets


def test_golden_value_and_gradient(golden: dict[str, np.ndarray]) -> None:
    maps, targets = golden_case(golden)
    maps.requires_grad_(True)
    terms = localization_loss(maps.transpose(2, 3), targets, OFFICIAL)
    terms.total().backward()
    # The official components are averaged, not summed, so each is twice ours.
    ours = torch.stack([terms.count + terms.location, terms.background], 1).detach()
    np.testing.assert_allclose(2 * ours, golden["loss_value"], rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(
        terms.total().item(), float(golden["loss_scalar"]), rtol=1e-6
    )
    assert maps.grad is not None
    np.testing.assert_allclose(maps.grad, golden["loss_grad"], atol=1e-4)


def test_window_changes_nothing_that_matters(golden: dict[str, np.ndarray]) -> None:
    maps, targets = golden_case(golden)
    near = OFFICIAL.model_copy(update={"window_px": 7})
    whole = localization_loss(maps.transpose(2, 3), targets, OFFICIAL).location
    part = localization_loss(maps.transpose(2, 3), targets, near).location
    np.testing.assert_allclose(part, whole, rtol=0.02)


def empty_targets(n: int, height: int, width: int) -> Targets:
    return Targets(
        torch.zeros(0, dtype=torch.int64),
        torch.zeros(0, 4),
        torch.zeros(n, height, width),
    )


def maps_with_p(logit: torch.Tensor) -> torch.Tensor:
    n, _, height, width = logit.shape
    maps = torch.full((n, 10, height, width), 0.5)
    maps[:, 9] = 0.0
    return torch.cat([torch.sigmoid(logit), maps[:, 1:]], 1)


def test_empty_frames_punish_detections_by_default_but_not_officially() -> None:
    targets = empty_targets(1, 8, 12)
    quiet = torch.full((1, 1, 8, 12), -10.0)
    loud = quiet.clone()
    loud[0, 0, 3, 5] = 4.0
    default, values = LossSettings(), {}
    for name, logit in (("quiet", quiet), ("loud", loud)):
        maps = maps_with_p(logit)
        values[name] = localization_loss(maps, targets, default, logit).total()
        official = localization_loss(maps, targets, OFFICIAL)
        np.testing.assert_allclose(official.count, 0.0)
    assert values["loud"] > values["quiet"] + 3.0


def test_occupancy_needs_logits() -> None:
    with pytest.raises(TypeError, match="p_logit"):
        localization_loss(
            torch.full((1, 10, 4, 4), 0.5), empty_targets(1, 4, 4), LossSettings()
        )


@settings(max_examples=25, deadline=None)
@given(x=st.floats(0.0, 11.0), y=st.floats(0.0, 7.0), shift=st.floats(0.05, 0.2))
def test_loss_is_least_at_the_truth(x: float, y: float, shift: float) -> None:
    """A network that says the truth beats one that is off by a known amount."""
    position = torch.tensor([[0.5, x, y, 0.1]])
    targets = Targets(torch.tensor([0]), position, torch.zeros(1, 8, 12))
    column, row = round(x), round(y)
    logit = torch.full((1, 1, 8, 12), -9.0)
    logit[0, 0, row, column] = 9.0
    maps = maps_with_p(logit)
    maps[:, 5:9] = 0.1
    maps[0, 1, row, column], maps[0, 4, row, column] = 0.5, 0.1
    maps[0, 2, row, column], maps[0, 3, row, column] = x - column, y - row
    best = localization_loss(maps, targets, LossSettings(), logit).location
    maps[0, 2, row, column] += shift
    worse = localization_loss(maps, targets, LossSettings(), logit).location
    # A shift d costs d^2 / (2 sigma^2).
    np.testing.assert_allclose(worse - best, shift**2 / 0.02, rtol=0.02)


def test_z_does_not_count_in_two_dimensions() -> None:
    torch.manual_seed(4)
    maps = torch.rand(1, 10, 9, 7) * 0.8 + 0.1
    targets = Targets(
        torch.tensor([0]),
        torch.tensor([[0.5, 3.2, 4.1, 0.0]]),
        torch.zeros(1, 9, 7),
    )
    other = maps.clone()
    other[:, 4], other[:, 8] = 0.9, 0.001  # z far off, and sure of it
    flat, wrong = (
        localization_loss(m, targets, OFFICIAL, three_dimensional=False).location
        for m in (maps, other)
    )
    torch.testing.assert_close(flat, wrong)
    solid, off = (
        localization_loss(m, targets, OFFICIAL).location for m in (maps, other)
    )
    assert float(off) > float(solid) + 100


def test_weights_scale_every_term_of_their_frame(golden: dict[str, np.ndarray]) -> None:
    maps, plain = golden_case(golden)
    weight = torch.linspace(0.25, 2.0, len(maps))
    weighted = Targets(plain.frame, plain.position, plain.background, weight)
    logit = torch.logit(maps.transpose(2, 3)[:, :1].clamp(1e-6, 1 - 1e-6))
    ours = localization_loss(maps.transpose(2, 3), plain, LossSettings(), logit)
    got = localization_loss(maps.transpose(2, 3), weighted, LossSettings(), logit)
    for name in ("count", "occupancy", "location", "background"):
        torch.testing.assert_close(getattr(got, name), weight * getattr(ours, name))
    assert got.total() != ours.total()
