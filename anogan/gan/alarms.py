"""What can go wrong in a training, told in words with the remedy to try."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

from anogan.config import AlarmPolicy


class AlarmRecord(TypedDict):
    """An alarm as the checkpoint and the model keep it."""

    kind: str
    step: int
    message: str
    action: str


@dataclass(frozen=True)
class Alarm:
    """One thing that is wrong at this moment.

    Attributes:
        kind: A name of the table in `docs/training.md`.
        message: What was seen and what to try, in whole sentences.
        policy: What the loop does when the alarm begins.
    """

    kind: str
    message: str
    policy: AlarmPolicy

    def record(self, step: int, action: AlarmPolicy) -> AlarmRecord:
        """The alarm with the step it began at and what was done."""
        return {"kind": self.kind, "step": step, "message": self.message, "action": action}
