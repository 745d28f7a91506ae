"""Optimizer steps from given gradients, learning-rate schedules and gradient clipping.

`optimizer/CASE/init` [2, 3], `optimizer/CASE/gradients` [steps, 2, 3], `optimizer/CASE/values` [steps, 2, 3] (after each step);
`schedule/CASE/rates` [steps] (rate used by step 0, 1, …), `schedule/CASE/momenta`; `plateau/CASE/values` [epochs] (what is
watched) and `plateau/CASE/rates` [epochs] (rate after it was seen); `clip/CASE/…`. The metadata holds optimizers and schedules as
backprop reads them.
"""

import numpy as np
import torch
from torch.optim import lr_scheduler as schedulers

from store import save

STEPS = 5


class Lion:
    """Algorithm 2 of Chen et al., "Symbolic Discovery of Optimization Algorithms" (arXiv 2302.06675), in numpy and f64: PyTorch has none."""

    def __init__(self, parameters, lr=1e-4, betas=(0.9, 0.99), weight_decay=0.0):
        (self.parameter,), self.lr, self.betas, self.weight_decay = parameters, lr, betas, weight_decay
        self.value = self.parameter.detach().numpy().astype(np.float64)
        self.momentum = np.zeros_like(self.value)

    def step(self):
        gradient, (beta1, beta2) = self.parameter.grad.numpy().astype(np.float64), self.betas
        direction = np.sign(beta1 * self.momentum + (1 - beta1) * gradient)
        self.momentum = beta2 * self.momentum + (1 - beta2) * gradient
        self.value = self.value - self.lr * (direction + self.weight_decay * self.value)
        self.parameter.data = torch.from_numpy(self.value.astype(np.float32))


def optimizer_cases():
    """Name of the case: name in TOML, PyTorch's class, options, number of steps."""
    o = torch.optim
    cases = {
        "sgd": (o.SGD, dict(lr=0.1)),
        "sgd_weight_decay": (o.SGD, dict(lr=0.1, weight_decay=0.05)),
        "sgd_momentum": (o.SGD, dict(lr=0.1, momentum=0.9)),
        "sgd_nesterov": (o.SGD, dict(lr=0.1, momentum=0.9, nesterov=True)),
        "sgd_nesterov_weight_decay": (o.SGD, dict(lr=0.1, momentum=0.8, nesterov=True, weight_decay=0.05)),
        "adam": (o.Adam, dict(lr=0.01)),
        "adam_weight_decay": (o.Adam, dict(lr=0.01, weight_decay=0.1)),
        "adam_betas_eps": (o.Adam, dict(lr=0.01, betas=(0.8, 0.95), eps=1e-3)),
        "adamw": (o.AdamW, dict(lr=0.01, weight_decay=0.1)),
        "adamw_betas_eps": (o.AdamW, dict(lr=0.01, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.2)),
        "adam_amsgrad": (o.Adam, dict(lr=0.01, betas=(0.8, 0.6), amsgrad=True)),
        "adamw_amsgrad": (o.AdamW, dict(lr=0.01, betas=(0.8, 0.6), amsgrad=True, weight_decay=0.1)),
        "rmsprop": (o.RMSprop, dict()),
        "rmsprop_weight_decay": (o.RMSprop, dict(lr=0.01, alpha=0.9, eps=1e-3, weight_decay=0.1)),
        "rmsprop_momentum": (o.RMSprop, dict(lr=0.01, momentum=0.9)),
        "rmsprop_centered": (o.RMSprop, dict(lr=0.01, alpha=0.8, centered=True)),
        "rmsprop_centered_momentum": (o.RMSprop, dict(lr=0.01, alpha=0.8, centered=True, momentum=0.8, weight_decay=0.1)),
        "adagrad": (o.Adagrad, dict()),
        "adagrad_options": (o.Adagrad, dict(lr=0.1, lr_decay=0.2, initial_accumulator_value=0.3, weight_decay=0.1, eps=1e-3)),
        "adadelta": (o.Adadelta, dict()),
        "adadelta_options": (o.Adadelta, dict(lr=0.5, rho=0.8, eps=1e-3, weight_decay=0.1)),
        "adamax": (o.Adamax, dict()),
        "adamax_options": (o.Adamax, dict(lr=0.01, betas=(0.8, 0.7), eps=1e-3, weight_decay=0.1)),
        "nadam": (o.NAdam, dict()),
        "nadam_weight_decay": (o.NAdam, dict(lr=0.01, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.1, momentum_decay=0.1)),
        "nadam_decoupled": (o.NAdam, dict(lr=0.01, weight_decay=0.2, decoupled_weight_decay=True)),
        "radam": (o.RAdam, dict()),
        "radam_weight_decay": (o.RAdam, dict(lr=0.01, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.1)),
        "radam_decoupled": (o.RAdam, dict(lr=0.01, weight_decay=0.2, decoupled_weight_decay=True)),
        "lion": (Lion, dict(lr=1e-4)),
        "lion_weight_decay": (Lion, dict(lr=0.01, betas=(0.95, 0.98), weight_decay=0.1)),
    }
    # RAdam begins to use the mean square at its sixth step.
    return {case: (*rest, 12 if rest[0] is o.RAdam else STEPS) for case, rest in cases.items()}


def run_optimizer(kind, options, steps):
    """Gradients span several magnitudes so that eps and the bias correction show."""
    start = torch.randn(2, 3)
    gradients = torch.randn(steps, 2, 3) * torch.tensor([1.0, 1e-2, 1e-4])
    parameter = torch.nn.Parameter(start.clone())
    optimizer = kind([parameter], **options)
    values = []
    for gradient in gradients:
        parameter.grad = gradient.clone()
        optimizer.step()
        values.append(parameter.detach().clone())
    return {"init": start, "gradients": gradients, "values": torch.stack(values)}


def schedule_cases():
    """Name of the case: the schedule in TOML, steps, steps per epoch, PyTorch's scheduler."""
    s, step = schedulers, {"unit": "step"}
    warm_up = lambda o: s.LinearLR(o, start_factor=0.1, total_iters=5)
    after = lambda main: lambda o: s.SequentialLR(o, [warm_up(o), main(o)], milestones=[5])
    warming = {"warmup_steps": 5, "warmup_start_factor": 0.1}
    linear_cycle = {"pct_start": 0.25, "div_factor": 10.0, "final_div_factor": 100.0, "anneal_strategy": "linear"}
    sequence = [{"type": "linear", "start_factor": 0.5, "end_factor": 1.0, "total_iters": 4, **step}, {"type": "exponential", "gamma": 0.8, **step}, {"type": "cosine"}]
    in_sequence = lambda o: s.SequentialLR(o, [s.LinearLR(o, 0.5, 1.0, 4), s.ExponentialLR(o, 0.8), s.CosineAnnealingLR(o, 8)], [4, 12])
    return {
        "cosine": ({"type": "cosine"}, 20, 1, lambda o: s.CosineAnnealingLR(o, T_max=20)),
        "cosine_floor": ({"type": "cosine", "min_learning_rate": 0.01}, 20, 1, lambda o: s.CosineAnnealingLR(o, T_max=20, eta_min=0.01)),
        "one_cycle": ({"type": "one_cycle"}, 20, 1, lambda o: s.OneCycleLR(o, max_lr=0.1, total_steps=20)),
        "one_cycle_linear": ({"type": "one_cycle", **linear_cycle}, 33, 1, lambda o: s.OneCycleLR(o, max_lr=0.1, total_steps=33, **linear_cycle)),
        "linear_warm_up": ({"type": "constant", **warming}, 10, 1, warm_up),
        "warm_up_cosine": ({"type": "cosine", **warming}, 20, 1, after(lambda o: s.CosineAnnealingLR(o, T_max=15))),
        "step": ({"type": "step", "step_size": 3, **step}, 14, 5, lambda o: s.StepLR(o, 3)),
        "step_epochs": ({"type": "step", "step_size": 2, "gamma": 0.5}, 21, 3, lambda o: s.StepLR(o, 2, 0.5)),
        "warm_up_step": ({"type": "step", "step_size": 3, **step, **warming}, 16, 4, after(lambda o: s.StepLR(o, 3))),
        "multi_step": ({"type": "multi_step", "milestones": [3, 5, 11], "gamma": 0.3, **step}, 14, 7, lambda o: s.MultiStepLR(o, [3, 5, 11], 0.3)),
        "multi_step_epochs": ({"type": "multi_step", "milestones": [1, 4]}, 18, 3, lambda o: s.MultiStepLR(o, [1, 4])),
        "exponential": ({"type": "exponential", "gamma": 0.9, **step}, 12, 4, lambda o: s.ExponentialLR(o, 0.9)),
        "polynomial": ({"type": "polynomial", "power": 2.5, "total_iters": 9, **step}, 12, 3, lambda o: s.PolynomialLR(o, 9, 2.5)),
        "polynomial_whole": ({"type": "polynomial"}, 12, 3, lambda o: s.PolynomialLR(o, 12)),
        "linear": ({"type": "linear", "start_factor": 0.9, "end_factor": 0.2, "total_iters": 7, **step}, 12, 3, lambda o: s.LinearLR(o, 0.9, 0.2, 7)),
        "warm_up_linear": ({"type": "linear", **warming}, 12, 3, after(lambda o: s.LinearLR(o, 1.0, 0.0, 7))),
        "cosine_restarts": ({"type": "cosine_restarts", "t_0": 4, **step}, 15, 3, lambda o: s.CosineAnnealingWarmRestarts(o, 4)),
        "cosine_restarts_longer": (
            {"type": "cosine_restarts", "t_0": 3, "t_mult": 2, "min_learning_rate": 0.01, **step},
            23,
            3,
            lambda o: s.CosineAnnealingWarmRestarts(o, 3, 2, 0.01),
        ),
        "sequential": ({"type": "sequential", "milestones": [4, 12], "parts": sequence, **step}, 20, 5, in_sequence),
    }


def run_schedule(description, steps, steps_per_epoch, make_schedule):
    """The rate and momentum that each step uses. A schedule in epochs is stepped at the end of each."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9)
    schedule = make_schedule(optimizer)
    by_epoch = description["type"] in ("step", "multi_step") and "unit" not in description
    rates, momenta = [], []
    for step in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        momenta.append(optimizer.param_groups[0]["momentum"])
        optimizer.step()
        if step + 1 < steps and (not by_epoch or (step + 1) % steps_per_epoch == 0):
            schedule.step()
    return rates, momenta


def plateau_cases():
    return {
        "min": dict(mode="min", factor=0.5, patience=2),
        "max": dict(mode="max", factor=0.5, patience=1),
        "absolute": dict(mode="max", factor=0.3, patience=1, threshold=0.02, threshold_mode="abs"),
        "relative": dict(mode="min", factor=0.3, patience=1, threshold=0.05),
        "cooldown": dict(mode="min", factor=0.5, patience=0, cooldown=2),
        "floor": dict(mode="min", factor=0.1, patience=0, min_lr=0.02),
    }


def run_plateau(options):
    """Values that improve, stall, and once are no number; the rate after each epoch."""
    values = (torch.randn(30).cumsum(0) * 0.02 + 0.7).tolist()
    values[7] = float("nan")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    schedule, rates = schedulers.ReduceLROnPlateau(optimizer, **options), []
    for value in values:
        schedule.step(value)
        rates.append(optimizer.param_groups[0]["lr"])
    return values, rates


def clipping(tensors):
    """Global-norm clipping above and below the limit; PyTorch scales by min(1, limit / (norm + 1e-6))."""
    for case, limit in (("active", 0.5), ("inactive", 100.0)):
        parameters = [torch.nn.Parameter(torch.zeros(shape)) for shape in ((2, 3), (4,))]
        for name, parameter in zip("ab", parameters):
            parameter.grad = torch.randn(parameter.shape)
            tensors[f"clip/{case}/gradient/{name}"] = parameter.grad.clone()
        norm = torch.nn.utils.clip_grad_norm_(parameters, limit)
        tensors |= {f"clip/{case}/limit": torch.tensor(limit), f"clip/{case}/norm": norm}
        tensors |= {f"clip/{case}/clipped/{name}": p.grad for name, p in zip("ab", parameters)}
    return tensors


def make():
    torch.manual_seed(200)
    tensors, descriptions = {}, {}
    for case, (kind, options, steps) in optimizer_cases().items():
        tensors |= {f"optimizer/{case}/{k}": v for k, v in run_optimizer(kind, options, steps).items()}
        descriptions[f"optimizer/{case}"] = {"name": kind.__name__, **options}
    for case, (description, steps, steps_per_epoch, make_schedule) in schedule_cases().items():
        rates, momenta = run_schedule(description, steps, steps_per_epoch, make_schedule)
        tensors[f"schedule/{case}/rates"] = rates
        if description["type"] == "one_cycle":
            tensors[f"schedule/{case}/momenta"] = momenta
        descriptions[f"schedule/{case}"] = {"schedule": description, "steps_per_epoch": steps_per_epoch}
    for case, options in plateau_cases().items():
        values, rates = run_plateau(options)
        tensors |= {f"plateau/{case}/values": values, f"plateau/{case}/rates": rates}
        descriptions[f"plateau/{case}"] = options
    clipping(tensors)
    save("optimizers", tensors, {"cases": descriptions})
