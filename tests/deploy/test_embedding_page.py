"""What docs/embedding.md says is so."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import onnx
import pytest

from anogan.export import export_scorer
from anogan.images.decode import write_image
from tests.export.conftest import build_model, build_torch_scorer, limited_to, random_images, small_config

SIZE = (40, 56)


@pytest.fixture(scope="module")
def page(repository: Path) -> str:
    """The page's text."""
    return (repository / "docs" / "embedding.md").read_text(encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with scorer.onnx and image.png, as the page has them; the file has every output there is."""
    config = small_config(images={"registration": "translation"})
    scorer = build_torch_scorer(build_model(config, SIZE))
    images = random_images(1, SIZE)
    scorer = limited_to(scorer, images[0])
    export_scorer(scorer, tmp_path / "scorer.onnx", images=images, single_step=True)
    write_image(tmp_path / "image.png", images[0])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_python_of_the_page_runs(page: str, folder: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == 3
    results = []
    for block in blocks:
        names: dict[str, object] = {"pixels": random_images(1, SIZE)[0]}
        exec(compile(block, "docs/embedding.md", "exec"), names)
        results.append(names)
    assert results[0]["found"].score == results[1]["score"][0]  # type: ignore[attr-defined, index]
    assert results[0]["found"].score == pytest.approx(results[2]["values"]["score"][0], rel=1e-5)  # type: ignore[attr-defined, index]


def test_tables_of_the_page_name_every_input_and_output(page: str, folder: Path) -> None:
    graph = onnx.load(folder / "scorer.onnx").graph
    kinds = {
        onnx.TensorProto.FLOAT: "float32",
        onnx.TensorProto.INT64: "int64",
        onnx.TensorProto.UINT8: "uint8",
        onnx.TensorProto.BOOL: "bool",
    }
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", page, re.MULTILINE))
    values = [*graph.input, *graph.output]
    assert set(rows) == {value.name for value in values}
    for value in values:
        kind = kinds[value.type.tensor_type.elem_type]
        assert kind in rows[value.name] or rows[value.name].strip() == "as `image`"


def test_seal_is_checked_as_the_page_says(page: str, folder: Path) -> None:
    length = int(re.search(r"without its last (\d+) bytes", page)[1])  # type: ignore[index]
    content = (folder / "scorer.onnx").read_bytes()
    assert hashlib.sha256(content[:-length]).hexdigest().encode() == content[-64:]
