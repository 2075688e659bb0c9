"""Any of the four networks behind one face: pictures of any size in, latent out, and back.

Pads what the layers cannot halve, and does the arithmetic at the ends in float32. Knows no loss.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cell_curator.engines.vae.parameters import VaeParameters

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import ModuleDict

ENCODER = ("encoder", "mean", "log_variance")
"""Parts that make the latent; all others paint."""

_LOG_VARIANCE = 8.0  # |log σ²| beyond this adds nothing but overflow


class Architecture(Protocol):
    """What each file with a network offers."""

    CONDITIONED: bool

    def build(self, size: int, channels: int, params: VaeParameters, conditions: int) -> ModuleDict: ...  # noqa: D102

    def posterior(self, network: ModuleDict, images: Tensor) -> tuple[Tensor, Tensor]: ...  # noqa: D102

    def decode(self, network: ModuleDict, latent: Tensor, conditions: Tensor | None) -> Tensor: ...  # noqa: D102


def architecture(name: str) -> Architecture:
    """The network of this name, see `VaeParameters.model`."""
    from cell_curator.engines.vae import conditional, convolutional, dense, mixed

    found: dict[str, Architecture] = {
        "vae": convolutional,
        "dense": dense,
        "cvae": conditional,
        "cvae-mixed": mixed,
    }
    return found[name]


@dataclass(frozen=True)
class Network:
    """A network and the pictures it is for.

    Parameters
    ----------
    modules
        Its layers.
    kind
        The functions that use them.
    size, channels
        Of the patches, ``(channels, size, size)``.
    """

    modules: ModuleDict
    kind: Architecture
    size: int
    channels: int

    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the latent, ``(N, D)`` float32, for pictures ``(N, C, P, P)`` in 0..1."""
        from torch.nn.functional import pad

        before, after = _margins(self.size)
        if before or after:
            images = pad(images, (before, after, before, after))
        mean, log_variance = self.kind.posterior(self.modules, images)
        return mean.float(), log_variance.float().clamp(-_LOG_VARIANCE, _LOG_VARIANCE)

    def decode(self, latent: Tensor, conditions: Tensor | None = None) -> Tensor:
        """Logits ``(N, C, P, P)`` float32; ``conditions`` ``(N,)`` int64, negative or None: unknown."""
        before, _ = _margins(self.size)
        inside = slice(before, before + self.size)
        return self.kind.decode(self.modules, latent, conditions)[..., inside, inside].float()

    def numbers(self) -> dict[str, NDArray[Any]]:
        """A copy of all weights as arrays."""
        return {name: np.array(value.detach().numpy(), order="C") for name, value in self.modules.state_dict().items()}

    def assign(self, weights: dict[str, NDArray[Any]]) -> None:
        """Put arrays from `numbers` back."""
        import torch

        self.modules.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in weights.items()})


def build(params: VaeParameters, size: int, channels: int = 1, conditions: int = 0) -> Network:
    """An untrained network for patches ``(channels, size, size)``."""
    import torch

    kind = architecture(params.model)
    modules = kind.build(sum(_margins(size)) + size, channels, params, conditions)
    if params.loss == "gaussian":
        modules.register_parameter("log_noise", torch.nn.Parameter(torch.tensor(-2.0)))
    return Network(modules, kind, size, channels)


def _margins(size: int) -> tuple[int, int]:
    """Empty pixels added before and after each row, so that the edge is a multiple of 4 and at least 8."""
    missing = max(8, -(-size // 4) * 4) - size
    return missing // 2, missing - missing // 2
