"""Tests of finding photographs: their types and names, and the folders of public data sets."""

from __future__ import annotations

import errno
import os
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixal.errors import InputError
from pixal.io.files import read_bytes
from pixal.io.names import comparable
from pixal.tasks.photographs.discovery import EXTENSIONS, Photograph, list_photographs
from pixal.tasks.photographs.mvtec import find_data_set

only_linux = pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names or files")


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


class TestNames:
    """Names that other systems, or other people, chose."""

    @only_linux
    def test_control_characters_are_escaped_in_names_and_kept_in_paths(self, tmp_path: Path) -> None:
        touch(tmp_path, "front\n1/a\rb.png", "front\n1/a\\rb.png", "front\n1/\x1b[31m.png")
        types = list_photographs(tmp_path)
        assert list(types) == [r"front\n1"]
        photos = types[r"front\n1"]
        assert [photo.image for photo in photos] == [r"\x1b[31m.png", r"a\rb.png", r"a\rb.png_2"]
        assert {photo.path.name for photo in photos} == {"a\rb.png", "a\\rb.png", "\x1b[31m.png"}
        assert len({photo.name for photo in photos}) == 3
        assert not any(photo.problem for photo in photos)

    @only_linux
    def test_a_name_that_is_not_utf_8_is_listed_with_its_problem(self, tmp_path: Path) -> None:
        touch(tmp_path, "front/a.png")
        (tmp_path / "front" / os.fsdecode(b"caf\xe9.png")).touch()
        (tmp_path / "front" / os.fsdecode(b"lot\xe9")).mkdir()
        (tmp_path / "front" / os.fsdecode(b"lot\xe9") / "b.png").touch()
        photos = list_photographs(tmp_path)["front"]
        assert {photo.image: bool(photo.problem) for photo in photos} == {
            "a.png": False,
            r"caf\xe9.png": True,
            "b.png": True,
        }
        for photo in photos:
            for text in (photo.type_name, photo.image, photo.name, photo.source):
                text.encode()  # raises an error if it is not UTF-8
            if photo.problem:
                with pytest.raises(InputError, match="not valid UTF-8; rename"):
                    photo.read()

    @only_linux
    def test_a_path_that_is_not_utf_8_is_an_error(self, tmp_path: Path) -> None:
        folder = tmp_path / os.fsdecode(b"caf\xe9")
        touch(folder, "front/a.png")
        with pytest.raises(InputError, match=r"caf\\xe9 is not valid UTF-8"):
            list_photographs(folder)

    def test_names_that_differ_in_their_unicode_form_only_get_different_stems(self, tmp_path: Path) -> None:
        touch(tmp_path / "T", "\u00e9.png", "e\u0301.png", "\u00c9.jpg", "e.png")
        photos = list_photographs(tmp_path)["T"]
        if len(photos) < 4:
            pytest.skip("this file system takes these names for the same")
        assert len({comparable(photo.name) for photo in photos}) == 4

    def test_a_stem_leaves_room_for_the_endings_of_output_files(self, tmp_path: Path) -> None:
        names = ["x" * 250 + "1.png", "x" * 250 + "2.png", "ü" * 125 + ".png"]
        touch(tmp_path / "T", *names)
        photos = list_photographs(tmp_path)["T"]
        assert [photo.image for photo in photos] == sorted(names)
        assert len({photo.name for photo in photos}) == 3
        for photo in photos:
            assert len(f"anomaly_overlay_{photo.name}.png_2_matches.jpg".encode()) <= 255

    @only_linux
    def test_two_types_that_are_written_the_same_are_an_error(self, tmp_path: Path) -> None:
        touch(tmp_path, "a\rb/1.png", "a\\rb/1.png")
        with pytest.raises(InputError, match=r"two folders whose names are both written a\\rb"):
            list_photographs(tmp_path)

    def test_hidden_folders_and_those_of_the_system_are_left_out(self, tmp_path: Path) -> None:
        touch(tmp_path, "front/a.png", "front/.thumbnails/a.png", "front/lot/.b.png", "lost+found/c.png")
        assert images_by_type(tmp_path) == {"front": ["a.png"]}


@only_linux
class TestSpecialFiles:
    """Links, pipes, sockets, and folders that cannot be opened: each is listed, and none is waited for."""

    def test_links_to_folders_are_followed_and_loops_end(self, tmp_path: Path) -> None:
        touch(tmp_path, "store/x.png", "front/a.png", "front/lot/b.png")
        (tmp_path / "front/more").symlink_to(tmp_path / "store", target_is_directory=True)
        (tmp_path / "front/again").symlink_to(tmp_path / "front/lot", target_is_directory=True)
        (tmp_path / "front/lot/up").symlink_to(tmp_path / "front", target_is_directory=True)
        (tmp_path / "front/self").symlink_to(tmp_path / "front/self")
        photos = list_photographs(tmp_path)["front"]
        assert [(photo.image, bool(photo.problem)) for photo in photos] == [
            ("a.png", False),
            ("b.png", False),
            ("x.png", False),
            ("self", True),
        ]

    def test_broken_links_and_pipes_are_listed_and_cannot_be_read(self, tmp_path: Path) -> None:
        touch(tmp_path, "front/a.png")
        (tmp_path / "front/gone.png").symlink_to(tmp_path / "nowhere.png")
        (tmp_path / "front/loop.png").symlink_to("loop.png")
        os.mkfifo(tmp_path / "front/pipe.png")
        with socket.socket(socket.AF_UNIX) as server:
            where = Path.cwd()
            os.chdir(tmp_path / "front")  # the path of a socket has at most 107 bytes
            server.bind("socket.png")
            os.chdir(where)
        (tmp_path / "front/device.png").symlink_to("/dev/zero")
        reasons = {}
        for photo in list_photographs(tmp_path)["front"]:
            try:
                photo.read()
            except InputError as error:
                reasons[photo.image] = str(error)
        assert set(reasons) == {"gone.png", "loop.png", "pipe.png", "socket.png", "device.png"}
        assert "No such file" in reasons["gone.png"]
        for name in ("pipe.png", "socket.png", "device.png"):
            assert "not a regular file" in reasons[name]

    def test_a_pipe_that_takes_the_place_of_a_file_is_not_waited_for(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        touch(tmp_path, "a.png")
        before = (tmp_path / "a.png").stat()
        (tmp_path / "a.png").unlink()
        os.mkfifo(tmp_path / "a.png")
        monkeypatch.setattr(Path, "stat", lambda path: before)
        with pytest.raises(InputError, match="not a regular file"):
            read_bytes(tmp_path / "a.png")

    def test_a_link_to_a_missing_folder_is_a_type_that_cannot_be_read(self, tmp_path: Path) -> None:
        touch(tmp_path, "front/a.png")
        (tmp_path / "back").symlink_to(tmp_path / "drive/back", target_is_directory=True)
        (tmp_path / "notes.txt").symlink_to(tmp_path / "nowhere.txt")
        types = list_photographs(tmp_path)
        assert list(types) == ["back", "front"]
        (photo,) = types["back"]
        assert photo.image == "back"
        assert "cannot be opened: No such file" in photo.problem

    def test_a_broken_link_next_to_images_belongs_to_their_type(self, tmp_path: Path) -> None:
        touch(tmp_path, "front/a.png")
        (tmp_path / "front/lot").symlink_to(tmp_path / "nowhere")
        photos = list_photographs(tmp_path / "front")["front"]
        assert [(photo.image, bool(photo.problem)) for photo in photos] == [("a.png", False), ("lot", True)]

    def test_a_folder_that_cannot_be_opened_is_listed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        touch(tmp_path, "front/a.png", "front/shut/b.png", "back/c.png")
        shut = {str(tmp_path / "front/shut"), str(tmp_path / "back")}
        scan = os.scandir

        def refuse(path: Path) -> Any:  # root may open any folder
            if str(path) in shut:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
            return scan(path)

        monkeypatch.setattr(os, "scandir", refuse)
        types = list_photographs(tmp_path)
        assert [(photo.image, photo.problem) for photo in types["front"]] == [
            ("a.png", ""),
            ("shut", "cannot be opened: Permission denied"),
        ]
        assert [(photo.image, photo.problem) for photo in types["back"]] == [
            ("back", "cannot be opened: Permission denied")
        ]

    def test_a_pipe_is_no_source(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe.png")
        with pytest.raises(InputError, match="neither a folder nor a regular file"):
            list_photographs(tmp_path / "pipe.png")

    def test_a_file_that_grows_while_it_is_read_is_an_error(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "a.png"
        path.write_bytes(b"12345")
        monkeypatch.setattr(os, "fstat", lambda descriptor, real=os.fstat: _smaller(real(descriptor)))
        with pytest.raises(InputError, match="changed while it was read"):
            read_bytes(path)

    def test_a_file_that_is_overwritten_while_it_is_read_is_an_error(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "a.png"
        path.write_bytes(b"12345")
        os.utime(path, (1, 1))
        fstat = os.fstat

        def overwritten(descriptor: int) -> os.stat_result:
            before = fstat(descriptor)
            with path.open("r+b") as file:
                file.write(b"ab")
            return before

        monkeypatch.setattr(os, "fstat", overwritten)
        with pytest.raises(InputError, match="changed while it was read"):
            read_bytes(path)

    def test_a_file_that_is_too_large_is_not_read(self, tmp_path: Path) -> None:
        path = tmp_path / "a.png"
        path.touch()
        os.truncate(path, 10**12)
        with pytest.raises(InputError, match="1000000 MB, the limit is 500 MB"):
            Photograph("T", path, "a.png", "a").read()


def _smaller(stat: os.stat_result) -> os.stat_result:
    """The state of a file before its last two bytes were written."""
    return os.stat_result([*stat[:6], stat.st_size - 2, *stat[7:10]])
