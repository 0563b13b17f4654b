"""Files written whole or not at all."""

import json
import os
from pathlib import Path

import pytest

from anogan.errors import StorageError
from anogan.files import replacing, write_json


def _names(folder: Path) -> list[str]:
    return [file.name for file in folder.iterdir()]


def _write_and_fail(path: Path, error: BaseException) -> None:
    with replacing(path, "buy a disk") as partial:
        partial.write_text("ne")
        raise error


def test_the_new_file_takes_the_place_of_the_old_one_at_the_end(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with replacing(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert _names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize(
    ("error", "told", "sentence"),
    [
        (
            OSError(28, "No space left on device"),
            StorageError,
            r"a\.txt cannot be written \(No space left on device\); buy a disk\.$",
        ),
        (KeyboardInterrupt("now"), KeyboardInterrupt, "^now$"),
    ],
)
def test_a_failure_leaves_the_old_file_and_nothing_beside_it(tmp_path, error, told, sentence):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(told, match=sentence):
        _write_and_fail(path, error)
    assert path.read_text() == "old"
    assert _names(tmp_path) == ["a.txt"]


def test_a_missing_folder_is_told(tmp_path):
    with (
        pytest.raises(StorageError, match=r"free space or permit writing there\.$"),
        replacing(tmp_path / "missing" / "a.txt") as partial,
    ):
        partial.write_text("new")


def test_json_keeps_every_letter_and_makes_the_folders_above(tmp_path):
    path = tmp_path / "deep" / "er" / "a.json"
    write_json(path, {"größe": [1, None]})
    assert json.loads(path.read_text("utf-8")) == {"größe": [1, None]}
    assert "größe" in path.read_text("utf-8")


def test_json_of_a_file_name_that_is_no_utf_8_can_be_written_and_read(tmp_path):
    name = os.fsdecode(b"gut\xfc.png")
    write_json(tmp_path / "a.json", {"path": name})
    assert json.loads((tmp_path / "a.json").read_text("utf-8")) == {"path": name}
