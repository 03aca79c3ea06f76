"""Settings and output paths."""

from pixal.config.loading import Config, as_config, load_config
from pixal.config.paths import PathEntry, Paths
from pixal.config.schema import Parameters

__all__ = ["Config", "Parameters", "PathEntry", "Paths", "as_config", "load_config"]
