"""What `doctor` finds: a list of findings, and how people read it."""

import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from proxy.cli.output import Output, cell
from proxy.logs import redacted

OK, WARN, FAIL = "ok", "warn", "fail"

# What most terminals show at once.
_LINE = 110


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found. `state` is OK, WARN or FAIL; `advice` says what to do about it."""

    check: str
    state: str
    message: str
    advice: str | None = None


def report(findings: Sequence[Finding], *, usable: bool) -> Output:
    """Return what is printed, and the exit status: 2 without a `usable` configuration, 1 after a failure."""
    shown = [_cleaned(finding) for finding in findings]
    failed = any(finding.state == FAIL for finding in shown)
    status = (1 if failed else 0) if usable else 2
    return Output([asdict(finding) for finding in shown], f"{_listed(shown)}\n\n{_sum(shown)}", status)


def in_short(path: Path) -> str:
    """Return a path as people know it: below the current folder without what leads there."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def counted(count: int, thing: str) -> str:
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


def _cleaned(finding: Finding) -> Finding:
    """Return a finding on one line, with everything masked that looks like a key: a second net."""
    advice = None if finding.advice is None else redacted(cell(finding.advice))
    return Finding(finding.check, finding.state, redacted(cell(finding.message)), advice)


def _listed(findings: Sequence[Finding]) -> str:
    width = max((len(finding.check) for finding in findings), default=0)
    lines: list[str] = []
    for finding in findings:
        begin = f"{finding.state:<4}  {finding.check:<{width}}  "
        lines += _wrapped(finding.message, begin)
        if finding.advice:
            lines += _wrapped(f"→ {finding.advice}", " " * len(begin))
    return "\n".join(lines)


def _wrapped(text: str, begin: str) -> list[str]:
    return textwrap.wrap(
        text,
        _LINE,
        initial_indent=begin,
        subsequent_indent=" " * len(begin),
        break_long_words=False,
        break_on_hyphens=False,
    )


def _sum(findings: Sequence[Finding]) -> str:
    states = Counter(finding.state for finding in findings)
    parts = (f"{states[OK]} ok", counted(states[WARN], "warning"), f"{states[FAIL]} failed")
    return f"{counted(len(findings), 'finding')}: {', '.join(parts)}."
