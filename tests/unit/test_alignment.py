"""Tests of alignment: known poses are recovered, other parts are rejected, and each setting has an effect."""

from __future__ import annotations

import functools
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from rendered_photographs import rendered_photograph
from skimage.metrics import structural_similarity as similarity_of_scikit_image

from pixal.errors import AlignmentError, InputError
from pixal.synthetic import RenderedPhotograph
from pixal.tasks.photographs.alignment import align
from pixal.tasks.photographs.alignment.align import AlignmentResult, Reference, align_photograph, warp
from pixal.tasks.photographs.alignment.features import Features, detect_features, match_features
from pixal.tasks.photographs.alignment.pose import find_pose_fault, fit_pose
from pixal.tasks.photographs.alignment.similarity import structural_similarity
from pixal.tasks.photographs.settings import AlignmentSettings


@functools.cache
def reference(type_name: str = "front", size: tuple[int, int] = (640, 360), scale: float = 1.0) -> Reference:
    photo = rendered_photograph(type_name, 0, size=size, scale=scale)
    return Reference.from_photograph(photo.image, photo.foreground > 0, AlignmentSettings().number_of_points)


def aligned(photo: RenderedPhotograph, to: Reference, **settings: Any) -> AlignmentResult:
    return align_photograph(photo.image, photo.foreground > 0, to, AlignmentSettings(**settings))


def displacement(
    homography: NDArray[np.float64], true: NDArray[np.float64], inside: NDArray[Any]
) -> NDArray[np.float64]:
    """Return the distance, in pixels, between the positions of each pixel of the part by two homographies."""
    points = np.argwhere(inside)[:, ::-1].astype(np.float64)[None]
    difference = cv2.perspectiveTransform(points, homography) - cv2.perspectiveTransform(points, true)
    return np.asarray(np.linalg.norm(difference[0], axis=-1))


def check_pose(
    photo: RenderedPhotograph,
    true_reference: RenderedPhotograph,
    to: Reference,
    mean: float,
    worst: float,
    **settings: Any,
) -> None:
    result = aligned(photo, to, **settings)
    assert not result.reason
    truth = true_reference.pose @ np.linalg.inv(photo.pose)
    difference = displacement(result.homography, truth, photo.foreground)
    assert difference.mean() <= mean
    assert difference.max() <= worst


@pytest.mark.parametrize("type_name", ["front", "back"])
@pytest.mark.parametrize("kinds", [(), ("stain", "scratch"), ("torn_edge", "missing_pad", "splash")])
def test_the_pose_is_recovered(type_name: str, kinds: tuple[str, ...]) -> None:
    for seed in (1, 2):
        photo = rendered_photograph(type_name, seed, *kinds)
        check_pose(photo, rendered_photograph(type_name, 0), reference(type_name), mean=0.1, worst=0.4)


@pytest.mark.parametrize("type_name", ["front", "back"])
def test_a_part_turned_by_180_degrees_is_aligned(type_name: str) -> None:
    # A feature detector with a bias of a quarter pixel, OpenCV's default, is wrong by 0.7 px here.
    photo = rendered_photograph(type_name, 1, turn=180)
    check_pose(photo, rendered_photograph(type_name, 0), reference(type_name), mean=0.1, worst=0.4)


@pytest.mark.parametrize("turn", [90.0, -90.0, 45.0])
def test_a_part_turned_by_a_large_angle_is_aligned(turn: float) -> None:
    true = rendered_photograph("back", 0, scale=0.75)
    photo = rendered_photograph("back", 1, turn=turn, scale=0.75)
    check_pose(photo, true, reference("back", scale=0.75), mean=0.15, worst=0.6)


@pytest.mark.parametrize(("turn", "scale"), [(20.0, 0.6), (200.0, 0.94)])
def test_a_smaller_or_larger_part_is_scaled_to_the_reference(turn: float, scale: float) -> None:
    true = rendered_photograph("front", 0, scale=0.75)
    photo = rendered_photograph("front", 1, turn=turn, scale=scale)
    check_pose(photo, true, reference("front", scale=0.75), mean=0.15, worst=0.6)


def test_a_large_photograph_is_aligned_from_features_at_a_smaller_scale() -> None:
    size = (1280, 720)
    true, photo = rendered_photograph("front", 0, size=size), rendered_photograph("front", 1, size=size, turn=180)
    width, height = cv2.boundingRect(photo.foreground)[2:]
    assert width * height > 160_000  # more pixels than the feature detection works on
    check_pose(photo, true, reference("front", size), mean=0.15, worst=0.6)


WARPS = {
    "homography": [[0.98, 0.05, 8.5], [-0.06, 1.01, -4.25], [1e-5, -2e-5, 1.0]],
    "affine": [[0.95, 0.09, 8.5], [-0.06, 1.03, 4.25], [0, 0, 1]],
    "similarity": [[0.97, 0.08, -8.5], [-0.08, 0.97, 24.25], [0, 0, 1]],
}


@pytest.mark.parametrize("model", WARPS)
def test_a_known_warp_is_recovered_within_a_fraction_of_a_pixel(model: str) -> None:
    true, planted = rendered_photograph("front", 0), np.array(WARPS[model], np.float64)
    seen = warp(true.image, planted)
    mask = warp(true.foreground, planted, nearest=True) > 0
    result = align_photograph(seen, mask, reference(), AlignmentSettings(model=model))
    difference = displacement(result.homography @ planted, np.eye(3), true.foreground)
    assert difference.mean() < 0.05
    assert difference.max() < 0.2
    assert result.ssim > 0.9
    assert result.overlap > 0.99
    assert result.homography[2, 2] == 1.0
    assert np.array_equal(result.is_inlier.nonzero()[0].size, result.inliers)
    assert result.inlier_ratio == result.inliers / len(result.photo_points)


def test_each_model_has_only_its_degrees_of_freedom() -> None:
    photo = rendered_photograph("front", 1)  # with perspective
    affine, similar = (aligned(photo, reference(), model=model).homography for model in ("affine", "similarity"))
    assert np.array_equal(affine[2], [0, 0, 1])
    assert np.array_equal(similar[2], [0, 0, 1])
    assert similar[0, 0] == similar[1, 1]
    assert similar[0, 1] == -similar[1, 0]
    assert affine[0, 0] != affine[1, 1]


@pytest.mark.parametrize(("model", "unknowns"), [("affine", 3), ("similarity", 2)])
def test_the_pose_is_the_least_squares_fit_to_the_inliers(model: str, unknowns: int) -> None:
    rng = np.random.default_rng(4)
    source = rng.uniform(0, 500, (80, 2)).astype(np.float32)
    target = (source @ [[1.02, 0.1], [-0.1, 1.02]] + (7, -9) + rng.normal(0, 0.3, (80, 2))).astype(np.float32)
    target[:20] += rng.uniform(40, 90, (20, 2)).astype(np.float32)  # wrong matches
    result = fit_pose(source, target, model, 3.0)
    assert result is not None
    matrix, is_inlier = result
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


def test_inliers_are_close_and_outliers_far() -> None:
    result = aligned(rendered_photograph("front", 2), reference(), ransac_threshold=1.0)
    moved = cv2.perspectiveTransform(result.photo_points[None].astype(np.float64), result.homography)[0]
    difference = np.linalg.norm(moved - result.reference_points, axis=1)
    assert difference[result.is_inlier].max() < 2.0
    assert np.median(difference[~result.is_inlier]) > 5.0


def test_another_type_is_rejected() -> None:
    for seed in (1, 2):
        with pytest.raises(AlignmentError, match="not aligned"):
            aligned(rendered_photograph("back", seed), reference("front"))
        with pytest.raises(AlignmentError, match="not aligned"):
            aligned(rendered_photograph("front", seed), reference("back"))


@pytest.mark.parametrize("axis", [0, 1])
def test_a_mirrored_part_is_rejected(axis: int) -> None:
    photo = rendered_photograph("front", 1)
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
        ("similarity", "scales the part by 2.50", "a pose that scales the part by 2.50; 0.5 to 2 is possible"),
    ],
)
def test_an_impossible_pose_is_rejected_even_if_all_matches_agree(model: str, fault: str, reason: str) -> None:
    true = reference()
    where = true.features.points[None].astype(np.float64)
    points = cv2.perspectiveTransform(where, np.array(IMPOSSIBLE[fault], np.float64))[0].astype(np.float32)
    moved = Reference(true.image, true.mask, Features(points, true.features.descriptors))
    with pytest.raises(AlignmentError, match=f"not aligned: .*{reason}"):
        align_photograph(true.image, true.mask, moved, AlignmentSettings(model=model))


def test_pose_faults_are_described_and_possible_poses_accepted() -> None:
    mask = reference().mask
    for fault, pose in IMPOSSIBLE.items():
        assert fault in find_pose_fault(np.array(pose, np.float64), mask)
    for turn in range(0, 360, 15):
        for scale in (0.8, 1.25):
            pose = np.eye(3)
            pose[:2] = cv2.getRotationMatrix2D((320, 180), turn, scale)
            pose[2, :2] = (2e-5, -1e-5)
            assert not find_pose_fault(pose, mask)


@pytest.mark.parametrize("content", ["blank", "black", "noise"])
def test_a_photograph_without_the_part_is_rejected(content: str) -> None:
    mask = reference().mask
    shape = (*mask.shape, 3)
    noise = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    image = {"blank": np.full(shape, 128, np.uint8), "black": np.zeros(shape, np.uint8), "noise": noise}[content]
    reason = (
        "matches" if content == "noise" else "0 features found on the part, at least 25 are needed.*too little texture"
    )
    with pytest.raises(AlignmentError, match=rf"not aligned: .*{reason}"):
        align_photograph(image, mask, reference(), AlignmentSettings())


def test_a_reference_without_features_is_an_error() -> None:
    photo = rendered_photograph("front", 1)
    blank = Reference.from_photograph(np.full_like(photo.image, 90), photo.foreground > 0, 500)
    assert blank.features.points.shape == (0, 2)
    with pytest.raises(AlignmentError, match="0 features found on the reference"):
        aligned(photo, blank)


def test_a_part_with_a_sixth_of_the_contrast_is_aligned() -> None:
    pale = [
        (RenderedPhotograph((100 + (photo.image.astype(float) - 100) / 6).astype(np.uint8), *rest))
        for photo, *rest in (
            (p, p.foreground, p.defects, p.pose) for p in (rendered_photograph("front", i) for i in (0, 1))
        )
    ]
    to = Reference.from_photograph(pale[0].image, pale[0].foreground > 0, 2000)
    check_pose(pale[1], pale[0], to, mean=0.1, worst=0.5)


def test_a_part_that_only_shares_a_logo_with_the_type_is_rejected() -> None:
    true, other = rendered_photograph("front", 0), rendered_photograph("back", 1)
    x, y, width, height = cv2.boundingRect(true.foreground)
    logo = np.s_[y + height // 4 : y + 3 * height // 4, x + width // 3 : x + 2 * width // 3]
    image = other.image.copy()
    image[logo] = true.image[logo]
    result = align_photograph(image, other.foreground > 0, reference(), AlignmentSettings())
    assert result.inliers > 25
    assert result.reason.startswith("not aligned: SSIM")


@pytest.mark.parametrize("cut", [0.0, 0.001, 0.01, 0.3])
def test_a_part_that_extends_beyond_the_photograph_is_rejected(cut: float) -> None:
    true = rendered_photograph("front", 0)
    columns = np.cumsum(true.foreground.any(0) * (true.foreground > 0).sum(0)) / (true.foreground > 0).sum()
    shift = np.array([[1, 0, -int(np.searchsorted(columns, cut, side="right"))], [0, 1, 0], [0, 0, 1]], np.float64)
    mask = warp(true.foreground, shift, nearest=True) > 0
    result = align_photograph(warp(true.image, shift), mask, reference(), AlignmentSettings(MIN_SCORE_THRESHOLD=0.2))
    assert displacement(result.homography @ shift, np.eye(3), true.foreground).max() < 0.1
    assert result.visible == pytest.approx(1 - cut, abs=0.004)
    assert result.overlap == pytest.approx(1 - cut, abs=0.01)
    unseen = f"{100 * (1 - result.visible):.2f} %"
    expected = f"not aligned: {unseen} of the part is outside the photograph, at most 0.2 % is allowed"
    assert result.reason == (expected if cut > 0.002 else "")


def test_overlap_and_visible_equal_a_pixel_by_pixel_count() -> None:
    true = rendered_photograph("front", 0)
    planted = np.array([[0.9, 0.2, -230.0], [-0.2, 0.9, 70], [0, 0, 1]])
    mask = warp(true.foreground, planted, nearest=True) > 0
    mask[:, :80] = False
    mask[300:, 100:300] = True
    result = align_photograph(warp(true.image, planted), mask, reference(), AlignmentSettings(MIN_SCORE_THRESHOLD=-1))
    y, x = np.indices(mask.shape).reshape(2, -1)
    x, y, depth = np.linalg.inv(result.homography) @ [x, y, np.ones_like(x)]
    x, y = np.rint(x / depth).astype(int), np.rint(y / depth).astype(int)
    target = true.foreground.ravel() > 0
    within = (x >= 0) & (x < mask.shape[1]) & (y >= 0) & (y < mask.shape[0])
    moved = within & mask[np.where(within, y, 0), np.where(within, x, 0)]
    assert result.overlap == pytest.approx((moved & target).sum() / (moved | target).sum(), abs=1e-3)
    assert result.visible == pytest.approx((within & target).sum() / target.sum(), abs=1e-3)
    assert 0.2 < result.overlap < result.visible < 0.95


def test_a_mask_of_half_the_part_is_rejected() -> None:
    photo = rendered_photograph("front", 1)
    half = photo.foreground > 0
    half[:, 320:] = False
    result = align_photograph(photo.image, half, reference(), AlignmentSettings())
    assert 0.4 < result.overlap < 0.6
    assert result.reason.startswith(
        f"not aligned: the foreground mask overlaps the reference's by {result.overlap:.3f}"
    )
    assert not align_photograph(photo.image, half, reference(), AlignmentSettings(MIN_OVERLAP=0.4)).reason


def test_another_size_is_rejected_and_both_sizes_named() -> None:
    small = rendered_photograph("front", 1, size=(480, 270))
    with pytest.raises(InputError, match=r"480x270.*640x360"):
        aligned(small, reference())


def test_without_alignment_the_photograph_is_not_moved_but_must_meet_the_limits() -> None:
    true, photo = rendered_photograph("front", 0), rendered_photograph("front", 1)
    result = aligned(photo, reference(), apply_alignment=False)
    assert np.array_equal(result.homography, np.eye(3))
    assert result.aligned is photo.image
    assert (result.inliers, result.inlier_ratio, result.visible) == (0, 0.0, 1.0)
    assert aligned(photo, reference()).ssim > result.ssim + 0.2
    assert result.reason.startswith("not aligned: SSIM")
    assert result.reason.endswith("(apply_alignment is off)")
    loose_limits = {"apply_alignment": False, "MIN_SCORE_THRESHOLD": -1, "MAX_MSE_THRESHOLD": 1e5}
    assert not aligned(photo, reference(), MIN_OVERLAP=0, **loose_limits).reason
    assert "overlaps the reference's by" in aligned(photo, reference(), MIN_OVERLAP=0.99, **loose_limits).reason
    assert not aligned(true, reference(), apply_alignment=False).reason
    with pytest.raises(InputError, match="480x270"):
        aligned(rendered_photograph("front", 1, size=(480, 270)), reference(), apply_alignment=False)


def test_number_of_points_limits_the_features() -> None:
    photo = rendered_photograph("front", 1)
    few, many = (detect_features(photo.image, photo.foreground > 0, n) for n in (100, 400))
    assert 100 <= len(few.points) < 110  # SIFT also keeps features as strong as the last one
    assert 400 <= len(many.points) < 410
    assert len(aligned(photo, reference(), number_of_points=100).photo_points) < 100


def test_a_stricter_knn_ratio_keeps_fewer_and_better_matches() -> None:
    photo = rendered_photograph("back", 1)
    loose, strict = (aligned(photo, reference("back"), knn_ratio=ratio) for ratio in (0.95, 0.5))
    assert len(strict.photo_points) < 0.8 * len(loose.photo_points)
    assert strict.inlier_ratio > loose.inlier_ratio


def test_a_smaller_ransac_threshold_accepts_fewer_inliers() -> None:
    photo = rendered_photograph("back", 1)
    counts = [aligned(photo, reference("back"), ransac_threshold=t).inliers for t in (0.05, 0.5, 3.0)]
    assert counts[0] < counts[1] < counts[2]


def test_min_good_matches_is_a_limit_for_matches_and_inliers() -> None:
    photo = rendered_photograph("front", 1)
    points = {"number_of_points": 500}
    result = aligned(photo, reference(), **points)
    matches = len(result.photo_points)
    assert aligned(photo, reference(), MIN_GOOD_MATCHES=result.inliers, **points).inliers == result.inliers
    with pytest.raises(AlignmentError, match=f"{result.inliers} of {matches} .* at least {result.inliers + 1} are"):
        aligned(photo, reference(), MIN_GOOD_MATCHES=result.inliers + 1, **points)
    with pytest.raises(AlignmentError, match=f"{matches} matches .* at least {matches + 1} are"):
        aligned(photo, reference(), MIN_GOOD_MATCHES=matches + 1, **points)


def test_all_features_are_used_where_the_strongest_do_not_suffice() -> None:
    photo, to = rendered_photograph("front", 1), reference()
    strongest = aligned(photo, to, number_of_points=align._FEW_POINTS)
    assert aligned(photo, to).inliers == strongest.inliers >= align._ENOUGH_INLIERS
    assert aligned(photo, to, MIN_GOOD_MATCHES=strongest.inliers + 1).inliers > strongest.inliers


def test_ssim_and_mse_have_limits() -> None:
    photo = rendered_photograph("front", 1)
    result = aligned(photo, reference())
    assert not aligned(photo, reference(), MIN_SCORE_THRESHOLD=result.ssim - 0.001).reason
    low_ssim = aligned(photo, reference(), MIN_SCORE_THRESHOLD=result.ssim + 0.001)
    assert low_ssim.reason.startswith("not aligned: SSIM")
    assert np.array_equal(low_ssim.homography, result.homography)
    assert not aligned(photo, reference(), MAX_MSE_THRESHOLD=result.mse * 1.01).reason
    high_mse = aligned(photo, reference(), MAX_MSE_THRESHOLD=result.mse * 0.99)
    assert high_mse.reason.startswith("not aligned: MSE")


def test_ssim_and_mse_are_measured_over_the_part_at_half_size() -> None:
    photo = rendered_photograph("front", 3)
    to = reference()
    result = aligned(photo, to)
    rows, columns = np.nonzero(to.mask)
    top, bottom, left, right = rows.min(), rows.max() + 1, columns.min(), columns.max() + 1
    halved = []
    for photo_or_reference in (warp(photo.image, result.homography), to.image):
        grey = cv2.cvtColor(photo_or_reference, cv2.COLOR_RGB2GRAY)[top:bottom, left:right]
        halved.append(cv2.resize(grey, ((right - left) // 2, (bottom - top) // 2), interpolation=cv2.INTER_AREA))
    mask = to.mask[top:bottom, left:right].astype(np.uint8)
    inside = cv2.resize(mask, halved[0].shape[::-1], interpolation=cv2.INTER_AREA) > 0
    _, similarity = similarity_of_scikit_image(*halved, win_size=7, data_range=255, full=True)
    assert result.ssim == pytest.approx(similarity[inside].mean(), abs=1e-5)  # in single precision
    squares = np.subtract(*(grey.astype(float) for grey in halved))[inside] ** 2
    assert result.mse == pytest.approx(squares.mean(), rel=1e-5)


def test_the_reference_aligns_to_itself() -> None:
    true = rendered_photograph("back", 0)
    result = aligned(true, reference("back"))
    assert displacement(result.homography, np.eye(3), true.foreground).max() < 1e-3
    assert result.ssim > 0.9999
    assert result.mse < 1e-3
    assert result.inlier_ratio == 1.0


def test_a_16_bit_photograph_aligns_like_an_8_bit_one() -> None:
    photo = rendered_photograph("front", 1)
    deep = align_photograph(photo.image.astype(np.uint16) * 257, photo.foreground > 0, reference(), AlignmentSettings())
    result = aligned(photo, reference())
    assert np.array_equal(deep.homography, result.homography)
    assert deep.ssim == pytest.approx(result.ssim, abs=1e-3)
    assert deep.mse == pytest.approx(result.mse, abs=1.0)


def test_alignment_is_deterministic_also_in_threads() -> None:
    jobs = [(name, seed) for name in ("front", "back") for seed in (1, 2, 3)]

    def result_bytes(job: tuple[str, int]) -> bytes:
        result = aligned(rendered_photograph(*job), reference(job[0]))
        figures = np.array([result.ssim, result.mse, result.overlap, result.visible])
        return b"".join(part.tobytes() for part in (result.homography, result.is_inlier, result.aligned, figures))

    one_by_one = [result_bytes(job) for job in jobs]
    cv2.setRNGSeed(99)  # as another image may leave it
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(result_bytes, jobs * 2)) == one_by_one * 2


def test_the_result_does_not_depend_on_opencv_threads() -> None:
    photo, threads = rendered_photograph("back", 1), cv2.getNumThreads()
    result = []
    try:
        for number in (1, 3):
            cv2.setNumThreads(number)
            result.append(aligned(photo, reference("back")))
    finally:
        cv2.setNumThreads(threads)
    assert np.array_equal(result[0].homography, result[1].homography)
    assert np.array_equal(result[0].aligned, result[1].aligned)


def test_features_lie_on_the_part() -> None:
    photo = rendered_photograph("front", 1)
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


def test_products_of_descriptors_are_exact() -> None:
    one, other = (reference(name).features.descriptors for name in ("front", "back"))
    exact = (one * 2048).astype(np.int64) @ (other * 2048).astype(np.int64).T
    assert np.array_equal(one @ other.T, exact / 2048**2)


def random_features(rng: np.random.Generator, count: int, near: NDArray[np.float32] | None = None) -> Features:
    """Return unit descriptors; the first ones are close to those of ``near``, in another order."""
    descriptors = np.abs(rng.standard_normal((count, 128)))
    if near is not None:
        shared = rng.permutation(len(near))[: count // 2]
        descriptors[: len(shared)] = near[shared] + 0.01 * rng.standard_normal((len(shared), 128))
    descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
    return Features(rng.random((count, 2)).astype(np.float32), descriptors.astype(np.float32))


def slow_matches(photo: Features, to: Features, ratio: float) -> list[tuple[int, int]]:
    result = []
    for i, own in enumerate(photo.descriptors.astype(float)):
        away = [float(np.linalg.norm(own - theirs)) for theirs in to.descriptors.astype(float)]
        first, second = np.argsort(away)[:2]
        back = [float(np.linalg.norm(other - to.descriptors[first])) for other in photo.descriptors.astype(float)]
        if away[first] < ratio * away[second] and int(np.argmin(back)) == i:
            result.append((i, int(first)))
    return result


@pytest.mark.parametrize("ratio", [0.3, 0.75, 0.95])
def test_matches_equal_those_of_a_double_loop(ratio: float) -> None:
    rng = np.random.default_rng(3)
    to = random_features(rng, 60)
    photo = random_features(rng, 45, to.descriptors)
    expected = slow_matches(photo, to, ratio)
    assert len(expected) >= 5
    photo_points, to_points = match_features(photo, to, ratio)
    assert np.array_equal(photo_points, photo.points[[i for i, _ in expected]])
    assert np.array_equal(to_points, to.points[[j for _, j in expected]])


def test_matches_of_a_photograph_equal_those_of_opencv() -> None:
    photo = rendered_photograph("front", 2)
    features, to = detect_features(photo.image, photo.foreground > 0, 2000), reference().features
    matcher = cv2.BFMatcher(cv2.NORM_L2)
    mutual = {(m.trainIdx, m.queryIdx) for m in matcher.match(to.descriptors, features.descriptors)}
    pairs = [
        (best.queryIdx, best.trainIdx)
        for best, second in matcher.knnMatch(features.descriptors, to.descriptors, k=2)
        if best.distance < 0.75 * second.distance
    ]
    expected = {pair for pair in pairs if pair in mutual}
    result = match_features(features, to, 0.75)
    where = {tuple(point): i for i, point in enumerate(features.points.tolist())}
    got = {(where[tuple(a)], tuple(b)) for a, b in zip(*(points.tolist() for points in result), strict=True)}
    want = {(where[tuple(features.points[i].tolist())], tuple(to.points[j].tolist())) for i, j in expected}
    assert len(want) > 300
    assert len(got ^ want) <= 0.01 * len(want)  # ties that rounding decides


def test_too_few_features_give_no_matches() -> None:
    rng = np.random.default_rng(0)
    none, one, many = (random_features(rng, count) for count in (0, 1, 20))
    for photo, to in [(none, many), (many, none), (one, many), (many, one), (none, none)]:
        photo_points, to_points = match_features(photo, to, 0.9)
        assert photo_points.shape == to_points.shape == (0, 2)


def test_warping_moves_a_pixel_by_the_homography() -> None:
    image = np.zeros((40, 60, 3), np.uint8)
    image[10, 20] = (200, 100, 50)
    shift = np.array([[1, 0, 7], [0, 1, -4], [0, 0, 1]], np.float64)
    moved = warp(image, shift)
    assert moved.shape == image.shape
    assert np.array_equal(np.argwhere(moved[..., 0]), [[6, 27]])
    assert np.array_equal(moved[6, 27], (200, 100, 50))


def test_warping_repeats_the_edge_of_a_photograph_but_not_of_a_mask() -> None:
    image = np.full((20, 30, 3), (10, 20, 30), np.uint16)
    shift = np.array([[1, 0, 12], [0, 1, 0], [0, 0, 1]], np.float64)
    assert (warp(image, shift) == (10, 20, 30)).all()
    moved = warp(np.ones((20, 30), np.uint8), shift, nearest=True)
    assert not moved[:, :12].any()
    assert moved[:, 12:].all()


@pytest.mark.parametrize("noise", [0, 20])
def test_the_similarity_is_that_of_scikit_image(noise: float) -> None:
    random = np.random.default_rng(0)
    image = random.uniform(0, 255, (40, 61))
    other = np.clip(image + random.normal(0, noise, image.shape), 0, 255)
    _, expected = similarity_of_scikit_image(image, other, win_size=7, data_range=255, full=True)
    np.testing.assert_allclose(
        structural_similarity(image.astype(np.float32), other.astype(np.float32)), expected, atol=1e-5
    )
