"""Files that are not what was exported: one clear sentence each, never a score."""

from __future__ import annotations

import json
import re
from pathlib import Path

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from anogan.errors import BundleError
from anogan.station import Scorer
from anogan.station.sealed import MANIFEST_KEY, check_seal, read_sealed, seal

ONE_SENTENCE = re.compile(r"^[^\n]+\.$")


def refused(path: Path) -> str:
    with pytest.raises(BundleError) as error:
        Scorer(path)
    assert ONE_SENTENCE.match(str(error.value))
    assert str(path) in str(error.value)
    return str(error.value)


def foreign_model() -> onnx.ModelProto:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [x], [y])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def rewritten(path: Path, target: Path, manifest: str | None) -> Path:
    """The scorer with another manifest, sealed again."""
    model = onnx.load(path)
    del model.metadata_props[:]
    if manifest is not None:
        model.metadata_props.add(key=MANIFEST_KEY, value=manifest)
    target.write_bytes(seal(model.SerializeToString()))
    return target


def manifest_of(path: Path) -> dict[str, object]:
    entries = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    tree: dict[str, object] = json.loads(entries[MANIFEST_KEY])
    return tree


@given(data=st.data())
def test_any_flipped_bit_is_found(scorer_file: Path, data: st.DataObject) -> None:
    content = bytearray(scorer_file.read_bytes())
    position = data.draw(st.integers(0, len(content) - 1))
    content[position] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(BundleError, match=r"damaged|not a scorer"):
        check_seal(bytes(content), "scorer.onnx")


@given(data=st.data())
def test_any_cut_is_found(scorer_file: Path, data: st.DataObject) -> None:
    content = scorer_file.read_bytes()
    length = data.draw(st.integers(0, len(content) - 1))
    with pytest.raises(BundleError, match=r"cut off|not a scorer"):
        check_seal(content[:length], "scorer.onnx")


def test_appended_bytes_are_found(scorer_file: Path) -> None:
    with pytest.raises(BundleError):
        check_seal(scorer_file.read_bytes() + b"\0", "scorer.onnx")


def test_what_was_sealed_is_read_as_it_is(scorer_file: Path) -> None:
    assert read_sealed(scorer_file) == scorer_file.read_bytes()


def test_sealed_file_is_an_ordinary_onnx_file(scorer_file: Path) -> None:
    model = onnx.load(scorer_file)
    onnx.checker.check_model(model)
    assert {entry.key for entry in model.metadata_props} == {MANIFEST_KEY, "anogan.sha256"}


def test_truncated_file_is_told_as_cut_off(scorer_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "scorer.onnx"
    path.write_bytes(scorer_file.read_bytes()[:5000])
    assert "cut off" in refused(path)


def test_damaged_file_is_told_as_damaged(scorer_file: Path, tmp_path: Path) -> None:
    content = bytearray(scorer_file.read_bytes())
    content[len(content) // 2] ^= 1
    path = tmp_path / "scorer.onnx"
    path.write_bytes(content)
    assert "damaged" in refused(path)


def test_wrong_hash_is_told_as_damage(scorer_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "scorer.onnx"
    path.write_bytes(scorer_file.read_bytes()[:-64] + b"0" * 64)
    assert "SHA-256" in refused(path)


@pytest.mark.parametrize(
    "content", [b"", b"hello", foreign_model().SerializeToString(), b"\x89PNG" + b"\0" * 500]
)
def test_a_file_that_is_not_ours_is_told_as_such(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "other.onnx"
    path.write_bytes(content)
    assert "not a scorer" in refused(path)


def test_a_sealed_file_that_is_no_model_is_told(tmp_path: Path) -> None:
    path = tmp_path / "other.onnx"
    path.write_bytes(seal(b"not a model"))
    assert "cannot be loaded" in refused(path)


def test_missing_manifest_is_told(scorer_file: Path, tmp_path: Path) -> None:
    assert "has no manifest" in refused(rewritten(scorer_file, tmp_path / "s.onnx", None))


@pytest.mark.parametrize(
    "manifest", ["", "{", "[]", "{}", '{"schema_version": 1}', '{"schema_version": "x"}']
)
def test_damaged_manifest_is_told(scorer_file: Path, tmp_path: Path, manifest: str) -> None:
    assert "damaged manifest" in refused(rewritten(scorer_file, tmp_path / "s.onnx", manifest))


def test_newer_manifest_asks_for_the_newer_version(scorer_file: Path, tmp_path: Path) -> None:
    tree = manifest_of(scorer_file) | {"schema_version": 2, "package_version": "9.1"}
    message = refused(rewritten(scorer_file, tmp_path / "s.onnx", json.dumps(tree)))
    assert "anogan 9.1" in message
    assert "newer" in message


def test_missing_file_and_folder_are_told(tmp_path: Path) -> None:
    assert "does not exist" in refused(tmp_path / "none.onnx")
    assert "cannot be read" in refused(tmp_path)
