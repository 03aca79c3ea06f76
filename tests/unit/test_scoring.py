"""Scores and verdicts of a model with given errors, and the sums for the figures."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from specifications import specification

from pixal.calibration.calibration import Calibration
from pixal.calibration.maps import calibrated_maps, raw_maps
from pixal.config import load_config
from pixal.inputs import InputSet
from pixal.tasks.photographs.settings import PhotographConfig, PhotographParameters
from pixal.validation import scoring
from pixal.validation.regions import Region
from pixal.validation.scoring import Cut, PartGeometry, Prediction, Summary, choose_cut, score_parts

SHAPE = (10, 12, 2)  # of the model's input; the type's frame is smaller
FRAME = (8, 11)


def config_with(**sections: Any) -> PhotographConfig:
    shipped = load_config()
    return PhotographConfig(PhotographParameters.model_validate(sections), shipped.paths, shipped.source)


def cut_of(calibration: Calibration, config: PhotographConfig) -> Cut:
    validation, plotting = config.validation, config.plotting
    return choose_cut(
        calibration,
        validation.false_alarm_rate,
        validation.threshold,
        loss_cut=plotting.loss_cut,
        log_loss=plotting.use_log_loss,
    )


class GivenErrors:
    """A model whose errors are given."""

    rows_are_independent = False

    def __init__(self, errors: np.ndarray) -> None:
        self.errors = errors

    def error(self, inputs: InputSet, rows: slice) -> np.ndarray:
        return self.errors[rows]


class Case:
    """Nine parts. Part 5 has a defect of 2 x 3 pixels in the second channel."""

    def __init__(self, config: PhotographConfig) -> None:
        generator = np.random.default_rng(0)
        self.images = generator.random((9, *SHAPE)).astype(np.float32)
        self.errors = generator.normal(0, 0.02, (9, *SHAPE)).astype(np.float32)
        self.errors[5, 3:5, 4:7, 1] = 0.6
        self.errors[:, FRAME[0] :] = 9.0  # outside the type's frame: must not count
        self.mask = np.ones(FRAME, bool)
        self.mask[0] = False
        self.errors[:, 0] = 7.0  # outside the part: must not count
        self.variance = np.full(SHAPE, 0.02**2, np.float32)
        self.calibration = Calibration(self.variance, np.linspace(1.5, 4, 120))
        self.specification = specification(SHAPE, channel_weights=(1.0, 3.0), loss_function="mae")
        self.config = config
        self.cut = cut_of(self.calibration, config)
        self.summary = Summary((*FRAME, 2))
        names = tuple(f"{n}.png" for n in range(9))
        inputs = InputSet(self.images.reshape(9, -1), SHAPE, ("R", "G"), names)
        self.predictions: list[Prediction] = list(
            score_parts(
                inputs,
                [PartGeometry((80, 110), np.diag([0.1, 0.1, 1.0]))] * 9,
                GivenErrors(self.errors),  # type: ignore[arg-type]
                self.calibration,
                mask=self.mask,
                cut=self.cut,
                specification=self.specification,
                map_smoothing=0.0,
                region_threshold=config.validation.region_threshold,
                pixel_size_mm=config.validation.pixel_size_mm,
                summary=self.summary,
            )
        )

    @property
    def type_errors(self) -> np.ndarray:
        return self.errors[:, : FRAME[0], : FRAME[1]]


@pytest.fixture(scope="module")
def calibrated() -> Case:
    return Case(config_with())


def test_predictions_equal_the_calibrated_maps_scores_and_p_values(calibrated: Case) -> None:
    maps = calibrated_maps(
        calibrated.type_errors,
        calibrated.variance[: FRAME[0], : FRAME[1]],
        calibrated.mask,
        np.array([1.0, 3.0]),
        0.0,
    )
    good = calibrated.calibration.scores
    assert (calibrated.cut.threshold, calibrated.cut.method) == (good[-1], "conformal")
    assert len(calibrated.predictions) == 9
    for n, scored in enumerate(calibrated.predictions):
        np.testing.assert_allclose(scored.map, maps[n], rtol=1e-5)
        assert scored.score == pytest.approx(maps[n].max())
        rank_p_value = (1 + np.sum(good >= scored.score)) / 121
        assert scored.p_value is not None
        if scored.score > good[-1]:
            assert scored.p_value < rank_p_value
            assert calibrated.cut.is_extrapolated(scored.p_value)
        else:
            assert scored.p_value == pytest.approx(rank_p_value)
            assert not calibrated.cut.is_extrapolated(scored.p_value)
        assert scored.failed == (n == 5) == (scored.score > good[-1]) == bool(scored.regions)


def test_a_region_has_the_position_of_the_defect_on_the_photograph(calibrated: Case) -> None:
    (region,) = calibrated.predictions[5].regions
    assert region.reference == (4, 3, 3, 2)
    assert region.channel == "G"
    # Input pixel i covers photograph pixels 10 (i - 0.5) to 10 (i + 0.5) around its centre.
    assert (region.x, region.y, region.width, region.height) == (35, 25, 31, 21)
    assert region.area_px == pytest.approx(600)
    assert region.width_mm is None


@pytest.mark.parametrize("loss_cut", ["auto", 0.1])
def test_regions_get_the_share_of_each_channel_in_the_map(
    monkeypatch: pytest.MonkeyPatch, loss_cut: float | str
) -> None:
    given: list[np.ndarray] = []
    find = scoring.find_regions

    def note(anomaly_map: np.ndarray, deviations: np.ndarray, *arguments: Any, **options: Any) -> list[Region]:
        given.append(deviations)
        return find(anomaly_map, deviations, *arguments, **options)

    monkeypatch.setattr(scoring, "find_regions", note)
    case = Case(config_with(plotting={"loss_cut": loss_cut}))
    variance = 1 if case.cut.raw else case.variance[: FRAME[0], : FRAME[1]]
    np.testing.assert_allclose(given, case.type_errors**2 * np.float32([1, 3]) / variance, rtol=1e-5)


def test_a_p_value_below_the_smallest_rank_is_extrapolated() -> None:
    cut = Cut(3.0, "tail", good_parts=9)  # the smallest rank is 1 of 10
    assert [cut.is_extrapolated(p) for p in (None, 1.0, 0.1, 0.1 * (1 - 1e-10), 0.0999, 0.01)] == [
        *(False, False, False, False),
        *(True, True),
    ]
    none = Cut(3.0, "tail")
    assert [none.is_extrapolated(p) for p in (1.0, 1 - 1e-9, 0.9999)] == [False, False, True]


def test_region_settings_are_used() -> None:
    finer = Case(config_with(validation={"pixel_size_mm": 0.5, "false_alarm_rate": 0.05, "region_threshold": 0.01}))
    (region,) = finer.predictions[5].regions
    assert region.width_mm == pytest.approx(region.width * 0.5)
    assert region.reference[2] * region.reference[3] > 6  # a low region threshold includes the noise around
    assert finer.cut.threshold == finer.calibration.scores[120 - 6]


@pytest.mark.parametrize("log", [False, True])
def test_a_numeric_loss_cut_is_a_threshold_on_the_raw_loss(log: bool) -> None:
    level = 0.3
    cut = float(np.log10(level)) if log else level
    case = Case(config_with(plotting={"loss_cut": cut, "use_log_loss": log}))
    assert case.cut == Cut(cut, "loss_cut", raw=True, log=log)
    assert not case.cut.is_extrapolated(None)
    assert case.cut.on_map == pytest.approx(level)
    maps = raw_maps(np.abs(case.type_errors), case.mask, np.array([1.0, 3.0]), 0.0)
    for n, scored in enumerate(case.predictions):
        raw = maps[n].max()
        np.testing.assert_allclose(scored.map, maps[n], rtol=1e-5)
        assert scored.score == pytest.approx(np.log10(raw) if log else raw, rel=1e-5)
        assert scored.p_value is None
        assert scored.failed == (n == 5) == bool(scored.regions)
    assert case.predictions[5].score == pytest.approx(np.log10(0.45) if log else 0.45, abs=0.02)


def test_a_defect_below_the_loss_cut_passes() -> None:
    case = Case(config_with(plotting={"loss_cut": 0.9, "use_log_loss": False}))
    assert not any(scored.failed or scored.regions for scored in case.predictions)


def test_loss_cut_takes_precedence_over_the_threshold() -> None:
    scores = Calibration(np.ones((1, 1, 1), np.float32), np.linspace(1, 2, 20))
    both = config_with(plotting={"loss_cut": 0.2}, validation={"threshold": {"method": "fixed", "value": 5}})
    assert cut_of(scores, both).method == "loss_cut"
    auto = config_with(validation={"threshold": {"method": "fixed", "value": 5}})
    assert cut_of(scores, auto) == Cut(5.0, "fixed", good_parts=20)
    assert cut_of(scores, config_with()).method == "conformal+tail"
    assert cut_of(scores, config_with(validation={"false_alarm_rate": 0.1})).method == "conformal"
    assert cut_of(replace(scores, stand_ins=True), config_with()).method == "texture"


def test_summary_is_the_sum_over_parts_of_the_mean_over_channels(calibrated: Case) -> None:
    summary, errors = calibrated.summary, calibrated.type_errors.astype(float)
    assert summary.parts == 9
    np.testing.assert_allclose(summary.squared, (errors**2).mean(-1).sum(0), rtol=1e-5)
    np.testing.assert_allclose(summary.absolute, np.abs(errors).mean(-1).sum(0), rtol=1e-5)
    np.testing.assert_allclose(summary.anomaly, sum(scored.map for scored in calibrated.predictions), rtol=1e-5)


def test_summary_histograms_equal_those_of_numpy(calibrated: Case) -> None:
    summary = calibrated.summary
    images = calibrated.images[:, : FRAME[0], : FRAME[1]]
    for channel in range(2):
        value = images[..., channel][:, calibrated.mask].astype(float)
        error = calibrated.type_errors[..., channel][:, calibrated.mask].astype(float)
        losses, _ = np.histogram(np.clip(error**2, 1.0000001e-8, 1), summary.loss_edges)
        np.testing.assert_array_equal(summary.losses[channel], losses)
        reconstruction = np.clip((value - error), 0, 1)
        pairs, *_ = np.histogram2d(
            value.ravel(), reconstruction.ravel(), bins=[summary.value_edges, summary.value_edges]
        )
        np.testing.assert_array_equal(summary.pairs[channel], pairs)


def test_subtracting_parts_gives_the_summary_of_the_others(calibrated: Case) -> None:
    images, errors, maps = (
        calibrated.images[:, : FRAME[0], : FRAME[1]],
        calibrated.type_errors,
        calibrated.images[..., 0],
    )
    maps = np.ascontiguousarray(maps[:, : FRAME[0], : FRAME[1]])

    def summary_of(rows: slice) -> Summary:
        summary = Summary((*FRAME, 2))
        summary.add(images[rows], errors[rows], maps[rows], calibrated.mask)
        return summary

    everything, others = summary_of(slice(0, 6)), summary_of(slice(6, 9))
    everything.merge(others)
    everything.subtract(summary_of(slice(0, 6)))
    restored = Summary((*FRAME, 2))
    restored.load_arrays(everything.as_arrays())
    for name, values in others.as_arrays().items():
        np.testing.assert_allclose(restored.as_arrays()[name], values, rtol=1e-6, atol=1e-12)
    with pytest.raises(ValueError, match="squared has shape"):
        Summary((2, 2, 2)).load_arrays(everything.as_arrays())


def test_the_outer_bins_hold_the_values_outside_the_range() -> None:
    summary = Summary((1, 4, 1))
    images = np.array([0.0, 1.0, 0.5, 0.5], np.float32).reshape(1, 1, 4, 1)
    errors = np.array([0.0, 2.0, 1.0, -0.9], np.float32).reshape(1, 1, 4, 1)
    summary.add(images, errors, np.zeros((1, 1, 4), np.float32), np.ones((1, 4), bool))
    assert summary.losses[0, 0] == 1  # an error of 0
    assert summary.losses[0, -1] == 2  # 1 and above
    assert summary.losses.sum() == summary.pairs.sum() == 4
    assert summary.pairs[0, 99, 0] == 1  # value 1, reconstruction -1
    assert summary.pairs[0, 50, 99] == 1  # reconstruction 1.4


def test_distances_count_from_their_center_without_a_reconstruction() -> None:
    """Nine parts have distance 5 at every pixel; in one corner, one part is farther and one is nearer."""
    distances = np.full((9, *SHAPE[:2], 1), 5.0, np.float32)
    distances[4, 2:4, 3:6] = 9.0
    distances[6, 2:4, 3:6] = 1.0
    mask, one = np.ones(FRAME, bool), np.ones((*SHAPE[:2], 1), np.float32)
    calibration = Calibration(0.25 * one, np.linspace(1.5, 4, 120), center=5 * one)
    images = np.random.default_rng(0).random((9, *SHAPE)).astype(np.float32)
    inputs = InputSet(images.reshape(9, -1), SHAPE, ("R", "G"), tuple(f"{n}.png" for n in range(9)))
    built_from = specification(SHAPE, channel_weights=(1.0, 3.0), gives_distance=True)
    summary, settings = Summary((*FRAME, 1), distances=True), {"mask": mask, "specification": built_from}
    settings |= {"map_smoothing": 0.0}
    settings |= {"summary": summary}
    geometries = [PartGeometry(FRAME, np.eye(3))] * 9

    def scored(cut: Cut) -> list[Prediction]:
        model: Any = GivenErrors(distances)
        return list(
            score_parts(
                inputs, geometries, model, calibration, cut=cut, region_threshold=0.6, pixel_size_mm=None, **settings
            )
        )

    actual = scored(Cut(4.0, "conformal"))
    np.testing.assert_allclose([part.score for part in actual], [0, 0, 0, 0, 8, 0, 0, 0, 0])
    assert [part.failed for part in actual] == [row == 4 for row in range(9)]
    (region,) = actual[4].regions
    assert (region.x, region.y, region.width, region.height, region.channel) == (3, 2, 3, 2, "distance")
    np.testing.assert_allclose(summary.absolute[2, 3], 7 * 5 + 9 + 1)
    assert summary.pairs.shape[0] == 0
    assert summary.losses.sum() == 9 * mask.sum()
    assert summary.losses[0, np.searchsorted(summary.loss_edges, 81.0) - 1] == 6
    # A loss cut applies to the distance itself.
    assert [part.score for part in scored(Cut(8.0, "loss_cut", raw=True))] == [5, 5, 5, 5, 9, 5, 5, 5, 5]


def test_the_gain_of_a_place_multiplies_the_map_there(calibrated: Case) -> None:
    gain = np.random.default_rng(1).uniform(0.5, 2, SHAPE[:2]).astype(np.float32)
    settings: dict[str, Any] = {"mask": calibrated.mask, "specification": calibrated.specification, "raw": False}
    without, with_gain = (
        scoring.anomaly_maps(
            calibrated.type_errors, replace(calibrated.calibration, gain=given), map_smoothing=0.7, **settings
        )
        for given in (None, gain)
    )
    np.testing.assert_array_equal(with_gain[0], without[0])
    np.testing.assert_allclose(with_gain[1], without[1] * gain[: FRAME[0], : FRAME[1]], rtol=1e-6)


def test_scores_of_stand_ins_are_no_good_parts(calibrated: Case) -> None:
    choice = (0.01, calibrated.config.validation.threshold)
    for stand_ins, expected in ((False, 120), (True, 0)):
        calibration = replace(calibrated.calibration, stand_ins=stand_ins)
        assert choose_cut(calibration, *choice, loss_cut="auto", log_loss=False).good_parts == expected


@pytest.mark.parametrize("independent", [False, True])
def test_a_model_gets_always_as_many_rows_unless_rows_are_independent(independent: bool) -> None:
    errors = np.random.default_rng(2).random((5, *SHAPE)).astype(np.float32)
    given: list[list[int]] = []

    class Model(GivenErrors):
        rows_are_independent = independent

        def error(self, inputs: InputSet, rows: Any) -> np.ndarray:
            given.append(np.arange(5)[rows].tolist())
            return self.errors[rows]

    inputs = InputSet(errors.reshape(5, -1), SHAPE, ("R", "G"), tuple("abcde"))
    model: Any = Model(errors)
    np.testing.assert_array_equal(scoring.model_errors(model, inputs, slice(3, 5), 3), errors[3:5])
    assert given == [[3, 4] if independent else [3, 4, 4]]


def test_a_part_whose_score_is_not_finite_has_no_prediction() -> None:
    case = Case(config_with())
    errors = case.errors.copy()
    errors[2, 4, 4] = np.inf
    summary = Summary((*FRAME, 2))
    inputs = InputSet(case.images.reshape(9, -1), SHAPE, ("R", "G"), tuple(f"{n}.png" for n in range(9)))
    model: Any = GivenErrors(errors)
    predictions = list(
        score_parts(
            inputs,
            [PartGeometry((80, 110), np.eye(3))] * 9,
            model,
            case.calibration,
            mask=case.mask,
            cut=case.cut,
            specification=case.specification,
            map_smoothing=0.0,
            region_threshold=0.6,
            pixel_size_mm=None,
            summary=summary,
        )
    )
    assert [part is None for part in predictions] == [row == 2 for row in range(9)]
    assert summary.parts == 8
    assert np.isfinite(summary.squared).all()


def test_no_sum_is_negative_after_subtracting() -> None:
    summary, other = Summary((*FRAME, 2)), Summary((*FRAME, 2))
    for name in ("squared", "absolute", "anomaly"):
        getattr(other, name)[...] = 1e-17  # rounding
    summary.subtract(other)
    for name in ("squared", "absolute", "anomaly"):
        assert (getattr(summary, name) == 0).all()


def test_the_sums_of_a_model_with_distances_and_a_reconstruction_are_those_of_its_differences() -> None:
    generator = np.random.default_rng(3)
    distances, images = generator.random((9, *SHAPE[:2], 1)), generator.random((9, *SHAPE)).astype(np.float32)
    differences = generator.normal(0, 0.1, (9, *SHAPE)).astype(np.float32)

    class Model(GivenErrors):
        def difference(self, inputs: InputSet, rows: Any) -> np.ndarray:
            return differences[rows]

    one = np.ones((*SHAPE[:2], 1), np.float32)
    summary = Summary((*FRAME, 2))
    model: Any = Model(distances.astype(np.float32))
    predictions = score_parts(
        InputSet(images.reshape(9, -1), SHAPE, ("R", "G"), tuple(f"{n}.png" for n in range(9))),
        [PartGeometry(FRAME, np.eye(3))] * 9,
        model,
        Calibration(one, np.linspace(1, 2, 120), center=0 * one),
        mask=np.ones(FRAME, bool),
        cut=Cut(4.0, "conformal"),
        specification=specification(SHAPE, gives_distance=True, gives_reconstruction=True),
        map_smoothing=0.0,
        region_threshold=0.6,
        pixel_size_mm=None,
        summary=summary,
    )
    assert len(list(predictions)) == 9
    inside = differences[:, : FRAME[0], : FRAME[1]]
    np.testing.assert_allclose(summary.squared, (inside**2).mean(-1).sum(0), rtol=1e-5)
    np.testing.assert_allclose(summary.absolute, np.abs(inside).mean(-1).sum(0), rtol=1e-5)
