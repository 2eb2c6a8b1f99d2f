"""``sgela-fast export``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the sub-command's arguments."""
    parser.add_argument("model", type=str, help="run folder, as `sgela-fast train` makes it")
    parser.add_argument("--out", type=str, required=True, help="the file to write")
    parser.add_argument(
        "--format",
        type=Literal["onnx", "torch"] | None,
        help="onnx, or torch for a torch.export program; by default what the suffix .onnx or .pt2 says",
    )
    parser.add_argument(
        "--feature",
        type=Literal["ages", "states"],
        default="ages",
        help="states: the encoded gait states of the encoder, without the decoder",
    )
    parser.add_argument(
        "--pooling", type=Literal["none", "mean"], default="none", help="mean: one encoding per window, not per frame"
    )
    parser.add_argument(
        "--backend",
        type=Literal["reference", "fused"],
        default="reference",
        help="reference runs wherever torch or ONNX does; fused (torch only) calls this package's fused ops",
    )
    parser.add_argument("--origin", type=str | None, help="joint on which the windows will have been centred before")


def run(args: Namespace) -> None:
    """Export and print what the file takes and gives."""
    from sgela_fast.encoding.encoder import Encoder
    from sgela_fast.encoding.export import export

    encoder = Encoder.load(args.model, "reference", "cpu")
    path = export(
        encoder,
        args.out,
        format=args.format,
        feature=args.feature,
        pooling=args.pooling,
        backend=args.backend,
        origin=args.origin,
    )
    frames, width = encoder.window.frames, encoder.model.config.width
    print(f"file     {path} ({path.stat().st_size / 1e6:.1f} MB)")
    print(f"windows  (batch, {frames}, {len(encoder.layout)}, 3) float32, metres, layout {encoder.layout.name}")
    print(f"{args.feature:8} (batch, {f'{frames}, ' if args.pooling == 'none' else ''}{width}) float32")
