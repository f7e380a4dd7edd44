"""JSON and TOML of a known form: the files of itmkit itself, a user's settings, the settings in a model's folder.

A file may have been cut, edited or made by a stranger. Whatever it holds, reading it gives values of the types that
were asked for, or one ItmkitError that names the file and every wrong place in it. Files that users bring as data
(captions, features) are read by `itmkit.datasets` and `itmkit.import_features`.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from itmkit.errors import ItmkitError
from itmkit.files import digest, read_json, read_text, write_json

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MOST_BYTES = 256 << 20  # of a file: a manifest that names a million skipped pictures takes half
MOST_LEVELS = 64  # lists and objects in each other; ours have at most eight
MOST_DIGITS = 40  # of a whole number: seeds may be large, and some tokenisers write 10^30 for "no limit"
NOT_UNICODE = re.compile("[\ud800-\udfff]")  # halves of surrogate pairs: bytes of a command line that are not UTF-8
SEAL = "sha256"

Count = Annotated[int, Field(strict=True, ge=0, le=1 << 53)]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Text = Annotated[str, Field(strict=True)]
Digest = Annotated[str, Field(strict=True, pattern="^[0-9a-f]{64}$")]
T = TypeVar("T")


class _Refused(ValueError):
    """A value that no file of ours holds, in words."""


def parse_json(text: str, place: str) -> Any:
    """JSON without what Python's parser lets pass: NaN, infinities, keys that occur twice, endless numbers, deep nests.

    Args:
        place: where the text stands, for the message: a file, or a line of it.
    """
    hooks: dict[str, Any] = {
        "object_pairs_hook": _object,
        "parse_int": _whole,
        "parse_float": _finite,
        "parse_constant": _constant,
    }
    try:
        value = json.loads(text, **hooks)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}: " if "\n" in text.strip() else f"column {error.colno}: "
        raise ItmkitError(f"{place}: {where}not JSON ({error.msg})") from None
    except _Refused as error:
        raise ItmkitError(f"{place}: {error}") from None
    except RecursionError:
        raise _nested(place) from None
    return _shallow(value, place)


def read_strict_json(path: Path) -> Any:
    """A whole file of ours, as `parse_json` reads it."""
    return parse_json(_text(path), str(path))


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file, within the same limits. TOML's infinities and NaN are refused too: no setting may have them."""
    try:
        found = tomllib.loads(_text(path), parse_float=_finite)
    except _Refused as error:
        raise ItmkitError(f"{path}: {error}") from None
    except RecursionError:
        raise _nested(path) from None
    except ValueError as error:  # TOMLDecodeError is one; a number that is too long is another
        raise ItmkitError(f"{path}: not TOML ({str(error)[:200]})") from None
    for value in _leaves(_shallow(found, path)):
        if isinstance(value, int) and abs(value) >= 10**MOST_DIGITS:
            raise ItmkitError(f"{path}: a number of more than {MOST_DIGITS} digits")
    return found


def model_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file of a model's folder. Other programs wrote it, so NaN and repeated keys may be there."""
    value = _shallow(read_json(path, most=MOST_BYTES), path)
    if not isinstance(value, dict):
        raise ItmkitError(f"{path}: must be a JSON object; found {_short(value)}")
    return value


def checked(form: TypeAdapter[T], value: Any, place: str | Path, advice: str = "") -> T:
    """The value as the type of `form`. Raises ItmkitError naming every place where it is not of that type.

    Args:
        advice: what the user can do, added to each problem.
    """
    if problems := wrong(form, value, place):
        raise ItmkitError([f"{problem}; {advice}" if advice else problem for problem in problems])
    return form.validate_python(value)


def wrong(form: TypeAdapter, value: Any, place: str | Path) -> list[str]:
    """What of a value is not of the form, each with its place in the value."""
    try:
        form.validate_python(value)
    except ValidationError as error:
        return [f"{place}: {_said(item)}" for item in error.errors(include_url=False)]
    return []


def read_checked(path: Path, form: TypeAdapter[T], advice: str = "") -> T:
    """`checked` of a JSON file of ours."""
    return checked(form, read_strict_json(path), path, advice)


def write_sealed(path: Path, record: Mapping[str, Any]) -> None:
    """Writes JSON with its own digest, so that `sealed` notices a figure that changed later."""
    plain = json.loads(json.dumps(record, ensure_ascii=False, allow_nan=False))  # as it will be read: keys are strings
    write_json(path, {**record, SEAL: digest(plain)})


def sealed(path: Path, advice: str) -> Any:
    """The JSON of a file without its digest. Files of older versions have none and are read as they are.

    Raises:
        ItmkitError: it is not JSON, or its content is not what was written.
    """
    found = read_strict_json(path)
    if not isinstance(found, dict) or SEAL not in found:
        return found
    record = {key: value for key, value in found.items() if key != SEAL}
    if digest(record) != found[SEAL]:
        raise ItmkitError(f"{path}: its content is not what was written; {advice}")
    return record


def toml_text(values: Mapping[str, Any], tables: Mapping[str, Mapping[str, Any]]) -> str:
    """TOML of values and tables of values: text, whole numbers, finite numbers, yes and no.

    Raises:
        ItmkitError: a number is infinite or none.
    """
    lines = [f"{key} = {_toml(key, value)}" for key, value in values.items()]
    for name, table in tables.items():
        lines += ["", f"[{name}]", *(f"{key} = {_toml(key, value)}" for key, value in table.items())]
    return "\n".join(lines) + "\n"


def _toml(key: str, value: Any) -> str:
    if isinstance(value, str):
        if NOT_UNICODE.search(value):
            raise ItmkitError(f"setting {key!r} is {value!r}; that is no text in Unicode")
        # TOML has the escapes of JSON, and wants DEL escaped too.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, float) and not math.isfinite(value):
        raise ItmkitError(f"setting {key!r} is {value}; a finite number is needed")
    return json.dumps(value)


def _text(path: Path) -> str:
    try:
        return read_text(path, most=MOST_BYTES)
    except OSError as error:
        raise ItmkitError(f"{path}: cannot be read ({error.strerror})") from None


def _said(item: Any) -> str:
    """text[0].size: Input should be a valid integer (found '3')"""
    parts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in item["loc"]]
    where = f"{''.join(parts).lstrip('.')}: " if parts else ""
    says = item["msg"].removeprefix("Value error, ")
    if item["type"] == "dataclass_type":
        says = "Input should be an object"
    return f"{where}{says}" if item["type"] == "missing" else f"{where}{says} (found {_short(item['input'])})"


def _short(value: Any) -> str:
    if isinstance(value, (dict, list)):
        kind = "an object" if isinstance(value, dict) else "a list"
        return f"{kind} of {len(value)}"
    said = repr(value)
    return said if len(said) <= 60 else f"{said[:57]}..."


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in found if keys.count(key) > 1)
        raise _Refused(f"the key {twice[:60]!r} occurs twice in an object")
    return found


def _whole(text: str) -> int:
    if len(text) > MOST_DIGITS:
        raise _Refused(f"a number of {len(text):,} digits, {text[:12]}...")
    return int(text)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise _Refused(f"the number {text[:20]} is infinite or none")
    return value


def _constant(text: str) -> NoReturn:
    raise _Refused(f"not JSON ({text} is no number of JSON)")


def _nested(place: str | Path) -> ItmkitError:
    return ItmkitError(f"{place}: lists or objects lie in each other more than {MOST_LEVELS} deep")


def _inner(value: Any) -> list[Any]:
    """What a list or object holds; nothing for other values."""
    return list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []


def _shallow(value: Any, place: str | Path) -> Any:
    """The value itself. Raises ItmkitError if it is nested too deeply for what is done with it later."""
    layer = [value]
    for _ in range(MOST_LEVELS):
        layer = [one for outer in layer for one in _inner(outer) if isinstance(one, (dict, list))]
        if not layer:
            return value
    raise _nested(place)


def _leaves(value: Any) -> list[Any]:
    layer, found = [value], []
    while layer:
        found += [one for one in layer if not isinstance(one, (dict, list))]
        layer = [one for outer in layer for one in _inner(outer)]
    return found
