"""Names of the files of a sequence, from a template with one place for a number and nothing else to interpret."""

from __future__ import annotations

import re

from pfitre_service.errors import InputError

_PERCENT = re.compile(r"%(?P<spec>0?\d{0,2}(?:\.\d{1,2})?)[diu]")
_BRACES = re.compile(r"\{0?(?::(?P<spec>0?\d{0,2})d?)?\}")
_WIDEST = 20
"""Digits of a number."""


def numbered_name(template: str, number: int) -> str:
    """The file name of `number` by a template in either of Python's styles: `x_%06d.tif`, `x_{:06d}.tif`.

    Raises InputError for a template that is not a plain name with exactly one number of up to twenty digits.
    """
    braces = "%" not in template
    pattern = _BRACES if braces else _PERCENT
    doubled = ("{{", "}}") if braces else ("%%",)
    parts = re.split("|".join((f"(?:{pattern.pattern})".replace("?P<spec>", "?:"), *map(re.escape, doubled))), template)
    found = [match for match in pattern.finditer(template) if not _is_doubled(template, match.start(), doubled)]
    literal = "".join(parts)
    if len(found) != 1 or any(sign in literal for sign in ("{}" if braces else "%")) or _too_wide(found[0]["spec"]):
        raise InputError(
            f"the template {template!r:.80} of a file sequence must have one place for a number of up to {_WIDEST} "
            "digits, such as image_%06d.tif or image_{:06d}.tif"
        )
    match, spec = found[0], found[0]["spec"] or ""
    text = f"%{spec}d" % number
    before, after = template[: match.start()], template[match.end() :]
    for sign in doubled:
        before, after = before.replace(sign, sign[0]), after.replace(sign, sign[0])
    name = before + text + after
    if "/" in name or "\0" in name or name in ("", ".", ".."):
        raise InputError(f"the template {template!r:.80} must name a file in its folder, got {name!r:.80}")
    return name


def _is_doubled(template: str, place: int, doubled: tuple[str, ...]) -> bool:
    """Whether the sign at `place` is the second one of a pair that stands for itself."""
    sign, before = template[place], 0
    while place - before > 0 and template[place - before - 1] == sign:
        before += 1
    return before % 2 == 1 and sign * 2 in doubled


def _too_wide(spec: str | None) -> bool:
    return any(int(digits) > _WIDEST for digits in re.findall(r"\d+", spec or ""))
