"""One ONNX file with everything that decides, and the proof that it decides the same."""

from anogan.export.write import Exported, export_scorer

__all__ = ["Exported", "export_scorer"]
