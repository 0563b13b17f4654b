from __future__ import annotations

import ast
import hashlib
import json
import pickletools
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
    default_model_path,
    load_bundle,
    read_manifest,
    save_bundle,
)
from anogan.config import Config, config_to_dict
from anogan.errors import BundleError
from tests.bundle.conftest import NAMES, assert_same, make_bundle, write_manifest


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
    sources = list(Path(anogan.__file__).parent.rglob("*.py"))
    assert len(sources) > 100
    for source in sources:
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
        assert not imported & {"pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}, source
        assert source.parent.name != "bundle" or "torch" not in imported, source
        assert "torch.load(" not in source.read_text(encoding="utf-8"), source


def test_no_file_of_a_model_is_a_pickle_or_an_archive_of_one(model: Path) -> None:
    for file in model.iterdir():
        content = file.read_bytes()
        assert not content.startswith(b"PK")
        with pytest.raises(ValueError, match=r".+"):
            list(pickletools.genops(content))


def test_a_model_from_before_a_setting_keeps_what_it_did(model: Path) -> None:
    stored = load_bundle(model).config
    assert stored.search.gradient == "smooth"
    tree = config_to_dict(stored)
    del tree["search"]["gradient"]
    write_manifest(model, config=tree)

    assert load_bundle(model).config.search.gradient == "exact"
