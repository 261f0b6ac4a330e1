"""The quality benchmark as people see it run: a bar over the cases, and a table for each scan as it is done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from pfitre_service.bench.quality.benchmark import run
from pfitre_service.bench.quality.parameters import METHODS, QualityParameters
from pfitre_service.bench.quality.real_scan import REAL_METHODS
from pfitre_service.bench.quality.report import gain_words, scan_words
from pfitre_service.text_output import make_console


def run_and_show(parameters: QualityParameters, *, output: Path | None = None, **options: Any) -> dict[str, Any]:
    """`quality.run`, with its course on standard error."""
    console = make_console(stderr=True)
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("first case", total=None)

        def advance(done: int, total: int, words: str) -> None:
            bar.update(task, completed=done, total=total, description=words)

        result = run(
            parameters,
            output=output,
            on_case=advance,
            on_line=lambda line: bar.console.print(scan_table(line), highlight=False),
            **options,
        )
    if result["real"] is not None:
        console.print(real_table(result["real"]), highlight=False)
    if output is not None:
        console.print(f"written to {output}: quality.json, quality.md, quality.png", highlight=False)
    return result


def scan_table(line: dict[str, Any]) -> Table:
    """One scan: a row for each method."""
    caption = (
        f"PFITRE over TV {gain_words(line['gain_over_tv'])}, over one pass {gain_words(line['gain_over_one_pass'])}"
    )
    table = Table(title=f"{scan_words(line)} missing, {line['slices']} slices", title_justify="left")
    table.caption = Text("\n".join([caption, *(f"short: {words}" for words in line["shortfalls"])]))
    table.caption_justify = "left"
    for name in ("", "PSNR (dB)", "SSIM"):
        table.add_column(name, justify="left" if not name else "right")
    for name, words in METHODS.items():
        psnr, ssim = line["methods"][name]["psnr"], line["methods"][name]["ssim"]
        table.add_row(
            words,
            f"{psnr['mean']:.2f} ± {psnr['standard_error']:.2f}",
            f"{ssim['mean']:.3f} ± {ssim['standard_error']:.3f}",
        )
    return table


def real_table(real: dict[str, Any]) -> Table:
    """The real scan: a row for each method."""
    title = f"{real['recording']}, {real['heldout_angles']} of {real['angles']} angles held out"
    table = Table("", "held-out error", title=title, title_justify="left")
    table.caption = Text("\n".join(f"short: {words}" for words in real["shortfalls"]))
    table.caption_justify = "left"
    for name, words in REAL_METHODS.items():
        table.add_row(words, f"{real['heldout_error'][name]:.4f}")
    return table
