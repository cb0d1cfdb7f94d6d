"""How likely each candidate of a formula is the structure, from all evidence in one small fitted model."""

from crystallm.energy.ranking.evidence import Evidence, Question
from crystallm.energy.ranking.model import Ranking, load_ranking, probabilities, read_ranking

__all__ = ["Evidence", "Question", "Ranking", "load_ranking", "probabilities", "read_ranking"]
