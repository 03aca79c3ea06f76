"""The options of ``encode`` and ``evaluate``."""

from __future__ import annotations

from pixal.commands.options import PHOTOGRAPHS, PREPARED, AddCommand, add_workers, count


def add_probe_commands(add: AddCommand) -> None:
    """Add the commands that show what a model makes of photographs.

    Args:
        add: Adds a command by its name and its line in the help, with the options that all commands have.
    """
    _add_encode(add)
    _add_evaluate(add)


def _add_encode(add: AddCommand) -> None:
    command = add("encode", "write the latent vectors of photographs, for similarity search")
    command.description = (
        "Write the latent vector of each photograph: the few numbers that the model reduces it to. Each type gets "
        "latents.npy (n, L), and manifest.csv, whose row n names the photograph of vector n. Photographs are prepared "
        "with the settings stored at training. Parts that look alike have vectors of similar direction."
    )
    command.add_argument(
        "-i", "--input", metavar="DIR-or-IMAGE", required=True, help=f"{PHOTOGRAPHS}, one image, or {PREPARED}"
    )
    command.add_argument(
        "-o",
        "--out",
        metavar="DIR",
        help="write DIR/TYPE/latents.npy, ... (default: latents_path in paths.yaml, out/COMPONENT/TYPE/latents)",
    )
    add_workers(command)


def _add_evaluate(add: AddCommand) -> None:
    command = add("evaluate", "measure how well the model reconstructs parts: MSE, MAE, SSIM")
    command.description = (
        "Measure how well the model reconstructs good parts, over the pixels of the part and for each channel: mean "
        "squared error, mean absolute error, structural similarity (1: identical). Print the means and standard "
        "deviations; write metadata/evaluation.yaml, evaluation.csv (one row per image) and "
        "figures/evaluation_reconstructions.png."
    )
    command.add_argument(
        "-i",
        "--input",
        metavar="NPZ-or-DIR",
        help=f"{PREPARED}, or photographs as for validate (default: the parts that the models were trained on)",
    )
    command.add_argument(
        "--checkpoint",
        metavar="EPOCH-or-FILE",
        help="use other weights than those of the model: an epoch in model/checkpoints "
        "(model_training.checkpoint_every), or a .weights.h5 file",
    )
    command.add_argument(
        "--samples",
        metavar="N",
        type=count,
        default=8,
        help="how many parts to draw, chosen at random from the seed (default: 8)",
    )
    add_workers(command)
