"""The demo's HTML report: one file, no scripts, nothing fetched from a network."""

import base64
import html
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fla_sdk as fla
from fla_sdk.evaluation.benchmark import EvaluationResult

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1b1f24 }
h1 { font-size: 1.6rem } h2 { font-size: 1.2rem; margin-top: 2.5rem }
table { border-collapse: collapse }
th, td { padding: .3rem 1rem .3rem 0; text-align: left; border-bottom: 1px solid #ddd }
td.number { text-align: right; font-variant-numeric: tabular-nums }
figure { margin: 1rem 0 } figcaption { color: #57606a; font-size: .9rem } img, svg { max-width: 100%; height: auto }
.strip { display: flex; gap: 4px } .strip img { width: 12%; image-rendering: auto; border-radius: 4px }
.good { color: #1a7f37 } .bad { color: #b42318 }
"""
FRAMES_PER_STRIP = 8


def write_report(
    path: Path,
    *,
    registry: fla.Registry,
    run_dir: Path,
    checkpoint: Path,
    held_out: Mapping[str, Path],
    before: Mapping[str, EvaluationResult],
    after: Mapping[str, EvaluationResult],
    seconds: Mapping[str, float],
) -> Path:
    """Write the page to `path` and return it."""
    policy = fla.Policy.load(checkpoint, plugins=registry)
    sections = [
        "<h1>One policy, two arms</h1>",
        _introduction(policy, list(after)),
        "<h2>Success</h2>",
        _success_table(before, after),
        "<h2>Learning curve</h2>",
        _figure(_learning_curve(run_dir / "metrics.jsonl"), "Flow-matching loss, mean since the last report."),
        "<h2>Rollouts of the trained policy</h2>",
        *(_strip(result, episode) for result in after.values() for episode in result.episodes if episode.video),
        "<h2>Prediction against truth</h2>",
        *(_open_loop(registry, policy, name, folder) for name, folder in held_out.items()),
        "<h2>Time</h2>",
        _table([("stage", "seconds")], [(stage, f"{value:.0f}") for stage, value in seconds.items()]),
    ]
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>FLA demo</title>'
        f"<style>{STYLE}</style></head><body>{''.join(sections)}</body></html>"
    )
    path.write_text(page, encoding="utf-8")
    return path


def _introduction(policy: fla.Policy, names: Sequence[str]) -> str:
    return (
        f"<p>One {html.escape(policy.description)} was trained from scratch on demonstrations of "
        f"{html.escape(' and '.join(names))}, served over the network, and drove both through the client. Targets and "
        "starting poses of the evaluation were not in the demonstrations.</p>"
    )


def _success_table(before: Mapping[str, EvaluationResult], after: Mapping[str, EvaluationResult]) -> str:
    rows = [
        (
            name,
            *(
                f"{100 * r.rate:.0f} % ({100 * r.low:.0f} to {100 * r.high:.0f})"
                for r in (a.success, before[name].success)
            ),
            str(a.success.episodes),
        )
        for name, a in after.items()
    ]
    return _table([("embodiment", "trained", "untrained", "episodes each")], rows) + (
        "<p>In brackets: 95 % Wilson score interval.</p>"
    )


def _learning_curve(metrics: Path) -> str:
    rows = [json.loads(line) for line in metrics.read_text().splitlines()]
    figure, axes = _axes(height=2.6)
    axes.plot([row["step"] for row in rows], [row["loss"] for row in rows], color="#0969da")
    axes.set(xlabel="optimizer step", ylabel="loss", yscale="log")
    return _svg(figure)


def _strip(result: EvaluationResult, episode: Any) -> str:
    from PIL import Image, ImageSequence

    with Image.open(episode.video) as animation:
        frames = [frame.convert("RGB") for frame in ImageSequence.Iterator(animation)]
    chosen = np.linspace(0, len(frames) - 1, min(FRAMES_PER_STRIP, len(frames))).round().astype(int)
    images = "".join(f'<img alt="frame {i}" src="{_png(frames[i])}">' for i in chosen)
    kind, verdict = ("good", "solved") if episode.success else ("bad", "not solved")
    caption = f'{html.escape(result.embodiment)}: "{html.escape(episode.task)}", {episode.steps} steps, '
    return (
        f'<figure><div class="strip">{images}</div>'
        f'<figcaption>{caption}<b class="{kind}">{verdict}</b></figcaption></figure>'
    )


def _open_loop(registry: fla.Registry, policy: fla.Policy, name: str, folder: Path) -> str:
    """Predicted chunks over the held-out episodes, every second step, on top of what the demonstrator did."""
    from fla_sdk.data.demonstrations import Demonstrations
    from fla_sdk.training.preparation import open_dataset

    robot = registry.embodiment(name)
    horizon = policy.spec.horizon
    demonstrations = Demonstrations(open_dataset(str(folder), registry), robot, horizon=horizon)
    figure, axes = _axes(height=1.5 * robot.action.width, rows=robot.action.width)
    errors: list[NDArray[np.floating]] = []
    for row in range(0, len(demonstrations), 2):
        sample = demonstrations[row]
        assert sample.actions is not None and sample.actions_is_pad is not None
        observation = {f"images/{camera}": image for camera, image in sample.images.items()}
        answer = policy.infer({**observation, "state": sample.state, "task": sample.task, "embodiment": name})
        real = ~sample.actions_is_pad
        errors.append(np.abs(answer["actions"] - sample.actions)[real])
        for dim, axis in enumerate(axes):
            axis.plot(row + np.arange(horizon)[real], answer["actions"][real, dim], color="#0969da", alpha=0.35)
    for dim, axis in enumerate(axes):
        axis.plot(demonstrations.actions[:, dim], color="#1b1f24", linewidth=1.2)
        for end in demonstrations.dataset.episode_bounds[:-1, 1]:
            axis.axvline(end - 0.5, color="#d0d7de", zorder=0)
        axis.set_ylabel(f"{robot.action.names[dim]} ({_unit(robot, dim)})")
    axes[-1].set_xlabel("control step of the held-out episodes")
    mean = np.concatenate(errors).mean(axis=0)
    listed = ", ".join(
        f"{n} {e:.3f} {_unit(robot, i)}" for i, (n, e) in enumerate(zip(robot.action.names, mean, strict=True))
    )
    return _figure(
        _svg(figure),
        f"{name}: actions of the demonstrator (black) and chunks predicted from what was seen at their first step "
        f"(blue), without executing them. Mean absolute error: {listed}.",
    )


def _unit(robot: fla.Embodiment, dim: int) -> str:
    return next(field.unit for field, part in robot.action.slices() if part.start <= dim < part.stop)


# --- Pieces of a page -------------------------------------------------------------------------------------------------


def _axes(*, height: float, rows: int = 1) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, height), layout="constrained")
    axes: Any = figure.subplots(rows, 1, sharex=True, squeeze=False)[:, 0]
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(color="#eaeef2")
    return figure, axes if rows > 1 else axes[0]


def _svg(figure: Any) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def _png(image: Any) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format="png")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _figure(content: str, caption: str) -> str:
    return f"<figure>{content}<figcaption>{html.escape(caption)}</figcaption></figure>"


def _table(heads: Sequence[Sequence[str]], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{html.escape(cell)}</th>" for row in heads for cell in row)
    body = "".join(
        "<tr>"
        + "".join(f'<td class="{"number" if i else ""}">{html.escape(c)}</td>' for i, c in enumerate(row))
        + "</tr>"
        for row in rows
    )
    return f"<table><tr>{head}</tr>{body}</table>"
