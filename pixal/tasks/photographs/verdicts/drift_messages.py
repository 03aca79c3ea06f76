"""Messages about drift: what differs, and what to do about it, for the person at the microscope."""

from __future__ import annotations

_TRAIN_AGAIN = "if parts will look like this from now on, train again with such photographs"
_GREY = 2  # colours are compared after adding as much grey
_ADVICE = {
    "brightness": f"Set lamp and exposure as they were for training; {_TRAIN_AGAIN}.",
    "warmth": f"Set the white balance and the lamp's colour as they were for training; {_TRAIN_AGAIN}.",
    "tint": f"Set the white balance and the lamp's colour as they were for training; {_TRAIN_AGAIN}.",
    "inlier_ratio": f"Check that the part lies flat, and that lens and zoom are those of training; {_TRAIN_AGAIN}.",
    "ssim": f"Check in the overlays in aligned_metrics that the part lies flat; {_TRAIN_AGAIN}.",
    "unprocessed": "The table below gives the reasons; check that type, side, plate and zoom are those of training.",
}
_ADVICE_LOWER = {
    "sharpness": f"Focus again and clean the lens, because blur hides small defects; {_TRAIN_AGAIN}.",
    "score": "Check that these are not the photographs that the model was trained on.",
}
_ADVICE_HIGHER = {
    "sharpness": f"The training photographs may be out of focus; {_TRAIN_AGAIN}.",
    "score": f"Expect false alarms; look at the passing parts with the highest scores, and {_TRAIN_AGAIN}.",
}


def message(quantity: str, training: float, batch: float) -> str:
    """Return one line that says how a batch differs from training.

    Args:
        quantity: One of ``drift.QUANTITIES``.
        training: Its value in training.
        batch: Its value in the batch.
    """
    is_higher, change = batch > training, abs(batch / training - 1) if training else 0.0
    if quantity == "brightness":
        direction = "brighter" if is_higher else "darker"
        levels = f"mean level {batch * 255:.0f} of 255, in training {training * 255:.0f}"
        return f"Light: {change:.0%} {direction} ({levels})"
    if quantity == "warmth":
        direction, colours = ("warmer", "more red than blue") if is_higher else ("cooler", "more blue than red")
        return f"Colour: {direction} (grey would have {_GREY * change:.0%} {colours})"
    if quantity == "tint":
        direction, colours = ("greener", "more green") if is_higher else ("more magenta", "less green")
        return f"Colour: {direction} (grey would have {_GREY * change:.0%} {colours})"
    if quantity == "sharpness":
        direction, detail = ("sharper", "stronger") if is_higher else ("softer", "weaker")
        return f"Focus: {direction} (fine detail is {change:.0%} {detail} than in training)"
    if quantity == "inlier_ratio":
        return f"Alignment: worse ({batch:.0%} of the matched points agree, in training {training:.0%})"
    if quantity == "ssim":
        return f"Alignment: less like the reference (SSIM {batch:.2f}, in training {training:.2f})"
    if quantity == "unprocessed":
        return f"Alignment: {batch:.0%} of the photographs could not be processed, in training {training:.0%}"
    direction = "higher" if is_higher else "lower"
    medians = f"median {batch:.3g}, good parts in training {training:.3g}"
    return f"Scores: {change:.0%} {direction} on parts that pass ({medians})"


def advice(quantity: str, training: float, batch: float) -> str:
    """Return one sentence that says what to do about it; arguments as of ``message``."""
    by_direction = _ADVICE_HIGHER if batch > training else _ADVICE_LOWER
    return by_direction[quantity] if quantity in by_direction else _ADVICE[quantity]
