"""What is minimised: the negative log-likelihood of texts, of a forward pass and of a whole split."""

import torch
import torch.nn.functional as F  # noqa: N812
from accelerate import Accelerator

from crystallm.train.config import TrainConfig
from crystallm.train.optim.evaluation_loss import EvaluationLoss
from crystallm.train.texts.batches import IGNORED, pad, plan_evaluation, share, widths
from crystallm.train.texts.corpus import Corpus


def logits(model: torch.nn.Module, ids_BT: torch.Tensor, positions_BT: torch.Tensor | None = None) -> torch.Tensor:
    """Return the logits (B, T, V) of the tokens that follow each token; of packed rows, given places in texts."""
    logits_BTV: torch.Tensor = model(input_ids=ids_BT, position_ids=positions_BT, use_cache=False).logits
    return logits_BTV


def summed_cross_entropy(logits_BTV: torch.Tensor, labels_BT: torch.Tensor) -> torch.Tensor:
    """Return the negative log-likelihood in nats of every token after the first, summed; padding is left out."""
    return F.cross_entropy(
        logits_BTV[:, :-1].flatten(0, 1).float(), labels_BT[:, 1:].flatten(), ignore_index=IGNORED, reduction="sum"
    )


@torch.no_grad()
def evaluation_loss(
    model: torch.nn.Module, corpus: Corpus, accelerator: Accelerator, config: TrainConfig, pad_id: int
) -> EvaluationLoss:
    """Return the loss over all texts of `corpus`, shared between the processes."""
    model.eval()
    device = accelerator.device
    total = torch.zeros((), dtype=torch.float64, device=device)
    budget = config.batch_tokens // config.accumulate
    wide = widths(corpus.lengths)
    for rows in plan_evaluation(corpus.lengths, budget=budget):
        mine = share(rows, process=accelerator.process_index, processes=accelerator.num_processes)
        # Also where a process has no row: with several processes a forward pass may be a collective.
        arrays = pad(
            [corpus.tokens(i) for i in mine],
            wide=int(wide[rows].max()),
            budget=-(-budget // accelerator.num_processes),
            longest=config.longest_text,
            pad_id=pad_id,
        )
        ids_BT, labels_BT = (torch.from_numpy(array).to(device) for array in arrays)
        total += summed_cross_entropy(logits(model, ids_BT), labels_BT)
    model.train()
    nats = float(accelerator.reduce(total, "sum"))
    crystals = len(corpus)
    tokens = len(corpus.ids) - crystals  # the first token is given, not predicted
    return EvaluationLoss(per_token=nats / tokens, per_crystal=nats / crystals)
