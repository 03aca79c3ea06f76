"""The simulated sensor against closed forms."""

from dataclasses import replace
from math import erf

import numpy as np
import pyarrow.parquet as pq
import pytest

from pixal.tasks.charge_clusters.columns import charge_columns
from pixal.tasks.charge_clusters.simulated_files import write_simulation
from pixal.tasks.charge_clusters.simulation import Sensor, respond, simulate

FINE = replace(Sensor().without_fluctuations(), rows=401, columns=401, pitch_x=0.5, pitch_y=0.5, slices=2, slice_time=3)
MEAN = Sensor().without_fluctuations()


def response(x=0.0, y=0.0, cot_alpha=0.0, cot_beta=0.0, sensor=MEAN):
    labels = np.array([[x, y, cot_alpha, cot_beta]], np.float32)
    return respond(labels, np.random.default_rng(0), sensor)[0]


def moments(profile, pitch):
    positions = (np.arange(len(profile)) - (len(profile) - 1) / 2) * pitch
    mean = (profile * positions).sum() / profile.sum()
    return mean, (profile * (positions - mean) ** 2).sum() / profile.sum()


@pytest.mark.parametrize(("cot_alpha", "cot_beta"), [(0, 0), (3, -0.5), (-8, 0.5)])
def test_the_total_charge_is_that_of_the_length_of_the_track(cot_alpha, cot_beta):
    total = response(cot_alpha=cot_alpha, cot_beta=cot_beta)[..., -1].sum()
    assert total == pytest.approx(80 * 100 * np.sqrt(1 + cot_alpha**2 + cot_beta**2), rel=1e-4)


def test_fluctuations_keep_the_mean_charge_and_have_a_long_tail():
    labels = np.zeros((4000, 4), np.float32)
    totals = respond(labels, np.random.default_rng(5), replace(MEAN, fluctuation=0.2))[..., -1].sum((1, 2))
    sigma = 80 * 4 * 0.2 * np.pi / np.sqrt(2) * 5  # the variance of Moyal's distribution is pi^2/2; 25 steps
    assert totals.std() == pytest.approx(sigma, rel=0.04)
    assert abs(totals.mean() - 8000) < 4 * sigma / np.sqrt(4000)
    skewness = ((totals - totals.mean()) ** 3).mean() / totals.std() ** 3
    assert skewness == pytest.approx(1.5351 / 5, abs=0.15)  # 28 sqrt(2) zeta(3) / pi^3 for one step


def test_charge_shifts_by_the_lorentz_angle_and_the_mean_drift_length():
    image = response(3, 2, sensor=FINE)[..., -1]
    assert moments(image.sum(0), 0.5)[0] == pytest.approx(3, abs=1e-3)
    assert moments(image.sum(1), 0.5)[0] == pytest.approx(2 + 0.1 * 50, abs=1e-3)


def test_diffusion_widens_the_cloud_with_the_square_root_of_the_drift_length():
    image = response(sensor=replace(FINE, lorentz=0.0))[..., -1]
    expected = 3.5**2 / 2 + 0.5**2 / 12
    assert moments(image.sum(0), 0.5)[1] == pytest.approx(expected, rel=1e-3)
    assert moments(image.sum(1), 0.5)[1] == pytest.approx(expected, rel=1e-3)


def test_an_inclined_track_has_the_width_of_its_projection():
    image = response(cot_alpha=1.0, sensor=FINE)[..., -1]
    assert moments(image.sum(0), 0.5)[1] == pytest.approx(100**2 / 12 + 3.5**2 / 2 + 0.5**2 / 12, rel=1e-3)


def test_charge_arrives_in_the_order_of_the_drift_length():
    sensor = replace(MEAN, rise=1e-6)
    arrived = response(sensor=sensor).sum((0, 1))
    times = np.arange(1, 21) * 0.2
    np.testing.assert_allclose(arrived, 8000 * np.clip(times * 50 / 100, 0, 1), atol=8000 / 25 / 2 + 1)


def test_noise_and_threshold():
    labels = np.zeros((50, 4), np.float32)
    noisy = respond(labels, np.random.default_rng(1), replace(MEAN, noise=60.0))
    assert noisy[:, 0].std() == pytest.approx(60, rel=0.02)
    cut = respond(labels, np.random.default_rng(1), replace(MEAN, noise=60.0, threshold=250.0))
    np.testing.assert_array_equal(cut, np.where(np.abs(noisy) < 250, 0, noisy))


def test_a_pixel_gets_what_a_plain_loop_gives():
    labels, sensor = np.array([[10.0, -3.0, 2.0, 0.3]], np.float32), replace(MEAN, slices=4)
    expected = np.zeros(sensor.shape)
    for step in range(sensor.steps):
        depth = -50 + 4 * (step + 0.5)
        drift = 50 - depth
        for row, column, index in np.ndindex(sensor.shape):
            share = 80 * 4 * np.sqrt(1 + 2.0**2 + 0.3**2)
            for centre, slope, number, pitch, count in (
                (10 + 2 * depth, 2, column, 50, 21),
                (-3 + 0.3 * depth + 0.1 * drift, 0.3, row, 12.5, 13),
            ):
                width = np.sqrt(3.5**2 * drift / 100 + (slope * 4) ** 2 / 12)
                edges = (number - count / 2) * pitch, (number - count / 2 + 1) * pitch
                share *= (erf((edges[1] - centre) / width / 2**0.5) - erf((edges[0] - centre) / width / 2**0.5)) / 2
            waited = max(0, 0.2 * (index + 1) - drift / 50)
            expected[row, column, index] += share * (1 - np.exp(-waited / sensor.rise))
    np.testing.assert_allclose(respond(labels, np.random.default_rng(0), sensor)[0], expected, rtol=1e-3, atol=0.05)


def test_a_seed_repeats_the_clusters_and_another_does_not():
    first, again, other = (simulate(260, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.charge, again.charge)
    np.testing.assert_array_equal(first.labels, again.labels)
    assert not np.array_equal(first.labels, other.labels)
    assert np.unique(first.labels, axis=0).shape == first.labels.shape  # also the second chunk has its own tracks


@pytest.mark.parametrize("layout", ["pairs", "merged"])
def test_files_hold_the_simulated_clusters(tmp_path, layout):
    files = write_simulation(tmp_path, 5, seed=3, files=2, layout=layout)
    truth = [simulate(3, seed=3), simulate(2, seed=4)]
    for path, clusters in zip(files, truth, strict=True):
        table = pq.read_table(path)
        charge = np.stack([table[name].to_numpy() for name in charge_columns(range(20), 273)], 1)
        np.testing.assert_array_equal(charge.reshape(-1, 20, 13, 21), clusters.charge.transpose(0, 3, 1, 2))
        labels = pq.read_table(str(path).replace("recon3D", "labels"))
        np.testing.assert_array_equal(labels["cotAlpha"].to_numpy(), clusters.labels[:, 2])
        np.testing.assert_array_equal(labels["y-midplane"].to_numpy(), clusters.labels[:, 1])
        if layout == "merged":
            assert (np.abs(table["chargeOriginal_atEdge"].to_numpy()) < 50).all()
