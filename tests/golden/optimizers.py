"""Optimizer steps from given gradients, learning-rate schedules and gradient clipping.

`optimizer/CASE/init` [2, 3], `optimizer/CASE/gradients` [5, 2, 3], `optimizer/CASE/values` [5, 2, 3] (after each step);
`schedule/CASE/rates` [steps] (rate used by step 0, 1, …), `schedule/CASE/momenta`; `clip/CASE/…`.
"""

import torch
from torch.optim import lr_scheduler as schedulers

from store import save

STEPS = 5


def optimizer_cases():
    sgd, adam, adamw = torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW
    return {
        "sgd": (sgd, dict(lr=0.1)),
        "sgd_weight_decay": (sgd, dict(lr=0.1, weight_decay=0.05)),
        "sgd_momentum": (sgd, dict(lr=0.1, momentum=0.9)),
        "sgd_nesterov": (sgd, dict(lr=0.1, momentum=0.9, nesterov=True)),
        "sgd_nesterov_weight_decay": (sgd, dict(lr=0.1, momentum=0.8, nesterov=True, weight_decay=0.05)),
        "adam": (adam, dict(lr=0.01)),
        "adam_weight_decay": (adam, dict(lr=0.01, weight_decay=0.1)),
        "adam_betas_eps": (adam, dict(lr=0.01, betas=(0.8, 0.95), eps=1e-3)),
        "adamw": (adamw, dict(lr=0.01, weight_decay=0.1)),
        "adamw_betas_eps": (adamw, dict(lr=0.01, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.2)),
    }


def run_optimizer(kind, options):
    """Five steps; gradients span several magnitudes so that eps and the bias correction show."""
    start = torch.randn(2, 3)
    gradients = torch.randn(STEPS, 2, 3) * torch.tensor([1.0, 1e-2, 1e-4])
    parameter = torch.nn.Parameter(start.clone())
    optimizer = kind([parameter], **options)
    values = []
    for gradient in gradients:
        parameter.grad = gradient.clone()
        optimizer.step()
        values.append(parameter.detach().clone())
    return {"init": start, "gradients": gradients, "values": torch.stack(values)}


def schedule_cases():
    cosine, one_cycle, linear = schedulers.CosineAnnealingLR, schedulers.OneCycleLR, schedulers.LinearLR
    warm_up = lambda o: schedulers.SequentialLR(o, [linear(o, start_factor=0.1, total_iters=5), cosine(o, T_max=15, eta_min=0.0)], milestones=[5])
    return {
        "cosine": ({"name": "CosineAnnealingLR", "lr": 0.1, "T_max": 20, "eta_min": 0.0}, 21, lambda o: cosine(o, T_max=20)),
        "cosine_floor": ({"name": "CosineAnnealingLR", "lr": 0.1, "T_max": 20, "eta_min": 0.01}, 21, lambda o: cosine(o, T_max=20, eta_min=0.01)),
        "one_cycle": (
            {"name": "OneCycleLR", "max_lr": 0.1, "total_steps": 20, "pct_start": 0.3, "div_factor": 25.0, "final_div_factor": 1e4, "anneal": "cos"},
            20,
            lambda o: one_cycle(o, max_lr=0.1, total_steps=20),
        ),
        "one_cycle_linear": (
            {"name": "OneCycleLR", "max_lr": 0.1, "total_steps": 33, "pct_start": 0.25, "div_factor": 10.0, "final_div_factor": 100.0, "anneal": "linear"},
            33,
            lambda o: one_cycle(o, max_lr=0.1, total_steps=33, pct_start=0.25, div_factor=10.0, final_div_factor=100.0, anneal_strategy="linear"),
        ),
        "linear_warm_up": ({"name": "LinearLR", "lr": 0.1, "start_factor": 0.1, "total_iters": 5}, 10, lambda o: linear(o, start_factor=0.1, total_iters=5)),
        "warm_up_cosine": ({"name": "LinearLR then CosineAnnealingLR", "lr": 0.1, "start_factor": 0.1, "total_iters": 5, "T_max": 15}, 20, warm_up),
    }


def run_schedule(steps, make_schedule):
    """The rate and momentum that each step uses."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9)
    schedule = make_schedule(optimizer)
    rates, momenta = [], []
    for step in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        momenta.append(optimizer.param_groups[0]["momentum"])
        optimizer.step()
        if step + 1 < steps:
            schedule.step()
    return rates, momenta


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
    for case, (kind, options) in optimizer_cases().items():
        tensors |= {f"optimizer/{case}/{k}": v for k, v in run_optimizer(kind, options).items()}
        descriptions[f"optimizer/{case}"] = {"name": kind.__name__, **options}
    for case, (description, steps, make_schedule) in schedule_cases().items():
        rates, momenta = run_schedule(steps, make_schedule)
        tensors[f"schedule/{case}/rates"] = rates
        if description["name"] == "OneCycleLR":
            tensors[f"schedule/{case}/momenta"] = momenta
        descriptions[f"schedule/{case}"] = description
    clipping(tensors)
    save("optimizers", tensors, {"cases": descriptions})
