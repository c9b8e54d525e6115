"""The parts of an evaluation, joined into one record: the JSON of `evaluate`."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blinkloop.cli._options import CameraFlags
from blinkloop.cli._output import note
from blinkloop.errors import InputError

if TYPE_CHECKING:
    from pydantic import BaseModel

    from blinkloop.evaluation import Condition, Localize, Localized, Measurement
    from blinkloop.metrics import Rules
    from blinkloop.runtime import Frame, Localizer, ModelFile
    from blinkloop.schema import CameraSettings, ModelCard

__all__ = ["Asked", "evaluate_movie", "evaluate_simulation"]

_PIXELS_AT_ONCE = 2**19
"""Bounds the memory of a call of the network."""
_REPEATED_FRAMES = 100
_ACROSS_FRAMES = 100


@dataclass(frozen=True, slots=True)
class Asked:
    """What a person asked for.

    Parameters
    ----------
    settings
        Fields of `EvaluationSettings`.
    rules
        Of selection and pairing.
    threshold
        Of detection; None: the card's.
    z_bins
        Slices of z.
    psf
        Arguments of `condition_of` that replace parts of the PSF.
    camera
        Facts that replace those of the card.
    densities
        Sweep; each gets a movie of its own.
    emitters
        Isolated emitters; 0 = none.
    sigma_repeats, across_range
        Draws of the noise, and of conditions; 0 = none.
    """

    settings: Mapping[str, Any]
    rules: Rules
    threshold: float | None
    z_bins: int
    psf: Mapping[str, Any]
    camera: CameraFlags
    densities: tuple[float, ...] = ()
    emitters: int = 0
    sigma_repeats: int = 0
    across_range: int = 0

    def threshold_of(self, model: ModelFile) -> float:
        """The threshold that holds; `InputError` when there can be none such."""
        if self.threshold is None:
            return model.card.detection.threshold
        if not 0 < self.threshold < 1:
            raise InputError(
                f"the detection threshold must lie between 0 and 1, got "
                f"{self.threshold}; the card's is {model.card.detection.threshold}"
            )
        return self.threshold


def evaluate_simulation(path: Path, asked: Asked) -> dict[str, Any]:
    """Accuracy on simulated movies; see docs/evaluation.md for the keys."""
    from blinkloop.evaluation import (
        EvaluationSettings,
        IsolatedSettings,
        condition_of,
        measure_across,
        measure_isolated,
        pooled_density,
        sigma_over_repeats,
        simulate_movie,
        z_edges,
    )
    from blinkloop.runtime import read_model

    settings: EvaluationSettings = _checked(EvaluationSettings, asked.settings)
    densities = [
        _checked(EvaluationSettings, {**asked.settings, "density_per_um2": density})
        for density in asked.densities
    ]
    model = read_model(path)
    card = model.card
    condition = condition_of(
        card, camera=_camera(asked.camera, model), **_psf(path, card, asked.psf)
    )
    edges = z_edges(condition.z_range_nm, asked.z_bins)
    threshold = asked.threshold_of(model)
    localizing = _Localizing(model, threshold)
    try:
        record = {
            "model": card.name,
            "model_sha256": model.sha256,
            **_simulated(settings, condition, asked, localizing, edges),
            "condition": condition.as_dict(),
        }
        if densities:
            note(f"densities: {', '.join(f'{d:g}' for d in asked.densities)} per um^2")
            record["by_density"] = [
                _of_density(
                    record
                    if other == settings
                    else _simulated(other, condition, asked, localizing, edges)
                )
                for other in densities
            ]
            record["density_pooled"] = pooled_density(
                [row["density"] for row in record["by_density"]]
            )
        if asked.sigma_repeats:
            at = settings.density_per_um2
            note(f"sigma: {asked.sigma_repeats} draws of the noise at {at:g} per um^2")
            over_repeats = sigma_over_repeats(
                simulate_movie(card, settings, condition),
                condition,
                localizing.localize,
                _how(settings, condition, card.three_dimensional, threshold, asked),
                repeats=asked.sigma_repeats,
                frames=_REPEATED_FRAMES,
            )
            record["sigma_over_repeats"] = {"density_per_um2": at, **over_repeats}
        if asked.emitters:
            note(f"isolated emitters: {asked.emitters}")
            alone = {
                "emitters": asked.emitters,
                "photons": settings.flux_photons,
                "background_photons": settings.background_photons,
                "seed": settings.seed,
            }
            record["isolated"] = measure_isolated(
                condition,
                _checked(IsolatedSettings, alone),
                localizing.localize,
                threshold=threshold,
                three_dimensional=card.three_dimensional,
                z_edges_nm=edges,
            )
        if asked.across_range:
            note(f"across the card's range: {asked.across_range} conditions")
            record["across_range"] = measure_across(
                card,
                localizing.localize,
                conditions=asked.across_range,
                frames=min(settings.frames, _ACROSS_FRAMES),
                height_px=settings.height_px,
                width_px=settings.width_px,
                threshold=threshold,
                rules=asked.rules,
                seed=settings.seed,
                base=condition,
            )
    finally:
        localizing.close()
    return record


def evaluate_movie(
    path: Path, movie: Path, truth: Path, asked: Asked, seed: int
) -> dict[str, Any]:
    """Accuracy on a given movie with its truth."""
    from blinkloop.cli._session import open_session, say
    from blinkloop.cli._truth import from_corner, read_truth
    from blinkloop.evaluation import Measurement, measure, z_edges
    from blinkloop.integrations.movies import MovieSource, open_movie
    from blinkloop.runtime import read_model

    with open_movie(movie) as opened:
        threshold = asked.threshold_of(read_model(path))
        session = open_session(
            path,
            asked.camera,
            opened.facts(),
            source="movie",
            threshold=_lowest(read_model(path), threshold),
        )
        card = session.model.card
        pixel_size_nm = session.camera.settings.pixel_size_nm
        emitters = from_corner(read_truth(truth, pixel_size_nm), opened.origin)
        say(session, list(opened.notes()))
        found = _localized(
            MovieSource(opened).frames(), session.localizer, session.model, 16
        )
        found.table[:] = from_corner(found.table, opened.origin)
        how = Measurement(
            frames=opened.n_frames,
            height_px=opened.height,
            width_px=opened.width,
            pixel_size_nm=pixel_size_nm,
            three_dimensional=card.three_dimensional,
            threshold=threshold,
            rules=asked.rules,
            z_edges_nm=z_edges(card.z_range_nm, asked.z_bins),
            seed=seed,
        )
        measured = measure(emitters, found, how)
    return {
        "model": card.name,
        "model_sha256": session.model.sha256,
        "movie": movie,
        "truth": truth,
        "threshold": threshold,
        "rules": asked.rules.as_dict(),
        **measured,
        "seconds": found.seconds,
    }


def _of_density(record: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a record that differs between movies of one condition."""
    left_out = ("model", "model_sha256", "condition", "rules", "threshold")
    return {key: value for key, value in record.items() if key not in left_out}


def _simulated(
    settings: Any,
    condition: Condition,
    asked: Asked,
    localizing: _Localizing,
    edges: tuple[float, ...] | None,
) -> dict[str, Any]:
    """One simulated movie."""
    from blinkloop.evaluation import measure, simulate_movie

    card = localizing.model.card
    scene = simulate_movie(card, settings, condition)
    found = localizing.localize(scene.frames_adu[0], condition.camera)
    how = _how(
        settings,
        condition,
        card.three_dimensional,
        localizing.threshold,
        asked,
        edges,
    )
    measured = measure(scene.emitters, found, how, condition)
    return {
        "settings": settings.model_dump(),
        "threshold": localizing.threshold,
        "rules": asked.rules.as_dict(),
        **measured,
        "density_true_per_um2": measured["density"]["true_per_um2"],
        "density_estimated_per_um2": measured["density"]["estimated_per_um2"],
        "seconds": found.seconds,
    }


def _how(
    settings: Any,
    condition: Condition,
    three_dimensional: bool,
    threshold: float,
    asked: Asked,
    edges: tuple[float, ...] | None = None,
) -> Measurement:
    from blinkloop.evaluation import Measurement

    return Measurement(
        frames=settings.frames,
        height_px=settings.height_px,
        width_px=settings.width_px,
        pixel_size_nm=condition.pixel_size_nm,
        three_dimensional=three_dimensional,
        threshold=threshold,
        rules=asked.rules,
        z_edges_nm=edges,
        seed=settings.seed,
    )


def _checked(kind: type[BaseModel], values: Mapping[str, Any]) -> Any:
    from pydantic import ValidationError

    try:
        return kind(**values)
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(
            f"evaluate: {first['loc'][0]} = {first['input']} cannot be used: "
            f"{first['msg']}"
        ) from error


def _psf(path: Path, card: ModelCard, given: Mapping[str, Any]) -> dict[str, Any]:
    """The PSF that was asked for; a measured one may lie beside the model file."""
    file = getattr(card.psf, "file", None)
    if file is None or given.get("psf_file") is not None:
        return dict(given)
    places = [path.parent / file, path.parent / Path(file).name, Path(file)]
    found = [place for place in places if place.is_file()]
    if not found:
        raise InputError(
            f"the model {card.name!r} was trained with the measured PSF {file}, which "
            f"is not beside the model, nor where it was; give it with --psf FILE (the "
            f"run folder has a copy)"
        )
    return {**given, "psf_file": found[0]}


def _camera(flags: CameraFlags, model: ModelFile) -> CameraSettings | None:
    """The simulated camera; None: the card's."""
    if not (flags.file or flags.values):
        return None
    from blinkloop.camera_facts import resolve_camera

    camera = resolve_camera(
        flags.values, flags.file, {}, model.card, source="simulation"
    ).settings
    if camera.kind == "emccd" and camera.em_gain <= 1:
        raise InputError(
            "evaluate: an EMCCD multiplies electrons, but its gain is 1; give --em-gain"
        )
    return camera


def _lowest(model: ModelFile, threshold: float) -> float:
    """Threshold of the graph: dim candidates tell how reliable the scores are."""
    return min(threshold, model.card.detection.raw_threshold)


class _Localizing:
    """One backend for all movies; implements `Localize` as `localize`."""

    def __init__(self, model: ModelFile, threshold: float) -> None:
        from blinkloop.runtime import create_backend, make_camera_maps

        self.model, self.threshold = model, threshold
        self._backend = create_backend(
            "auto",
            model,
            make_camera_maps(model.card.camera),
            threshold=_lowest(model, threshold),
        )
        self.localize: Localize = self._localize

    def close(self) -> None:
        self._backend.close()

    def _localize(self, frames: Any, camera: CameraSettings) -> Localized:
        from blinkloop.runtime import Frame, Roi, StreamLocalizer, make_camera_maps

        height, width = frames.shape[1:]
        roi = Roi(0, 0, width, height)
        localizer = StreamLocalizer(self.model, self._backend, make_camera_maps(camera))
        batch = max(2, min(32, _PIXELS_AT_ONCE // (height * width)))
        return _localized(
            (Frame(i, 0.0, pixels, roi) for i, pixels in enumerate(frames)),
            localizer,
            self.model,
            batch,
        )


def _localized(
    frames: Iterable[Frame], localizer: Localizer, model: ModelFile, batch: int
) -> Localized:
    """What the network says of a movie. The localizer is left open."""
    import numpy as np

    from blinkloop.evaluation import Localized
    from blinkloop.runtime import localize_movie, probability_floor

    started = time.perf_counter()
    results = list(localize_movie(frames, localizer, batch=batch))
    if not results:
        raise InputError("evaluate: the movie has no frames")
    return Localized(
        table=np.concatenate([result.localizations for result in results]),
        count_mean=np.array([result.count_mean for result in results]),
        count_variance=np.array([result.count_variance for result in results]),
        blocks=np.stack([result.block_mean for result in results]),
        p_floor=probability_floor(model.card.architecture.logit_clamp),
        seconds=time.perf_counter() - started,
    )
