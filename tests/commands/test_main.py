"""Properties of every command.  A new command is one line of `CALLS`, and one of `REFUSED` per own error."""

import argparse
import dataclasses
import errno
import io
import os
import re
import sys

import pytest
import torch
from safetensors.torch import save_file

import htlib as ht
from htlib.commands.main import COMMANDS, main
from tests.ledgers import project

SIZES = ["--n", "40", "--d", "10", "--h", "15"]
# Command -> a call that works, and the function that does its work.
CALLS = {
    "run": (["run", *SIZES, "--n-test", "20", "--steps", "1"], "student.training.train"),
    "sweep": (["sweep", "tiny", "--seeds", "1", "--workers", "1"], "sweeps.compute.sweep_runs"),
    "predict": (["predict", *SIZES, "--lr", "1"], "theory.one_step.law_of_config"),
    "claims": (["claims", "--record", "open-question"], "ledger.verdicts.evaluate"),
    "analyze": (["analyze", "m.safetensors"], "models.table.analyze"),
}
# Command, what is added to its call, and what the one line names: argument, value, remedy.
REFUSED = [
    ("run", "--n -5", ("n must", "at least 1", "-5")),
    ("run", "--lr nan", ("lr must", "finite")),
    ("run", "--teacher foo", ("teacher must", "softplus", "foo")),
    ("run", "--momentum 0.9", ("momentum", "0.9", "optimizer='adam'")),
    ("sweep", "--seeds 0", ("seeds must", "0")),
    ("sweep", "--workers 0", ("workers must", "0")),
    ("sweep", "--threads -1", ("threads must", "-1")),
    ("sweep", "--clear", ("--clear", "a preset", "exclude each other")),
    ("sweep", "--lr 0.1", ("a preset", "--lr", "exclude each other")),
    ("sweep", "--store experiments", ("experiments", "is no store", "name a new")),
    ("sweep", "--store book/claims.yml", ("store must", "folder", "claims.yml")),
    ("predict", "--activation relu", ("activation must", "odd")),
    ("predict", "--lr -1", ("lr must", "-1.0")),
    ("predict", "--n 0", ("n must", "at least 1", "0")),
    ("predict", "--measure -2", ("--measure must", "-2")),
    ("claims", "rises", ("'rises'", "falls, open-question")),
    ("claims", "--ledger nowhere.yml", ("nowhere.yml",)),
    ("claims", "--ledger pyproject.toml", ("pyproject.toml", "'claims' must be a list")),
    ("analyze", "--replicates 1", ("--replicates must", "2", "1")),
    ("analyze", "--top 2", ("--top must", "3", "2")),
    ("analyze", "--xmin 3x", ("--xmin must", "median", "3x")),
    ("analyze", "--xmin -1", ("--xmin must", "positive", "-1")),
    ("analyze", "--xmax 0", ("--xmax must", "positive", "0")),
    ("analyze", "-k 3", ("-k", "--against")),
    ("analyze", "--against missing.pt", ("no file", "missing.pt")),
    ("analyze", "--against missing.pt --compare", ("--compare", "leave out --against")),
    ("analyze", "--against missing.pt --plots folder", ("--plots", "leave out --against")),
    *((name, "--device nowhere", ("device 'nowhere'",)) for name in ("run", "sweep", "analyze")),
]
# What is added to a call that writes, and what is named.
UNWRITABLE = [
    *((name, "--output no/such/t.csv", ("no/such", "--output")) for name in CALLS if name != "claims"),
    *((name, "--output t.txt", ("--output", ".csv", "t.txt")) for name in ("sweep", "predict", "analyze")),
    ("run", "--output t.csv", ("--output", ".safetensors", "t.csv")),
    *((name, "--plot p.docx", ("--plot", ".png", "p.docx")) for name in ("run", "sweep", "analyze")),
    *((name, "--plot no/p.png", ("no", "--plot")) for name in ("run", "sweep", "analyze")),
    ("analyze", "--plots no/such", ("no/such", "--plots")),
]  # fmt: skip


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder with a preset, a ledger and a checkpoint, and a store beside it."""
    monkeypatch.chdir(project(tmp_path))
    monkeypatch.setenv("HTLIB_STORE", str(tmp_path / "store"))
    generator = torch.Generator().manual_seed(0)
    save_file({"w": torch.randn(40, 30, generator=generator)}, tmp_path / "m.safetensors")
    (tmp_path / "pyproject.toml").write_text("claims: 3")
    return tmp_path


NEAREST = [
    (["swep"], "unknown command 'swep'; did you mean 'sweep'?"),
    (["run", "--optimiser", "gd"], "unknown argument '--optimiser'; did you mean '--optimizer'?"),
    (["analyze", "m.safetensors", "--agianst=x"], "unknown argument '--agianst'; did you mean '--against'?"),
    (["predict", "--colour", "red"], "unknown argument '--colour'; see htlib predict --help"),
    (["run", "fast"], "unknown argument 'fast'; see htlib run --help"),
]


def assert_refused(command, wrong, named, capsys):
    quiet = [] if command == "predict" else ["--quiet"]
    assert main([*CALLS[command][0], *wrong.split(), *quiet]) == 2
    out, err = capsys.readouterr()
    assert err.startswith(f"htlib {command}: ")
    assert [part for part in named if part not in err] == []
    assert (err.count("\n"), out) == (1, "")


def test_the_lists_name_every_command():
    names = {command.__name__.rpartition(".")[2] for command in COMMANDS}
    assert names == CALLS.keys() == {name for name, *_ in REFUSED}


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.__name__)
def test_every_option_is_explained(command, capsys):
    parser = command.add_parser(argparse.ArgumentParser().add_subparsers())
    parser.print_help()
    text = capsys.readouterr().out
    for action in parser._actions:
        assert all(name in text for name in action.option_strings)
        assert len((action.help or "").strip()) > 3, action.dest


@pytest.mark.parametrize("command", ["run", "predict", "sweep"])
def test_every_field_is_explained_by_itself_with_its_default_and_examples_run(command, capsys):
    """Oracle: the fields of the configuration; the examples are parsed as calls."""
    (module,) = [one for one in COMMANDS if one.__name__.endswith(command)]
    parser = module.add_parser(argparse.ArgumentParser().add_subparsers())
    fields = {field.name: field.default for field in dataclasses.fields(ht.ExperimentConfig)}
    helps = {action.dest: action.help for action in parser._actions if action.dest in fields}
    assert command != "run" or helps.keys() == fields.keys()
    for name, text in helps.items():
        if (command, name) != ("predict", "lr"):
            shown = {"None": "none", "False": "off"}.get(str(fields[name]), fields[name])
            assert text.endswith(f" (default: {shown})"), text
    assert len(set(helps.values())) == len(helps)
    examples = re.findall(rf"^  htlib {command} (.+)$", parser.epilog, re.M)
    assert len(examples) > 1
    for line in examples:
        parser.parse_args(line.split())


@pytest.mark.parametrize("command", CALLS)
def test_a_call_works_and_quiet_prints_nothing(command, capsys):
    call = CALLS[command][0]
    assert main(call) == 0
    assert capsys.readouterr().out
    if command != "predict":
        assert main([*call, "--quiet"]) == 0
        assert capsys.readouterr().err == ""


@pytest.mark.parametrize("command", CALLS)
@pytest.mark.parametrize("wrong", ["--colour red", "--profile slow", "--n few", "--optimizer sgd"])
def test_an_option_that_cannot_be_read_exits_2_and_is_named(command, wrong, capsys):
    with pytest.raises(SystemExit) as stop:
        main([*CALLS[command][0], *wrong.split()])
    assert stop.value.code == 2
    assert wrong.split()[0] in capsys.readouterr().err


@pytest.mark.parametrize(("call", "answer"), NEAREST, ids=lambda value: value[0])
def test_an_unknown_name_is_answered_with_the_nearest_in_one_line(call, answer, capsys):
    with pytest.raises(SystemExit) as stop:
        main(call)
    out, err = capsys.readouterr()
    assert (stop.value.code, out, err.count("\n")) == (2, "", 1)
    assert answer in err


@pytest.mark.parametrize(("command", "wrong", "named"), REFUSED)
def test_a_wrong_call_exits_2_with_one_line(command, wrong, named, capsys):
    assert_refused(command, wrong, named, capsys)


@pytest.mark.parametrize(("command", "wrong", "named"), UNWRITABLE)
def test_what_cannot_be_written_is_refused_before_the_work(
    command, wrong, named, folder, monkeypatch, capsys
):
    monkeypatch.setattr(f"htlib.{CALLS[command][1]}", lambda *args, **kwargs: pytest.fail("worked"))
    before = sorted(folder.rglob("*"))
    assert_refused(command, wrong, named, capsys)
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("place", ["folder.csv", "{}.csv".format("x" * 250), "closed/t.csv"])
def test_a_place_that_cannot_be_written_is_refused_before_the_work(place, folder, monkeypatch, capsys):
    (folder / "folder.csv").mkdir()
    (folder / "closed").mkdir()
    if place.startswith("closed"):  # root may write into any folder of a local disk
        monkeypatch.setattr("pathlib.Path.touch", refuse(errno.EROFS))
    named = (f"cannot write {place}: ", "name another file")
    test_what_cannot_be_written_is_refused_before_the_work(
        "predict", f"--output {place}", named, folder, monkeypatch, capsys
    )


@pytest.mark.parametrize("command", ["run", "sweep", "predict"])
def test_the_table_is_printed_even_if_the_disk_is_full_at_the_end(command, monkeypatch, capsys):
    """Oracle: what the call prints without the file."""
    assert main(CALLS[command][0]) == 0
    printed = capsys.readouterr().out
    monkeypatch.setattr("htlib.commands.outputs.write_atomically", refuse(errno.ENOSPC))
    monkeypatch.setattr("htlib.student.run.write_atomically", refuse(errno.ENOSPC))
    file = "t.safetensors" if command == "run" else "t.csv"
    assert main([*CALLS[command][0], "--output", file]) == 2
    out, err = capsys.readouterr()
    assert out == printed
    assert err.splitlines()[-1].startswith(f"htlib {command}: cannot write {file}: No space left on device;")


def test_verdicts_that_cannot_be_recorded_are_found_before_the_work(folder, monkeypatch, capsys):
    monkeypatch.setattr("htlib.ledger.verdicts.evaluate", lambda *args, **kwargs: pytest.fail("worked"))
    (folder / "book" / "verdicts.yml").mkdir()
    assert_refused("claims", "", ("cannot write", "verdicts.yml: Is a directory"), capsys)


def refuse(number):
    def fail(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    return fail


def test_a_terminal_that_cannot_show_a_name_shows_marks(folder, monkeypatch):
    save_file({"grün.weight": torch.eye(12) + torch.ones(12, 12)}, folder / "m.safetensors")
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    assert main(CALLS["analyze"][0]) == 0
    sys.stdout.seek(0)
    assert "gr?n.weight" in sys.stdout.read()


def test_ctrl_c_exits_130(monkeypatch, capsys):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(f"htlib.{CALLS['run'][1]}", interrupt)
    assert main(CALLS["run"][0]) == 130
    assert capsys.readouterr().err == "htlib run: interrupted\n"
