"""Settings of the threshold."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from pixal.config.section import Positive, Section


class Threshold(Section):
    """How the threshold on the score of a part is set, see ``pixal.calibration.thresholds``.

    Attributes:
        method: The method.
        value: The number of standard deviations for "sigma", the score for "fixed"; None for the other methods.
    """

    method: Literal["auto", "conformal", "tail", "sigma", "fixed"] = "auto"
    value: Positive | None = None

    @model_validator(mode="after")
    def _check_value(self) -> Threshold:
        needs_value = self.method in ("sigma", "fixed")
        if needs_value != (self.value is not None):
            raise ValueError(
                f"method {self.method!r} needs a value (sigma: the number of standard deviations; fixed: the score)"
                if needs_value
                else f"value is used by the methods sigma and fixed only, not by {self.method!r}"
            )
        return self
