"""Values and gradients of losses.

Each case: CASE/output, CASE/target, CASE/value (the loss, reduced as PyTorch does by default), CASE/grad (of the value, with respect to the
output). `meta` holds each case's loss as backprop reads it.
"""

import torch
import torch.nn.functional as F

from store import save

SHAPES = [(1, 1), (2, 3), (5, 1), (1, 7), (4, 2, 3), (3, 5), (8, 1), (2, 2, 2, 2)]


def number_losses():
    quantile = lambda q: lambda x, t: torch.where(t > x, q * (t - x), (q - 1) * (t - x)).mean()
    return {
        "l1": ({"type": "l1"}, F.l1_loss),
        "huber": ({"type": "huber"}, F.huber_loss),
        "huber_wide": ({"type": "huber", "delta": 0.3}, lambda x, t: F.huber_loss(x, t, delta=0.3)),
        "smooth_l1": ({"type": "smooth_l1"}, F.smooth_l1_loss),
        "smooth_l1_half": ({"type": "smooth_l1", "beta": 0.5}, lambda x, t: F.smooth_l1_loss(x, t, beta=0.5)),
        "smooth_l1_zero": ({"type": "smooth_l1", "beta": 0.0}, lambda x, t: F.smooth_l1_loss(x, t, beta=0.0)),
        "log_cosh": ({"type": "log_cosh"}, lambda x, t: torch.log(torch.cosh((x - t).double())).float().mean()),
        "quantile": ({"type": "quantile", "q": 0.9}, quantile(0.9)),
        "poisson_nll": ({"type": "poisson_nll"}, lambda x, t: F.poisson_nll_loss(x, t)),
    }


def class_losses():
    weight = torch.tensor([0.5, 2.0, 1.0])

    def focal(x, t):
        logp = F.log_softmax(x, 1).gather(1, t[:, None])[:, 0]
        return (-((1 - logp.exp()) ** 2) * logp).mean()

    return {
        "nll": ({"type": "nll"}, lambda x, t: F.nll_loss(F.log_softmax(x, 1), t), True),
        "nll_weight": ({"type": "nll", "weight": weight.tolist()}, lambda x, t: F.nll_loss(F.log_softmax(x, 1), t, weight), True),
        "nll_ignore": ({"type": "nll", "ignore_index": 1}, lambda x, t: F.nll_loss(F.log_softmax(x, 1), t, ignore_index=1), True),
        "focal": ({"type": "focal"}, focal, False),
    }


def make():
    torch.manual_seed(300)
    tensors, meta = {}, {}

    def record(name, description, output, target, value):
        output = output.detach().requires_grad_(True)
        result = value(output, target)
        (grad,) = torch.autograd.grad(result, output)
        parts = {"output": output.detach(), "target": target, "value": result.detach().reshape(1), "grad": grad}
        tensors.update({f"{name}/{key}": t.contiguous() for key, t in parts.items()})
        meta[name] = description

    for name, (description, value) in number_losses().items():
        for shape in SHAPES:
            # Away from knees and kinks; those are among the ties below.
            record(f"{name}_{'x'.join(map(str, shape))}", description, torch.randn(shape) * 2, torch.rand(shape) * 3 + 0.1, value)
    for name, (description, value, normalised) in class_losses().items():
        for rows in (1, 2, 5, 8, 13):
            logits, target = torch.randn(rows, 3), torch.arange(rows) % 3
            output = F.log_softmax(logits, 1) if normalised else logits
            # Of log-probabilities the loss is linear: the gradient is with respect to them.
            plain = (lambda x, t, v=value: v(x, t)) if not normalised else (lambda x, t, d=description: nll(x, t, d))
            record(f"{name}_{rows}", description, output, target.int(), lambda x, t, f=plain: f(x, t.long()))
    for rows in (1, 3, 6):
        q = torch.softmax(torch.randn(rows, 4), 1)
        record(f"kl_div_{rows}", {"type": "kl_div"}, torch.log_softmax(torch.randn(rows, 4), 1), q, lambda x, t: F.kl_div(x, t, reduction="batchmean"))
        log = {"type": "kl_div", "log_target": True}
        record(f"kl_div_log_{rows}", log, torch.log_softmax(torch.randn(rows, 4), 1), q.log(), lambda x, t: F.kl_div(x, t, reduction="batchmean", log_target=True))
    zero = torch.zeros(2, 2)
    zero[0, 0] = 1
    record("kl_div_zeros", {"type": "kl_div"}, torch.log_softmax(torch.randn(2, 2), 1), zero, lambda x, t: F.kl_div(x, t, reduction="batchmean"))
    ties, target = torch.tensor([[1.0, 2.0, 0.0, -1.0]]), torch.tensor([[1.0, 1.0, 1.0, 0.0]])
    for name in ("l1", "huber", "smooth_l1"):
        description, value = number_losses()[name]
        record(f"{name}_ties", description, ties, target, value)
    save("losses", tensors, {"cases": meta})


def nll(x, t, description):
    weight = torch.tensor(description["weight"]) if "weight" in description else None
    return F.nll_loss(x, t, weight, ignore_index=description.get("ignore_index", -100))

