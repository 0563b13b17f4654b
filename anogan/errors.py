"""The error tree: every mistake a user can make has a class here, and one sentence.

A message says what, where, got, expected and the next step. The command line prints it without a
traceback and exits with 2; a library user catches `AnoganError`.
"""


class AnoganError(Exception):
    """Base of every error that this package raises on purpose."""


class ConfigError(AnoganError):
    """A setting is unknown, of the wrong type, or contradicts another."""


class DataError(AnoganError):
    """A folder or a set of images cannot serve what was asked of it."""


class ImageError(DataError):
    """One image cannot be used; in a batch the others are still scored."""


class ShapeError(AnoganError, ValueError):
    """An array or tensor has another shape or dtype than the function takes."""


class BundleError(AnoganError):
    """A model on disk is missing, damaged, or newer than this package."""


class CalibrationError(AnoganError):
    """The good images cannot support the promise that was asked for."""


class TrainingError(AnoganError):
    """Training could not go on (diverged, collapsed, or was stopped by an alarm)."""


class ExportError(AnoganError):
    """A model cannot be exported, or its exported file does not decide the same."""


class StorageError(AnoganError):
    """A file could not be written: disk full, no permission, read-only medium."""


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that the memory of the machine, or of its GPU, is full."""
    # By name and text: torch and OpenCV are not imported here only to know their classes.
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "can't allocate memory" in str(error)
        or "Insufficient memory" in str(error)
        or "CUBLAS_STATUS_ALLOC_FAILED" in str(error)
        or "Failed to allocate memory" in str(error)  # ONNX Runtime's.
        or "bad_alloc" in str(error)
    )


def too_large(error: Exception) -> str:
    """What is told of an image for which `is_out_of_memory`, after its name."""
    return f"too large for the memory ({error}); score a smaller picture, or close other programs."
