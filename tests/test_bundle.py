from __future__ import annotations

import ast
import errno
import hashlib
import json
import os
import pickletools
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import anogan.bundle
from anogan.bundle import (
    MANIFEST,
    Bundle,
    bundle_digest,
    check_save_target,
    default_model_path,
    load_bundle,
    read_manifest,
    save_bundle,
)
from anogan.config import Config
from anogan.errors import BundleError, StorageError

NAMES = {
    "manifest.json",
    "generator.safetensors",
    "discriminator.safetensors",
    "calibration.safetensors",
    "training_curves.png",
    "history.csv",
}


def make_bundle(seed: int = 0, size: int = 3) -> Bundle:
    rng = np.random.default_rng(seed)

    def array(*shape: int) -> np.ndarray[Any, Any]:
        return rng.standard_normal(shape).astype(np.float32)

    return Bundle(
        config=Config(seed=seed),
        weights={
            "generator": {"layer.0.weight": array(size, 4), "layer.0.bias": array(size)},
            "discriminator": {"weight": array(2, size, 2, 2), "norm.num_batches_tracked": np.asarray(7)},
        },
        calibration={"threshold": 3.25, "review_threshold": None, "note": "gut — 良品"},
        calibration_arrays={"residual.mean": array(5, 6), "good_scores": array(9)},
        metadata={"image_size": [5, 6], "seeds": [seed], "metrics": {"image_auroc": 0.1 + 0.2}},
        attachments={"training_curves.png": bytes(range(256)), "history.csv": b"step,loss\r\n1,0.5\r\n"},
    )


def assert_same(got: Bundle, expected: Bundle) -> None:
    assert got.config == expected.config
    assert got.calibration == expected.calibration
    assert got.metadata == expected.metadata
    assert got.attachments == expected.attachments
    assert got.weights.keys() == expected.weights.keys()
    groups = [(got.weights[name], expected.weights[name]) for name in expected.weights]
    for mine, theirs in [*groups, (got.calibration_arrays, expected.calibration_arrays)]:
        assert mine.keys() == theirs.keys()
        for key in theirs:
            assert mine[key].dtype == theirs[key].dtype
            assert mine[key].shape == theirs[key].shape
            assert mine[key].tobytes() == theirs[key].tobytes()


def write_manifest(folder: Path, **changes: Any) -> None:
    """A manifest as another program could write it: changed, with a digest that fits."""
    tree = json.loads((folder / MANIFEST).read_text(encoding="utf-8")) | changes
    tree["manifest_sha256"] = "0" * 64
    text = json.dumps(tree, indent=2)
    digest = hashlib.sha256(text.encode()).hexdigest()
    text = text.replace(f'\n  "manifest_sha256": "{"0" * 64}"', f'\n  "manifest_sha256": "{digest}"')
    (folder / MANIFEST).write_bytes(text.encode())


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save_bundle(tmp_path / "model", make_bundle())


def test_what_is_loaded_equals_what_was_saved_byte_for_byte(model: Path) -> None:
    assert {entry.name for entry in model.iterdir()} == NAMES
    assert_same(load_bundle(model), make_bundle())


def test_saving_a_loaded_model_writes_the_same_files(model: Path, tmp_path: Path) -> None:
    again = save_bundle(tmp_path / "again", load_bundle(model))
    assert read_manifest(again)["files"] == read_manifest(model)["files"]


@pytest.mark.parametrize(
    "array",
    [
        np.arange(12, dtype=np.float32).reshape(3, 4).T,
        np.arange(12, dtype=np.float32)[::-2],
        np.asfortranarray(np.arange(12, dtype=np.float32).reshape(3, 4)),
        np.arange(5, dtype=">f4"),
        np.asarray(2.5, dtype=np.float32),
        np.zeros((0, 3), np.float32),
        np.asarray([np.nan, np.inf, -0.0], np.float32),
    ],
    ids=["transposed", "strided", "fortran", "big-endian", "scalar", "empty", "not-finite"],
)
def test_an_array_comes_back_the_same_however_it_lies_in_memory(
    array: np.ndarray[Any, Any], tmp_path: Path
) -> None:
    path = save_bundle(tmp_path / "model", Bundle(Config(), {"generator": {"w": array}}))
    got = load_bundle(path).weights["generator"]["w"]
    assert got.shape == array.shape
    assert got.tobytes() == array.astype(np.float32).tobytes()


def test_a_model_without_networks_or_attachments_round_trips(tmp_path: Path) -> None:
    path = save_bundle(tmp_path / "model", Bundle(Config(), {}))
    assert_same(load_bundle(path), Bundle(Config(), {}))


def test_names_with_spaces_and_chinese_characters_work(tmp_path: Path) -> None:
    name = "电路板 模型 3 " + "长" * 60
    path = save_bundle(tmp_path / "线 1" / name, make_bundle())
    save_bundle(path, make_bundle(1))
    assert_same(load_bundle(path), make_bundle(1))
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_the_manifest_tells_schema_version_and_every_file(model: Path) -> None:
    manifest = read_manifest(model)
    assert manifest["schema_version"] == 1
    assert manifest["package_version"] == anogan.__version__
    assert manifest["created"].endswith("+00:00")
    assert manifest["metadata"]["image_size"] == [5, 6]
    assert manifest["files"].keys() == NAMES - {MANIFEST}
    for name, entry in manifest["files"].items():
        content = (model / name).read_bytes()
        assert entry == {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}


def test_the_digest_names_the_model_and_not_its_place(model: Path, tmp_path: Path) -> None:
    digest = bundle_digest(model)
    other = save_bundle(tmp_path / "other", make_bundle(1))
    assert bundle_digest(model.rename(tmp_path / "moved")) == digest
    assert len(digest) == 64
    assert bundle_digest(other) != digest


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_one_changed_byte_in_any_file_is_caught(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.getbasetemp() / "flips"
    if not folder.exists():
        save_bundle(folder, make_bundle())
    file = folder / data.draw(st.sampled_from(sorted(NAMES)))
    whole = file.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    other = data.draw(st.integers(1, 255))
    try:
        file.write_bytes(whole[:at] + bytes([whole[at] ^ other]) + whole[at + 1 :])
        with pytest.raises(BundleError, match=r"^[^\n]+$"):
            load_bundle(folder)
    finally:
        file.write_bytes(whole)
    load_bundle(folder)


@pytest.mark.parametrize("name", sorted(NAMES))
@pytest.mark.parametrize("keep", [0.0, 0.5, 0.99])
def test_a_truncated_file_is_named(model: Path, name: str, keep: float) -> None:
    whole = (model / name).read_bytes()
    (model / name).write_bytes(whole[: int(len(whole) * keep)])
    with pytest.raises(BundleError, match=name):
        load_bundle(model)


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_missing_file_is_named(model: Path, name: str) -> None:
    (model / name).unlink()
    with pytest.raises(BundleError, match=name):
        load_bundle(model)


def test_a_folder_in_the_place_of_a_file_is_one_sentence(model: Path) -> None:
    (model / "history.csv").unlink()
    (model / "history.csv").mkdir()
    with pytest.raises(BundleError, match=r"history\.csv"):
        load_bundle(model)


def test_files_that_the_manifest_does_not_list_are_ignored(model: Path) -> None:
    (model / "notes.txt").write_text("line 3")
    (model / "encoder.safetensors").write_bytes(b"not one")
    assert_same(load_bundle(model), make_bundle())


def test_a_newer_schema_names_both_versions_and_says_upgrade(model: Path) -> None:
    write_manifest(model, schema_version=7, package_version="9.9.0", files="of another kind")
    with pytest.raises(BundleError, match=r"schema 7.*9\.9\.0.*up to schema 1.*upgrade anogan"):
        load_bundle(model)


@pytest.mark.parametrize("version", [0, -1, "1", None, True, 1.0])
def test_a_schema_that_is_no_positive_whole_number_is_refused(model: Path, version: object) -> None:
    write_manifest(model, schema_version=version)
    with pytest.raises(BundleError, match="schema_version"):
        read_manifest(model)


@pytest.mark.parametrize(
    "changes",
    [
        {"files": []},
        {"files": {"a.png": {"sha256": "0" * 64}}},
        {"files": {"a.png": {"sha256": "0" * 63, "bytes": 1}}},
        {"files": {"a.png": {"sha256": "0" * 64, "bytes": -1}}},
        {"calibration": None},
        {"metadata": [1]},
        {"config": 3},
    ],
)
def test_a_manifest_of_the_wrong_shape_names_the_key(model: Path, changes: dict[str, Any]) -> None:
    write_manifest(model, **changes)
    with pytest.raises(BundleError, match=next(iter(changes))):
        read_manifest(model)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\x00", "[" * 100_000, '{"format": "other"}'])
def test_a_manifest_that_is_not_ours_is_one_sentence(model: Path, text: str) -> None:
    (model / MANIFEST).write_text(text)
    with pytest.raises(BundleError, match=r"^[^\n]*manifest\.json[^\n]*$"):
        load_bundle(model)


@pytest.mark.parametrize(
    "name",
    [
        "../secret.txt",
        "..",
        "/etc/passwd",
        "a/b.png",
        "a\\b.png",
        "C:x.png",
        "",
        ".hidden",
        "nul",
        "COM1.txt",
        "tail ",
        "line\nfeed",
        "\ud800",
    ],
)
def test_a_manifest_cannot_name_a_file_outside_its_folder(model: Path, name: str) -> None:
    content = b"outside"
    (model.parent / "secret.txt").write_bytes(content)
    entry = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    write_manifest(model, files={name: entry})
    with pytest.raises(BundleError, match="not a plain file name"):
        load_bundle(model)
    with pytest.raises(BundleError, match="not a plain file name"):
        save_bundle(model.parent / "new", Bundle(Config(), {}, attachments={name: content}))


def test_a_config_that_this_version_does_not_know_names_the_version_that_does(model: Path) -> None:
    config = json.loads((model / MANIFEST).read_text(encoding="utf-8"))["config"]
    write_manifest(model, package_version="0.7.1", config=config | {"novelty": 1})
    with pytest.raises(BundleError, match=r"0\.7\.1.*novelty.*install that version"):
        load_bundle(model)


def test_a_file_with_the_right_hash_that_is_not_safetensors_is_one_sentence(model: Path) -> None:
    content = b"\xff" * 40
    (model / "generator.safetensors").write_bytes(content)
    entry = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    write_manifest(model, files={"generator.safetensors": entry})
    with pytest.raises(BundleError, match=r"generator\.safetensors is not a safetensors file"):
        load_bundle(model)


def test_a_missing_model_says_how_to_get_one(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path / "none" / "deeper", tmp_path):
        with pytest.raises(BundleError, match=r"anogan fit --data DIR.*--model.*\$ANOGAN_MODEL"):
            load_bundle(path)


def test_a_file_is_not_a_model(tmp_path: Path) -> None:
    (tmp_path / "scorer.onnx").write_bytes(b"onnx")
    with pytest.raises(BundleError, match=r"scorer\.onnx is a file"):
        load_bundle(tmp_path / "scorer.onnx")


def test_the_model_is_the_named_one_then_the_variable_then_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ANOGAN_MODEL", "from-variable")
    assert default_model_path(Path("named")) == Path("named")
    assert default_model_path(None) == Path("from-variable")
    monkeypatch.setenv("ANOGAN_MODEL", " ")
    assert default_model_path(None) == Path("anogan-model")
    monkeypatch.delenv("ANOGAN_MODEL")
    assert default_model_path() == Path("anogan-model")


def test_nothing_is_pickled() -> None:
    for source in Path(anogan.bundle.__file__).parent.glob("*.py"):
        tree = ast.parse(source.read_text(encoding="utf-8"))
        imported = {
            alias.name.partition(".")[0]
            for node in ast.walk(tree)
            if isinstance(node, ast.Import)
            for alias in node.names
        } | {
            (node.module or "").partition(".")[0]
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom)
        }
        assert imported
        assert not imported & {"pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "torch"}


def test_no_file_of_a_model_is_a_pickle_or_an_archive_of_one(model: Path) -> None:
    for file in model.iterdir():
        content = file.read_bytes()
        assert not content.startswith(b"PK")
        with pytest.raises(ValueError, match=r".+"):
            list(pickletools.genops(content))


def test_an_array_of_objects_is_refused(tmp_path: Path) -> None:
    weights = {"generator": {"w": np.asarray([{"a": 1}, None], dtype=object)}}
    with pytest.raises(BundleError, match=r"generator.*object"):
        save_bundle(tmp_path / "model", Bundle(Config(), weights))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [float("nan"), float("inf"), np.float32(1), Path("x"), {1, 2}, "\ud800"])
def test_metadata_that_is_not_json_is_refused_before_anything_is_written(tmp_path: Path, value: Any) -> None:
    with pytest.raises(BundleError, match="not plain JSON"):
        save_bundle(tmp_path / "model", Bundle(Config(), {}, metadata={"value": value}))
    assert list(tmp_path.iterdir()) == []


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
