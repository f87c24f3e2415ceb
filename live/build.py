"""Make the folder that the book's pages load to run experiments without a kernel.  The Makefile calls this.

    python live/build.py atlas fast _build/fast/atlas.bin
    python live/build.py engine _build/fast/atlas.bin _build/fast/live

The atlas is a file of stored runs; the engine is everything else: graphs exported from htlib, what is
computed in Python and needed in the browser (meta.json), the bundled TypeScript, and the WebAssembly of ONNX
Runtime.
"""

from __future__ import annotations

import itertools
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from htlib import ExperimentConfig
from htlib.explorer import graphs, messages
from htlib.explorer import trainer as engine
from htlib.explorer import widget as widgets
from htlib.explorer.stored_runs import make_atlas, unpack
from htlib.student.functions import gaussian_mean, get_teacher
from htlib.theory.one_step import one_step_law

ROOT = Path(__file__).parent
MODULES = ROOT / "node_modules"
WASM = MODULES / "onnxruntime-web" / "dist" / "ort-wasm-simd-threaded.wasm"
SIZES = ("n", "d", "h", "n_test")


def make_engine(atlas: Path, folder: Path) -> None:
    """Everything into `folder`, which appears complete or not at all."""
    stage = folder.with_name(folder.name + ".partial")
    shutil.rmtree(stage, ignore_errors=True)
    explorer = widgets.explorer()
    graphs.export_graphs(stage, explorer.config)
    stored = unpack(atlas.read_bytes()).header["config"]
    shape = {name: stored[name] for name in SIZES}
    (stage / "meta.json").write_text(
        json.dumps(meta(explorer, explorer.config.replace(**shape)), allow_nan=False)
    )
    shutil.copy2(atlas, stage / "atlas.bin")
    shutil.copy2(WASM, stage)
    shutil.copy2(Path(widgets.__file__).parent / "static" / "explorer.css", stage)
    command = [
        MODULES / ".bin" / "esbuild",
        "src/page.ts",
        "src/worker.ts",
        "--bundle",
        "--minify",
        "--format=esm",
    ]
    command += [
        "--target=es2022",
        "--legal-comments=linked",
        "--log-level=warning",
        f"--outdir={stage.resolve()}",
    ]
    subprocess.run(command, cwd=ROOT, check=True)
    shutil.rmtree(folder, ignore_errors=True)
    stage.replace(folder)


def meta(explorer: widgets.Explorer, stored: ExperimentConfig) -> dict[str, Any]:
    """What live/src/meta.ts describes."""
    config, options = explorer.config, dict(explorer.options)
    options["choices"] = {**options["choices"], "teacher": list(graphs.GRAPH_TEACHERS)}
    return {
        "options": options,
        "activation": config.activation,
        "ridge_lambda": config.ridge_lambda,
        "input_scales": {"paper": 1 / math.sqrt(config.d), "released-code": 1 / config.d},
        "vectors": engine.LEADING_VECTORS,
        "teachers": {name: moments(name) for name in graphs.GRAPH_TEACHERS},
        "trained": shape(config, options["choices"]),
        "stored": shape(stored, options["choices"]),
    }


def moments(teacher: str) -> dict[str, float]:
    """Mean and variance of the link function of a standard normal variable."""
    link = get_teacher(teacher).value
    mean = gaussian_mean(link)
    return {"mean": mean, "variance": gaussian_mean(lambda z: (link(z) - mean) ** 2)}


def shape(config: ExperimentConfig, choices: dict[str, list[Any]]) -> dict[str, Any]:
    """Noise law and closed forms of runs of one size."""
    laws = {}
    names = ("optimizer", "teacher", "labels", "noise_std")
    for values in itertools.product(*(choices[name] for name in names)):
        fields = dict(zip(names, values, strict=True))
        try:
            law = one_step_law(n=config.n, d=config.d, h=config.h, activation=config.activation, **fields)
        except ValueError:  # labels without theory
            continue
        key = " ".join(f"{v:g}" if isinstance(v, float) else v for v in values)
        laws[key] = {name: getattr(law, name) for name in ("h", "d", "gain", "drag", "cross", "signal")}
    sizes = {name: getattr(config, name) for name in SIZES}
    return {"sizes": sizes, "noise": messages.noise_of(config.h, config.d), "laws": laws}


def main() -> int:
    """Run one of the two commands; 0 if it worked."""
    match sys.argv[1:]:
        case ["atlas", profile, target]:
            Path(target).parent.mkdir(parents=True, exist_ok=True)
            Path(target).write_bytes(make_atlas(profile))
        case ["engine", atlas, folder]:
            make_engine(Path(atlas), Path(folder))
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
