"""The decoder's forward pass against that of `transformers`, and against itself in other company."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig

from crystallm.base.errors import CheckpointError, ConfigError
from crystallm.sample.decoding import decoders
from crystallm.sample.decoding.cache import SLOT_STEP, WIDTHS, Feed, Piece
from crystallm.sample.decoding.compiled import CompiledDecoder, kernels
from crystallm.sample.decoding.cuda_graphs import GraphDecoder, next_size
from crystallm.sample.decoding.decoder import Decoder

VOCABULARY = 50
TEXTS = [
    np.random.default_rng(length).integers(0, VOCABULARY, length).tolist()
    for length in (3, 5, 5, 17, 33, 40, 64, 65, 90, 130)
]
LLAMA = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 160,
}
CONFIGS: dict[str, Any] = {
    "llama": LlamaConfig(**LLAMA),
    "llama, grouped heads": LlamaConfig(**LLAMA, num_key_value_heads=2),
    "llama, biases, other width, own head": LlamaConfig(
        **LLAMA, num_key_value_heads=1, head_dim=6, attention_bias=True, mlp_bias=True, tie_word_embeddings=False
    ),
    "llama, stretched positions": LlamaConfig(
        **LLAMA, rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 500.0}
    ),
    "gpt2": GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=160),
    "gpt2, relu": GPT2Config(
        vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=2, n_positions=160, activation_function="relu"
    ),
}


def build(config: Any, scale: float = 4.0) -> Any:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * (0.05 * scale))
    return model


AnyDecoder = Decoder | GraphDecoder | CompiledDecoder


def decode(decoder: AnyDecoder, texts: list[list[int]], seed: int) -> list[dict[int, torch.Tensor]]:
    """For each text, logits (V,) after some of its tokens: fed in pieces of random lengths, all rows at once."""
    random = np.random.default_rng(seed)
    cache = decoder.cache(len(texts))
    seen = [0] * len(texts)
    found: list[dict[int, torch.Tensor]] = [{} for _ in texts]
    while any(done < len(text) for done, text in zip(seen, texts, strict=True)):
        pieces = []
        for row, text in enumerate(texts):
            count = min(int(random.choice([1, 1, 1, 2, 5, 20, WIDTHS[-1]])), len(text) - seen[row])
            if count and random.random() < 0.8:
                pieces.append(Piece(row, seen[row], text[seen[row] : seen[row] + count]))
        if pieces:
            with torch.inference_mode():
                logits = decoder.logits(Feed(pieces, decoder.device), cache)
            for piece, after in zip(pieces, logits.cpu().clone(), strict=True):
                seen[piece.row] = piece.end
                found[piece.row][piece.end] = after
    return found


def on_the_gpu(model: Any) -> GraphDecoder:
    return GraphDecoder(Decoder(model.cuda()))


def compiled(model: Any, dtype: torch.dtype = torch.float32) -> CompiledDecoder:
    return CompiledDecoder(Decoder(model, dtype))


DECODERS: list[Any] = [
    pytest.param(Decoder, id="as they come"),
    pytest.param(compiled, id="compiled"),
    pytest.param(lambda model: GraphDecoder(Decoder(model)), id="padded"),
    pytest.param(
        on_the_gpu, id="recorded", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
    ),
]


@pytest.mark.parametrize("make", DECODERS)
@pytest.mark.parametrize("name", CONFIGS)
def test_logits_are_those_of_transformers(name: str, make: Callable[[Any], AnyDecoder]) -> None:
    model = build(CONFIGS[name])
    found = decode(make(model), TEXTS, seed=1)
    model = model.cpu()
    for text, places in zip(TEXTS, found, strict=True):
        with torch.no_grad():
            expected = model(input_ids=torch.tensor([text])).logits[0]
        assert len(text) in places
        for end, after in places.items():
            torch.testing.assert_close(after, expected[end - 1], atol=2e-4, rtol=1e-4)


def test_few_shapes_are_recorded() -> None:
    """Sizes grow by 4/3 or 3/2, so a run over texts of all lengths meets a dozen shapes; a longer text records anew."""
    assert [next_size(n) for n in (1, 32, 33, 49, 65, 97, 600)] == [32, 32, 48, 64, 96, 128, 768]
    decoder = GraphDecoder(Decoder(build(CONFIGS["gpt2"])))
    cache = decoder.cache(2)
    with torch.inference_mode():
        for start in range(40):
            decoder.logits(Feed([Piece(0, start, [1]), Piece(1, start, [2])], decoder.device), cache)
        assert set(decoder._recorded) == {(32, 32), (32, 64)}
        decoder.logits(Feed([Piece(0, 40, [1] * 60)], decoder.device), cache)  # too many tokens to be worth it
        assert set(decoder._recorded) == {(32, 32), (32, 64)}
        decoder.logits(Feed([Piece(0, 100, [1])], decoder.device), cache)
        assert set(decoder._recorded) == {(32, 128)}


@pytest.mark.parametrize("make", [Decoder, compiled])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["llama, grouped heads", "gpt2"])
def test_other_rows_change_nothing(name: str, dtype: torch.dtype, make: Callable[..., AnyDecoder]) -> None:
    """The same pieces of a text give the same logits, alone or among longer and shorter ones."""
    decoder = make(build(CONFIGS[name]), dtype)
    pieces = [(0, 4), (4, 5), (5, 6), (6, 25), (25, 26), (26, 27)]
    text, others = TEXTS[5], [TEXTS[9], TEXTS[0], *TEXTS[5:9]]

    def run(row: int, n_rows: int) -> list[torch.Tensor]:
        cache = decoder.cache(n_rows)
        company = [index for index in range(n_rows) if index != row]
        result = []
        with torch.inference_mode():
            for start, end in pieces:
                step = [Piece(row, start, text[start:end])]
                step += [Piece(index, 3 * start, others[index][3 * start : 3 * start + index + 1]) for index in company]
                step = [piece for piece in step if piece.tokens]
                result.append(decoder.logits(Feed(step, decoder.device), cache)[0])
        return result

    alone, among = run(0, 1), run(1, len(others))
    for one, other in zip(alone, among, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("make", [Decoder, compiled])
@pytest.mark.parametrize("n_tokens", [1, 3, 7])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_longer_rows_change_nothing_to_the_last_bit(
    dtype: torch.dtype, n_tokens: int, make: Callable[..., AnyDecoder]
) -> None:
    """The end of a text of 150 tokens, alone and next to the end of one of 256 tokens."""
    sizes = {"max_position_embeddings": 256, "num_key_value_heads": 2, "head_dim": 32}  # of the packaged model
    decoder = make(build(LlamaConfig(**LLAMA | sizes)), dtype)
    texts = [np.random.default_rng(length).integers(0, VOCABULARY, length).tolist() for length in (150, 256)]
    cache = decoder.cache(2)
    with torch.inference_mode():
        for row, text in enumerate(texts):
            for start in range(0, len(text), WIDTHS[-1]):
                decoder.logits(Feed([Piece(row, start, text[start : start + WIDTHS[-1]])], decoder.device), cache)
        ends = [Piece(row, len(text) - n_tokens, text[-n_tokens:]) for row, text in enumerate(texts)]
        alone, among = (decoder.logits(Feed(step, decoder.device), cache)[0] for step in (ends[:1], ends))
    assert torch.equal(alone, among)


@pytest.mark.parametrize("make", [Decoder, compiled])
@pytest.mark.parametrize("name", ["llama, grouped heads", "gpt2"])
def test_steps_of_low_precision_stay_close(name: str, make: Callable[..., AnyDecoder]) -> None:
    model = build(CONFIGS[name], scale=1.0)
    for exact, rounded in zip(
        decode(make(model), TEXTS, seed=1), decode(make(model, torch.bfloat16), TEXTS, seed=1), strict=True
    ):
        for end, after in exact.items():
            assert float((after - rounded[end]).abs().max()) < 0.05 * float(after.std()) + 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_row_goes_on_from_what_another_began(dtype: torch.dtype) -> None:
    """What is kept of a beginning is copied to another row, which then gives the same logits to the last bit."""
    decoder = compiled(build(CONFIGS["llama, grouped heads"]), dtype)
    cache = decoder.cache(2)
    with torch.inference_mode():
        decoder.logits(Feed([Piece(0, 0, TEXTS[5][:37]), Piece(1, 0, TEXTS[9][:90])], decoder.device), cache)
        cache.copy_in(1, cache.copy_out(0, 37))
        one, other = decoder.logits(Feed([Piece(row, 37, [7]) for row in (0, 1)], decoder.device), cache)
    assert torch.equal(one, other)


@pytest.mark.parametrize("place", ["model.layers.1.self_attn.k_proj.weight", "model.layers.0.mlp.up_proj.weight"])
def test_damaged_weights_are_not_hidden(place: str) -> None:
    model = build(CONFIGS["llama"])
    model.get_parameter(place).data[3, 5] = float("nan")
    decoder = compiled(model)
    with torch.inference_mode():
        logits = decoder.logits(Feed([Piece(0, 0, [1, 2, 3])], decoder.device), decoder.cache(1))
    assert not logits.isfinite().all()


def test_every_query_looks_at_its_own_past_and_nothing_else() -> None:
    pieces = [Piece(0, 3, [1]), Piece(4, 40, [1, 2, 3, 4, 5]), Piece(2, 0, [1]), Piece(7, 0, [1, 2])]
    feed = Feed(pieces, torch.device("cpu"))
    assert feed.slots.tolist() == [3, 40, 41, 42, 43, 44, 0, 0, 1]
    assert feed.last.tolist() == [0, 5, 6, 8]
    seen = {}
    for group in feed.groups:
        limits = (group.mask == 0).sum(-1).flatten() - 1
        assert group.mask.shape[-1] % SLOT_STEP == 0
        for place, query in enumerate(group.queries.tolist()):
            row = int(group.rows[place // group.mask.shape[2]])
            assert row == int(feed.rows[query])
            assert int(limits[place]) == int(feed.slots[query])
            seen.setdefault(query, place)
    assert sorted(seen) == list(range(9))


def test_models_that_attend_in_other_ways_are_refused() -> None:
    config = GPT2Config(vocab_size=9, n_embd=8, n_layer=1, n_head=1, scale_attn_by_inverse_layer_idx=True)
    with pytest.raises(CheckpointError, match="not scaled by the root"):
        Decoder(build(config))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_switch_chooses_between_torch_and_compiled(dtype: torch.dtype) -> None:
    """Both give the same logits, but for rounding; on a CPU the compiled one compiles nothing after its warm-up."""
    decoder = Decoder(build(CONFIGS["llama, grouped heads"], scale=1.0), dtype)
    by_torch, compiled = (decoders.DECODERS[name].load()(decoder) for name in ("torch", "compiled"))
    assert (type(by_torch), type(compiled)) == (Decoder, CompiledDecoder)
    compiled.warm_up()
    loops = [one for one in vars(kernels).values() if hasattr(one, "signatures")] + [compiled._attend]
    before = [len(loop.signatures) for loop in loops]
    found = [decode(one, TEXTS[:3], seed=2) for one in (by_torch, compiled)]
    assert [len(loop.signatures) for loop in loops] == before
    assert before[-1]
    close = {"atol": 1e-4, "rtol": 1e-4} if dtype is torch.float32 else {"atol": 3e-2, "rtol": 3e-2}
    for one, other in zip(*found, strict=True):
        for end in one:
            torch.testing.assert_close(one[end], other[end], **close)
    with pytest.raises(ConfigError, match="unknown decoder 'onnx'; choose from torch, compiled"):
        decoders.DECODERS["onnx"]
