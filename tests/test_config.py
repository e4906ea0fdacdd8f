"""The run file: what it accepts, what `--set` does to it, and one line for every mistake."""

from __future__ import annotations

import re

import pytest
import tomli_w
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ebmcore.config import RunConfig
from ebmcore.errors import ConfigError, InputError
from ebmcore.protocols import Stage

FILE = """\
[model]
use = "double_well"

[sampler]
use = "ula"
step_size = 0.01

[run]
chains = 1_000_000
steps = 1000
seed = 7
"""
LAST = len(FILE.splitlines()) + 1

STAGES = """\
[model]
use = "double_well"

[[stage]]
sampler = {use = "ula", step_size = 0.01}
steps = 100

[[stage]]
steps = 50
draws = 10
warmup = 5
[stage.sampler]
use = "mala"
step_size = 0.1

[run]
chains = 64
"""


@pytest.fixture
def write(tmp_path):
    def write(content):
        path = tmp_path / "job.toml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def test_arguments_are_what_the_file_says_and_no_more(write, tmp_path):
    assert RunConfig.load(write(FILE)).arguments() == {
        "energy": {"use": "double_well"},
        "sampler": {"use": "ula", "step_size": 0.01},
        "base": tmp_path,
        "writers": (),
        "reducers": (),
        "observers": (),
        "chains": 1_000_000,
        "steps": 1000,
        "seed": 7,
    }


def test_every_key(write, tmp_path):
    text = """
        [model]
        use = "mlp"
        weights = "w.safetensors"
        hidden = [32, 32]
        [sampler]
        use = "./mine.py:Walk"
        inner = {use = "ula", step_size = 0.1}
        [run]
        chains = 128
        shape = [2, 3]
        init = "uniform"
        steps = 100
        draws = 10
        warmup = 0
        temperature = 2
        seed = 9223372036854775807
        [engine]
        devices = ["cpu:0", "cpu:1"]
        executor = {use = "threads", workers = 2}
        chunk_size = 64
        precision = "float64"
        noise = "reference"
        [condition]
        y = "labels.npy"
        [shared]
        sigma = "sigma.safetensors"
        [[writer]]
        use = "npy"
        [[writer]]
        use = "npy"
        name = "copy"
        [[reducer]]
        use = "moments"
        [[observer]]
        use = "slowest"
        """
    assert RunConfig.load(str(write(text))).arguments() == {
        "energy": {"use": "mlp", "weights": "w.safetensors", "hidden": [32, 32]},
        "sampler": {"use": "./mine.py:Walk", "inner": {"use": "ula", "step_size": 0.1}},
        "base": tmp_path,
        "writers": ({"use": "npy"}, {"use": "npy", "name": "copy"}),
        "reducers": ({"use": "moments"},),
        "observers": ({"use": "slowest"},),
        "chains": 128,
        "shape": (2, 3),
        "init": "uniform",
        "steps": 100,
        "draws": 10,
        "warmup": 0,
        "temperature": 2.0,
        "seed": 2**63 - 1,
        "devices": ["cpu:0", "cpu:1"],
        "executor": {"use": "threads", "workers": 2},
        "chunk_size": 64,
        "precision": "float64",
        "noise": "reference",
        "condition": {"y": "labels.npy"},
        "shared": {"sigma": "sigma.safetensors"},
    }


@pytest.mark.parametrize(
    ("text", "init"),
    [
        ('"start.npy"', "start.npy"),
        ('"runs/before"', "runs/before"),
        ('"./mine.py:begin"', "./mine.py:begin"),
        ('{use = "normal", scale = 2}', {"use": "normal", "scale": 2.0}),
        ('{use = "start.npy", repeat = 1e1}', {"use": "start.npy", "repeat": 10}),
    ],
)
def test_init_is_a_string_or_a_table(write, text, init):
    assert RunConfig.load(write(FILE + f"init = {text}\n")).arguments()["init"] == init


def test_stages_stand_for_the_sampler(write):
    arguments = RunConfig.load(write(STAGES)).arguments()
    assert arguments["sampler"] == [
        Stage({"use": "ula", "step_size": 0.01}, 100),
        Stage({"use": "mala", "step_size": 0.1}, 50, draws=10, warmup=5),
    ]
    assert arguments["chains"] == 64
    assert not {"steps", "draws", "warmup"} & set(arguments)


def test_set_reaches_into_a_stage(write):
    arguments = RunConfig.load(write(STAGES), ["stage.1.sampler.step_size=0.2", "stage.0.steps=7"]).arguments()
    assert [stage.sampler["step_size"] for stage in arguments["sampler"]] == [0.01, 0.2]
    assert arguments["sampler"][0].steps == 7


def test_arguments_name_parameters_of_sample(write):
    import inspect

    from ebmcore.sampling import sample

    arguments = RunConfig.load(write(FILE + '[engine]\nexecutor = "serial"\n')).arguments()
    assert set(arguments) <= set(inspect.signature(sample).parameters)


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("run.chains=1e6", "chains", 1_000_000),
        ("run.chains = 64", "chains", 64),
        ("run.seed=0", "seed", 0),
        ("run.init=normal", "init", "normal"),
        ('run.init="normal"', "init", "normal"),
        ("run.shape=[3]", "shape", (3,)),
        ("run.shape=[]", "shape", ()),
        ("engine.devices=cpu", "devices", "cpu"),
        ("engine.chunk_size=auto", "chunk_size", "auto"),
        ("engine.executor=serial", "executor", "serial"),
        ("model.use=gaussian", "energy", {"use": "gaussian"}),
        ("model.file=a=b", "energy", {"use": "double_well", "file": "a=b"}),
        ("model.text=1\nother = 2", "energy", {"use": "double_well", "text": "1\nother = 2"}),
        ("sampler={use = 'mala'}", "sampler", {"use": "mala"}),
        ("sampler.inner.step_size=0.1", "sampler", {"use": "ula", "step_size": 0.01, "inner": {"step_size": 0.1}}),
        ("writer.0.use=npy", "writers", ({"use": "npy"},)),
    ],
)
def test_set_replaces_one_value(write, override, key, value):
    assert RunConfig.load(write(FILE), [override]).arguments()[key] == value


def test_later_sets_win_and_lists_of_tables_are_addressed_by_index(write):
    overrides = ["run.chains=64", "run.chains=128", "writer.1.use=zarr", "writer.0.name=first", "writer.2.use=memory"]
    arguments = RunConfig.load(write(FILE + '[[writer]]\nuse = "npy"\n'), overrides).arguments()
    assert arguments["chains"] == 128
    assert arguments["writers"] == ({"use": "npy", "name": "first"}, {"use": "zarr"}, {"use": "memory"})


MISTAKES = {
    "empty file": ("", "", "must have [model]; got an empty file"),
    "no run": ('[model]\nuse = "x"\n', "", "must have [run]; got only [model]. Add a table [run]."),
    "no sampler": (
        '[model]\nuse = "x"\n[run]\nchains = 1\nsteps = 1\n',
        "",
        "must have [sampler] or [[stage]]; got only [model], [run]. Add a table [sampler].",
    ),
    "no steps": (FILE.replace("steps = 1000\n", ""), ":8: ", "`run.steps` must be given; got nothing. Add steps = ..."),
    "no use": (FILE.replace('use = "ula"\n', ""), ":4: ", "`sampler.use` must be given"),
    "use misspelled": (FILE.replace('use = "ula"', 'ues = "ula"'), ":4: ", "Is 'ues' a misspelling of it?"),
    "no chains": (FILE.replace("chains = 1_000_000\n", ""), ":8: ", "`run.chains` must be given"),
    "key misspelled": (
        FILE.replace("chains", "chians"),
        ":9: ",
        "[run] has no key named 'chians'. Did you mean 'chains'?",
    ),
    "table misspelled": (FILE + "[engin]\n", f":{LAST}: ", "no table named 'engin'. Did you mean 'engine'?"),
    "stage without a sampler": (
        STAGES.replace('sampler = {use = "ula", step_size = 0.01}\n', ""),
        ":4: ",
        "`stage.0.sampler` must be given; got nothing. Add sampler = ... to [[stage]].",
    ),
    "stage with another key": (
        STAGES.replace("draws = 10", "drawz = 10"),
        ":10: ",
        "[[stage]] has no key named 'drawz'. Did you mean 'draws'?",
    ),
    "stage as one table": (STAGES.replace("[[stage]]\nsampler", "[stage]\nsampler", 1), ":8: ", "must be TOML"),
    "sampler beside stages": (
        STAGES + '[sampler]\nuse = "ula"\n',
        ":18: ",
        "[sampler] must be left out beside [[stage]]; got both. Move it into a stage",
    ),
    "steps beside stages": (
        STAGES + "steps = 10\n",
        ":18: ",
        "`run.steps` must be left out beside [[stage]]; got 10. Give each [[stage]] its own.",
    ),
    "init as a number": (FILE + "init = 3\n", f":{LAST}: ", "`run.init` must be a string or a table; got 3"),
    "init table": (
        FILE + "init = {use = 'normal', sclae = 2}\n",
        f":{LAST}: ",
        "[run.init] has no key named 'sclae'. Did you mean 'scale'?",
    ),
    "init repeat": (
        FILE + "init = {use = 'normal', repeat = 0}\n",
        f":{LAST}: ",
        "`run.init.repeat` must be >= 1; got 0. Choose 1 or more.",
    ),
    "condition": (
        FILE + "[condition]\ny = 3\n",
        f":{LAST + 1}: ",
        "`condition.y` must be a string; got 3. Write it in",
    ),
    "condition as a name": (
        "condition = 'y.npy'\n" + FILE,
        ":1: ",
        "`condition` must be a table; got 'y.npy'. Write [condition].",
    ),
    "not built yet: tune": (FILE + "tune = 5\n", f":{LAST}: ", "[run] has no key named 'tune'"),
    "single writer table": (
        FILE + "[writer]\nuse = 'npy'\n",
        f":{LAST}: ",
        "must be a list; got a table. Write [[writer]].",
    ),
    "list of models": (
        FILE.replace("[model]", "[[model]]"),
        ":1: ",
        "must be a table; got a list of tables. Write [model].",
    ),
    "chains 0": (FILE.replace("1_000_000", "0"), ":9: ", "`run.chains` must be >= 1; got 0"),
    "chains fractional": (FILE.replace("1_000_000", "1.5"), ":9: ", "`run.chains` must be an integer; got 1.5"),
    "chains boolean": (FILE.replace("1_000_000", "true"), ":9: ", "`run.chains` must be an integer; got true"),
    "chains text": (FILE.replace("1_000_000", '"many"'), ":9: ", "`run.chains` must be an integer; got 'many'"),
    "seed negative": (FILE.replace("seed = 7", "seed = -1"), ":11: ", "`run.seed` must be >= 0; got -1"),
    "seed too large": (
        FILE.replace("seed = 7", "seed = 9223372036854775808"),
        ":11: ",
        "must be < 9223372036854775808; got 9223372036854775808",
    ),
    "temperature 0": (FILE + "temperature = 0.0\n", f":{LAST}: ", "`run.temperature` must be > 0; got 0.0"),
    "temperature nan": (FILE + "temperature = nan\n", f":{LAST}: ", "`run.temperature` must be finite; got nan"),
    "shape": (FILE + "shape = [2, 0]\n", f":{LAST}: ", "`run.shape.1` must be >= 1; got 0"),
    "chunk size": (FILE + "[engine]\nchunk_size = 0\n", f":{LAST + 1}: ", "must be 'auto' or >= 1; got 0"),
    "devices": (FILE + "[engine]\ndevices = 2\n", f":{LAST + 1}: ", "must be a string or a list; got 2"),
    "a device": (FILE + "[engine]\ndevices = ['cpu', 2]\n", f":{LAST + 1}: ", "`engine.devices.1` must be a string"),
    "executor": (
        FILE + "[engine]\nexecutor = {workers = 2}\n",
        f":{LAST + 1}: ",
        "`engine.executor.use` must be given",
    ),
    "precision": (
        FILE + "[engine]\nprecision = 'half'\n",
        f":{LAST + 1}: ",
        "must be 'float32', 'float64', 'bfloat16' or 'float16'; got 'half'",
    ),
    "second writer": (
        FILE + "[[writer]]\nuse = 'npy'\n[[writer]]\nuse = 3\n",
        f":{LAST + 3}: ",
        "`writer.1.use` must be a string; got 3",
    ),
    "long value": (FILE + f"[engine]\nprecision = '{'x' * 500}'\n", f":{LAST + 1}: ", "xxx..."),
    "not TOML": (FILE + "draws 3\n", f":{LAST}: ", "must be TOML"),
    "not TOML at the end": (FILE + "init = '''\n", f":{LAST}: ", "must be TOML"),
    "a key twice": (FILE + "seed = 8\n", f":{LAST}: ", "must be TOML"),
    "not UTF-8": (FILE.encode() + b"# \xff\n", f":{LAST}: ", "must be UTF-8; got byte 0xff"),
}


@pytest.mark.parametrize(("content", "line", "words"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line_with_its_place(write, content, line, words):
    path = write(content)
    with pytest.raises(ConfigError) as caught:
        RunConfig.load(path)
    message = str(caught.value)
    assert message.startswith(f"{path}{line}")
    assert words in message
    assert "\n" not in message
    assert len(message) < len(str(path)) + 250


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("run.chains", "--set must be TABLE.KEY=VALUE; got 'run.chains'"),
        ("=3", "--set must be TABLE.KEY=VALUE"),
        ("run..chains=3", "--set must be TABLE.KEY=VALUE"),
        ("run.chains=0", "--set run.chains=0: `run.chains` must be >= 1; got 0."),
        ("run.chians=5", "--set run.chians=5: [run] has no key named 'chians'. Did you mean 'chains'?"),
        ("run={chains = 0, steps = 1}", "--set run={chains = 0, steps = 1}: `run.chains` must be >= 1"),
        ("run.chains.x=3", "the key must lead through tables; got 1000000 before 'x'"),
        ("writer.1.use=npy", "the index must be from 0 to 0; got '1'"),
        ("writer.first.use=npy", "`writer` must be a list"),
        ("writer.0=npy", "`writer.0` must be a table; got 'npy'"),
    ],
)
def test_a_mistake_in_set_names_it(write, override, words):
    with pytest.raises(ConfigError) as caught:
        RunConfig.load(write(FILE), [override])
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_no_file_is_refused(tmp_path, write):
    path = write(FILE)
    for wrong, words in {
        tmp_path: "must be a file; got the folder",
        tmp_path / "jbo.toml": f"must exist; got {tmp_path / 'jbo.toml'}. There: job.toml.",
        path / "x": "must be readable",
    }.items():
        with pytest.raises(ConfigError, match=re.escape(words)):
            RunConfig.load(wrong)


def test_a_run_directory_points_to_its_file(tmp_path):
    (tmp_path / "run.toml").write_text(FILE)
    with pytest.raises(ConfigError, match=r"Did you mean .*run\.toml\?"):
        RunConfig.load(tmp_path)


def test_a_byte_order_mark_is_no_mistake(write):
    assert RunConfig.load(write(b"\xef\xbb\xbf" + FILE.encode())).run.chains == 1_000_000


scalars = st.one_of(st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), st.text())
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=5)


def complaint(path, overrides=()):
    """Return what is said of a run file, or nothing."""
    try:
        RunConfig.load(path, overrides)
    except ConfigError as error:
        return str(error)
    return ""


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.dictionaries(
        st.sampled_from(["model", "sampler", "stage", "run", "engine", "condition", "writer", "x"]),
        values | st.dictionaries(st.sampled_from(["use", "chains", "steps", "executor", "shape", "init"]), values),
    )
)
def test_any_toml_is_accepted_or_refused_in_one_line(write, data):
    assert len(complaint(write(tomli_w.dumps(data))).splitlines()) <= 1


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(override=st.text(max_size=30) | st.from_regex(r"(run|writer|model)(\.[a-z0-9]{1,3}){0,3}=.*", fullmatch=True))
def test_any_set_is_accepted_or_refused_in_one_line(write, override):
    assert len(complaint(write(FILE), [override]).splitlines()) <= 1


# ------------------------------------------------------------------ mistakes that are found without the file


@pytest.mark.parametrize(
    ("text", "key", "message", "line"),
    [
        (FILE, (), "`chains` must be less; got x.", ":9"),
        (FILE, (), "`devices` must be one; got x.", ""),
        (FILE, (), "`step_size` must be > 0; got x.", None),
        (FILE, (), "the disk must be larger.", None),
        (FILE, (), "`out` must be new.", None),
        (FILE, ("model",), "the energy must be one.", ":2"),
        (FILE, ("stage", 0, "sampler"), "`step_size` must be > 0; got -1.", ":6"),
        (FILE, ("stage", 0, "sampler"), "no sampler is named 'ulla'.", ":5"),
        (FILE, ("stage", 0, "sampler"), "`noise_std` must be left out.", ":4"),
        (FILE, ("stage", 0), "`draws` must divide `steps`.", ":8"),
        (STAGES, ("stage", 0, "sampler"), "`step_size` must be > 0; got -1.", ":5"),
        (STAGES, ("stage", 1, "sampler"), "`step_size` must be > 0; got -1.", ":14"),
        (STAGES, ("stage", 1), "`draws` must divide `steps`.", ":10"),
    ],
)
def test_a_mistake_that_is_found_later_is_given_its_line(write, text, key, message, line):
    path = write(text)
    error = InputError(message)
    error.key = key
    with pytest.raises(InputError) as caught, RunConfig.load(path).located():
        raise error
    assert str(caught.value) == (message if line is None else f"{path}{line}: {message}")


def test_a_mistake_in_set_that_is_found_later_names_it(write):
    error = InputError("`step_size` must be > 0; got -1.")
    error.key = ("stage", 0, "sampler")
    with pytest.raises(InputError) as caught, RunConfig.load(write(FILE), ["sampler.step_size=-1"]).located():
        raise error
    assert str(caught.value) == "--set sampler.step_size=-1: `step_size` must be > 0; got -1."
