"""Where regions lie to each other, as weights of the edges between them."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class SpatialKernels(nn.Module):
    """Spatial dependence of regions: K learned Gaussians over polar coordinates (section 3.1.1; Norcliffe-Brown).

    With `heads` each kernel is a graph of its own, as in Norcliffe-Brown et al., so that a node can tell what lies on
    its left from what lies on its right. The print has one matrix P_v, the sum.
    """

    def __init__(self, kernels: int, *, heads: bool = False) -> None:
        super().__init__()
        self.heads = heads
        # Means spread over the unit of distance and over the circle, as a grid would be; all of it is learned.
        self.rho_mean = nn.Parameter(torch.full((kernels,), 0.25) if heads else torch.linspace(0, 1, kernels))
        self.rho_scale = nn.Parameter(torch.full((kernels,), 0.4 if heads else 0.3))
        self.theta_mean = nn.Parameter(torch.arange(kernels) * (2 * math.pi / kernels) - math.pi)
        self.theta_scale = nn.Parameter(torch.full((kernels,), 0.5 if heads else 1.0))
        self.weight = nn.Parameter(torch.full((kernels,), 1.0))

    def forward(self, rho: Tensor, theta: Tensor) -> Tensor:
        """rho, theta (Bi, R, R) -> P_v (Bi, H, R, R), H graphs: one, or one a kernel.

        `P_v = sum_k w_k exp(-(rho - mu_k)^2 / 2 s_k^2 - wrap(theta - nu_k)^2 / 2 q_k^2)`
        """
        far = (rho.unsqueeze(-1) - self.rho_mean).square() / (2 * self.rho_scale.square() + 1e-6)
        turn = theta.unsqueeze(-1) - self.theta_mean
        wrapped = torch.remainder(turn + math.pi, 2 * math.pi) - math.pi
        off = wrapped.square() / (2 * self.theta_scale.square() + 1e-6)
        near = torch.exp(-far - off)  # (Bi, R, R, K)
        return (near * self.weight).permute(0, 3, 1, 2) if self.heads else (near @ self.weight).unsqueeze(1)
