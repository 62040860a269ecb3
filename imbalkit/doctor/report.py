"""Findings and the report that holds them, for a terminal, for a notebook and for programs."""

import math
import textwrap
from dataclasses import asdict, dataclass, field

from imbalkit.texts import html_text, printable_lines

FAULT, WARNING, NOTE = "fault", "warning", "note"
SEVERITIES = (FAULT, WARNING, NOTE)
HELPS = 0.2  # what a repair has to bring; two trainings of a few steps differ by half of that


@dataclass
class Effect:
    """What mending one fault on a copy brings, where all others that can be are mended too.

    Attributes:
        steps: of each of the two trainings.
        left: what was learned of a few images with the fault left, 0 for guessing and 1 for all;
            NaN where the training did not stay finite.
        mended: the same with it mended.

    Example:
        >>> effect = Effect(steps=40, left=0.02, mended=0.91)
        >>> print(effect)
        40 steps learn 91%, and 2% with this left as it is
        >>> effect.helps
        True
    """

    steps: int
    left: float
    mended: float

    @property
    def gain(self) -> float:
        """How much more is learned when it is mended; what is not finite counts as nothing."""
        left, mended = (x if math.isfinite(x) else 0.0 for x in (self.left, self.mended))
        return mended - left

    @property
    def helps(self) -> bool:
        """Does it learn clearly more when it is mended?"""
        return self.gain > HELPS

    def __str__(self) -> str:
        left, mended = (
            f"{max(share, 0):.0%}" if math.isfinite(share) else "nothing finite"
            for share in (self.left, self.mended)
        )
        return f"{self.steps} steps learn {mended}, and {left} with this left as it is"


@dataclass
class Finding:
    """One thing that was found. Shown in lesson 01.

    Attributes:
        cause: a stable name, such as "double_softmax".
        severity: "fault" (explains a failure, or is wrong whatever the model does), "warning" (may
            become one) or "note" (for information).
        numbers: what was measured, by name.
        explanation: two sentences.
        fix: code to paste.
        lesson: the lesson of the course that teaches it.
        effect: what mending it on a copy brought; None where that was not tried.

    Example:
        >>> texts = ("The labels begin at 1. Look at them.", "targets = targets - 1", "lesson 01")
        >>> finding = Finding("label_range", FAULT, {"labels": "from 1 to 3"}, *texts)
        >>> finding.evidence()["labels"], finding.certainty
        ('from 1 to 3', 'measured; no training with a repair was tried')
    """

    cause: str
    severity: str
    numbers: dict[str, str]
    explanation: str
    fix: str
    lesson: str
    effect: Effect | None = None

    @property
    def certainty(self) -> str:
        """How sure it is, as a sentence."""
        if self.effect is None:
            return "measured; no training with a repair was tried"
        if self.effect.helps:
            return "shown by its repair"
        return "measured; its repair changes little in so few steps"

    def evidence(self) -> dict[str, str]:
        """The numbers, of a fault also what its repair brought and how sure it is."""
        if self.severity != FAULT:
            return self.numbers
        mended = {} if self.effect is None else {"mended on a copy": str(self.effect)}
        return self.numbers | mended | {"certainty": self.certainty}


@dataclass(repr=False)
class Diagnosis:
    """What `imbalkit.diagnose` found: look at `cause`, or print it. Shown in lesson 01.

    Attributes:
        findings: the most likely cause first, faults before warnings before notes.
        healthy_checks: what was checked and found in order, by name.
        not_checked: what could not be checked, by name, and why.
        learned: what the model has learned of what there is: 0 for guessing or for knowing the
            class shares alone, 1 for perfect; on training or evaluation images, whichever is less.
        consumed: what was read of the batches.
        seconds: what the examination took.
        figures: the numbers that a notebook's report draws.

    Example:
        >>> texts = ("The labels begin at 1. Look at them.", "targets = targets - 1", "lesson 01")
        >>> finding = Finding("label_range", FAULT, {"labels": "from 1 to 3"}, *texts)
        >>> read = ["4 training batches, 120 images"]
        >>> report = Diagnosis([finding], {}, {}, learned=0.05, consumed=read, seconds=0.3)
        >>> report.cause, report.healthy
        ('label_range', False)
        >>> print(report)
        Diagnosis: label_range
        <BLANKLINE>
        1. label_range (fault)
           labels: from 1 to 3
           certainty: measured; no training with a repair was tried
           The labels begin at 1. Look at them.
           | targets = targets - 1
           See lesson 01.
        <BLANKLINE>
        Learned 5% of what there is (0 guessing, 100 perfect). Read: 4 training batches, ... 0.3 s.
    """

    findings: list[Finding]
    healthy_checks: dict[str, str]
    not_checked: dict[str, str]
    learned: float
    consumed: list[str]
    seconds: float
    figures: dict = field(default_factory=dict)

    @property
    def faults(self) -> list[Finding]:
        """The findings that explain a failure."""
        return [finding for finding in self.findings if finding.severity == FAULT]

    @property
    def causes(self) -> list[str]:
        """The names of the faults, the most likely first; ["healthy"] where there is none."""
        return [fault.cause for fault in self.faults] or ["healthy"]

    @property
    def cause(self) -> str:
        """The name of the most likely cause, or "healthy"."""
        return self.causes[0]

    @property
    def healthy(self) -> bool:
        """Was no fault found?"""
        return not self.faults

    def to_dict(self) -> dict:
        """All of it in dicts, lists, strings and numbers, ready for JSON."""
        return {"cause": self.cause, "causes": self.causes} | asdict(self)

    def __repr__(self) -> str:
        lines = [self._headline(), ""]
        for number, finding in enumerate(self.findings, 1):
            lines += _finding_as_text(number, finding)
        if self.healthy_checks:
            lines += ["In order:", *_wrapped(self.healthy_checks), ""]
        if self.not_checked:
            lines += ["Not checked:", *_wrapped(self.not_checked), ""]
        return printable_lines("\n".join([*lines, self._footer()]))

    def _repr_html_(self) -> str:
        parts = [f"<p><b>{html_text(self._headline())}</b></p>"]
        if self.findings:
            rows = "".join(_finding_as_row(finding) for finding in self.findings)
            head = "".join(f"<th>{name}</th>" for name in ("cause", "what was measured", "meaning"))
            parts.append(f'<table style="text-align:left"><tr>{head}</tr>{rows}</table>')
        parts.append(_figure(self.figures))
        for title, entries in (
            ("In order", self.healthy_checks), ("Not checked", self.not_checked)
        ):  # fmt: skip
            if entries:
                items = "".join(
                    f"<li><b>{html_text(name)}</b>: {html_text(text)}</li>"
                    for name, text in entries.items()
                )
                count = f"{title} ({len(entries)})"
                parts.append(f"<details><summary>{count}</summary><ul>{items}</ul></details>")
        parts.append(f"<p>{html_text(self._footer())}</p>")
        return "".join(parts)

    def _headline(self) -> str:
        if self.healthy:
            known = len(self.findings)
            more = f", {known} thing{'s' * (known > 1)} to know" if known else ""
            return f"Diagnosis: healthy{more}"
        return "Diagnosis: " + ", then ".join(self.causes)

    def _footer(self) -> str:
        learned = f"Learned {max(self.learned, 0):.0%} of what there is (0 guessing, 100 perfect). "
        return learned + f"Read: {'; '.join(self.consumed)}. {self.seconds:.1f} s."


def _finding_as_text(number: int, finding: Finding) -> list[str]:
    lines = [f"{number}. {finding.cause} ({finding.severity})"]
    lines += [f"   {name}: {value}" for name, value in finding.evidence().items()]
    lines += _wrap(finding.explanation, "   ", "   ")
    lines += [textwrap.indent(finding.fix, "   | "), f"   See {finding.lesson}.", ""]
    return lines


def _figure(figures: dict) -> str:
    """The figure as an HTML image, or what to install; a report as text needs no matplotlib."""
    try:
        from imbalkit.doctor.figures import as_png
    except ImportError:
        return "<p>The figure needs matplotlib: <code>pip install 'imbalkit[plots]'</code>.</p>"
    return as_png(figures)


def _wrapped(entries: dict[str, str]) -> list[str]:
    return [
        line for name, text in entries.items() for line in _wrap(f"{name}: {text}", "  - ", "    ")
    ]


def _wrap(text: str, first: str, other: str) -> list[str]:
    return textwrap.wrap(text, 96, initial_indent=first, subsequent_indent=other)


def _finding_as_row(finding: Finding) -> str:
    numbers = "<br>".join(
        f"{html_text(name)}: {html_text(value)}" for name, value in finding.evidence().items()
    )
    left = 'style="text-align:left;vertical-align:top"'
    return (
        f"<tr><td {left}><b>{html_text(finding.cause)}</b><br>"
        f"{html_text(finding.severity)}</td>"
        f"<td {left}>{numbers}</td><td {left}>{html_text(finding.explanation)}"
        f"<pre>{html_text(finding.fix)}</pre>See {html_text(finding.lesson)}.</td></tr>"
    )


__all__ = ["FAULT", "NOTE", "SEVERITIES", "WARNING", "Diagnosis", "Effect", "Finding"]
