"""From parquet files to shards: what is read, how it is split, normalised and stored."""

import collections
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from cluster_files import columns_of, config_in, write, write_pair

import pixal
from pixal.errors import ConfigError, InputError
from pixal.tasks.charge_clusters.columns import LABEL_COLUMNS
from pixal.tasks.charge_clusters.files import find_files
from pixal.tasks.charge_clusters.measures.centroid import PITCH, centroid, fit_centroid
from pixal.tasks.charge_clusters.measures.head_tail import fit_head_tail, head_tail
from pixal.tasks.charge_clusters.model_input import read_model_input, record_path
from pixal.tasks.charge_clusters.normalization import Normalization, NormalizationFit
from pixal.tasks.charge_clusters.reading import EventReader, Events
from pixal.tasks.charge_clusters.settings import DEFAULTS, NOT_USED, ClusterParameters, Clusters
from pixal.tasks.charge_clusters.simulation import simulate
from pixal.tasks.charge_clusters.splitting import split_of


def preprocessed(tmp_path, *overrides):
    config = config_in(tmp_path, *overrides)
    outcome = pixal.preprocess(tmp_path / "files", config=config, quiet=True)
    return config, outcome, read_model_input(config)


def raw_events(config, model_input):
    """Charge and labels of each split."""
    return {split: list(model_input.stream(config, split, batch_size=8).raw()) for split in model_input.shards}


def expected_charge(columns):
    """Charge (n, 3, 4, 2) of the small sensor, value by value."""
    count = len(columns["0"])
    charge = np.zeros((count, 3, 4, 2), np.float32)
    for row, column, index in np.ndindex(3, 4, 2):
        charge[:, row, column, index] = columns[str((0, 2)[index] * 12 + row * 4 + column)]
    return charge


@pytest.mark.parametrize("layout", ["pairs", "merged"])
def test_every_event_of_both_layouts_is_in_one_split(tmp_path, layout):
    parts = {name: columns_of(200, seed) for seed, name in enumerate(("2", "10"))}
    for name, columns in parts.items():
        if layout == "pairs":
            write_pair(tmp_path / "files", f"_{name}", columns)
        else:
            write(tmp_path / f"files/part.{name}.parquet", columns, row_group_size=70)
    config, outcome, model_input = preprocessed(tmp_path)
    assert (outcome.done, outcome.failures) == (400, [])
    assert [len(file.file.removesuffix(".parquet")) for file in model_input.files] == sorted(
        len(name) + len("recon3D_" if layout == "pairs" else "part.") for name in parts
    )
    stored = [pair for pairs in raw_events(config, model_input).values() for pair in pairs]
    rows = {tuple(label): charge for pair in stored for charge, label in zip(*pair, strict=True)}
    assert len(rows) == 400
    for columns in parts.values():
        labels = np.stack([columns[name] for name in LABEL_COLUMNS], 1)
        for charge, label in zip(expected_charge(columns), labels, strict=True):
            np.testing.assert_array_equal(rows[tuple(label)], charge)


def test_a_file_that_comes_twice_leaves_the_splits_disjoint(tmp_path):
    columns = columns_of(300)
    for name in ("part.0", "part.1"):
        write(tmp_path / f"files/{name}.parquet", columns)
    write_pair(tmp_path / "files", "", columns)
    config, outcome, model_input = preprocessed(tmp_path)
    assert outcome.done == 900
    splits = {
        split: collections.Counter(tuple(labels) for _, batch in pairs for labels in batch)
        for split, pairs in raw_events(config, model_input).items()
    }
    assert set(
        collections.Counter(list(splits["train"]) + list(splits["validation"]) + list(splits["test"])).values()
    ) == {1}
    assert {count for split in splits.values() for count in split.values()} == {3}


def test_the_split_depends_on_the_seed_and_has_the_shares_asked_for():
    generator = np.random.default_rng(0)
    events = Events(np.arange(20000), generator.random((20000, 2, 2, 1), np.float32), np.zeros((20000, 4), np.float32))
    splits = split_of(events, seed=1, validation=0.1, test=0.2)
    assert np.bincount(splits) / 20000 == pytest.approx([0.7, 0.1, 0.2], abs=0.012)
    other = split_of(events, seed=2, validation=0.1, test=0.2)
    assert (splits == other).mean() == pytest.approx(0.7**2 + 0.1**2 + 0.2**2, abs=0.02)
    np.testing.assert_array_equal(split_of(events.select(slice(5, 9)), seed=1, validation=0.1, test=0.2), splits[5:9])


def test_normalisation_is_fitted_on_the_training_events_alone(tmp_path):
    write(tmp_path / "files/part.0.parquet", columns_of(4000))
    config, _, model_input = preprocessed(
        tmp_path, "clusters.label_scales=auto", "clusters.origin=sensor", "clusters.standardize=true"
    )
    charge, labels = (np.concatenate(parts) for parts in zip(*raw_events(config, model_input)["train"], strict=True))
    values = charge[charge != 0].astype(np.float64)
    norm = model_input.normalization
    assert norm.mean == pytest.approx(values.mean(), rel=1e-6)
    assert norm.deviation == pytest.approx(values.std(), rel=1e-6)
    standard = (values - values.mean()) / values.std()
    slices = np.nonzero(charge)[-1]
    percentiles = [
        [np.percentile(sign * standard[(sign * standard > 0) & (slices == index)], 90) for index in range(2)]
        for sign in (1, -1)
    ]
    np.testing.assert_allclose([norm.positive, norm.negative], percentiles, rtol=0.01)
    np.testing.assert_allclose(norm.label_scale, np.percentile(np.abs(labels), 99, axis=0), rtol=5e-3)
    inputs = np.concatenate([batch for batch, _ in model_input.stream(config, "train", batch_size=500).batches(1)])
    positive, negative = (np.array(scales)[slices] for scales in (norm.positive, norm.negative))
    expected = np.where(standard > 0, standard / positive, standard / negative).clip(-1, 1)
    np.testing.assert_allclose(inputs[charge != 0], expected, atol=1e-5)
    assert not inputs[charge == 0].any()


def test_each_slice_has_its_own_scale_unless_one_is_asked_for():
    generator = np.random.default_rng(2)
    charge = generator.exponential(1000, (400, 3, 3, 2)).astype(np.float32) * np.array([1, 10], np.float32)
    charge[generator.random(charge.shape) < 0.5] = 0
    for own, values in ((True, [charge[..., 0], charge[..., 1]]), (False, [charge, charge])):
        fit = NormalizationFit(Clusters(rows=3, columns=3, scale_slices=own))
        fit.add(Events(np.arange(400), charge, np.ones((400, 4), np.float32)))
        norm = fit.result()
        expected = np.array([np.percentile(part[part > 0], 90) for part in values])
        np.testing.assert_allclose(norm.positive, expected, rtol=0.01)
        np.testing.assert_allclose(norm.charge(charge), np.minimum(charge / norm.positive, 1), rtol=1e-5)


def fitted(clusters, **options):
    """The normalisation that is fitted on clusters of two slices."""
    fit = NormalizationFit(Clusters(**options))
    for start in range(0, len(clusters.labels), 1000):
        rows = np.arange(start, start + 1000)
        fit.add(Events(rows, clusters.charge[rows], clusters.labels[rows]))
    return fit.result()


@pytest.fixture(scope="module")
def clusters():
    """3,000 clusters, slices 0 and 19."""
    made = simulate(3000, seed=4)
    return replace(made, charge=made.charge[..., [0, 19]])


@pytest.mark.parametrize("origin", ["head_tail", "centroid_eta"])
def test_x_and_y_are_measured_from_a_fitted_position(clusters, origin):
    charge, labels = clusters.charge, clusters.labels
    if origin == "head_tail":
        expected = head_tail(charge, fit_head_tail(charge, labels, pitch=PITCH))
    else:
        expected = centroid(charge, fit_centroid(charge, labels, eta=True))
    norm = fitted(clusters, origin=origin)
    scaled, scale = norm.labels(labels, charge), np.array(norm.label_scale)
    np.testing.assert_allclose(scaled[:, :2] * scale[:2], labels[:, :2] - expected, atol=2e-3)
    np.testing.assert_allclose(np.percentile(np.abs(scaled[:, :2]), 99, axis=0), 1, rtol=1e-3)
    np.testing.assert_allclose(scaled[:, 2:], labels[:, 2:] / [8, 0.5], rtol=1e-6)
    np.testing.assert_allclose(norm.targets(scaled, charge), labels, atol=1e-4)
    assert Normalization.model_validate_json(norm.model_dump_json()) == norm


def test_with_thresholds_the_position_is_that_of_the_digitised_charge(clusters):
    thresholds = [400, 1000, 2000]
    norm = fitted(clusters, thresholds=thresholds)
    same = np.array([0, 400, 1000, 2000], np.float32)[np.searchsorted(thresholds, clusters.charge, side="right")]
    np.testing.assert_array_equal(norm.labels(clusters.labels, clusters.charge), norm.labels(clusters.labels, same))


def test_the_normalised_charge_still_tells_where_a_track_was(clusters):
    residuals = clusters.labels[:, :2] - centroid(fitted(clusters).charge(clusters.charge))
    expected = clusters.labels[:, :2] - centroid(clusters.charge)
    np.testing.assert_allclose(residuals.std(0), expected.std(0), rtol=0.15)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"thresholds": [400, 1000, 2000]}, [0, 0, 1 / 3, 2 / 3, 1, 0]),
        ({"logarithm": True, "clip_percentile": 100, "standardize": True}, None),
        ({"clip_percentile": 100}, [0, 0.0798, 0.08, 0.2, 1, -0.06]),
        ({"bits": 4}, None),
    ],
)
def test_other_normalisations(options, expected):
    values = np.array([0, 399, 400, 1000, 5000, -300], np.float32).reshape(1, 1, 6, 1)
    fit = NormalizationFit(Clusters(slices=[19], **options))
    fit.add(Events(np.arange(1), values, np.ones((1, 4), np.float32)))
    result = fit.result().charge(values).ravel()
    if expected is not None:
        np.testing.assert_allclose(result, expected, rtol=1e-3)
    if "logarithm" in options:
        logs = np.sign(values) * np.log2(1 + np.abs(values))
        used = logs[values != 0]
        standard = (used - used.mean()) / used.std()
        scaled = np.where(standard > 0, standard / standard.max(), -standard / standard.min())
        np.testing.assert_allclose(result[[1, 2, 3, 4, 5]], scaled, rtol=2e-3)
    if "bits" in options:
        np.testing.assert_allclose(result * 8, np.round(result * 8))


def test_noise_is_repeated_for_a_file_and_differs_within_it(tmp_path):
    columns = columns_of(60)
    write(tmp_path / "files/part.0.parquet", columns)
    write(tmp_path / "files/part.1.parquet", columns)
    config, _, model_input = preprocessed(tmp_path, "clusters.noise=50")
    rows = collections.defaultdict(list)
    for pairs in raw_events(config, model_input).values():
        for charges, labels in pairs:
            for charge, label in zip(charges, labels, strict=True):
                rows[tuple(label)].append(charge)
    clean = expected_charge(columns)
    noise = (
        np.stack([rows[tuple(label)] for label in np.stack([columns[name] for name in LABEL_COLUMNS], 1)])
        - clean[:, None]
    )
    np.testing.assert_array_equal(noise[:, 0], noise[:, 1])
    assert noise[:, 0].std() == pytest.approx(50, rel=0.1)


@pytest.mark.parametrize(("column", "values"), [("original_atEdge", [0, 1]), ("chargeOriginal_atEdge", [49.0, 51.0])])
def test_clusters_that_reach_the_edge_are_left_out_on_request(tmp_path, column, values):
    edge = np.resize(np.array(values), 200)
    write(
        tmp_path / "files/part.0.parquet", columns_of(200) | {column: edge.astype(bool) if values == [0, 1] else edge}
    )
    assert preprocessed(tmp_path)[1].done == 200
    config, outcome, model_input = preprocessed(tmp_path, "clusters.contained=true")
    assert outcome.done == 100
    events = sum(len(labels) for pairs in raw_events(config, model_input).values() for _, labels in pairs)
    assert events == 100


def test_only_the_needed_columns_are_read(tmp_path, monkeypatch):
    import pyarrow.parquet as pq

    write(tmp_path / "part.0.parquet", columns_of(5))
    asked = []
    original = pq.ParquetFile.iter_batches
    monkeypatch.setattr(
        pq.ParquetFile,
        "iter_batches",
        lambda self, *args, columns, **kw: asked.append(columns) or original(self, *args, columns=columns, **kw),
    )
    settings = config_in(tmp_path).clusters
    list(EventReader(find_files(tmp_path, settings)[0][0], settings))
    assert asked == [[str(index) for index in (*range(12), *range(24, 36))]]


def test_work_that_is_done_is_skipped(tmp_path):
    path = write(tmp_path / "files/part.0.parquet", columns_of(200))
    config, _, first = preprocessed(tmp_path)
    stamp = record_path(config).stat().st_mtime_ns
    pixal.preprocess(tmp_path / "files", config=config, quiet=True)
    assert record_path(config).stat().st_mtime_ns == stamp
    write(path, columns_of(200, seed=9))
    assert preprocessed(tmp_path)[2].fingerprint != first.fingerprint
    assert preprocessed(tmp_path, "model_training.seed=1")[2].events != first.events


BAD = {
    "a missing column": (lambda columns: {k: v for k, v in columns.items() if k != "30"}, "has no column '30'"),
    "another sensor": (lambda columns: columns | {"36": columns["0"]}, "has 37 columns of charges"),
    "no label": (lambda columns: {k: v for k, v in columns.items() if k != "cotBeta"}, "has no column 'cotBeta'"),
    "text": (lambda columns: columns | {"0": np.array(["a"] * 40)}, "column '0' holds string, not numbers"),
    "no rows": (lambda columns: {k: v[:0] for k, v in columns.items()}, "holds no rows"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_file_that_does_not_fit_is_named(tmp_path, kind):
    spoil, message = BAD[kind]
    write(tmp_path / "files/part.0.parquet", columns_of(200))
    write(tmp_path / "files/part.1.parquet", spoil(columns_of(40)))
    _, outcome, _ = preprocessed(tmp_path)
    assert outcome.done == 200
    assert [failure.image for failure in outcome.failures] == ["part.1.parquet"]
    assert message in outcome.failures[0].reason


@pytest.mark.parametrize(
    ("spoil", "message", "kept"),
    [
        (
            lambda c: c["y-midplane"].__setitem__(3, np.nan),
            "left out 1 of 200 rows with labels that are not finite",
            199,
        ),
        (
            lambda c: c["24"].__setitem__(slice(2), np.inf),
            "left out 2 of 200 rows with charges that are not finite",
            198,
        ),
        (lambda c: c["cotBeta"].__setitem__(5, 11), "left out 1 of 200 rows with labels beyond 20 times", 199),
    ],
)
def test_rows_that_cannot_be_used_are_counted(tmp_path, spoil, message, kept):
    columns = columns_of(200)
    spoil(columns)
    write(tmp_path / "files/part.0.parquet", columns)
    _, outcome, _ = preprocessed(tmp_path)
    assert outcome.done == kept
    assert [message in failure.reason for failure in outcome.failures] == [True]


def test_files_that_are_no_parquet_and_pairs_that_do_not_match(tmp_path):
    folder = tmp_path / "files"
    write_pair(folder, "_0", columns_of(200))
    write_pair(folder, "_1", columns_of(40))
    write(folder / "labels_1.parquet", {name: columns_of(39)[name] for name in LABEL_COLUMNS})
    write_pair(folder, "_2", columns_of(40))
    (folder / "labels_2.parquet").rename(folder / "labels_3.parquet")
    (folder / "part.7.parquet").write_bytes(b"")
    (folder / "part.8.parquet").write_bytes((folder / "recon3D_0.parquet").read_bytes()[:-100])
    _, outcome, _ = preprocessed(tmp_path)
    assert outcome.done == 200
    reasons = {failure.image: failure.reason for failure in outcome.failures}
    assert reasons["recon3D_1.parquet"] == "labels_1.parquet: holds 39 rows, but recon3D_1.parquet holds 40"
    assert reasons["recon3D_2.parquet"].startswith("there is no labels_2.parquet with the labels; ")
    assert reasons["labels_3.parquet"] == "there is no recon3D_3.parquet with the charges"
    for name in ("part.7.parquet", "part.8.parquet"):
        assert reasons[name].startswith("is no complete parquet file: ")
    assert len(reasons) == 5


def test_damage_inside_a_file_is_named_with_its_rows(tmp_path):
    write(tmp_path / "files/part.0.parquet", columns_of(200))
    path = write(
        tmp_path / "files/part.1.parquet",
        columns_of(3000, 1),
        write_page_checksum=True,
        compression="none",
        use_dictionary=False,
    )
    data = bytearray(path.read_bytes())
    data[200:400] = bytes(200)
    path.write_bytes(data)
    _, outcome, _ = preprocessed(tmp_path)
    assert outcome.done == 200
    assert outcome.failures[0].reason.startswith("row 0 and the 2999 after it cannot be read")


def test_nothing_to_read_is_an_error(tmp_path):
    (tmp_path / "files").mkdir()
    with pytest.raises(InputError, match="holds no parquet file of charge clusters"):
        preprocessed(tmp_path)
    with pytest.raises(InputError, match="missing does not exist"):
        pixal.preprocess(tmp_path / "missing", config=config_in(tmp_path))
    write(tmp_path / "files/part.0.parquet", columns_of(2))
    with pytest.raises(InputError, match="no event is in the split"):
        preprocessed(tmp_path)


def test_a_record_that_was_edited_is_refused(tmp_path):
    write(tmp_path / "files/part.0.parquet", columns_of(200))
    config, _, _ = preprocessed(tmp_path)
    path = record_path(config)
    path.write_text(path.read_text().replace("seed: 42", "seed: 43"))
    with pytest.raises(InputError, match="is not what preprocess wrote"):
        read_model_input(config)
    assert preprocessed(tmp_path)[1].done == 200


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("clusters.slices=[0,3]", "lie below time_slices, 3"),
        ("clusters.slices=[2,0]", "must rise"),
        ("clusters.thresholds=[5,5]", "must rise"),
        ("model_training.model=gaussian", "is not one of mdn, mdn_float"),
        ("model_training.masked_loss=true", "masked_loss has no effect on charge clusters"),
        ("preprocessing.rename_images=true", "preprocessing"),
    ],
)
def test_settings_that_cannot_be_used(tmp_path, override, message):
    with pytest.raises(ConfigError, match=message):
        config_in(tmp_path, override)


def test_a_stored_normalisation_keeps_its_numbers():
    content = {
        "logarithm": False, "mean": 1.5, "deviation": 2.0, "positive": (1.0, 2.0), "negative": (3.0, 4.0),
        "thresholds": None, "bits": None, "label_scale": (1, 2, 3, 4),
        "origin": {
            "pitch": (50, 12.5), "offset": (0, 1), "eta": [[[0, 1]]], "places": [[[0, 1]]], "wide_weight": None,
            "wide_offset": None,
        },
    }  # fmt: skip
    assert Normalization.model_validate(Normalization(**content).model_dump()) == Normalization(**content)


def test_the_file_of_defaults_holds_every_setting_with_its_default():
    stored = yaml.safe_load((DEFAULTS / "parameters.yaml").read_text())
    expected = ClusterParameters().model_dump()
    expected["model_training"] = {
        key: value for key, value in expected["model_training"].items() if key not in NOT_USED
    } | {"model_name": None}
    assert stored == expected


def test_the_page_names_every_setting_of_the_task():
    page = (Path(__file__).parents[2] / "docs/charge_clusters.md").read_text(encoding="utf-8")
    assert [name for name in Clusters.model_fields if f"`clusters.{name}`" not in page] == []
