"""A scorer that drives the search's steps itself, with the three files of `anogan export --single-step`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anogan.errors import BundleError
from anogan.station.scorer import Runner, Scorer
from anogan.station.sealed import PIECE_KEY, read_sealed
from anogan.station.session import Session

PIECES = ("begin", "step", "finish")
STATE, NEW = "state_", "new_"  # How the pieces name what goes from step to step, and its next value.
_ACTIVE = STATE + "active"


def piece_paths(path: Path) -> dict[str, Path]:
    """Where the pieces of the file at `path` lie: scorer-begin.onnx and so on beside scorer.onnx."""
    return {name: path.with_name(f"{path.stem}-{name}{path.suffix}") for name in PIECES}


class StepwiseScorer(Scorer):
    """`Scorer` with the pieces of a file instead of the whole: no `Loop`, the state bound on the device.

    It takes `Scorer`'s arguments; `path` is the whole file's, beside which the pieces lie. All tiles of a
    call are searched at once, so memory grows with the image.
    """

    def _load(self, providers: Sequence[str] | None, threads: int | None) -> Runner:
        sessions, exports = {}, {}
        for name, path in piece_paths(self.path).items():
            sessions[name] = Session(read_sealed(path), str(path), providers, threads)
            exports[name] = _export_of(sessions[name].metadata, path, name)
        if len(set(exports.values())) > 1:
            raise BundleError(
                f"The pieces of {self.path} come from different exports; copy all three of one "
                "`anogan export --single-step` there."
            )
        # Another export may have replaced the whole file and left the pieces of an older model beside it.
        if self.path.exists() and sha256(self.path.read_bytes()).hexdigest() not in exports.values():
            raise BundleError(
                f"The pieces beside {self.path} come from another export than the file itself; export again "
                "with --single-step, or copy all four files of one export there."
            )
        return _Pieces(sessions)


def _export_of(metadata: Mapping[str, str], path: Path, name: str) -> str:
    """The digest of the whole file that a piece belongs to."""
    try:
        piece = json.loads(metadata[PIECE_KEY])
        found, export = piece["name"], str(piece["of"])
    except (KeyError, TypeError, ValueError):
        found, export = "a whole file", ""
    if found != name:
        raise BundleError(
            f"{path} is {found}; expected the piece {name} of `anogan export --single-step`: export again."
        )
    return export


class _Pieces:
    """Runs the pieces as if they were the whole file."""

    def __init__(self, sessions: Mapping[str, Session]) -> None:
        self._begin, self._step, self._finish = (sessions[name] for name in PIECES)
        self.provider = self._step.provider

    @property
    def metadata(self) -> dict[str, str]:
        """The same for every piece, but for its name."""
        return self._begin.metadata

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The whole file's outputs, as arrays; `inputs` holds `steps`, or none are taken."""
        told = {name: inputs[name] for name in self._begin.inputs}
        begun = self._begin.start(told)
        state = self._search(begun, int(inputs.get("steps", 0)))
        ends = {**begun, **state, **inputs}
        found = self._finish.start({name: ends[name] for name in self._finish.inputs if name in ends})
        return {name: value.numpy() for name, value in found.items()}

    def _search(self, begun: Mapping[str, Any], steps: int) -> dict[str, Any]:
        """The state after at most so many steps, which go to and fro between two sets of buffers."""
        here = {name: value for name, value in begun.items() if name.startswith(STATE)}
        if steps == 0:
            return here
        read = {name: begun[name] for name in self._step.inputs if name not in here}
        new = self._step.start(read | here)
        there = {name.removeprefix(NEW): value for name, value in new.items()}
        states = (here, there)
        ways = (self._way(read, here, there), self._way(read, there, here))
        for taken in range(1, steps):
            now = states[taken % 2]
            if _ACTIVE in now and not np.any(now[_ACTIVE].numpy()):
                return now
            ways[taken % 2]()
        return states[steps % 2]

    def _way(
        self, read: Mapping[str, Any], start: Mapping[str, Any], end: Mapping[str, Any]
    ) -> Callable[[], None]:
        return self._step.between({**read, **start}, {NEW + name: value for name, value in end.items()})
