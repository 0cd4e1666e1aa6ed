"""Gradients during a training: the race of modalities, and how often the gradients of domains conflict."""

from collections.abc import Callable, Mapping

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dglab.data import Domain
from dglab.data.multimodal import flatten_modalities
from dglab.models.batchnorm import update_running_stats
from dglab.models.multimodal import set_progress
from dglab.training import cross_entropy
from dglab.training.config import TrainingConfig
from dglab.training.gmp import modulation_coefficients
from dglab.training.guards import check_fits
from dglab.training.losses import Batch
from dglab.training.mean_loss import MeanLoss, trainable
from dglab.training.methods import split_domains, to_device
from dglab.training.trainer import begin, training_batches, training_step
from dglab.training.two_tasks import MultimodalBatch, two_tasks
from dglab.utils.randomness import own_randomness
from dglab.utils.seeds import derive_seed

Look = Callable[[int, nn.Module, Batch | MultimodalBatch], None]  # (step, network before it, the step's batch)


def follow(
    config: TrainingConfig, domains: Mapping[str, Domain], look: Look, *, every: int = 10, device: str = "cpu"
) -> nn.Module:
    """Train as :func:`dglab.training.train` does, without files, and look on before every so many steps.

    Args:
        config: what to train.
        domains: by letter; of several modalities where the method takes them.
        look: leaves the network as it finds it.
        every: steps from one look to the next; the first is before step 0.
        device: where to train.

    Returns:
        The network after the last step.
    """
    check_fits(config, domains)
    place = torch.device(device)
    with own_randomness(place):
        run = begin(config, None, place)
        batches = training_batches(config, domains, seed=config.seed, steps=config.steps)
        for step in range(config.steps):
            batch = to_device(batches[step], place)
            if step % every == 0:
                look(step, run.model, batch)
            training_step(run.model, batch, config, step)
            run.optimizer.step()
            run.schedule.step()
    return run.model


def race(
    config: TrainingConfig, domains: Mapping[str, Domain], *, every: int = 10, device: str = "cpu"
) -> pd.DataFrame:
    """How each modality stands while a network of several is trained.

    Args:
        config: a training by ``gmp`` or a variant of it, of two modalities or more.
        domains, every, device: as in :func:`follow`.

    Returns:
        A row for each look and modality: ``step``, ``modality``; ``semantic`` and ``domain``, the batch's mean
        confidences; ``norm_c`` and ``norm_d``, the lengths of its encoder's two gradients, and ``cosine`` between them
        (below 0 they conflict); ``rho``, ``sigma``, ``k``, ``p``, what GMP would make of it, whatever the variant.
    """
    rows = []

    def look(step: int, model: nn.Module, batch: MultimodalBatch) -> None:
        set_progress(model, step / config.steps)  # of gradient reversal, as the step to come has it
        with update_running_stats(model, enabled=False), own_randomness(batch[1].device):
            tasks = two_tasks(model, cross_entropy, flatten_modalities(batch))
        of = modulation_coefficients(tasks.semantic, tasks.domain, config.alpha_k, config.alpha_p)
        places = {parameter: number for number, parameter in enumerate(trainable(model))}
        for name, encoder in model.encoders.items():
            own = [places[parameter] for parameter in trainable(encoder)]
            g_c, g_d = (torch.cat([g[i].flatten() for i in own]) for g in (tasks.g_c, tasks.g_d))
            rows.append({
                "step": step, "modality": name,
                "semantic": tasks.semantic[name].item(), "domain": tasks.domain[name].item(),
                "norm_c": g_c.norm().item(), "norm_d": g_d.norm().item(), "cosine": _cosine(g_c, g_d),
                **of[name]._asdict(),
            })  # fmt: skip

    follow(config, domains, look, every=every, device=device)
    return pd.DataFrame(rows)


def domain_conflicts(
    config: TrainingConfig, domains: Mapping[str, Domain], *, every: int = 10, device: str = "cpu"
) -> pd.DataFrame:
    """Whether the gradients of meta-train and meta-test conflict, layer by layer, while a network is trained.

    Args:
        config: a training on images alone; its domains are split at each look as ``config.split`` says, whether its
            method splits them or not.
        domains, every, device: as in :func:`follow`.

    Returns:
        A row for each look and layer (the network's children, and ``all``): ``step``, ``layer``, ``cosine``.
    """
    rows = []

    def look(step: int, model: nn.Module, batch: Batch) -> None:
        generator = torch.Generator().manual_seed(derive_seed("split", config.seed, step))
        theta = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
        with update_running_stats(model, enabled=False), own_randomness(batch[1].device):
            pair = [MeanLoss(model, cross_entropy, [part]).value_and_grad()[1]
                    for part in split_domains(batch, config.split, generator)]  # fmt: skip
        children = sorted(dict(model.named_children()), key=lambda name: name == "head")  # which is the last to compute
        layers = {name: [i for i, path in enumerate(theta) if path.split(".")[0] == name] for name in children}
        for name, own in {**layers, "all": range(len(theta))}.items():
            if own:
                first, second = (torch.cat([g[i].flatten() for i in own]) for g in pair)
                rows.append({"step": step, "layer": name, "cosine": _cosine(first, second)})

    follow(config, domains, look, every=every, device=device)
    return pd.DataFrame(rows)


def _cosine(a: Tensor, b: Tensor) -> float:
    return F.cosine_similarity(a, b, dim=0).item()
