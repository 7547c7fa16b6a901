"""One self-contained HTML page: figures, plots and recordings, nothing fetched from anywhere."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import matplotlib
import torch
from torch import Tensor

from empathy_lightning.audio import SAMPLE_RATE
from empathy_lightning.files import write_text
from empathy_lightning.levels import unclipped
from empathy_lightning.modules.speech_encoder import LogMel

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: 0; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
p.note { color: #777; margin-top: .2rem; }
table { border-collapse: collapse; } td, th { padding: .25rem .9rem .25rem 0; text-align: left; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
tr { border-bottom: 1px solid #8884; }
img { max-width: 100%; background: #fff; border-radius: 6px; }
section.talk { border: 1px solid #8884; border-radius: 8px; padding: .8rem 1rem; margin: 1rem 0; }
section.talk p { margin: .3rem 0; } audio { width: 100%; height: 2.2rem; }
.side { display: grid; grid-template-columns: 1fr 1fr; gap: 1rem; }
@media (max-width: 40rem) { .side { grid-template-columns: 1fr; } }
"""


def picture(figure: Figure, description: str) -> str:
    """A figure as an ``<img>`` with its data inside."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, bbox_inches="tight")
    plt.close(figure)
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="{html.escape(description)}" src="data:image/png;base64,{data}">'


def drawn(file: Path) -> str:
    """A picture of a file as an ``<img>`` with its data inside; a line where it is gone."""
    if not file.is_file():
        return f'<p class="note">{html.escape(file.name)} is gone</p>'
    data = base64.b64encode(file.read_bytes()).decode()
    return f'<img alt="{html.escape(file.stem)}" src="data:image/png;base64,{data}">'


def player(waveform: Tensor, label: str, sample_rate: int = SAMPLE_RATE) -> str:
    """An audio player with the recording inside."""
    import soundfile

    buffer = io.BytesIO()
    soundfile.write(buffer, unclipped(waveform).numpy(), sample_rate, format="FLAC", subtype="PCM_16")
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<audio controls aria-label="{html.escape(label)}" src="data:audio/flac;base64,{data}"></audio>'


def table(rows: Sequence[Sequence[Any]], head: Sequence[str]) -> str:
    """A table; numbers are set right, with three decimals where they have any."""

    def _cell(cell: Any) -> str:
        if isinstance(cell, float):
            return f'<td class="number">{cell:.3f}</td>'
        if isinstance(cell, int):
            return f'<td class="number">{cell}</td>'
        return f"<td>{html.escape(str(cell))}</td>"

    heads = "".join(f"<th>{html.escape(name)}</th>" for name in head)
    lines = [f"<tr>{heads}</tr>"]
    for row in rows:
        lines.append(f"<tr>{''.join(map(_cell, row))}</tr>")
    return f"<table>{''.join(lines)}</table>"


def curves(histories: dict[str, list[dict[str, float]]]) -> Figure:
    """Training and validation loss of each stage over its steps, on a logarithmic axis where they fall that far."""
    figure, axes = plt.subplots(1, len(histories), figsize=(4 * len(histories), 3), squeeze=False, layout="constrained")
    for axis, (stage, history) in zip(axes[0], histories.items(), strict=True):
        for split in ("train", "validation"):
            name = _loss_name(history[0], split)
            if name is not None:
                points = [(row["step"], row[name]) for row in history if row.get(name) is not None]
                axis.plot(*zip(*points, strict=True), marker="o", markersize=3, label=name)
        axis.set(title=stage.replace("_", " "), xlabel="step")
        drawn = list(chain.from_iterable(line.get_ydata() for line in axis.lines))
        if drawn and 0 < 10 * min(drawn) < max(drawn):
            axis.set_yscale("log")
            axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axis.yaxis.set_minor_formatter(NullFormatter())
        axis.legend(fontsize=8)
    return figure


def _loss_name(figures: Iterable[str], split: str) -> str | None:
    """The name of a split's whole loss, else of the first of its losses; None where it has none."""
    whole = f"{split}/loss"
    names = [name for name in figures if name.startswith(f"{split}/") and name.endswith("loss")]
    if whole in names:
        return whole
    return names[0] if names else None


def confusion_matrix(matrix: Tensor, names: Sequence[str]) -> Figure:
    """Counts (classes, columns) of reference against prediction, coloured by recall; a last column is for no answer."""
    share = matrix / matrix.sum(1, keepdim=True).clamp(min=1)
    size = 0.5 * max(len(names), 5)
    figure, axis = plt.subplots(figsize=(size + 1.9, size + 1.3))
    axis.imshow(share, cmap="Blues", vmin=0, vmax=1)
    columns = [*names, "none"][: matrix.shape[1]]
    for row in range(len(names)):
        for column in range(len(columns)):
            colour = "white" if share[row, column] > 0.5 else "black"
            axis.text(column, row, str(int(matrix[row, column])), ha="center", va="center", color=colour)
    axis.set_xticks(range(len(columns)), columns, rotation=30, ha="right")
    axis.set_yticks(range(len(names)), names)
    axis.set(xlabel="heard", ylabel="said", title="emotion")
    return figure


def reliability_curve(points: Sequence[Sequence[float]]) -> Figure:
    """Accuracy against confidence: a point for each filled part of the confidences, larger where more fall into it.

    Args:
        points: Utterances, mean confidence and accuracy of each part.
    """
    figure, axis = plt.subplots(figsize=(3.4, 3.2))
    counts, confidences, accuracies = zip(*points, strict=True)
    largest = max(counts)
    axis.plot([0, 1], [0, 1], color="grey", linewidth=1)
    axis.plot(confidences, accuracies, color="tab:blue", linewidth=1)
    axis.scatter(confidences, accuracies, s=[10 + 90 * count / largest for count in counts], color="tab:blue")
    axis.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="accuracy", title="reliability")
    return figure


def rating_scatter(predicted: dict[str, Tensor], target: dict[str, Tensor], groups: Sequence[str]) -> Figure:
    """Predicted against reference ratings, one panel per dimension, coloured by emotion."""
    figure, axes = plt.subplots(1, len(predicted), figsize=(3.4 * len(predicted), 3.2), sharey=True, squeeze=False)
    for axis, name in zip(axes[0], predicted, strict=True):
        for group in dict.fromkeys(groups):
            rows = torch.tensor([g == group for g in groups])
            axis.scatter(target[name][rows], predicted[name][rows], s=8, alpha=0.7, label=group)
        axis.plot([0, 1], [0, 1], color="grey", linewidth=1)
        axis.set(title=name, xlabel="reference")
        # All points are to be seen, those outside 0..1 too.
        axis.set_xlim(min(0.0, *axis.get_xlim()), max(1.0, *axis.get_xlim()))
        axis.set_ylim(min(0.0, *axis.get_ylim()), max(1.0, *axis.get_ylim()))
    axes[0, 0].set_ylabel("heard")
    axes[0, -1].legend(fontsize=7, loc="lower right")
    return figure


def mel_pair(question: Tensor, reply: Tensor) -> Figure:
    """Mel spectrograms of a question and its spoken reply."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 2.3), sharey=True)
    for axis, waveform, title in zip(axes, (question, reply), ("question", "reply"), strict=True):
        mel, _ = LogMel()(waveform[None], torch.tensor([len(waveform)]))
        extent = (0, len(waveform) / SAMPLE_RATE, 0, 80)
        axis.imshow(mel[0], origin="lower", aspect="auto", extent=extent, cmap="magma")
        axis.set(title=title, xlabel="seconds")
    axes[0].set_ylabel("mel band")
    return figure


def write_page(path: Path, title: str, note: str, sections: Sequence[tuple[str, str]]) -> None:
    """Write the page whole or not at all.

    Args:
        path: The HTML file.
        title: Heading of the page.
        note: One line below the heading.
        sections: Headings with their HTML.
    """
    body = "".join(f"<h2>{html.escape(heading)}</h2>{content}" for heading, content in sections)
    page = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style>"
        f'<h1>{html.escape(title)}</h1><p class="note">{html.escape(note)}</p>{body}</html>\n'
    )
    write_text(path, page)
