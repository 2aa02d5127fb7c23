"""Damaged episodes, missing columns, and numbers that are none."""

from collections.abc import Iterator

from fla_sdk.data.checks.finding import Finding
from fla_sdk.data.checks.subject import Subject


def damaged(subject: Subject) -> Iterator[Finding]:
    """Episodes that the reader knows to be unreadable."""
    for episode, reason in sorted(subject.dataset.damaged.items()):
        yield Finding(
            check="damaged",
            severity="error",
            episode=episode,
            seen=reason,
            expected="an episode that can be read",
            advice="Copy or download the dataset again, repair it, or leave the episode out",
        )


def columns(subject: Subject) -> Iterator[Finding]:
    """States and actions under their usual names, and under the embodiment's dimension names."""
    for kind, dimensions in subject.dimensions.items():
        if not dimensions:
            yield Finding(
                check="columns",
                severity="note",
                name=kind,
                seen=f"no column of that usual name ({', '.join(sorted(subject.dataset.features))})",
                expected=f"one, or an embodiment that says where the {kind} is",
                advice="Nothing about it was checked: give --embodiment",
            )
        key = subject.key(kind)
        names = subject.dataset.features[key].names if key and subject.embodiment else None
        known = tuple(dimension.name for dimension in dimensions)
        if names and set(names) & set(known) and names != known:
            yield Finding(
                check="columns",
                severity="error",
                name=kind,
                seen=f"dimensions {', '.join(names)}",
                expected=f"{', '.join(known)}, in this order, as the embodiment says",
                advice="Rename or reorder one side, in the order of the data",
            )


def finite(subject: Subject) -> Iterator[Finding]:
    """States and actions are finite; episodes that are not are left out of the other checks."""
    for (kind, name), (count, episode, frame) in subject.unsound.items():
        yield Finding(
            check="finite",
            severity="error",
            name=f"{kind} {name}" if not name.startswith(kind) else name,
            episode=episode,
            frame=frame,
            seen=f"{count:,} values are NaN or infinite",
            expected="finite numbers",
            advice="Leave the episodes out, or record them again: one such number spoils every weight of a model",
        )
