"""`Finding`: one thing about a dataset that is wrong, doubtful or worth knowing."""

from typing import Literal

import attrs

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
"""Worst first. An error spoils training, a warning probably harms it, a note only should be known."""


@attrs.frozen(kw_only=True)
class Finding:
    """What was seen, what was expected, and what to do about it."""

    check: str
    """Name of the check that found it."""

    severity: Severity
    seen: str
    expected: str
    advice: str
    name: str | None = None
    """Dimension, camera, column or text; None when it concerns all of them."""

    episode: int | None = None
    """Where it is seen first; None when it concerns the whole dataset."""

    frame: int | None = None
    """Row within that episode, from 0."""

    @property
    def where(self) -> str:
        """`gripper, episode 3, frame 17`; `the dataset` when it is nowhere in particular."""
        parts = [self.name or ""]
        parts += [] if self.episode is None else [f"episode {self.episode}"]
        parts += [] if self.frame is None else [f"frame {self.frame}"]
        return ", ".join(part for part in parts if part) or "the dataset"

    def __str__(self) -> str:
        return f"{self.severity}: {self.check}: {self.where}: {self.seen}. Expected {self.expected}. {self.advice}"
