"""lab train, choose and push: models."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from lab.cli.app import answer, command
from lab.console import console
from lab.errors import LabError
from lab.files import replacing

if TYPE_CHECKING:
    from lab.train.plan import Plan

Model = Literal[
    "tokenizer", "encoder", "ctc-head", "codec", "griffin", "griffin30", "transformer", "soundstorm", "decoder",
    "refiner", "joint", "all",
    "griffin-text", "griffin-4min", "griffin-16min", "text-griffin", "text-transformer",
    "gslm", "twist", "spiritlm", "spiritlm-base", "audiolm", "others",
    "gslm-units", "gslm-voice", "gslm-language",
    "twist-units", "twist-voice", "twist-language",
    "spiritlm-language", "spiritlm-base-language", "audiolm-coarse", "audiolm-fine",
]  # fmt: skip
Preset = Literal["tiny", "laptop", "gpu", "paper-2b", "paper-9b"]
Set = Literal["development", "narrated", "librispeech", "librispeech-long"]  # no set that figures are of
Length = Literal["30s", "1min", "2min", "4min", "16min"]


@command
def train(
    model: Annotated[
        Model,
        typer.Argument(
            help="A model of the bundle, or all of them. encoder and ctc-head: the tokenizer's parts before and "
            "after its tokens; decoder: the codec's part after its codes; refiner: what tells the levels that "
            "the voice does not guess; joint: refiner and decoder together, by what is heard; gslm, twist, spiritlm, "
            "audiolm: all models of that system, others: of all systems, without those that are there"
        ),
    ],
    work: Annotated[Path, typer.Option(help="Checkpoints and logs; a run that was stopped goes on from here.")] = Path(
        "runs"
    ),
    into: Annotated[
        Path | None,
        typer.Option(help="The bundle to put the model in. Left out: a copy of that in use, in runs/bundle."),
    ] = None,
    speech: Annotated[
        Path | None,
        typer.Option(
            help="A folder in the layout of LibriSpeech, to learn from as well; Spirit LM with its *.alignment.csv."
        ),
    ] = None,
    narration: Annotated[
        Path | None, typer.Option(help="A folder of narrated documents with sentence times, to learn from as well.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of training, in place of the recipe's own.")] = None,
    hours: Annotated[float | None, typer.Option(help="Hours of narrated speech, in place of the recipe's own.")] = None,
    seed: Annotated[int | None, typer.Option(help="Any integer. Left out: 0.")] = None,
    preset: Annotated[Preset | None, typer.Option(help="Of the language models. Left out: laptop.")] = None,
    length: Annotated[Length | None, typer.Option(help="Of the pieces they learn from.")] = None,
    corpus: Annotated[
        str,
        typer.Option(
            help="What they learn from: stories, long-stories, read-stories or long-read-stories (of --hours half by "
            "espeak-ng and half in the words of the narrators of --narration, and what these read as well), or a "
            "shard, manifest or folder of recordings, of which the last 10 s go. The other models learn from it "
            "beside narrated speech."
        ),
    ] = "stories",
    warm: Annotated[
        bool, typer.Option("--warm", help="Begin with the weights that the bundle has: go on, or fit them to new data.")
    ] = False,
    init: Annotated[
        str | None,
        typer.Option(
            help="Begin with the weights of another bundle, griffin-16min with its griffin's; or griffin with "
            "RecurrentGemma's: google/..."
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="Settings in a TOML file, such as the run.toml of a run; what an option says holds."),
    ] = None,
    change: Annotated[
        list[str] | None, typer.Option("--set", help="A setting, such as lr=3e-4; may be given several times.")
    ] = None,
    devices: Annotated[
        int, typer.Option(help="GPUs of this machine, or processes.", envvar="LOCAL_WORLD_SIZE", show_envvar=False)
    ] = 1,
    nodes: Annotated[
        int, typer.Option(help="Machines, when torchrun starts them.", envvar="GROUP_WORLD_SIZE", show_envvar=False)
    ] = 1,
    strategy: Annotated[
        Literal["ddp", "fsdp"], typer.Option(help="fsdp is for a model that one device cannot hold.")
    ] = "ddp",
    accumulate: Annotated[int, typer.Option(help="Parts that a batch is divided into, to save memory.")] = 1,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write curves for TensorBoard, too.")] = False,
    wandb: Annotated[bool, typer.Option("--wandb", help="Send them to Weights & Biases, too.")] = False,
    show: Annotated[
        bool, typer.Option("--show", help="Only print the settings that it would train with, for --config to take.")
    ] = False,
    minutes: Annotated[
        float | None, typer.Option(help="Save and end after so many, with exit code 142; the same command goes on.")
    ] = None,
) -> None:
    """Train a model of the bundle by its recipe, or all of them. Ctrl-C saves; the same command goes on."""
    from lab.corpora import librispeech, narrated_folder
    from lab.train import others, recipes
    from lab.train import settings as run_settings
    from lab.train.loop import Compute
    from lab.train.plan import LANGUAGE_MODELS, RECIPES, WHOLE, Plan

    if speech and model in LANGUAGE_MODELS:
        raise LabError(
            f"{model} learns from tokens; give --corpus {speech}, a folder or a shard of it, in place of --speech"
        )
    if init and model in RECIPES and RECIPES[model].part:
        raise LabError(f"{model} goes on with a part of the bundle's {RECIPES[model].part}; leave --init out")
    compute = Compute(devices, nodes, strategy, accumulate, tensorboard, wandb, minutes=minutes)
    speech, into = speech or librispeech.find(), into or work / "bundle"
    narration = narration or narrated_folder.find()
    options: dict[str, Any] = {"steps": steps, "seed": seed, "preset": preset, "length": length}
    settings = run_settings.gathered(config, change or [])
    settings |= {name: value for name, value in options.items() if value is not None}
    options = {name: settings.pop(name) for name in options if name in settings}
    options |= {"hours": hours, "corpus": corpus, "warm": warm, "init": init, "settings": settings, "compute": compute}
    plan = Plan(work, into, speech, narration, **options)
    if plan.preset.startswith("paper") and corpus == "stories" and not show:
        console.print(f"{plan.preset} learns from stories by espeak-ng; --corpus SHARD gives it speech")
    several = {"all": WHOLE} | others.SYSTEMS
    names = list(several.get(model, (model,)))
    if model == "all" and plan.tokenized:  # the tokenizer alone can learn from what the shard was made of
        made_of = f"what it was made of: {Path(corpus) / 'manifest.jsonl'}"
        raise LabError(f"{corpus} holds the tokens of another tokenizer than this would train; give --corpus {made_of}")
    tables = {name: recipes.settings(name, plan) for name in names}
    if show:
        answer(tables, *(f"# {name}\n{run_settings.text(table)}".rstrip() for name, table in tables.items()))
        return
    fabric = compute.fabric()
    with fabric.rank_zero_first():
        begin_bundle(plan, names)
    cards = {}
    for name in names:
        if model in several and recipes.complete(name, plan):
            said = f"{name}: complete in {plan.bundle}"
        else:
            cards[name] = card = recipes.train(name, plan)
            said = f"{name}: {card['steps']} steps in {card['minutes']} min, {card['at_the_end']}"
        if fabric.is_global_zero:
            console.print(said)
    if fabric.is_global_zero:
        console.print(f"`lab story PROMPT --bundle {plan.bundle}` speaks with it")
        if plan.recorded and {"griffin", "transformer"} & set(names):
            console.print(
                "an honest word: a voice can be learnt from an hour, words from hundreds; the paper has 60,000 hours"
            )
        answer({"bundle": plan.bundle, "cards": cards})


@command
def choose(
    model: Annotated[
        Literal["griffin", "griffin30", "griffin-4min", "griffin-16min", "griffin-text", "transformer"],
        typer.Argument(
            help="A language model whose run kept checkpoints: five, unless --set keep said another number."
        ),
    ],
    ears: Annotated[str, typer.Option(help="A recognizer and a language model of text: whisper:base.en,lm:PATH.")],
    work: Annotated[Path, typer.Option(help="That of `lab train`.")] = Path("runs"),
    into: Annotated[Path | None, typer.Option(help="The bundle that has the model. Left out: runs/bundle.")] = None,
    set_: Annotated[Set, typer.Option("--set", help="The prompts that each goes on from.")] = "development",
    minutes: Annotated[float, typer.Option(min=0, help="Of prompt and continuation together.")] = 4.0,
    count: Annotated[int, typer.Option("--count", "-n", help="How many prompts.")] = 16,
    speech: Annotated[
        Path | None, typer.Option(help="Of librispeech-long and narrated. The paper took LibriSpeech-Long's dev-clean.")
    ] = None,
    temperature: Annotated[float, typer.Option(min=0, help="Of sampling; the paper's is 1.")] = 1.0,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, mps: where each computes.")] = None,
) -> None:
    """Put that kept checkpoint into the bundle whose continuations, written down, are the likeliest text."""
    from lab.corpora import librispeech, narrated_folder
    from lab.evaluate import ears as judges
    from lab.evaluate import sets
    from lab.train import choice

    root, seconds = into or work / "bundle", 60 * minutes
    folder = speech or (narrated_folder.find() if set_ == "narrated" else librispeech.find())
    samples, listens = sets.examples(set_, count, seconds, folder), judges.load(ears, root)
    words = ["lab", "choose", model, "--set", set_, "--minutes", f"{minutes:g}", "--count", str(count)]
    command = shlex.join([*words, "--temperature", f"{temperature:g}", "--ears", judges.shown(ears)])
    options: dict[str, Any] = {"temperature": temperature, "device": device, "command": command}
    judged = choice.judge(model, work / model, root, samples, seconds, listens, **options)
    card = choice.put(model, judged, root, {"command": command, "judges": listens.provenance()})
    console.print(f"{model} in {root} is that of step {card['steps']}")
    rows = [{"step": each.checkpoint.step, "perplexity": each.perplexity} for each in judged]
    answer({"bundle": root, "step": card["steps"], "checkpoints": rows})


@command
def push(
    name: Annotated[str, typer.Argument(help="user/name on the Hugging Face hub")],
    private: Annotated[bool, typer.Option("--private", help="For nobody else to see.")] = False,
) -> None:
    """Offer the bundle in use on the Hugging Face hub, with its card. `--bundle hf://user/name` speaks with it."""
    from lab import bundle, cards

    root = bundle.folder()
    address = bundle.offer(root, name, cards.page(name, root), private)
    console.print(f"{root} is at {address}")
    answer({"address": address})


def begin_bundle(plan: Plan, names: list[str]) -> None:
    """A bundle to train into that is not there yet: the one in use, without what is trained from the beginning."""
    from lab import bundle

    source = bundle.folder()
    if (plan.bundle / "bundle.json").exists() or not (source / "bundle.json").exists():
        return
    kept = {name: entry for name, entry in bundle.index(source).items() if plan.warm or name not in names}
    with bundle.changing(plan.bundle) as entries:
        for name in kept:
            with replacing(plan.bundle / f"{name}.safetensors") as part:
                shutil.copyfile(source / f"{name}.safetensors", part)
        entries |= kept
