"""The whole way from recordings to figures, as one configuration says.

The jobs meet through files in one folder: ``archive/``, ``run/``, ``store/``, ``untrained/`` and ``evaluation/``. A
stage whose result is there already is not done again, so a stopped pipeline goes on where it was.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from sgela_fast.atomic import make_folder, write_json
from sgela_fast.encoding.config import EncodingConfig
from sgela_fast.errors import ConfigError, DataError, OutputError
from sgela_fast.evaluation.config import EvaluationConfig, refuse_cross_view
from sgela_fast.models.config import SGELAConfig
from sgela_fast.skeletons.config import ConvertConfig, WalkerConfig, WindowConfig
from sgela_fast.training.config import TrainingConfig
from sgela_fast.training.launch import this_process

INDEX = "pipeline.json"


class Advances(Protocol):
    """What a stage reports its progress to."""

    def advance(self, units: int = 1, *, note: str = "") -> None:
        """Report finished units."""

    def plan(self, done: int, total: int) -> None:
        """State the units of the whole stage once they are known."""


StageProgress = Callable[[str, int | None, str], AbstractContextManager[Advances]]


@dataclass(frozen=True)
class PipelineConfig:
    """What is done, stage by stage.

    Attributes:
        source: recordings of any known format, or an archive; empty for synthetic walkers.
        untrained: also encode with fresh weights and show what they reach: the row that training must beat.
        walkers: the synthetic walkers.
        convert: how recordings become an archive.
        window: how recordings become windows.
        model: what the model is.
        training: how it is trained.
        encoding: how the archive is encoded.
        evaluation: what is evaluated.

    Raises:
        ConfigError: the model has no attention and its AGEs are to be encoded, or the protocol is one of silhouettes.
    """

    source: str = ""
    untrained: bool = True
    walkers: WalkerConfig = field(default_factory=WalkerConfig)
    convert: ConvertConfig = field(default_factory=ConvertConfig)
    window: WindowConfig = field(default_factory=WindowConfig)
    model: SGELAConfig = field(default_factory=SGELAConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    encoding: EncodingConfig = field(default_factory=EncodingConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)

    def __post_init__(self) -> None:
        if self.encoding.feature == "ages" and self.model.attention == "none":
            raise ConfigError(
                "encoding.feature is ages but a model with model.attention none has no AGEs; choose encoding.feature "
                "states"
            )
        refuse_cross_view(self.evaluation)


@dataclass(frozen=True)
class PipelineResult:
    """Where everything is.

    Attributes:
        archive: the archive, which may be the source itself.
        run: the run folder.
        stores: encodings of the trained model, then, if asked for, of the untrained one.
        evaluation: folder with ``results.json`` and plots.
        results: the evaluation's result (:class:`sgela_fast.evaluation.results.EvaluationResult`).
    """

    archive: Path
    run: Path
    stores: list[Path]
    evaluation: Path
    results: Any


def run_pipeline(
    config: PipelineConfig,
    out: str | Path,
    *,
    overwrite: bool = False,
    progress: StageProgress | None = None,
    announce: Callable[[str], None] = lambda line: None,
) -> PipelineResult:
    """Do every stage that is not done yet.

    Args:
        config: what to do.
        out: folder of all results.
        overwrite: remove what an earlier pipeline left in ``out`` and start over.
        progress: called as ``progress(title, total, unit)`` for each stage, gives a context manager.
        announce: called with one-line remarks.

    Raises:
        OutputError: ``out`` holds something else, or a pipeline with other settings.
        ConfigError: several processes were started; only training knows how to share its work.
        SgelaError: whatever a stage raises.
    """
    if this_process().size > 1:
        raise ConfigError(
            "several processes were started but only `train` shares its work; use torchrun for `train` alone"
        )
    folder = Path(out)
    _claim(folder, config, overwrite)
    stages = _Stages(config, folder, progress or _silent, announce)
    archive = stages.archive()
    run = stages.train(archive)
    stores = [stages.encode(archive, "store", run)]
    if config.untrained:
        stores.append(stages.encode(archive, "untrained", None))
    evaluation, results = stages.evaluate(stores)
    return PipelineResult(archive, run, stores, evaluation, results)


class _Stages:
    def __init__(
        self, config: PipelineConfig, folder: Path, progress: StageProgress, announce: Callable[[str], None]
    ) -> None:
        self.config, self.folder, self.progress, self.announce = config, folder, progress, announce

    def archive(self) -> Path:
        from sgela_fast.skeletons.archive import is_archive
        from sgela_fast.skeletons.convert import convert, open_configured
        from sgela_fast.skeletons.walker import write_walkers

        config, path = self.config, self.folder / "archive"
        if config.source and is_archive(Path(config.source)):
            return Path(config.source)
        if is_archive(path):
            self.announce(f"archive: {path} is there already")
        elif config.source:
            source = open_configured(config.source, config.convert)
            with self.progress("Converting", len(source), "recordings") as stage:
                result = convert(source, path, config.convert, advance=stage.advance)
            for item in result.left_out:
                self.announce(f"left out: {item.recording}: {item.reason}")
        else:
            count = config.walkers.persons * config.walkers.walks
            with self.progress("Synthesising walkers", count, "recordings") as stage:
                write_walkers(path, config.walkers, advance=stage.advance)
        return path

    def train(self, archive: Path) -> Path:
        from sgela_fast.checkpoints.run_folder import read_info
        from sgela_fast.training.checkpoint import list_checkpoints
        from sgela_fast.training.trainer import train

        path = self.folder / "run"
        if (path / "run.json").exists() and read_info(path)["state"] in ("finished", "out of budget"):
            self.announce(f"training: {path} is there already")
            return path
        resume = bool(list_checkpoints(path))
        if not resume:
            shutil.rmtree(path, ignore_errors=True)  # a run without a checkpoint has nothing to go on with
        with self.progress("Training", None, "steps") as stage:
            result = train(
                archive,
                path,
                self.config.model,
                self.config.window,
                self.config.training,
                resume=resume,
                progress=stage.advance,
                announce=self.announce,
                planned=stage.plan,
            )
        for note in result.notes:
            self.announce(note)
        return path

    def encode(self, archive: Path, name: str, run: Path | None) -> Path:
        from sgela_fast.encoding.encode import encode, open_encoder
        from sgela_fast.skeletons.archive import Archive

        path = self.folder / name
        if (path / "store.json").exists():
            self.announce(f"encoding: {path} is there already")
            return path
        opened = Archive(archive)
        encoder = open_encoder(
            opened,
            run=run,
            untrained=None if run else self.config.model.variant,
            seed=self.config.training.seed,
            config=self.config.encoding,
            window=self.config.window,
        )
        with self.progress(f"Encoding, {encoder.origin}", len(opened), "recordings") as stage:
            encode(
                opened,
                encoder,
                path,
                self.config.encoding,
                resume=True,
                progress=stage.advance,
                planned=stage.plan,
            )
        return path

    def evaluate(self, stores: list[Path]) -> tuple[Path, Any]:
        from sgela_fast.evaluation.evaluate import count_runs, evaluate

        path = self.folder / "evaluation"
        config = self.config.evaluation
        with self.progress("Evaluating", count_runs(len(stores), config), "runs") as stage:
            return path, evaluate(stores, config, out=path, progress=stage.advance)


def _claim(folder: Path, config: PipelineConfig, overwrite: bool) -> None:
    """Take possession of ``folder``, or find that it holds this very pipeline."""
    index = folder / INDEX
    # As JSON has it: tuples become lists.
    settings = json.loads(json.dumps(asdict(config)))
    if overwrite and index.exists():
        shutil.rmtree(folder)
    make_folder(folder)
    if index.exists():
        try:
            found = json.loads(index.read_text())
        except ValueError as error:
            raise DataError(f"{index} is damaged ({error}); start over with --overwrite") from error
        if found != settings:
            raise OutputError(
                f"{folder} holds a pipeline with other settings; choose another --out or start over with --overwrite"
            )
    elif any(folder.iterdir()):
        raise OutputError(f"{folder} is not empty and holds no pipeline; choose another --out")
    write_json(index, settings)


class _Silent:
    def advance(self, units: int = 1, *, note: str = "") -> None:
        pass

    def plan(self, done: int, total: int) -> None:
        pass

    def __enter__(self) -> _Silent:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def _silent(title: str, total: int | None, unit: str) -> AbstractContextManager[Advances]:
    return _Silent()
