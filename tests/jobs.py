"""Calls of heavy stages whose tests give what is of the stage and what is of its job side by side."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from itmkit.job import Job

OF_JOBS = {field.name for field in fields(Job)}


def options(**given: Any) -> dict[str, Any]:
    """The keywords of a stage: those of `Job` as one of these."""
    own = {name: value for name, value in given.items() if name not in OF_JOBS}
    return {**own, "job": Job(**{name: value for name, value in given.items() if name in OF_JOBS})}
