"""Settings: loading, checking, and where files go."""

from pixal.config.loading import Config, as_config, load_config
from pixal.config.paths import Paths
from pixal.config.schema import Parameters

__all__ = ["Config", "Parameters", "Paths", "as_config", "load_config"]
