"""The architecture of a card: younger fields do not show where they are not used."""

from __future__ import annotations

import pytest
from cards import make_card
from hypothesis import given
from hypothesis import strategies as st

from blinkloop.schema import Architecture, ModelCard


def test_a_card_without_younger_fields_is_as_it_was() -> None:
    card = make_card(architecture={"features": 32, "stem_stride": 2})
    assert card.model_dump()["architecture"] == {
        "name": "two-stage-unet",
        "features": 32,
        "depth": 2,
        "stem_stride": 2,
        "logit_clamp": 8.0,
    }
    assert '"activation"' not in card.to_json()


@given(
    features=st.integers(1, 64),
    depth=st.integers(0, 5),
    stride=st.sampled_from([1, 2, 4]),
    kept=st.none() | st.integers(1, 64),
    context=st.none() | st.integers(1, 64),
    levels=st.none() | st.integers(0, 5),
    activation=st.sampled_from(["elu", "relu"]),
    convolutions=st.integers(1, 8),
)
def test_every_architecture_survives_its_card(
    features: int,
    depth: int,
    stride: int,
    kept: int | None,
    context: int | None,
    levels: int | None,
    activation: str,
    convolutions: int,
) -> None:
    architecture = Architecture.model_validate(
        {
            "features": features,
            "depth": depth,
            "stem_stride": stride,
            "kept_features": kept,
            "context_features": context,
            "context_depth": levels,
            "activation": activation,
            "convolutions": convolutions,
        }
    )
    card = make_card(architecture=architecture)
    assert ModelCard.from_json(card.to_json()) == card
    multiple = architecture.size_multiple
    assert multiple == stride * 2 ** max(depth, depth if levels is None else levels)
    height, width = architecture.feature_size(1, multiple + 1)
    assert (height * stride, width * stride) == (multiple, 2 * multiple)


def test_unknown_activation_is_refused() -> None:
    with pytest.raises(ValueError, match="activation"):
        Architecture.model_validate({"activation": "gelu"})
