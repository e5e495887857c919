"""The training of an adaptation: what is trained, on which batches, by which objective."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from limbeck.training.adaptation.domains import Domains, pairs, randomisation_of
from limbeck.training.adaptation.methods import Adapting, Method, Terms, critic_of, freeze, weights_of
from limbeck.training.run import prepared
from limbeck.training.settings import Training

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import nn

    from limbeck.learn.adapt import TwoDomains
    from limbeck.learn.fit import Loop
    from limbeck.learn.objectives import Objective
    from limbeck.nets.zoo import Classifier


def course(
    net: "Classifier",
    teachers: "list[Classifier]",
    method: Method,
    terms: Terms,
    how: Adapting,
    domains: Domains,
    training: Training,
    accelerator: "Accelerator",
) -> "tuple[TwoDomains, Callable[[], Loop]]":
    """Return the student that is trained, made of `net`, and what makes its training."""
    from limbeck.learn.adapt import TwoDomains, adapt
    from limbeck.learn.objectives import ask

    steps = domains.steps(training, accelerator.num_processes)
    answer = ask(teachers, temperature=how.temperature) if teachers else None

    def objective(student: "nn.Module", critic: "nn.Module | None") -> "Objective":
        return adapt(
            student, weights_of(terms), critic=critic, answer=answer, temperature=how.temperature,
            confidence=how.confidence, label_smoothing=training.label_smoothing,
        )  # fmt: skip

    batches = pairs(
        domains, training, accelerator, steps=steps, size=max(n.input.size for n in [net, *teachers]),
        channels=net.input.channels, kind=randomisation_of(how.randomise, domains),
        interpolation=net.input.interpolation,
    )  # fmt: skip
    freeze(net, method)
    student = TwoDomains(net)
    critic = critic_of(net, terms, steps * training.epochs * training.accumulate)
    make = partial(prepared, student, objective, steps, training, batches, accelerator, critic, how.critic_lr)
    return student, make
