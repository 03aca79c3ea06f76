"""AlignmentResult: known poses are undone, what is no part of the type is refused, and each setting counts."""

from __future__ import annotations

import functools
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

from pixal.errors import AlignmentError, InputError
from pixal.synthetic import Photograph, draw_component, render_photograph
from pixal.tasks.photographs.alignment.align import (
    AlignmentResult,
    Features,
    Reference,
    align_photograph,
    detect_features,
    match_features,
    warp,
)
from pixal.tasks.photographs.alignment.pose import fit_pose, impossible
from pixal.tasks.photographs.settings import AlignmentSettings

drawn = functools.cache(draw_component)


@functools.cache
def photograph(
    type_name: str,
    seed: int,
    *kinds: str,
    size: tuple[int, int] = (640, 360),
    turn: float = 0.0,
    scale: float = 1.0,
) -> Photograph:
    rng = np.random.default_rng(seed)
    return render_photograph(*drawn(type_name, size), kinds, rng, frame_size=size, turn=turn, scale=scale)


@functools.cache
def reference(type_name: str = "front", size: tuple[int, int] = (640, 360), scale: float = 1.0) -> Reference:
    photo = photograph(type_name, 0, size=size, scale=scale)
    return Reference.of(photo.image, photo.foreground > 0, AlignmentSettings().number_of_points)


def aligned(photo: Photograph, to: Reference, **settings: Any) -> AlignmentResult:
    return align_photograph(photo.image, photo.foreground > 0, to, AlignmentSettings(**settings))


def displacement(found: NDArray[np.float64], true: NDArray[np.float64], inside: NDArray[Any]) -> NDArray[np.float64]:
    """How far apart, in pixels, two homographies put each of the part's pixels."""
    points = np.argwhere(inside)[:, ::-1].astype(np.float64)[None]
    apart = cv2.perspectiveTransform(points, found) - cv2.perspectiveTransform(points, true)
    return np.asarray(np.linalg.norm(apart[0], axis=-1))


def check_pose(
    photo: Photograph, true_reference: Photograph, to: Reference, mean: float, worst: float, **settings: Any
) -> None:
    found = aligned(photo, to, **settings)
    assert not found.reason
    truth = true_reference.pose @ np.linalg.inv(photo.pose)
    apart = displacement(found.homography, truth, photo.foreground)
    assert apart.mean() <= mean
    assert apart.max() <= worst


@pytest.mark.parametrize("type_name", ["front", "back"])
@pytest.mark.parametrize("kinds", [(), ("stain", "scratch"), ("torn_edge", "missing_pad", "splash")])
def test_a_pose_is_undone(type_name: str, kinds: tuple[str, ...]) -> None:
    for seed in (1, 2):
        photo = photograph(type_name, seed, *kinds)
        check_pose(photo, photograph(type_name, 0), reference(type_name), mean=0.1, worst=0.4)


@pytest.mark.parametrize("type_name", ["front", "back"])
def test_a_part_upside_down_is_turned_back(type_name: str) -> None:
    # A feature detector with a bias of a quarter pixel, as OpenCV's is by default, is 0.7 px off here.
    photo = photograph(type_name, 1, turn=180)
    check_pose(photo, photograph(type_name, 0), reference(type_name), mean=0.1, worst=0.4)


@pytest.mark.parametrize("turn", [90.0, -90.0, 45.0])
def test_a_part_turned_by_any_angle_is_turned_back(turn: float) -> None:
    true = photograph("back", 0, scale=0.75)
    photo = photograph("back", 1, turn=turn, scale=0.75)
    check_pose(photo, true, reference("back", scale=0.75), mean=0.15, worst=0.6)


@pytest.mark.parametrize(("turn", "scale"), [(20.0, 0.6), (200.0, 0.94)])
def test_a_smaller_or_larger_part_is_brought_to_the_reference_size(turn: float, scale: float) -> None:
    true = photograph("front", 0, scale=0.75)
    photo = photograph("front", 1, turn=turn, scale=scale)
    check_pose(photo, true, reference("front", scale=0.75), mean=0.15, worst=0.6)


def test_a_large_photograph_is_aligned_at_a_smaller_scale() -> None:
    size = (1280, 720)
    true, photo = photograph("front", 0, size=size), photograph("front", 1, size=size, turn=180)
    width, height = cv2.boundingRect(photo.foreground)[2:]
    assert width * height > 160_000  # more pixels than features are sought at
    check_pose(photo, true, reference("front", size), mean=0.15, worst=0.6)


WARPS = {
    "homography": [[0.98, 0.05, 8.5], [-0.06, 1.01, -4.25], [1e-5, -2e-5, 1.0]],
    "affine": [[0.95, 0.09, 8.5], [-0.06, 1.03, 4.25], [0, 0, 1]],
    "similarity": [[0.97, 0.08, -8.5], [-0.08, 0.97, 24.25], [0, 0, 1]],
}


@pytest.mark.parametrize("model", WARPS)
def test_a_computed_warp_is_undone_to_the_pixel(model: str) -> None:
    true, planted = photograph("front", 0), np.array(WARPS[model], np.float64)
    seen = warp(true.image, planted)
    mask = warp(true.foreground, planted, nearest=True) > 0
    found = align_photograph(seen, mask, reference(), AlignmentSettings(model=model))
    apart = displacement(found.homography @ planted, np.eye(3), true.foreground)
    assert apart.mean() < 0.05
    assert apart.max() < 0.2
    assert found.ssim > 0.9
    assert found.overlap > 0.99
    assert found.homography[2, 2] == 1.0
    assert np.array_equal(found.is_inlier.nonzero()[0].size, found.inliers)
    assert found.inlier_ratio == found.inliers / len(found.photo_points)


def test_a_model_fits_no_more_than_its_kind_of_pose() -> None:
    photo = photograph("front", 1)  # tilted
    affine, similar = (aligned(photo, reference(), model=model).homography for model in ("affine", "similarity"))
    assert np.array_equal(affine[2], [0, 0, 1])
    assert np.array_equal(similar[2], [0, 0, 1])
    assert similar[0, 0] == similar[1, 1]
    assert similar[0, 1] == -similar[1, 0]
    assert affine[0, 0] != affine[1, 1]


@pytest.mark.parametrize(("model", "unknowns"), [("affine", 3), ("similarity", 2)])
def test_the_last_step_is_least_squares_over_the_inliers(model: str, unknowns: int) -> None:
    rng = np.random.default_rng(4)
    source = rng.uniform(0, 500, (80, 2)).astype(np.float32)
    target = (source @ [[1.02, 0.1], [-0.1, 1.02]] + (7, -9) + rng.normal(0, 0.3, (80, 2))).astype(np.float32)
    target[:20] += rng.uniform(40, 90, (20, 2)).astype(np.float32)  # wrong matches
    found = fit_pose(source, target, model, 3.0)
    assert found is not None
    matrix, is_inlier = found
    assert not is_inlier[:20].any()
    assert is_inlier[20:].mean() > 0.9
    (x, y), wanted = source[is_inlier].astype(np.float64).T, target[is_inlier].astype(np.float64)
    one, none = np.ones_like(x), np.zeros_like(x)
    if model == "affine":
        solved = np.linalg.lstsq(np.column_stack([x, y, one]), wanted, rcond=None)[0].T
    else:
        rows = np.concatenate([np.column_stack([x, -y, one, none]), np.column_stack([y, x, none, one])])
        a, b, right, down = np.linalg.lstsq(rows, wanted.T.ravel(), rcond=None)[0]
        solved = np.array([[a, -b, right], [b, a, down]])
    assert matrix[:2] == pytest.approx(solved, abs=1e-9)


def test_inliers_lie_within_the_threshold_and_outliers_beyond() -> None:
    found = aligned(photograph("front", 2), reference(), ransac_threshold=1.0)
    moved = cv2.perspectiveTransform(found.photo_points[None].astype(np.float64), found.homography)[0]
    apart = np.linalg.norm(moved - found.reference_points, axis=1)
    assert apart[found.is_inlier].max() < 2.0
    assert np.median(apart[~found.is_inlier]) > 5.0


# --- what is refused


def test_another_type_is_refused() -> None:
    for seed in (1, 2):
        with pytest.raises(AlignmentError, match="not aligned"):
            aligned(photograph("back", seed), reference("front"))
        with pytest.raises(AlignmentError, match="not aligned"):
            aligned(photograph("front", seed), reference("back"))


@pytest.mark.parametrize("axis", [0, 1])
def test_a_mirrored_part_is_refused(axis: int) -> None:
    photo = photograph("front", 1)
    with pytest.raises(AlignmentError, match="not aligned"):
        align_photograph(
            np.flip(photo.image, axis).copy(), np.flip(photo.foreground, axis) > 0, reference(), AlignmentSettings()
        )


IMPOSSIBLE = {
    "mirrors": [[-1, 0, 639], [0, 1, 0], [0, 0, 1]],
    "folds": [[1, 0, 0], [0, 1, 0], [-0.003, 0, 1]],
    "scales the part by 2.50": [[2.5, 0, 0], [0, 2.5, 0], [0, 0, 1]],
    "scales the part by 0.30": [[0.3, 0, 0], [0, 0.3, 0], [0, 0, 1]],
    "stretches the part by 1.80": [[1, 0, 0], [0, 1.8, 0], [0, 0, 1]],
    "shears or stretches": [[1, 0.8, 0], [0, 1, 0], [0, 0, 1]],
}


@pytest.mark.parametrize(
    ("model", "fault", "reason"),
    [
        ("homography", "mirrors", "0 of .* matches agree"),  # MAGSAC++ tries no mirrored sample
        ("affine", "mirrors", "a pose that mirrors"),
        ("homography", "folds", "a pose that folds"),
        ("affine", "shears or stretches", "a pose that shears or stretches"),
        ("similarity", "scales the part by 2.50", "a pose that scales the part by 2.50, and 0.5 to 2 is possible"),
    ],
)
def test_an_impossible_pose_is_refused_however_many_matches_agree(model: str, fault: str, reason: str) -> None:
    true = reference()
    where = true.features.points[None].astype(np.float64)
    points = cv2.perspectiveTransform(where, np.array(IMPOSSIBLE[fault], np.float64))[0].astype(np.float32)
    moved = Reference(true.image, true.mask, Features(points, true.features.descriptors))
    with pytest.raises(AlignmentError, match=f"not aligned: .*{reason}"):
        align_photograph(true.image, true.mask, moved, AlignmentSettings(model=model))


def test_what_is_wrong_with_a_pose_is_said_and_a_possible_one_is_let_pass() -> None:
    mask = reference().mask
    for fault, pose in IMPOSSIBLE.items():
        assert fault in impossible(np.array(pose, np.float64), mask)
    for turn in range(0, 360, 15):
        for scale in (0.8, 1.25):
            pose = np.eye(3)
            pose[:2] = cv2.getRotationMatrix2D((320, 180), turn, scale)
            pose[2, :2] = (2e-5, -1e-5)
            assert not impossible(pose, mask)


@pytest.mark.parametrize("what", ["blank", "black", "noise"])
def test_a_photograph_without_the_part_is_refused(what: str) -> None:
    mask = reference().mask
    shape = (*mask.shape, 3)
    noise = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    image = {"blank": np.full(shape, 128, np.uint8), "black": np.zeros(shape, np.uint8), "noise": noise}[what]
    reason = (
        "matches" if what == "noise" else "0 features found on the part, at least 25 are needed.*too little texture"
    )
    with pytest.raises(AlignmentError, match=rf"not aligned: .*{reason}"):
        align_photograph(image, mask, reference(), AlignmentSettings())


def test_a_featureless_reference_aligns_nothing() -> None:
    photo = photograph("front", 1)
    blank = Reference.of(np.full_like(photo.image, 90), photo.foreground > 0, 500)
    assert blank.features.points.shape == (0, 2)
    with pytest.raises(AlignmentError, match="0 features found on the reference"):
        aligned(photo, blank)


def test_a_part_of_a_sixth_of_the_contrast_is_aligned_as_well() -> None:
    pale = [
        (Photograph((100 + (photo.image.astype(float) - 100) / 6).astype(np.uint8), *rest))
        for photo, *rest in ((p, p.foreground, p.defects, p.pose) for p in (photograph("front", i) for i in (0, 1)))
    ]
    to = Reference.of(pale[0].image, pale[0].foreground > 0, 2000)
    check_pose(pale[1], pale[0], to, mean=0.1, worst=0.5)


def test_a_part_that_shares_a_logo_with_the_type_is_refused() -> None:
    true, other = photograph("front", 0), photograph("back", 1)
    x, y, width, height = cv2.boundingRect(true.foreground)
    logo = np.s_[y + height // 4 : y + 3 * height // 4, x + width // 3 : x + 2 * width // 3]
    image = other.image.copy()
    image[logo] = true.image[logo]
    found = align_photograph(image, other.foreground > 0, reference(), AlignmentSettings())
    assert found.inliers > 25
    assert found.reason.startswith("not aligned: SSIM")


@pytest.mark.parametrize("cut", [0.0, 0.001, 0.01, 0.3])
def test_a_part_that_runs_out_of_the_photograph_is_refused_and_nothing_of_it_invented(cut: float) -> None:
    true = photograph("front", 0)
    columns = np.cumsum(true.foreground.any(0) * (true.foreground > 0).sum(0)) / (true.foreground > 0).sum()
    shift = np.array([[1, 0, -int(np.searchsorted(columns, cut, side="right"))], [0, 1, 0], [0, 0, 1]], np.float64)
    mask = warp(true.foreground, shift, nearest=True) > 0
    found = align_photograph(warp(true.image, shift), mask, reference(), AlignmentSettings(MIN_SCORE_THRESHOLD=0.2))
    assert displacement(found.homography @ shift, np.eye(3), true.foreground).max() < 0.1
    assert found.visible == pytest.approx(1 - cut, abs=0.004)
    assert found.overlap == pytest.approx(1 - cut, abs=0.01)
    unseen = f"{100 * (1 - found.visible):.2f} %"
    refused = f"not aligned: the part runs out of the photograph: {unseen} of it is not seen, at most 0.2 % may be"
    assert found.reason == (refused if cut > 0.002 else "")


def test_overlap_and_visible_are_those_of_a_count_pixel_by_pixel() -> None:
    true = photograph("front", 0)
    planted = np.array([[0.9, 0.2, -230.0], [-0.2, 0.9, 70], [0, 0, 1]])
    mask = warp(true.foreground, planted, nearest=True) > 0
    mask[:, :80] = False
    mask[300:, 100:300] = True
    found = align_photograph(warp(true.image, planted), mask, reference(), AlignmentSettings(MIN_SCORE_THRESHOLD=-1))
    y, x = np.indices(mask.shape).reshape(2, -1)
    x, y, depth = np.linalg.inv(found.homography) @ [x, y, np.ones_like(x)]
    x, y = np.rint(x / depth).astype(int), np.rint(y / depth).astype(int)
    theirs = true.foreground.ravel() > 0
    within = (x >= 0) & (x < mask.shape[1]) & (y >= 0) & (y < mask.shape[0])
    ours = within & mask[np.where(within, y, 0), np.where(within, x, 0)]
    assert found.overlap == pytest.approx((ours & theirs).sum() / (ours | theirs).sum(), abs=1e-3)
    assert found.visible == pytest.approx((within & theirs).sum() / theirs.sum(), abs=1e-3)
    assert 0.2 < found.overlap < found.visible < 0.95


def test_a_mask_of_half_the_part_is_told_from_the_part() -> None:
    photo = photograph("front", 1)
    half = photo.foreground > 0
    half[:, 320:] = False
    found = align_photograph(photo.image, half, reference(), AlignmentSettings())
    assert 0.4 < found.overlap < 0.6
    assert found.reason.startswith(f"not aligned: its mask overlaps the reference's by {found.overlap:.3f}")
    assert not align_photograph(photo.image, half, reference(), AlignmentSettings(MIN_OVERLAP=0.4)).reason


def test_another_size_is_refused_by_name_of_both() -> None:
    small = photograph("front", 1, size=(480, 270))
    with pytest.raises(InputError, match=r"480x270.*640x360"):
        aligned(small, reference())


# --- settings


def test_without_alignment_the_photograph_stays_where_it_is_and_is_held_to_the_limits() -> None:
    true, photo = photograph("front", 0), photograph("front", 1)
    found = aligned(photo, reference(), apply_alignment=False)
    assert np.array_equal(found.homography, np.eye(3))
    assert found.aligned is photo.image
    assert (found.inliers, found.inlier_ratio, found.visible) == (0, 0.0, 1.0)
    assert aligned(photo, reference()).ssim > found.ssim + 0.2
    assert found.reason.startswith("not aligned: SSIM")
    assert found.reason.endswith("(apply_alignment is off)")
    lax = {"apply_alignment": False, "MIN_SCORE_THRESHOLD": -1, "MAX_MSE_THRESHOLD": 1e5}
    assert not aligned(photo, reference(), MIN_OVERLAP=0, **lax).reason
    assert "overlaps the reference's by" in aligned(photo, reference(), MIN_OVERLAP=0.99, **lax).reason
    assert not aligned(true, reference(), apply_alignment=False).reason
    with pytest.raises(InputError, match="480x270"):
        aligned(photograph("front", 1, size=(480, 270)), reference(), apply_alignment=False)


def test_number_of_points_limits_the_features() -> None:
    photo = photograph("front", 1)
    few, many = (detect_features(photo.image, photo.foreground > 0, n) for n in (100, 400))
    assert 100 <= len(few.points) < 110  # SIFT keeps those as good as the last
    assert 400 <= len(many.points) < 410
    assert len(aligned(photo, reference(), number_of_points=100).photo_points) < 100


def test_a_stricter_knn_ratio_keeps_fewer_and_better_matches() -> None:
    photo = photograph("back", 1)
    loose, strict = (aligned(photo, reference("back"), knn_ratio=ratio) for ratio in (0.95, 0.5))
    assert len(strict.photo_points) < 0.8 * len(loose.photo_points)
    assert strict.inlier_ratio > loose.inlier_ratio


def test_a_smaller_ransac_threshold_accepts_fewer_inliers() -> None:
    photo = photograph("back", 1)
    counts = [aligned(photo, reference("back"), ransac_threshold=t).inliers for t in (0.05, 0.5, 3.0)]
    assert counts[0] < counts[1] < counts[2]


def test_the_least_number_of_matches_counts() -> None:
    photo = photograph("front", 1)
    found = aligned(photo, reference())
    matches = len(found.photo_points)
    assert aligned(photo, reference(), MIN_GOOD_MATCHES=found.inliers).inliers == found.inliers
    with pytest.raises(AlignmentError, match=f"{found.inliers} of {matches} .* at least {found.inliers + 1} are"):
        aligned(photo, reference(), MIN_GOOD_MATCHES=found.inliers + 1)
    with pytest.raises(AlignmentError, match=f"{matches} matches .* at least {matches + 1} are"):
        aligned(photo, reference(), MIN_GOOD_MATCHES=matches + 1)


def test_the_limits_of_likeness_count() -> None:
    photo = photograph("front", 1)
    found = aligned(photo, reference())
    assert not aligned(photo, reference(), MIN_SCORE_THRESHOLD=found.ssim - 0.001).reason
    too_unlike = aligned(photo, reference(), MIN_SCORE_THRESHOLD=found.ssim + 0.001)
    assert too_unlike.reason.startswith("not aligned: SSIM")
    assert np.array_equal(too_unlike.homography, found.homography)
    assert not aligned(photo, reference(), MAX_MSE_THRESHOLD=found.mse * 1.01).reason
    too_far = aligned(photo, reference(), MAX_MSE_THRESHOLD=found.mse * 0.99)
    assert too_far.reason.startswith("not aligned: MSE")


# --- what the numbers are


def test_ssim_and_mse_are_those_of_the_part_alone_at_half_size() -> None:
    photo = photograph("front", 3)
    to = reference()
    found = aligned(photo, to)
    rows, columns = np.nonzero(to.mask)
    top, bottom, left, right = rows.min(), rows.max() + 1, columns.min(), columns.max() + 1
    halved = []
    for picture in (warp(photo.image, found.homography), to.image):
        grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[top:bottom, left:right]
        halved.append(cv2.resize(grey, ((right - left) // 2, (bottom - top) // 2), interpolation=cv2.INTER_AREA))
    mask = to.mask[top:bottom, left:right].astype(np.uint8)
    inside = cv2.resize(mask, halved[0].shape[::-1], interpolation=cv2.INTER_AREA) > 0
    _, similarity = structural_similarity(*halved, win_size=7, data_range=255, full=True)
    assert found.ssim == pytest.approx(similarity[inside].mean(), abs=1e-5)  # in single precision
    squares = np.subtract(*(picture.astype(float) for picture in halved))[inside] ** 2
    assert found.mse == pytest.approx(squares.mean(), rel=1e-5)


def test_a_reference_aligns_to_itself() -> None:
    true = photograph("back", 0)
    found = aligned(true, reference("back"))
    assert displacement(found.homography, np.eye(3), true.foreground).max() < 1e-3
    assert found.ssim > 0.9999
    assert found.mse < 1e-3
    assert found.inlier_ratio == 1.0


def test_sixteen_bits_align_like_eight() -> None:
    photo = photograph("front", 1)
    deep = align_photograph(photo.image.astype(np.uint16) * 257, photo.foreground > 0, reference(), AlignmentSettings())
    found = aligned(photo, reference())
    assert np.array_equal(deep.homography, found.homography)
    assert deep.ssim == pytest.approx(found.ssim, abs=1e-3)
    assert deep.mse == pytest.approx(found.mse, abs=1.0)


def test_the_same_photograph_aligns_the_same_each_time_and_in_threads() -> None:
    jobs = [(name, seed) for name in ("front", "back") for seed in (1, 2, 3)]

    def numbers(job: tuple[str, int]) -> bytes:
        found = aligned(photograph(*job), reference(job[0]))
        figures = np.array([found.ssim, found.mse, found.overlap, found.visible])
        return b"".join(part.tobytes() for part in (found.homography, found.is_inlier, found.aligned, figures))

    alone = [numbers(job) for job in jobs]
    cv2.setRNGSeed(99)  # a state that another image may have left
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(numbers, jobs * 2)) == alone * 2


def test_the_number_of_opencv_threads_does_not_show() -> None:
    photo, threads = photograph("back", 1), cv2.getNumThreads()
    found = []
    try:
        for number in (1, 3):
            cv2.setNumThreads(number)
            found.append(aligned(photo, reference("back")))
    finally:
        cv2.setNumThreads(threads)
    assert np.array_equal(found[0].homography, found[1].homography)
    assert np.array_equal(found[0].aligned, found[1].aligned)


# --- features and matches


def test_features_lie_on_the_part() -> None:
    photo = photograph("front", 1)
    near = cv2.dilate(photo.foreground, np.ones((11, 11), np.uint8)) > 0
    points = detect_features(photo.image, photo.foreground > 0, 2000).points
    x, y = np.rint(points).astype(int).T
    assert len(points) > 300
    assert near[y, x].all()


def test_descriptors_are_rootsift() -> None:
    descriptors = reference().features.descriptors
    assert descriptors.shape[1] == 128
    assert np.linalg.norm(descriptors, axis=1) == pytest.approx(1.0, abs=1e-3)
    assert descriptors.min() >= 0
    x, y, width, height = cv2.boundingRect(reference().mask.astype(np.uint8))
    window = np.s_[y - 16 : y + height + 16, x - 16 : x + width + 16]
    grey = cv2.cvtColor(reference().image[window], cv2.COLOR_RGB2GRAY)
    inside = cv2.dilate(reference().mask[window].astype(np.uint8), np.ones((9, 9), np.uint8))
    sift = cv2.SIFT.create(2000, contrastThreshold=0.01, enable_precise_upscale=True)
    keypoints, plain = sift.detectAndCompute(grey, inside)
    assert np.allclose(descriptors, np.sqrt(plain / plain.sum(1, keepdims=True)), rtol=0, atol=0.5 / 2048 + 1e-6)
    assert np.allclose(reference().features.points - (x - 16, y - 16), [k.pt for k in keypoints], atol=1e-4)


def test_descriptors_multiply_without_rounding_so_that_no_number_of_threads_shows() -> None:
    ours, to = (reference(name).features.descriptors for name in ("front", "back"))
    exact = (ours * 2048).astype(np.int64) @ (to * 2048).astype(np.int64).T
    assert np.array_equal(ours @ to.T, exact / 2048**2)


def random_features(rng: np.random.Generator, count: int, near: NDArray[np.float32] | None = None) -> Features:
    """Unit descriptors; the first ones lie near those of ``near``, in another order."""
    descriptors = np.abs(rng.standard_normal((count, 128)))
    if near is not None:
        shared = rng.permutation(len(near))[: count // 2]
        descriptors[: len(shared)] = near[shared] + 0.01 * rng.standard_normal((len(shared), 128))
    descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
    return Features(rng.random((count, 2)).astype(np.float32), descriptors.astype(np.float32))


def slow_matches(photo: Features, to: Features, ratio: float) -> list[tuple[int, int]]:
    found = []
    for i, ours in enumerate(photo.descriptors.astype(float)):
        away = [float(np.linalg.norm(ours - theirs)) for theirs in to.descriptors.astype(float)]
        first, second = np.argsort(away)[:2]
        back = [float(np.linalg.norm(other - to.descriptors[first])) for other in photo.descriptors.astype(float)]
        if away[first] < ratio * away[second] and int(np.argmin(back)) == i:
            found.append((i, int(first)))
    return found


@pytest.mark.parametrize("ratio", [0.3, 0.75, 0.95])
def test_matches_are_those_of_a_double_loop(ratio: float) -> None:
    rng = np.random.default_rng(3)
    to = random_features(rng, 60)
    photo = random_features(rng, 45, to.descriptors)
    expected = slow_matches(photo, to, ratio)
    assert len(expected) >= 5
    ours, theirs = match_features(photo, to, ratio)
    assert np.array_equal(ours, photo.points[[i for i, _ in expected]])
    assert np.array_equal(theirs, to.points[[j for _, j in expected]])


def test_matches_of_a_photograph_are_those_of_opencv() -> None:
    photo = photograph("front", 2)
    ours, to = detect_features(photo.image, photo.foreground > 0, 2000), reference().features
    matcher = cv2.BFMatcher(cv2.NORM_L2)
    mutual = {(m.trainIdx, m.queryIdx) for m in matcher.match(to.descriptors, ours.descriptors)}
    pairs = [
        (best.queryIdx, best.trainIdx)
        for best, second in matcher.knnMatch(ours.descriptors, to.descriptors, k=2)
        if best.distance < 0.75 * second.distance
    ]
    expected = {pair for pair in pairs if pair in mutual}
    found = match_features(ours, to, 0.75)
    where = {tuple(point): i for i, point in enumerate(ours.points.tolist())}
    got = {(where[tuple(a)], tuple(b)) for a, b in zip(*(points.tolist() for points in found), strict=True)}
    want = {(where[tuple(ours.points[i].tolist())], tuple(to.points[j].tolist())) for i, j in expected}
    assert len(want) > 300
    assert len(got ^ want) <= 0.01 * len(want)  # but for what rounding decides


def test_too_few_features_match_nothing() -> None:
    rng = np.random.default_rng(0)
    none, one, many = (random_features(rng, count) for count in (0, 1, 20))
    for photo, to in [(none, many), (many, none), (one, many), (many, one), (none, none)]:
        ours, theirs = match_features(photo, to, 0.9)
        assert ours.shape == theirs.shape == (0, 2)


# --- warping


def test_warping_moves_a_pixel_where_the_homography_says() -> None:
    image = np.zeros((40, 60, 3), np.uint8)
    image[10, 20] = (200, 100, 50)
    shift = np.array([[1, 0, 7], [0, 1, -4], [0, 0, 1]], np.float64)
    moved = warp(image, shift)
    assert moved.shape == image.shape
    assert np.array_equal(np.argwhere(moved[..., 0]), [[6, 27]])
    assert np.array_equal(moved[6, 27], (200, 100, 50))


def test_warping_continues_a_photograph_but_not_a_mask() -> None:
    image = np.full((20, 30, 3), (10, 20, 30), np.uint16)
    shift = np.array([[1, 0, 12], [0, 1, 0], [0, 0, 1]], np.float64)
    assert (warp(image, shift) == (10, 20, 30)).all()
    moved = warp(np.ones((20, 30), np.uint8), shift, nearest=True)
    assert not moved[:, :12].any()
    assert moved[:, 12:].all()
