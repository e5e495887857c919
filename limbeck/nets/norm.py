"""BatchNorm in one function: the same on any number of ranks, statistics per evaluation of an ODE's f."""

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn

from limbeck.errors import InputError


class _AllReduce(torch.autograd.Function):
    """The sum over ranks, whose gradient is the sum over ranks too."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # noqa: ANN401 - torch gives it no type
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ANN401
        total = gradient.clone()
        dist.all_reduce(total)
        return total


def _all_reduce(x: Tensor) -> Tensor:
    return _AllReduce.apply(x)  # type: ignore[no-any-return]


def _global_moments(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean [C], biased variance [C] and values per channel [] over all ranks' x [N, C, ...]."""
    axes = [axis for axis in range(x.dim()) if axis != 1]
    shape = [1, -1] + [1] * (x.dim() - 2)
    here = torch.cat([x.sum(axes), x.new_full((1,), x.numel() // x.shape[1])])
    everywhere = _all_reduce(here)
    count = everywhere[-1].detach()
    mean = everywhere[:-1] / count
    variance = _all_reduce((x - mean.view(shape)).square().sum(axes)) / count  # centred first: no cancellation
    return mean, variance, count


def batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    *,
    training: bool,
    momentum: float,
    eps: float,
) -> Tensor:
    """Return F.batch_norm of x [N, C, ...]; when several ranks train, over the batches of all ranks together.

    Then mean, variance and running statistics (updated in place) are those of one rank with the whole batch,
    and so are the gradients of a loss summed over ranks, whatever each rank's share. Any backend will do.
    """
    if not (training and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return F.batch_norm(x, running_mean, running_var, weight, bias, training, momentum, eps)
    mean, variance, count = _global_moments(x.to(torch.promote_types(x.dtype, torch.float32)))
    with torch.no_grad():
        if running_mean is not None and running_var is not None:
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
            running_var.lerp_((variance * count / (count - 1)).to(running_var.dtype), momentum)
    scale = torch.rsqrt(variance + eps)
    scale = scale if weight is None else scale * weight
    shift = -mean * scale if bias is None else bias - mean * scale
    shape = [1, -1] + [1] * (x.dim() - 2)
    return (x * scale.view(shape) + shift.view(shape)).to(x.dtype)


class BatchNorm(nn.BatchNorm2d):
    """nn.BatchNorm2d whose training statistics are those of all ranks' batches together."""

    def forward(self, x: Tensor) -> Tensor:
        momentum = 0.0 if self.momentum is None else self.momentum
        if self.training and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if self.momentum is None:
                momentum = 1 / float(self.num_batches_tracked)
        return batch_norm(
            x,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            training=self.training or self.running_mean is None,
            momentum=momentum,
            eps=self.eps,
        )


class BatchNormAct(BatchNorm):
    """The same, followed by timm's dropout and activation (timm.layers.BatchNormAct2d)."""

    drop: nn.Module
    act: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        activated: Tensor = self.act(self.drop(super().forward(x)))
        return activated


class StepBatchNorm(nn.Module):
    """BatchNorm of an iterated f: weight and bias [C] are shared, running statistics [steps, C] are not.

    With statistics shared by the steps, training looks normal and evaluation collapses, because the state's
    distribution moves from step to step. `steps` counts evaluations of f: solver steps times stages.
    """

    def __init__(self, channels: int, steps: int, *, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.eps = eps
        self.momentum = momentum
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.running_mean: Tensor
        self.running_var: Tensor
        self.register_buffer("running_mean", torch.zeros(steps, channels))
        self.register_buffer("running_var", torch.ones(steps, channels))

    def forward(self, x: Tensor, step: int | None) -> Tensor:
        """Return x normalised by the batch in training, else by the step's statistics; step None keeps none."""
        return batch_norm(
            x,
            None if step is None else self.running_mean[step],
            None if step is None else self.running_var[step],
            self.weight,
            self.bias,
            training=self.training,
            momentum=self.momentum,
            eps=self.eps,
        )

    def take(self, steps: list[int]) -> None:
        """Keep the statistics of these steps, in this order; a step may be taken more than once."""
        self.running_mean = self.running_mean[steps]
        self.running_var = self.running_var[steps]

    def extra_repr(self) -> str:
        steps, channels = self.running_mean.shape
        return f"{channels}, steps={steps}, eps={self.eps}, momentum={self.momentum}"


def _synchronised(norm: nn.BatchNorm2d) -> BatchNorm:
    """Return norm as a BatchNorm that holds the same tensors."""
    match norm:
        case BatchNorm():
            return norm
        case BatchNormAct2d():
            new: BatchNorm = BatchNormAct(norm.num_features)
        case _ if type(norm) is nn.BatchNorm2d:
            new = BatchNorm(norm.num_features)
        case _:
            raise InputError(f"{type(norm).__name__} can't be synchronised over ranks; train on one rank")
    new.__dict__.update(norm.__dict__)
    return new


def synchronise(module: nn.Module) -> nn.Module:
    """Return module with every BatchNorm2d's training statistics taken over all ranks; state_dict keys stay.

    The parts are replaced in place and share their tensors with the old ones; a bare BatchNorm2d gives a new
    one. BatchNorm of another kind (1d, quantised) raises InputError.
    """
    if isinstance(module, nn.BatchNorm2d):
        return _synchronised(module)
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        raise InputError(f"{type(module).__name__} can't be synchronised over ranks; train on one rank")
    for name, child in module.named_children():
        setattr(module, name, synchronise(child))
    return module


@torch.no_grad()
def reestimate(model: nn.Module, batches: Iterable[Tensor]) -> nn.Module:
    """Return model with BatchNorm's running statistics replaced by the average over `batches` of inputs.

    A batch's statistics weigh as many images as it has. Changes the model in place; needed after the number
    of steps changed, useful when the domain changed. Dropout stays off; modes and momenta are restored.
    """
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm | StepBatchNorm)]
    modes = {module: module.training for module in model.modules()}
    momenta = [norm.momentum for norm in norms]
    model.eval()
    seen = 0
    try:
        for norm in norms:
            norm.train()
        for images in batches:
            seen += len(images)
            for norm in norms:
                norm.momentum = len(images) / seen
            model(images)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for module, mode in modes.items():
            module.training = mode
    if not seen:
        raise InputError("no images to re-estimate BatchNorm statistics from; give at least one batch")
    return model
