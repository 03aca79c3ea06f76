"""Results of charge clusters: which events are predicted, and what is said of them."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from cluster_files import SETTINGS, config_in, write
from cluster_training import OPTIONS, events_of, prepared, without_graphs
from jsonschema import Draft202012Validator, ValidationError
from scipy.stats import multivariate_normal

import pixal
from pixal.cli import main
from pixal.config.paths import COMPONENT_ENTRIES, Paths
from pixal.errors import InputError, ModelError
from pixal.tasks.charge_clusters import TARGETS
from pixal.tasks.charge_clusters.columns import LABEL_COLUMNS
from pixal.tasks.charge_clusters.measures.summary import standard_deviations
from pixal.tasks.charge_clusters.model_input import read_model_input
from pixal.tasks.charge_clusters.simulation import Sensor
from pixal.tasks.charge_clusters.usual import UsualClusters, quantities_of
from pixal.tasks.charge_clusters.validating import validate
from pixal.train_model.stored_model import load_stored

DOCS = Path(__file__).parents[2] / "docs"

pytestmark = pytest.mark.filterwarnings("ignore:The structure of `inputs` doesn't match")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a trained component."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch, without_graphs():
        patch.setenv("PIXAL_TRACKING", "off")
        config = prepared(folder, "model_training.learning_rate=0.02", events=1200)
        pixal.train(config=config, quiet=True)
        yield folder, config


def rows_of(config):
    return pq.read_table(config.paths.resolve("component_validate_path") / "results.parquet").to_pydict()


def test_without_an_input_the_test_events_are_predicted(trained):
    _, config = trained
    results = pixal.validate(config=config, quiet=True)
    events = read_model_input(config).events["test"]
    assert results.events == events
    assert not results.all_failed
    rows = rows_of(config)
    assert len(rows["row"]) == events
    for name in TARGETS:
        true, predicted, sigma, pull = (
            np.array(rows[f"{name}_{kind}"]) for kind in ("true", "predicted", "sigma", "pull")
        )
        np.testing.assert_allclose(pull, (true - predicted) / sigma, rtol=1e-4, atol=1e-4)
        for level in ("68", "95"):
            inside = np.mean(np.abs(true - predicted) <= rows[f"{name}_half_{level}"])
            measured = results.metrics["network"]["targets"][name][f"interval_coverage_{level}"]["value"]
            assert inside == pytest.approx(measured, abs=1e-9)
    metrics = json.loads((config.paths.resolve("component_validate_path") / "metrics.json").read_text())
    residual = np.array(rows["x_true"]) - np.array(rows["x_predicted"])
    assert metrics["network"]["targets"]["x"]["residual_width"]["value"] == pytest.approx(
        residual.std(ddof=1), rel=1e-4
    )
    assert set(metrics) == {"events", "unusual", "network", "centroid", "centroid_eta", "head_tail"}
    assert f"{events} events" in results.summary()


def test_metrics_json_is_as_its_schema_says(trained):
    _, config = trained
    path = config.paths.resolve("component_validate_path") / "metrics.json"
    schema = json.loads((DOCS / "cluster_metrics.schema.json").read_text("utf-8"))
    check = Draft202012Validator(schema).validate
    validate(None, config, quiet=True, sensor=Sensor(rows=3, columns=4, slices=3))
    metrics = json.loads(path.read_text())
    check(metrics)
    assert set(metrics) == set(schema["properties"])
    definitions = schema["$defs"]
    assert set(metrics["network"]) == set(definitions["estimator"]["properties"])
    assert set(metrics["network"]["targets"]["x"]) == set(definitions["target"]["properties"])
    assert set(metrics["network"]["bins"]) == set(definitions["estimator"]["properties"]["bins"]["properties"])
    del metrics["network"]["targets"]["x"]["residual_width"]["low"]
    with pytest.raises(ValidationError, match="'low' is a required property"):
        check(metrics)


def test_the_predictions_are_the_same_after_export_and_import(trained, tmp_path):
    folder, config = trained
    write(folder / "travel/part.0.parquet", events_of(60, seed=8))
    path = pixal.export(out=tmp_path / "clusters.pixal", config=config)
    roots = {name: {"component": "Sensor", "base": str(tmp_path / name)} for name in COMPONENT_ENTRIES}
    other = replace(config, paths=Paths(roots))
    pixal.import_(path, config=other)
    expected, found = (
        (pixal.validate(folder / "travel", config=settings, quiet=True), rows_of(settings))[1]
        for settings in (config, other)
    )
    assert found == expected


def test_of_a_file_that_was_trained_on_only_test_events_are_used(trained):
    folder, config = trained
    new = write(folder / "new/part.0.parquet", events_of(60, seed=5))
    (folder / "new/part.1.parquet").write_bytes((folder / "files/part.0.parquet").read_bytes())
    results = pixal.validate(folder / "new", config=config, quiet=True)
    rows = rows_of(config)
    test = read_model_input(config).events["test"]
    assert results.events == 60 + test
    assert [rows["file"].count(name) for name in (new.name, "part.1.parquet")] == [60, test]


def test_events_without_labels_are_predicted_by_detect_alone(trained, tmp_path):
    folder, config = trained
    columns = events_of(80, seed=9)
    columns["5"][3] = np.nan
    write(folder / "labelled/part.0.parquet", columns)
    pixal.validate(folder / "labelled", config=config, quiet=True)
    expected = rows_of(config)
    charges = {name: values for name, values in columns.items() if name.isdecimal()}
    write(tmp_path / "files/part.0.parquet", charges)
    write(tmp_path / "files/recon3D_1.parquet", charges)
    results = pixal.detect(tmp_path / "files", config=config, quiet=True)
    assert results.events == 158
    assert [failure.reason for failure in results.failures] == [
        "left out 1 of 80 rows with charges that are not finite"
    ] * 2
    assert rows_of(config) == expected  # the results of validate are kept
    rows = pq.read_table(results.written[0]).to_pydict()
    shared = [name for name in expected if name not in ("file", "p_value", "unusual")]
    assert set(expected) - set(rows) == {f"{name}_{kind}" for name in TARGETS for kind in ("true", "pull")}
    for name in set(shared) & set(rows):
        assert rows[name][:79] == rows[name][79:] == expected[name]
    assert all(0 < value <= 1 for value in rows["p_value"])
    for command in (pixal.preprocess, pixal.validate):
        with pytest.raises(InputError, match="without labels only detect can predict"):
            command(tmp_path / "files", config=config, quiet=True)
    with pytest.raises(InputError, match="name them with -i"):
        pixal.detect(config=config)


def test_predictions_are_calibrated_on_held_out_events(trained, tmp_path):
    _, config = trained
    network = load_stored(config, None).load_model()
    charge, labels = next(read_model_input(config).stream(config, "validation", batch_size=1).raw())
    mean, covariance = network.predict(charge)
    pulls = (labels - mean) / standard_deviations(covariance)
    np.testing.assert_allclose(np.square(pulls).mean(axis=0), 1, rtol=1e-5)
    np.testing.assert_allclose((labels - mean).mean(axis=0, dtype=np.float64), 0, atol=1e-5)
    limits = network.interval_factors[:, None] * (1 + 1e-9)  # the quantiles are pulls of events
    inside = (np.abs(pulls) <= limits).sum(axis=1)
    wanted = np.ceil(np.array([[0.68], [0.95]]) * (len(labels) + 1))
    np.testing.assert_array_equal(inside, np.broadcast_to(wanted, (2, 4)))
    correlation = covariance[:, 0, 1] / np.sqrt(covariance[:, 0, 0] * covariance[:, 1, 1])
    with pytest.raises(ModelError, match=r"calibration\.npz is missing or damaged; run train again"):
        network._load_other_files(tmp_path)
    network.covariance_scale = np.ones(4)
    first = network.predict(charge)[1]
    np.testing.assert_allclose(first[:, 0, 1] / np.sqrt(first[:, 0, 0] * first[:, 1, 1]), correlation, rtol=1e-9)


def test_an_unusual_cluster_is_flagged(trained):
    folder, config = trained
    columns = events_of(40, seed=6)
    for index in range(36):
        columns[str(index)][7] = 5e7
    write(folder / "unusual/part.0.parquet", columns)
    results = pixal.validate(
        folder / "unusual", config=config_in(folder, *OPTIONS, "validation.unusual_rate=0.005"), quiet=True
    )
    rows = rows_of(config)
    assert np.argmin(rows["p_value"]) == 7
    assert rows["unusual"][7]
    assert results.unusual <= 3


def test_bad_input_is_refused(trained, tmp_path):
    folder, config = trained
    with pytest.raises(InputError, match="--batch, --truth and --model do not apply"):
        pixal.validate(folder / "files", batch="b", config=config)
    columns = events_of(20)
    write(tmp_path / "files/part.0.parquet", {name: values for name, values in columns.items() if name != "30"})
    with pytest.raises(InputError, match="has no column '30'"):
        pixal.validate(tmp_path / "files", config=config, quiet=True)
    with pytest.raises(ModelError, match="Sensor was never trained"):
        pixal.validate(folder / "files", config=config_in(tmp_path, *OPTIONS), quiet=True)
    with pytest.raises(InputError, match="pixal encode does not apply to task charge_clusters"):
        pixal.encode(folder / "files", config=config)


@pytest.mark.parametrize(
    ("spoil", "status", "message"),
    [
        (
            lambda c: {k: c[k] for k in [*map(str, range(24)), *LABEL_COLUMNS]},
            2,
            "has no column '24' (slice 2)",
        ),
        (lambda c: c | {name: c[name] * 1e3 for name in LABEL_COLUMNS}, 2, "left out 40 of 40 rows with labels beyond"),
        (lambda c: c | {"cotBeta": c["cotBeta"] * np.where(np.arange(40) < 3, 1e3, 1)}, 3, "left out 3 of 40 rows"),
    ],
)
def test_bad_files_are_named_in_one_line(trained, tmp_path, capsys, spoil, status, message):
    _, config = trained
    write(tmp_path / "part.0.parquet", spoil(events_of(40, seed=9)))
    folders = ["--config", str(config.source)]
    settings = [f"--set={setting}" for setting in [*SETTINGS, *OPTIONS]]
    assert main(["validate", "-q", "-i", str(tmp_path), *folders, *settings]) == status
    lines = [line for line in capsys.readouterr().err.splitlines() if message in line]
    assert len(lines) == 1


def test_a_model_of_other_slices_is_not_used_for_new_model_input(trained, tmp_path):
    folder, config = trained
    shutil.copytree(folder, tmp_path / "copy")
    other = config_in(tmp_path / "copy", *OPTIONS, "clusters.slices=all")
    pixal.preprocess(folder / "files", config=other, quiet=True)
    with pytest.raises(InputError, match="preprocess has made another model input of Sensor since the training"):
        pixal.validate(config=other, quiet=True)
    results = pixal.validate(folder / "files", config=other, quiet=True)  # with the slices of the network
    assert results.events == read_model_input(config).events["test"]


def test_the_quantities_of_a_cluster():
    generator = np.random.default_rng(3)
    raw = generator.normal(100, 300, (5, 3, 4, 2)).astype(np.float32)
    residual = generator.normal(size=(5, 4))
    factors = np.tril(generator.normal(size=(5, 4, 4))) + 3 * np.eye(4)
    covariance = factors @ factors.transpose(0, 2, 1)
    quantities = quantities_of(raw, residual, covariance)
    for event in range(5):
        last = raw[event, :, :, -1]
        density = multivariate_normal(np.zeros(4), covariance[event]).logpdf(residual[event])
        expected = [
            np.log1p(max(last.sum(), 0)),
            np.log1p((last > 0).sum()),
            np.log(np.linalg.det(covariance[event])),
            -density,
        ]
        np.testing.assert_allclose(quantities[event], expected, rtol=1e-5)
    np.testing.assert_array_equal(quantities_of(raw, None, covariance), quantities[:, :3])


def test_p_values_of_usual_clusters_are_uniform(tmp_path):
    generator = np.random.default_rng(4)
    usual = UsualClusters.fit(generator.normal([8, 2, -3, 5], [1, 0.1, 2, 3], (4000, 4)))
    usual.save(tmp_path)
    usual = UsualClusters.load(tmp_path)
    quantities = generator.normal([8, 2, -3, 5], [1, 0.1, 2, 3], (4000, 4))
    for p_values in (usual.p_values(quantities), usual.p_values(quantities[:, :3])):
        for level in (0.01, 0.1, 0.5):
            assert (p_values <= level).mean() == pytest.approx(level, abs=4 * np.sqrt(2 * level * (1 - level) / 2000))
    assert usual.p_values(np.array([[8, 2.9, -3, 5]]))[0] < 1e-3
