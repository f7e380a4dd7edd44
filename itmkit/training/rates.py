"""Learning rates by part: the encoders of words and of regions may learn slower, or faster, than the rest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from itmkit.errors import ItmkitError
from itmkit.matchers.parts.encoders import RegionEncoder, ResidualRegionEncoder, WordEncoder
from itmkit.runs.settings import Training

FACTOR = "factor"  # of the learning rate, in a group of the optimizer


def parameter_groups(members: Mapping[str, nn.Module], settings: Training) -> list[dict[str, Any]]:
    """The parameters of all members as groups of an optimizer, each with its factor of the learning rate.

    Raises:
        ItmkitError: a factor is set for a part that a method does not have.
    """
    asked = [
        ("--text-rate", settings.text_rate, (WordEncoder,), "word encoder"),
        ("--region-rate", settings.region_rate, (RegionEncoder, ResidualRegionEncoder), "region encoder"),
    ]
    factors: dict[nn.Parameter, float] = {}
    problems = []
    for option, factor, kinds, said in asked:
        parts = [part for matcher in members.values() for part in matcher.modules() if isinstance(part, kinds)]
        if factor != 1 and not parts:
            problems.append(f"{option} {factor:g}: this method has no {said} of its own; leave it at 1")
        factors |= {parameter: factor for part in parts for parameter in part.parameters()}
    if problems:
        raise ItmkitError(problems)
    groups: dict[float, list[nn.Parameter]] = {}
    for matcher in members.values():
        for parameter in matcher.parameters():
            groups.setdefault(factors.get(parameter, 1.0), []).append(parameter)
    return [{"params": parameters, FACTOR: factor} for factor, parameters in groups.items()]


def left_still(members: Mapping[str, nn.Module], settings: Training) -> set[nn.Parameter]:
    """The parameters with the factor 0, which stay as they begin."""
    groups = parameter_groups(members, settings)
    return {parameter for group in groups if not group[FACTOR] for parameter in group["params"]}
