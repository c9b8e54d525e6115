"""Distillation: a small network learns from a trained one, beside the truth.

Truth says where emitters are; the teacher says what can be known of them: a p between 0
and 1 for the dim and the crowded, and how wide each sigma is (G. Hinton, O. Vinyals, J.
Dean, arXiv:1503.02531). Both networks see the same simulated frames. Per frame

    weight * sum_k [ KL(p_k teacher || p_k student) + location_weight * p_k teacher
                     * soft(sum_j KL(N_kj teacher || N_kj student)) ]

with Bernoulli and Gaussian distributions, j in photons, x, y, z; the second part only
over pixels where the teacher's p reaches `p_level`. soft(d) = 10 ln(1 + d / 10) is d
where the two nearly agree; a random start, where sigma may be at its floor and d a
million, does not drown the truth. All is 0 where student and teacher agree.

Both have network units of their own: the teacher's photons and z are brought into the
student's through physical ones (a KL divergence does not depend on units).

The teacher's averaged weights lie in the run folder, so that a run goes on to the bit
whatever has become of the model it named.

Shapes: N frames, H x W px; S movies of T frames.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from blinkloop.errors import InputError
from blinkloop.schema import ModelCard
from blinkloop.training.detection import physical_scale
from blinkloop.training.network import MovieHeads, TwoStageNetwork, grown
from blinkloop.training.recipe import Recipe
from blinkloop.training.recipe_distillation import DistillationSettings
from blinkloop.training.simulate import Batch
from blinkloop.training.targets import scaled_frames

__all__ = [
    "TEACHER_FILE",
    "Distillation",
    "Teacher",
    "check_teacher",
    "distillation_loss",
    "read_teacher",
    "teacher_for",
    "write_teacher",
]

TEACHER_FILE = "teacher.pt"
"""The teacher in a run folder: weights, card, where it was from."""

_SOFT_NATS = 10.0


@dataclass(frozen=True, slots=True)
class Teacher:
    """A trained network to learn from.

    Parameters
    ----------
    weights
        State dict of a `TwoStageNetwork`.
    card
        Its card: architecture, units, what it is for.
    source
        Where it is from, for people and the record of the run.
    sha256
        Hash of its weights.
    """

    weights: Mapping[str, Tensor]
    card: ModelCard
    source: str
    sha256: str

    def record(self) -> dict[str, str]:
        """For the record of the run and the card of the student."""
        return {
            "name": self.card.name,
            "source": self.source,
            "weights_sha256": self.sha256,
        }


def check_teacher(teacher: Teacher, recipe: Recipe) -> None:
    """Whether it can teach a network of this recipe.

    Raises
    ------
    InputError
        It gives z and the recipe does not, or the other way round; it does not serve
        the recipe's pixel size; its weights are not those of its architecture.
    """
    card, name = teacher.card, teacher.source
    if card.three_dimensional != recipe.three_dimensional:
        kinds = {True: "3D", False: "2D"}
        raise InputError(
            f"teacher {name} is a {kinds[card.three_dimensional]} network, the recipe "
            f"trains a {kinds[recipe.three_dimensional]} one; choose a teacher of the "
            f"same kind"
        )
    size = recipe.camera.pixel_size_nm
    if not card.serves_pixel_size(size):
        low, high = card.pixel_size_range_nm or (card.pixel_size_nm,) * 2
        served = f"{low:g}" if low == high else f"{low:g} to {high:g}"
        raise InputError(
            f"teacher {name} is for pixels of {served} nm, the recipe has {size:g} nm; "
            f"its spots would have the wrong width: choose another teacher"
        )
    expected = TwoStageNetwork(card.architecture).state_dict()
    shapes = {key: tuple(value.shape) for key, value in teacher.weights.items()}
    if shapes != {key: tuple(value.shape) for key, value in expected.items()}:
        raise InputError(
            f"teacher {name}: its weights are not those of its architecture; export or "
            f"train it again"
        )


def write_teacher(teacher: Teacher, folder: Path) -> None:
    """Keep the teacher in a run folder."""
    state = {
        "format_version": 1,
        "weights": dict(teacher.weights),
        "card": teacher.card.to_json(),
        "source": teacher.source,
        "sha256": teacher.sha256,
    }
    temporary = folder / f"{TEACHER_FILE}.tmp"
    torch.save(state, temporary)
    temporary.replace(folder / TEACHER_FILE)


def read_teacher(folder: Path) -> Teacher:
    """The teacher of a run folder; nothing in the file is executed.

    Raises
    ------
    InputError
        There is none, or not one of this version.
    """
    path = folder / TEACHER_FILE
    try:
        content = path.read_bytes()
        state: Any = torch.load(
            io.BytesIO(content), map_location="cpu", weights_only=True
        )
        if state["format_version"] != 1:
            raise ValueError("another version")
        weights, source = dict(state["weights"]), str(state["source"])
        card, sha256 = str(state["card"]), str(state["sha256"])
    except FileNotFoundError as error:
        raise InputError(
            f"{path}: the run learns from a teacher, which is not there any more; "
            f"put the file back, or train into another folder"
        ) from error
    except Exception as error:
        raise InputError(
            f"{path}: not the teacher of a run ({type(error).__name__}); put the file "
            f"back, or train into another folder"
        ) from error
    return Teacher(weights, ModelCard.from_json(card, source=str(path)), source, sha256)


def teacher_for(
    recipe: Recipe, given: Teacher | None, folder: Path | None
) -> Teacher | None:
    """The teacher of a run.

    Parameters
    ----------
    recipe
        Of the run.
    given
        Teacher of a new run.
    folder
        Run folder of a run that goes on: its own teacher counts.

    Raises
    ------
    InputError
        It is missing or cannot teach this recipe.
    """
    if recipe.distillation is None:
        return None
    teacher = given if folder is None else read_teacher(folder)
    if teacher is None:
        raise TypeError(f"no teacher given; {recipe.distillation.teacher} is meant")
    check_teacher(teacher, recipe)
    return teacher


def distillation_loss(
    maps: Tensor,
    p_logit: Tensor,
    teacher: Tensor,
    settings: DistillationSettings,
    *,
    three_dimensional: bool = True,
) -> Tensor:
    """(N,) the term of every frame, see the head of this file.

    Parameters
    ----------
    maps
        (N, 10, H, W) of the student, network units.
    p_logit
        (N, 1, H, W) of the student before clamp and sigmoid: the gradient does not end
        where p is clamped.
    teacher
        (N, 10, H, W) maps of the teacher in the student's units; no gradient.
    settings
        Weights and level.
    three_dimensional
        False: z does not count.
    """
    p = teacher[:, 0]
    truth = torch.logit(p, eps=1e-7)
    entropy = F.binary_cross_entropy_with_logits(truth, p, reduction="none")
    cross = F.binary_cross_entropy_with_logits(p_logit[:, 0], p, reduction="none")
    total = (cross - entropy).sum((1, 2))
    if settings.location_weight > 0:
        axes = 4 if three_dimensional else 3
        # Chosen first: emitters are rare, and log and division are not cheap.
        frame, row, column = torch.nonzero(p >= settings.p_level, as_tuple=True)
        ours = maps[frame, :, row, column]
        theirs = teacher[frame, :, row, column]
        sigma, wanted = ours[:, 5 : 5 + axes], theirs[:, 5 : 5 + axes]
        apart = theirs[:, 1 : 1 + axes] - ours[:, 1 : 1 + axes]
        ratio = torch.log(sigma) - torch.log(wanted)
        spread = (wanted * wanted + apart * apart) / (2.0 * sigma * sigma)
        apart_by = _SOFT_NATS * torch.log1p((ratio + spread - 0.5).sum(1) / _SOFT_NATS)
        heard = settings.location_weight * theirs[:, 0] * apart_by
        total = total.index_add(0, frame, heard)
    return settings.weight * total


class Distillation:
    """A teacher beside a student in training.

    Parameters
    ----------
    teacher
        Must have passed `check_teacher`.
    recipe
        Of the student, with `distillation`.
    device
        Where the student is trained.
    """

    def __init__(self, teacher: Teacher, recipe: Recipe, device: torch.device) -> None:
        if recipe.distillation is None:
            raise TypeError("the recipe has no distillation")
        self._settings, self._recipe = recipe.distillation, recipe
        network = TwoStageNetwork(teacher.card.architecture)
        network.load_state_dict(teacher.weights)
        network.eval().requires_grad_(False).to(device)
        # torch's stubs do not know this keyword.
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._network, self._heads = network, MovieHeads(network)
        self._scaling, self._device = teacher.card.scaling, device
        theirs = torch.tensor(physical_scale(teacher.card.scaling), device=device)
        ours = torch.tensor(physical_scale(recipe.scaling()), device=device)
        self._units = (theirs / ours)[:, None, None]

    @torch.no_grad()
    def maps(self, batch: Batch) -> Tensor:
        """(S (T - 2), 10, H, W) maps of the inner frames in the student's units."""
        frames = scaled_frames(batch, self._scaling).to(self._device)
        height, width = frames.shape[2:]
        multiple = self._network.architecture.size_multiple
        padded = grown(frames, -height % multiple, -width % multiple)
        maps = self._network.activate(*self._heads(padded))
        return maps[:, :, :height, :width] * self._units

    def __call__(
        self, batch: Batch, maps: Tensor, p_logit: Tensor, weight: Tensor | None
    ) -> Tensor:
        """Scalar: the mean of the term over frames, which count as `weight` says."""
        terms = distillation_loss(
            maps,
            p_logit,
            self.maps(batch),
            self._settings,
            three_dimensional=self._recipe.three_dimensional,
        )
        return (terms if weight is None else terms * weight).mean()
