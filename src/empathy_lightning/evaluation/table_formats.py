"""Tables as Markdown, CSV and LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence

Lines = Sequence[Sequence[str]]

_LATEX = str.maketrans({
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
})  # fmt: skip


def markdown(head: Sequence[str], rows: Lines) -> str:
    """A Markdown table; bars in cells are escaped."""
    text = ""
    for line in (head, ["---"] * len(head), *rows):
        cells = [cell.replace("|", r"\|") for cell in line]
        text += f"| {' | '.join(cells)} |\n"
    return text


def comma_separated(head: Sequence[str], rows: Lines) -> str:
    """CSV with a head."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([head, *rows])
    return text.getvalue()


def latex(head: Sequence[str], rows: Lines) -> str:
    """A tabular between the rules of booktabs, the first column left and the others right."""

    def _line(cells: Sequence[str]) -> str:
        escaped = [cell.translate(_LATEX) for cell in cells]
        return f"{' & '.join(escaped)} \\\\\n"

    body = "".join(map(_line, rows))
    columns = "l" + "r" * (len(head) - 1)
    return f"\\begin{{tabular}}{{{columns}}}\n\\toprule\n{_line(head)}\\midrule\n{body}\\bottomrule\n\\end{{tabular}}\n"


FORMATS: dict[str, Callable[[Sequence[str], Lines], str]] = {
    "markdown": markdown,
    "csv": comma_separated,
    "latex": latex,
}
"""By the name of the format."""

ENDINGS = {"markdown": ".md", "csv": ".csv", "latex": ".tex"}
"""Of files, by the name of the format."""
