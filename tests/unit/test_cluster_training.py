"""Training on batches from disk: repeatable, resumable at any step, and stored as the other models are."""

import numpy as np
import pytest
from cluster_files import config_in
from cluster_training import OPTIONS, prepared, without_graphs

import pixal
from pixal.errors import ConfigError, InputError, ModelError, Stopped
from pixal.io.arrays import load_arrays
from pixal.tasks.charge_clusters.fitting import StreamFit
from pixal.tasks.charge_clusters.model_input import read_model_input
from pixal.tasks.charge_clusters.network.likelihood import SMALLEST_DIAGONAL
from pixal.train_model import checkpoint as checkpoint_module
from pixal.train_model.stored_model import load_stored

# Keras compares one array with a list of one input only where nothing is compiled.
pytestmark = pytest.mark.filterwarnings("ignore:The structure of `inputs` doesn't match")


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setenv("PIXAL_TRACKING", "off")
    with without_graphs():
        yield


def weights(config):
    """The bytes of the stored weights."""
    return (config.paths.resolve("model_path") / "pixal_mdn.weights.h5").read_bytes()


def stop_after(monkeypatch, steps):
    """Ask the run to stop after some steps, and write each checkpoint at once."""
    original, done = StreamFit._loss, []

    def loss(self, step, charge, labels):
        result = original(self, step, charge, labels)
        if step == self._model.train_on_batch:
            done.append(1)
            if len(done) == steps:
                raise_signal()
        return result

    def raise_signal():
        import signal

        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(StreamFit, "_loss", loss)


def test_a_run_is_repeated_byte_for_byte_and_resumes_at_any_step(tmp_path, monkeypatch):
    whole = prepared(tmp_path / "whole")
    pixal.train(config=whole, quiet=True)
    steps = read_model_input(whole).stream(whole, "train", batch_size=128).steps
    for stop in (2, steps, steps + 1):
        config = prepared(tmp_path / f"stopped_{stop}")
        with monkeypatch.context() as patch:
            stop_after(patch, stop)
            with pytest.raises(Stopped, match=r"saved in fit 1, epoch \d; run the same command with --resume"):
                pixal.train(config=config, quiet=True)
        seen = []
        with monkeypatch.context() as patch:
            original = StreamFit._loss
            patch.setattr(StreamFit, "_loss", lambda self, *args, o=original, s=seen: s.append(1) or o(self, *args))
            pixal.train(config=config, resume=True, quiet=True)
        validations = 2 if stop < steps else 1
        assert len(seen) == 2 * steps - stop + validations  # no step is done twice
        assert weights(config) == weights(whole)
    record, other = (load_stored(config, None).record for config in (whole, config))
    assert record.final_loss == other.final_loss
    assert record.files == other.files


def test_training_lowers_the_loss_and_keeps_the_best_epoch(tmp_path):
    config = prepared(tmp_path, "model_training.n_epochs=4", "model_training.learning_rate=0.03", events=900)
    assert pixal.train(config=config, quiet=True).done == read_model_input(config).events["train"]
    record = load_stored(config, None).record
    untrained = 2 * np.log(2 * np.pi) + 4 * np.log(0.5) + 0.5 * 4 * (1 / 3) / 0.25
    assert record.validation_loss < untrained - 0.1
    assert 1 <= record.best_epoch <= 4
    assert (config.paths.resolve("figures_path") / "loss.png").is_file()


def test_a_finished_model_is_skipped_and_more_epochs_can_be_added(tmp_path):
    config = prepared(tmp_path)
    pixal.train(config=config, quiet=True)
    first = weights(config)
    pixal.train(config=config, resume=True, quiet=True)
    assert weights(config) == first
    pixal.train(config=config, resume=True, epochs=1, quiet=True)
    assert load_stored(config, None).record.epochs_trained == 3


def test_a_stored_network_predicts_the_same_after_loading(tmp_path):
    config = prepared(tmp_path)
    pixal.train(config=config, quiet=True)
    charge, labels = next(read_model_input(config).stream(config, "test", batch_size=8).raw())
    stored = load_stored(config, None)
    first, second = stored.load_model(), stored.load_model()
    mean, covariance = first.predict(charge)
    assert mean.shape == labels.shape
    np.testing.assert_array_equal(mean, second.predict(charge)[0])
    np.testing.assert_allclose(covariance, covariance.transpose(0, 2, 1))
    assert (np.linalg.eigvalsh(covariance.astype(np.float64)) > 0).all()
    outputs = first.outputs(charge)
    assert first.offset.any()
    norm = first.spec.normalization
    assert norm.label_scale[2:] == (8, 0.5)
    expected = outputs[:, [0, 2, 4, 6]] * np.array(norm.label_scale) + first.offset
    expected[:, :2] += norm.origin.positions(charge)
    np.testing.assert_allclose(mean, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        covariance[:, 1, 0],
        outputs[:, 8]
        * (np.maximum(outputs[:, 1], 0) + SMALLEST_DIAGONAL)
        * np.prod(norm.label_scale[:2])
        * first.covariance_scale[:2].prod(),
        rtol=1e-3,
        atol=1e-3,
    )


def test_errors_say_what_to_do(tmp_path):
    config = config_in(tmp_path, *OPTIONS)
    with pytest.raises(InputError, match=r"there is no model input of Sensor .*run preprocess first"):
        pixal.train(config=config)
    config = prepared(tmp_path)
    with pytest.raises(InputError, match="leave out the input"):
        pixal.train(tmp_path, config=config)
    with pytest.raises(InputError, match="needs resume"):
        pixal.train(config=config, epochs=3)
    with pytest.raises(ModelError, match="there is no trained model"):
        pixal.train(config=config, resume=True, epochs=3, quiet=True)
    with pytest.raises(ConfigError, match="model_options"):
        pixal.train(config=config_in(tmp_path, "model_training.model_options={depth: 3}"))
    large = ["model=mdn_float", "model_options={}", "learning_rate=1e30", "gradient_clip=null"]
    overrides = [f"model_training.{setting}" for setting in large]
    with pytest.raises(ConfigError, match="training diverged; lower"):
        pixal.train(config=config_in(tmp_path, *OPTIONS, *overrides), quiet=True)


def test_a_checkpoint_of_other_settings_is_refused(tmp_path, monkeypatch):
    config = prepared(tmp_path)
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(Stopped):
            pixal.train(config=config, quiet=True)
    other = config_in(tmp_path, *OPTIONS, "model_training.learning_rate=0.1")
    with pytest.raises(ModelError, match="belongs to a run with another"):
        pixal.train(config=other, resume=True, quiet=True)
    assert load_arrays(config.paths.resolve("model_path") / "checkpoint/state.npz")
    assert checkpoint_module.read_dependencies(config.paths.resolve("model_path") / "checkpoint")
