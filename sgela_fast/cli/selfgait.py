"""What ``sgela-fast train --system selfgait`` adds to ``train``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Literal

from sgela_fast.errors import ConfigError
from sgela_fast.models.selfgait_config import SelfGaitConfig
from sgela_fast.silhouettes.config import ClipConfig
from sgela_fast.training.selfgait.config import SelfGaitTrainingConfig

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

SHORTCUTS = ("from", "stage", "labels")


def add_arguments(parser: ArgumentParser) -> None:
    """Declare what SelfGait reads."""
    parser.add_argument("--from", type=str | None, help="selfgait: run folder whose model is fine-tuned or probed")
    parser.add_argument(
        "--stage",
        type=Literal["pretrain", "finetune", "probe"] | None,
        help="selfgait: sets selfgait_training.stage, or fits a linear classifier to the embeddings of --from; "
        "finetune if only --from is given",
    )
    parser.add_argument("--labels", type=float | None, help="selfgait: sets selfgait_training.labels")
    parser.add_class_arguments(SelfGaitConfig, "selfgait")
    parser.add_class_arguments(ClipConfig, "clips")
    parser.add_class_arguments(SelfGaitTrainingConfig, "selfgait_training")


def settings(args: Namespace) -> tuple[SelfGaitConfig, ClipConfig, SelfGaitTrainingConfig]:
    """Settings out of parsed arguments, shortcuts applied.

    Raises:
        ConfigError: one is out of range.
    """
    training: dict[str, Any] = dict(vars(args.selfgait_training))
    stage = args.stage or ("finetune" if args["from"] else None)
    if stage in ("pretrain", "finetune"):
        training["stage"] = stage
    if args.labels is not None:
        training["labels"] = args.labels
    return (
        SelfGaitConfig(**vars(args.selfgait)),
        ClipConfig(**vars(args.clips)),
        SelfGaitTrainingConfig(**training),
    )


def run(args: Namespace) -> None:
    """Train or probe, and print what came out."""
    model, clips, training = settings(args)
    if args.stage == "probe":
        _probe(args, training)
        return
    if args["from"] and training.stage == "pretrain":
        raise ConfigError("--from is for fine-tuning and probing; pre-training is gone on with by --resume")
    from sgela_fast.cli.progress import Progress
    from sgela_fast.training.selfgait.job import train_selfgait

    with Progress("Training", None, "steps") as progress:
        result = train_selfgait(
            args.archive,
            args.out,
            model,
            clips,
            training,
            start=args["from"],
            resume=args.resume,
            progress=progress.advance,
            announce=lambda line: print(line, file=sys.stderr),
            planned=progress.plan,
        )
    for note in result.notes:
        print(f"note: {note}", file=sys.stderr)
    print(f"{result.stage} {result.state} after {result.step} steps")
    shown = {name: value for name, value in result.values.items() if name not in ("gradient_norm", "seconds")}
    print("; ".join(f"{'loss' if name == 'total' else name} {value:.4f}" for name, value in shown.items()))
    print(f"run folder: {result.run}")


def _probe(args: Namespace, training: SelfGaitTrainingConfig) -> None:
    if not args["from"]:
        raise ConfigError("--stage probe needs a model; name its run folder with --from")
    from sgela_fast.training.selfgait.probe import probe_selfgait

    result = probe_selfgait(args.archive, args["from"], training, out=args.out)
    print(f"linear probe of {result.persons} persons: {result.accuracy:.1%} of {result.tested:,} sequences")
    print("; ".join(f"{kind} {share:.1%}" for kind, share in result.by_condition.items()))
    print(f"fitted to {result.fitted:,} sequences ({result.seen:.1%} of them right); chance {result.chance:.1%}")
