"""What a drift means, and what to do about it, for the person at the microscope."""

from __future__ import annotations

_TRAIN_AGAIN = "if that is how parts look from now on, train again with such photographs"
_GREY = 2  # colours are compared with as much grey added
_ADVICE = {
    "brightness": f"Set lamp and exposure as they were for training; {_TRAIN_AGAIN}.",
    "warmth": f"Set the white balance and the lamp's colour as they were for training; {_TRAIN_AGAIN}.",
    "tint": f"Set the white balance and the lamp's colour as they were for training; {_TRAIN_AGAIN}.",
    "inlier_ratio": f"Check that the part lies flat, and that lens and zoom are those of training; {_TRAIN_AGAIN}.",
    "ssim": f"Look at the overlays in aligned_metrics: does the part lie flat? Else {_TRAIN_AGAIN}.",
    "unprocessed": "The table below says why for each; check that type, side, plate and zoom are those of training.",
}
_ADVICE_LOWER = {
    "sharpness": f"Focus anew and clean the lens, small defects are missed in a blur; {_TRAIN_AGAIN}.",
    "score": "Check that these are not the photographs that the model was trained on.",
}
_ADVICE_HIGHER = {
    "sharpness": f"The training photographs may be out of focus; {_TRAIN_AGAIN}.",
    "score": f"Expect false alarms; look at the passing parts with the highest scores, and {_TRAIN_AGAIN}.",
}


def message(quantity: str, training: float, batch: float) -> str:
    """How the batch differs from training in ``quantity``, in numbers people understand: one line."""
    higher, change = batch > training, abs(batch / training - 1) if training else 0.0
    if quantity == "brightness":
        how = "brighter" if higher else "darker"
        return f"Light: {change:.0%} {how} (mean level {batch * 255:.0f} of 255, in training {training * 255:.0f})"
    if quantity == "warmth":
        how, what = ("warmer", "more red than blue") if higher else ("cooler", "more blue than red")
        return f"Colour: {how} (by what {_GREY * change:.0%} {what} would make of grey)"
    if quantity == "tint":
        how, what = ("greener", "more green") if higher else ("more magenta", "less green")
        return f"Colour: {how} (by what {_GREY * change:.0%} {what} would make of grey)"
    if quantity == "sharpness":
        return f"Focus: {'sharper' if higher else 'softer'} (fine detail is {change:.0%} {_strength(higher)})"
    if quantity == "inlier_ratio":
        return f"Alignment: worse ({batch:.0%} of the matched points agree, in training {training:.0%})"
    if quantity == "ssim":
        return f"Alignment: less like the reference (SSIM {batch:.2f}, in training {training:.2f})"
    if quantity == "unprocessed":
        return f"Alignment: {batch:.0%} of the photographs could not be processed, in training {training:.0%}"
    how = "higher" if higher else "lower"
    return f"Scores: {change:.0%} {how} on parts that pass (median {batch:.3g}, good parts in training {training:.3g})"


def advice(quantity: str, training: float, batch: float) -> str:
    """What to do about it: one sentence."""
    by_direction = _ADVICE_HIGHER if batch > training else _ADVICE_LOWER
    return by_direction[quantity] if quantity in by_direction else _ADVICE[quantity]


def _strength(higher: bool) -> str:
    return "stronger than in training" if higher else "weaker than in training"
