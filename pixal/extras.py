"""Packages that only some commands need, and the command that installs them."""

from __future__ import annotations

from importlib.util import find_spec

from pixal.config.schema import AUTO_MODEL
from pixal.errors import ConfigError
from pixal.registry import MODELS

_EXTRAS = {
    "tensorflow": ("TensorFlow", "pip install 'pixal[cpu]', or with an NVIDIA GPU pip install 'pixal[gpu]'"),
    "scipy": ("SciPy", "pip install 'pixal[analysis]'"),
    "sklearn": ("scikit-learn", "pip install 'pixal[analysis]'"),
    "skimage": ("scikit-image", "pip install 'pixal[analysis]'"),
    "distributed": ("Dask", "pip install 'pixal[cluster]'"),
    "openpyxl": ("openpyxl", "pip install 'pixal[tables]'"),
    "fastapi": ("FastAPI", "pip install 'pixal[serve]'"),
    "uvicorn": ("uvicorn", "pip install 'pixal[serve]'"),
    "pandas": ("pandas", "pip install 'pixal[tables]'"),
    "pyarrow": ("pyarrow", "pip install 'pixal[clusters]'"),
    "rembg": ("rembg", "pip install 'pixal[rembg]'"),
    "mlflow": ("MLflow", "pip install 'pixal[tracking]'"),
    "tensorboard": ("TensorBoard", "pip install 'pixal[tensorboard]'"),
}


def install_advice(module: str) -> str:
    """The name of a missing module, and how to install it."""
    name, command = _EXTRAS[module]
    return f"{name}, which is not installed: {command}"


def require_extra(module: str, purpose: str) -> None:
    """Check that a module of an extra is installed, without importing it.

    Args:
        module: The module: one of those above.
        purpose: What needs it, for the error message.

    Raises:
        ConfigError: It is not installed; the message holds the command that installs it.
    """
    if find_spec(module) is None:
        raise ConfigError(f"{purpose} needs {install_advice(module)}")


def require_analysis(purpose: str) -> None:
    """Check that all packages for statistics are installed; see ``require_extra``."""
    for module in ("scipy", "sklearn", "skimage"):
        require_extra(module, purpose)


def missing_extras() -> dict[str, str]:
    """The modules of extras that are not installed, and the command that installs each."""
    return {name: command for module, (name, command) in _EXTRAS.items() if find_spec(module) is None}


def require_for_model(model: str) -> None:
    """Check that TensorFlow is installed if a model family of PIXAL needs it. Raise ``ConfigError`` if it is not."""
    if model != "gaussian" and (model == AUTO_MODEL or model in MODELS.builtin):
        require_extra("tensorflow", f"model_training.model: {model}")
