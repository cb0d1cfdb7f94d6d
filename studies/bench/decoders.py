"""CPU seconds of the decoders of the switch, in turn: what does the compiled one win?

`python -m studies.bench.decoders --precision fp32` draws 20 texts of each of 12 formulas by the model alone, round by
round with each decoder, in one thread. It prints the CPU seconds of each round, those spent in the model, and how many
texts are the same: sums are taken in another order, so a few are not.
"""

from __future__ import annotations

import argparse
import time

import torch

from crystallm.cli import run_program
from crystallm.sample.config import SampleConfig
from crystallm.sample.decoding.decoders import DecoderName
from crystallm.sample.engine.engine import Engine
from crystallm.sample.generator import Generator
from crystallm.sample.prompts import make_prompt

FORMULAS = ["TiO2", "NaCl", "BaTiO3", "MgAl2O4", "CaF2", "ZnS", "Fe2O3", "LiCoO2", "SiO2", "GaAs", "Cu2O", "CsPbBr3"]


def draw(generator: Generator, config: SampleConfig) -> tuple[float, float, dict[tuple[str, int], str]]:
    """CPU seconds, those of them in the model by the wall clock, and the texts."""
    engine = Engine(generator.decoder, rows=config.batch_size, context=generator.context)
    prompts = [make_prompt(formula) for formula in FORMULAS]
    started = time.process_time()
    texts = {(a.prompt.name, a.number): a.text for a in generator.attempts(prompts, config, engine=engine)}
    return time.process_time() - started, engine.model_seconds, texts


def main(argv: list[str]) -> None:
    """Measure the decoders in turn."""
    parser = argparse.ArgumentParser(prog="python -m studies.bench.decoders", description=main.__doc__)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    parser.add_argument("-n", type=int, default=20, metavar="N", help="texts of each formula (%(default)s)")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    names: tuple[DecoderName, ...] = ("torch", "compiled")
    generators = {
        name: Generator.from_pretrained(edition="benchmark", device="cpu", precision=options.precision, decoder=name)
        for name in names
    }
    for generator in generators.values():
        generator.decoder.warm_up()
    # The model alone, so that nearly all time goes into decoding.
    config = SampleConfig(n=options.n, repeat=1.0, guide=0.0, bond_tries=0)
    texts = {}
    for _ in range(options.rounds):
        for name, generator in generators.items():
            seconds, in_model, texts[name] = draw(generator, config)
            print(f"{options.precision} {name}: {seconds:.1f} CPU s, {in_model:.1f} s in the model")
    one, other = texts.values()
    print(f"the same texts: {sum(one[key] == other[key] for key in one)} of {len(one)}")


if __name__ == "__main__":
    run_program(main)
