"""Tests of finding photographs: their types and names, and the folders of public data sets."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixal.errors import InputError
from pixal.tasks.photographs.discovery import EXTENSIONS, list_photographs
from pixal.tasks.photographs.mvtec import find_data_set


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return folder


def images_by_type(source: Path) -> dict[str, list[str]]:
    return {name: [photo.image for photo in photos] for name, photos in list_photographs(source).items()}


class TestListing:
    def test_one_type_per_sub_folder_with_nested_folders_sorted_by_name(self, tmp_path: Path) -> None:
        touch(tmp_path, "front/b.JPG", "front/a.png", "front/lot2/day1/c.tiff", "back/a.png", "back/notes.txt")
        touch(tmp_path, "empty/readme.md", ".hidden/a.png", "front/.thumb.png")
        assert images_by_type(tmp_path) == {"back": ["a.png"], "front": ["a.png", "b.JPG", "c.tiff"]}
        photo = list_photographs(tmp_path)["front"][2]
        assert (photo.type_name, photo.path) == ("front", tmp_path / "front/lot2/day1/c.tiff")

    @pytest.mark.parametrize("extension", sorted(EXTENSIONS))
    def test_each_extension_is_read_in_lower_and_upper_case(self, tmp_path: Path, extension: str) -> None:
        touch(tmp_path, f"lower{extension}", f"UPPER{extension.upper()}")
        assert images_by_type(tmp_path) == {tmp_path.name: [f"UPPER{extension.upper()}", f"lower{extension}"]}

    def test_a_folder_of_images_is_one_type_with_the_folder_name(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        touch(tmp_path, "front/a.png", "front/b.png")
        assert images_by_type(tmp_path / "front") == {"front": ["a.png", "b.png"]}
        monkeypatch.chdir(tmp_path / "front")
        assert images_by_type(Path()) == images_by_type(Path("..", "front")) == {"front": ["a.png", "b.png"]}

    def test_a_single_image_is_a_batch_of_one(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        touch(tmp_path, "front/a.png", "front/b.png")
        monkeypatch.chdir(tmp_path / "front")
        for source in (tmp_path / "front/b.png", Path("b.png")):
            assert images_by_type(source) == {"front": ["b.png"]}
            assert list_photographs(source)["front"][0].name == "b"

    def test_images_next_to_folders_of_images_are_an_error(self, tmp_path: Path) -> None:
        touch(tmp_path, "stray.png", "front/a.png")
        with pytest.raises(InputError, match=r"stray\.png.*also folders.*front"):
            list_photographs(tmp_path)

    @pytest.mark.parametrize("names", [[], ["notes.txt"], ["front/notes.txt"], ["front/.png"]])
    def test_a_folder_without_images_is_an_error(self, tmp_path: Path, names: list[str]) -> None:
        touch(tmp_path, *names)
        with pytest.raises(InputError, match="holds no image"):
            list_photographs(tmp_path)

    def test_the_error_names_a_missing_path_and_a_file_that_is_not_an_image(self, tmp_path: Path) -> None:
        touch(tmp_path, "notes.txt")
        with pytest.raises(InputError, match=r"nowhere does not exist"):
            list_photographs(tmp_path / "nowhere")
        with pytest.raises(InputError, match=r"notes\.txt is not an image"):
            list_photographs(tmp_path / "notes.txt")

    def test_files_with_equal_names_get_different_names(self, tmp_path: Path) -> None:
        touch(tmp_path, "T/a.png", "T/a.jpg", "T/b.png", "T/x/c.png", "T/y/c.png")
        photos = list_photographs(tmp_path)["T"]
        assert [(p.image, p.name) for p in photos] == [
            ("a.jpg", "a_jpg"),
            ("a.png", "a_png"),
            ("b.png", "b"),
            ("x/c.png", "x_c"),
            ("y/c.png", "y_c"),
        ]

    @given(
        files=st.lists(
            st.tuples(
                st.lists(st.sampled_from(["a", "A", "b"]), max_size=2),
                st.sampled_from(["a", "A", "b", "a_b", "a_png", "a_a_png", "b.a"]),
                st.sampled_from([".png", ".PNG", ".jpg", ".bmp"]),
            ).map(lambda parts: "/".join([*parts[0], parts[1]]) + parts[2]),
            min_size=1,
            max_size=8,
            unique_by=str.lower,
        )
    )
    def test_table_names_and_output_names_are_unique(
        self, tmp_path_factory: pytest.TempPathFactory, files: list[str]
    ) -> None:
        root = tmp_path_factory.mktemp("list")
        touch(root / "T", *files)
        photos = list_photographs(root)["T"]
        assert {photo.path for photo in photos} == {root / "T" / file for file in files}
        for names in ([p.image for p in photos], [p.name.lower() for p in photos]):
            assert len(set(names)) == len(files)
        assert not any(set(photo.name) & set("/\\") for photo in photos)

    def test_links_keep_their_own_names(self, tmp_path: Path) -> None:
        store = touch(tmp_path / "store", "0001.png", "0002.png")
        batch = tmp_path / "batch"
        (batch / "front").mkdir(parents=True)
        try:
            (batch / "front" / "a.png").symlink_to(store / "0001.png")
            (batch / "back").symlink_to(store, target_is_directory=True)
        except OSError:
            pytest.skip("this system allows no links")
        assert images_by_type(batch) == {"back": ["0001.png", "0002.png"], "front": ["a.png"]}
        assert images_by_type(batch / "back") == {"back": ["0001.png", "0002.png"]}
        assert images_by_type(batch / "front" / "a.png") == {"front": ["a.png"]}


AD = ("train/good/000.png", "train/good/001.png", "test/good/000.png", "test/hole/000.png", "test/hole/001.png")
AD_MASKS = ("ground_truth/hole/000_mask.png", "ground_truth/hole/001.png")
AD_2 = (
    *("train/good/000_regular.png", "validation/good/001_regular.png", "test_private/000.png"),
    *(
        "test_public/good/000_shift.png",
        "test_public/bad/000_shift.png",
        "test_public/ground_truth/bad/000_shift_mask.png",
    ),
)


class TestPublicDataSets:
    def test_training_lists_good_images_and_testing_lists_every_kind(self, tmp_path: Path) -> None:
        touch(tmp_path / "tile", *AD, *AD_MASKS, "license.txt")
        assert images_by_type(tmp_path / "tile") == {"tile": ["000.png", "001.png"]}
        photos = list_photographs(tmp_path / "tile", test=True)["tile"]
        assert [(photo.image, photo.name) for photo in photos] == [
            ("good/000.png", "good_000"),
            ("hole/000.png", "hole_000"),
            ("hole/001.png", "hole_001"),
        ]
        assert photos[1].path == tmp_path / "tile/test/hole/000.png"

    def test_the_mask_folder_of_mvtec_ad_2_is_not_a_kind(self, tmp_path: Path) -> None:
        touch(tmp_path / "can", *AD_2)
        assert images_by_type(tmp_path / "can") == {"can": ["000_regular.png"]}
        photos = list_photographs(tmp_path / "can", test=True)["can"]
        assert [photo.image for photo in photos] == ["bad/000_shift.png", "good/000_shift.png"]

    def test_each_object_is_a_type_also_next_to_ordinary_types(self, tmp_path: Path) -> None:
        touch(tmp_path / "tile", *AD)
        touch(tmp_path / "wood", *AD[:2])
        touch(tmp_path / "own", "a.png", "lot/b.png")
        assert images_by_type(tmp_path) == {
            "own": ["a.png", "b.png"],
            "tile": ["000.png", "001.png"],
            "wood": ["000.png", "001.png"],
        }
        assert sorted(list_photographs(tmp_path, test=True)) == ["own", "tile"]

    def test_a_single_test_image_has_the_type_of_its_object(self, tmp_path: Path) -> None:
        touch(tmp_path / "tile", *AD)
        photo = list_photographs(tmp_path / "tile/test/hole/001.png", test=True)["tile"][0]
        assert (photo.image, photo.name) == ("hole/001.png", "hole_001")
        assert images_by_type(tmp_path / "tile/train/good/001.png") == {"good": ["001.png"]}

    def test_nested_names_that_flatten_to_the_same_stem_stay_unique(self, tmp_path: Path) -> None:
        touch(tmp_path / "tile", "test/good/0.png", "test/a_b/0.png", "test/a/b_0.png", "test/a/b/0.png")
        photos = list_photographs(tmp_path / "tile", test=True)["tile"]
        assert len({photo.name for photo in photos}) == len({photo.image for photo in photos}) == 4

    @pytest.mark.parametrize(("names", "test", "folder"), [(AD[:2], True, "test.KIND"), (AD[2:], False, "train.good")])
    def test_the_error_names_the_folder_without_images(
        self, tmp_path: Path, names: tuple[str, ...], test: bool, folder: str
    ) -> None:
        touch(tmp_path / "tile", *names)
        with pytest.raises(InputError, match=f"MVTec AD, but .*{folder} holds no image"):
            list_photographs(tmp_path / "tile", test=test)

    def test_types_named_train_and_test_are_not_a_data_set(self, tmp_path: Path) -> None:
        touch(tmp_path, "train/a.png", "test/b.png", "test/lot/c.png")
        assert find_data_set(tmp_path) is None
        for test in (False, True):
            assert sorted(list_photographs(tmp_path, test=test)) == ["test", "train"]
