from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anogan.bundle import (
    MANIFEST,
    Bundle,
    check_save_target,
    load_bundle,
    save_bundle,
)
from anogan.config import Config
from anogan.errors import BundleError, StorageError
from tests.bundle.conftest import NAMES, assert_same, make_bundle


def test_an_array_of_objects_is_refused(tmp_path: Path) -> None:
    weights = {"generator": {"w": np.asarray([{"a": 1}, None], dtype=object)}}
    with pytest.raises(BundleError, match=r"generator.*object"):
        save_bundle(tmp_path / "model", Bundle(Config(), weights))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [float("nan"), float("inf"), np.float32(1), Path("x"), {1, 2}])
def test_metadata_that_is_not_json_is_refused_before_anything_is_written(tmp_path: Path, value: Any) -> None:
    with pytest.raises(BundleError, match="not plain JSON"):
        save_bundle(tmp_path / "model", Bundle(Config(), {}, metadata={"value": value}))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_whose_name_is_no_utf_8_can_be_told_in_the_manifest(tmp_path: Path) -> None:
    source = os.fsdecode(b"/parts/gut\xfc")
    save_bundle(tmp_path / "model", Bundle(Config(), {}, metadata={"source": source}))
    assert load_bundle(tmp_path / "model").metadata["source"] == source


@pytest.mark.parametrize(
    ("weights", "attachments"),
    [
        ({"calibration": {}}, {}),
        ({}, {"manifest.json": b""}),
        ({}, {"extra.safetensors": b""}),
        ({}, {"a.png": b"", "A.png": b""}),
        ({"../up": {}}, {}),
    ],
)
def test_a_name_that_would_hide_another_file_is_refused(
    tmp_path: Path, weights: dict[str, Any], attachments: dict[str, bytes]
) -> None:
    with pytest.raises(BundleError):
        save_bundle(tmp_path / "model", Bundle(Config(), weights, attachments=attachments))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_a_model_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    photographs, page = tmp_path / "photographs", tmp_path / "page"
    for folder, name, text in ((photographs, "1.png", "x"), (page, "manifest.json", '{"name": "a page"}')):
        folder.mkdir()
        (folder / name).write_text(text)
    for path in (photographs, page, photographs / "1.png"):
        for refuse in (check_save_target, lambda place: save_bundle(place, make_bundle())):
            with pytest.raises(BundleError, match="give --out another folder"):
                refuse(path)
    assert sorted(entry.name for entry in tmp_path.rglob("*")) == [
        "1.png",
        "manifest.json",
        "page",
        "photographs",
    ]


def test_an_empty_folder_becomes_the_model(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    check_save_target(tmp_path / "model")
    save_bundle(tmp_path / "model", make_bundle())
    assert_same(load_bundle(tmp_path / "model"), make_bundle())
    assert [entry.name for entry in tmp_path.iterdir()] == ["model"]


def test_a_new_model_replaces_the_old_one_and_keeps_the_files_of_others(model: Path) -> None:
    (model / "notes.txt").write_text("line 3")
    (model / "exports").mkdir()
    (model / "exports" / "scorer.onnx").write_bytes(b"onnx")
    save_bundle(model, Bundle(Config(), {"encoder": {}}))
    assert {entry.name for entry in model.iterdir()} == {
        MANIFEST,
        "encoder.safetensors",
        "calibration.safetensors",
        "notes.txt",
        "exports",
    }
    assert (model / "exports" / "scorer.onnx").read_bytes() == b"onnx"
    assert [entry.name for entry in model.parent.iterdir()] == ["model"]


def test_a_file_of_others_is_never_deleted_for_a_name_that_the_new_model_takes(model: Path) -> None:
    (model / "samples.png").write_bytes(b"mine")
    save_bundle(model, Bundle(Config(), {}, attachments={"samples.png": b"the model's"}))
    assert load_bundle(model).attachments == {"samples.png": b"the model's"}
    assert [file.read_bytes() for file in model.parent.glob(".model.*/samples.png")] == [b"mine"]


@pytest.mark.skipif(os.name != "posix", reason="links need rights on Windows")
def test_a_link_to_a_model_stays_a_link(model: Path) -> None:
    link = model.parent / "current"
    link.symlink_to(model, target_is_directory=True)
    save_bundle(link, make_bundle(1))
    assert link.is_symlink()
    assert_same(load_bundle(model), make_bundle(1))


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX")
def test_a_model_is_as_readable_as_any_new_folder(model: Path) -> None:
    plain = model.parent / "plain"
    plain.mkdir()
    assert model.stat().st_mode == plain.stat().st_mode


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EIO])
@pytest.mark.parametrize("existing", [False, True])
def test_an_error_of_the_disk_at_any_write_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, existing: bool
) -> None:
    path = tmp_path / "model"
    if existing:
        save_bundle(path, make_bundle(0))
    flush, messages = os.fsync, list[str]()
    for n in range(1, 20):
        calls = 0

        def failing(descriptor: int) -> None:
            nonlocal calls
            calls += 1
            if calls == n:  # noqa: B023  (called in this turn of the loop only)
                raise OSError(code, os.strerror(code))
            flush(descriptor)

        monkeypatch.setattr(os, "fsync", failing)
        try:
            save_bundle(path, make_bundle(1))
            break
        except StorageError as error:
            messages.append(str(error))
        if existing:
            assert_same(load_bundle(path), make_bundle(0))
        assert [entry.name for entry in tmp_path.iterdir()] == (["model"] if existing else [])
    assert all(os.strerror(code) in message and "\n" not in message for message in messages)
    assert len(messages) == len(NAMES) + (os.name == "posix")  # Each file and, where it can be, the folder.
    assert_same(load_bundle(path), make_bundle(1))


@pytest.mark.skipif(os.name != "posix", reason="limits are POSIX")
def test_a_write_that_the_system_itself_cuts_off_leaves_the_old_model(model: Path) -> None:
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(StorageError, match=r"File too large.*the model needs 3\.1 MB"):
            save_bundle(model, make_bundle(1, size=60_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert_same(load_bundle(model), make_bundle(0))
    assert [entry.name for entry in model.parent.iterdir()] == ["model"]


@pytest.mark.parametrize("n", [1, 2])
def test_a_swap_that_fails_puts_the_old_model_back(
    model: Path, monkeypatch: pytest.MonkeyPatch, n: int
) -> None:
    rename, calls = Path.replace, 0

    def failing(self: Path, target: Path) -> Path:
        nonlocal calls
        calls += 1
        if calls == n:
            raise PermissionError(errno.EACCES, "The folder is open in another program")
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", failing)
    with pytest.raises(StorageError, match="open in another program"):
        save_bundle(model, make_bundle(1))
    assert_same(load_bundle(model), make_bundle(0))
    assert [entry.name for entry in model.parent.iterdir()] == ["model"]


def test_ctrl_c_while_saving_leaves_the_old_model_alone(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_bundle(model, make_bundle(1))
    assert_same(load_bundle(model), make_bundle(0))
    assert [entry.name for entry in model.parent.iterdir()] == ["model"]


KILLED = """
import os, sys
from pathlib import Path
from anogan.bundle import Bundle, save_bundle
from anogan.config import Config

path, call, n = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
owner = os if call == "fsync" else Path
genuine = getattr(owner, call)
def killed(*args):
    global n
    n -= 1
    if n == 0:
        os._exit(9)
    return genuine(*args)
setattr(owner, call, killed)
save_bundle(path, Bundle(Config(seed=1), {"generator": {}}))
"""


@pytest.mark.parametrize(("call", "n"), [("fsync", 1), ("fsync", 3), ("replace", 1)])
def test_a_process_killed_while_saving_leaves_the_old_model(model: Path, call: str, n: int) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(model), call, str(n)], check=False)
    assert done.returncode == 9
    assert_same(load_bundle(model), make_bundle(0))


def test_a_process_killed_between_the_two_renames_leaves_the_way_back_in_the_message(model: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(model), "replace", "2"], check=False)
    assert done.returncode == 9
    with pytest.raises(BundleError, match="a save was cut short; rename ") as caught:
        load_bundle(model)
    named = str(caught.value).partition("; rename ")[2].partition(" to ")[0]
    Path(named).rename(model)
    assert_same(load_bundle(model), make_bundle(0))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root writes everywhere")
def test_a_read_only_place_is_refused_before_training(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        for refuse in (check_save_target, lambda place: save_bundle(place, make_bundle())):
            with pytest.raises(StorageError, match="permit writing"):
                refuse(tmp_path / "model")
    finally:
        tmp_path.chmod(0o700)


def test_a_place_below_a_file_is_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for refuse in (check_save_target, lambda place: save_bundle(place, make_bundle())):
        with pytest.raises(StorageError, match=r"^[^\n]+$"):
            refuse(tmp_path / "file" / "model")


def test_asking_for_the_place_leaves_nothing_there(tmp_path: Path) -> None:
    check_save_target(tmp_path / "new" / "model")
    assert list(tmp_path.iterdir()) == []


def test_a_reader_beside_a_writer_sees_one_whole_model_or_the_other(model: Path) -> None:
    saved = [make_bundle(0), make_bundle(1)]
    failures: list[BaseException] = []

    def write() -> None:
        try:
            for turn in range(1, 16):
                save_bundle(model, saved[turn % 2])
        except BaseException as error:
            failures.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    seen = set()
    while writer.is_alive():
        bundle = load_bundle(model)
        assert_same(bundle, saved[bundle.config.seed])
        seen.add(bundle.config.seed)
    writer.join()
    assert not failures
    assert seen == {0, 1}
