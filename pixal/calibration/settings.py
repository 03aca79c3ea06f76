"""Settings of the calibration."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from pixal.config.section import Positive, Section


class Threshold(Section):
    """How the threshold on a part's score is set."""

    method: Literal["auto", "conformal", "tail", "sigma", "fixed"] = "auto"
    value: Positive | None = None

    @model_validator(mode="after")
    def _value_where_it_counts(self) -> Threshold:
        needs = self.method in ("sigma", "fixed")
        if needs != (self.value is not None):
            raise ValueError(
                f"method {self.method!r} needs a value (sigma: how many; fixed: the score)"
                if needs
                else f"value only counts with method sigma or fixed, not with {self.method!r}"
            )
        return self
