"""Discovery, states, loading, blocking, direct references, registration: what DESIGN 4 promises."""

from __future__ import annotations

import hashlib
import resource
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebmcore.errors import PluginError, SettingsError
from ebmcore.registry import FIRST_PARTY, KINDS, Registry, default, use
from ebmcore.registry.wording import near, unknown
from tests.fake_distributions import SAMPLER, Site

ROOT = Path(__file__).parents[1]


@pytest.fixture
def site(tmp_path, monkeypatch):
    folder = tmp_path / "site"
    monkeypatch.syspath_prepend(folder)
    before = set(sys.modules)
    yield Site(folder)
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def state_of(registry, kind, name):
    (record,) = [record for record in registry.records(kind) if record.name == name]
    return record.state


def refused(call, *parts):
    """Return the message of the PluginError that a call raises, after looking at its form and for some parts."""
    with pytest.raises(PluginError) as raised:
        call()
    message = str(raised.value)
    assert "\n" not in message
    for part in parts:
        assert part in message, message
    return message


# ------------------------------------------------------------------------------------ listing


def test_records_say_what_the_metadata_says_in_order_of_kind_and_name(site):
    site.add("wr", "2.0", writer={"npy": "wr:Npy"}, noise={"fast": "wr:Fast"})
    site.add("my-samplers", "0.3", sampler={"zig": "my:Zig", "ula": "my:ULA"})
    found = site.registry().records()
    assert [(one.kind, one.name) for one in found] == [
        ("sampler", "ula"), ("sampler", "zig"), ("writer", "npy"), ("noise", "fast"),
    ]  # fmt: skip
    first = found[0]
    assert (first.distribution, first.version, first.value, first.state) == (
        "my-samplers",
        "0.3",
        "my:ULA",
        "available",
    )
    assert [one.name for one in site.registry().records("writer")] == ["npy"]


def test_an_unknown_kind_is_refused_with_the_kinds(site):
    message = refused(lambda: site.registry().records("samplers"), "'samplers'", "Did you mean 'sampler'?")
    assert ", ".join(KINDS) in message


def test_listing_imports_no_plugin_and_nothing_heavy(site):
    site.add("bad", sampler={"boom": "boom:Boom"}, requires=["ebmcore>=0.1"], modules={"boom": "raise SystemExit(3)"})
    code = f"""
        import sys
        sys.path[:0] = [{str(ROOT)!r}, {str(site.folder)!r}]
        from ebmcore.registry import default
        assert "boom" in [record.name for record in default().records("sampler")]
        print([name for name in ("boom", "torch", "pydantic", "numpy", "rich", "email.mime") if name in sys.modules])
    """
    run = subprocess.run([sys.executable, "-c", dedent(code)], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_listing_costs_at_most_150_ms_above_bare_python():
    def seconds(code):
        """Return the processor's seconds, the least of five: a process of one thread, and neighbours do not count."""
        taken = []
        for _ in range(5):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            taken.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        return min(taken)

    assert seconds("from ebmcore.registry import default; default().records()") - seconds("pass") <= 0.15


def test_a_thousand_entry_points_are_listed_in_half_a_second_and_asking_for_one_loads_one(site):
    for number in range(50):
        entries = {f"s{number}_{index}": f"many_{number}:ULA" for index in range(20)}
        site.add(
            f"many-{number}", sampler=entries, requires=["ebmcore>=0.1", "torch"], modules={f"many_{number}": SAMPLER}
        )
    start = time.perf_counter()
    registry = site.registry()
    assert len(registry.records()) == 1000
    assert time.perf_counter() - start <= 0.5
    registry.load("sampler", "s7_3")
    assert [one.name for one in registry.records() if one.state == "loaded"] == ["s7_3"]
    assert [name for name in sys.modules if name.startswith("many_")] == ["many_7"]


def test_metadata_is_read_once(site, monkeypatch):
    folder = site.add("d", sampler={"ula": "d_mod:ULA"})
    registry = site.registry()
    assert [one.name for one in registry.records()] == ["ula"]
    (folder / "entry_points.txt").unlink()
    assert [one.name for one in registry.records()] == ["ula"]
    assert site.registry().records() == []


# ------------------------------------------------------------------------- faults of metadata


@pytest.mark.parametrize(
    ("requirement", "host", "admitted"),
    [
        ("ebmcore>=0.1", "0.1.0", True),
        ("ebmcore>=0.2", "0.1.0", False),
        ("Ebm_Core>=9", "0.1.0", True),  # another name
        ("EBMCORE>=9", "0.1.0", False),  # the same name, written otherwise
        ("ebmcore[zarr]>=9", "0.1.0", False),
        ("ebmcore>=9; python_version < '3'", "0.1.0", True),
        ("ebmcore>=9; extra == 'test'", "0.1.0", True),
        ("ebmcore>=9; python_version > '3'", "0.1.0", False),
        ("ebmcore>=0.2", "0.2.0.dev3", True),  # the base version counts
        ("ebmcore>=0.2", "0.2.0rc1+local", True),
        ("ebmcore<0.2", "0.2.0rc1", False),
        ("ebmcore>=0.2rc1,<0.3", "0.2.0", True),
        ("ebmcore @ https://example.org/e.whl", "0.1.0", True),
        ("ebmcore>=9", "no version", True),
    ],
)
def test_a_requirement_on_the_host_decides_before_import(site, requirement, host, admitted):
    site.add(
        "d",
        "0.3.0",
        requires=["torch>=2", requirement],
        sampler={"ula": "compat_mod:ULA"},
        modules={"compat_mod": SAMPLER},
    )
    registry = site.registry(host_version=host)
    assert state_of(registry, "sampler", "ula") == ("available" if admitted else "incompatible")
    if admitted:
        registry.load("sampler", "ula")
    else:
        message = refused(
            lambda: registry.load("sampler", "ula"), "sampler 'ula' (d 0.3.0) needs", f"this is ebmcore {host}"
        )
        assert requirement[:20] in message
        assert "compat_mod" not in sys.modules


def test_without_a_host_version_every_requirement_counts_as_met(site, monkeypatch):
    import importlib_metadata

    def missing(name):
        raise importlib_metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib_metadata, "distribution", missing)
    site.add("d", requires=["ebmcore>=9"], sampler={"ula": "m:ULA"})
    assert state_of(site.registry(host_version=None), "sampler", "ula") == "available"


def test_the_hosts_version_is_that_of_its_distribution(site):
    site.add("ebmcore", "7.1.dev2")
    site.add("d", requires=["ebmcore>=7.1,<8"], sampler={"ula": "m:ULA"})
    site.add("old", requires=["ebmcore<7"], sampler={"mala": "m:ULA"})
    registry = site.registry(host_version=None)
    assert (state_of(registry, "sampler", "ula"), state_of(registry, "sampler", "mala")) == (
        "available",
        "incompatible",
    )


@pytest.mark.parametrize("requirement", ["ebmcore >=> 1", "ebmcore>=1; nonsense == 2", "ebmcore==x.y"])
def test_a_malformed_requirement_on_the_host_hurts_its_distribution_alone(site, requirement):
    site.add("bad", requires=[requirement], sampler={"a": "m:A"})
    site.add("good", sampler={"b": "m:B"})
    registry = site.registry()
    assert (state_of(registry, "sampler", "a"), state_of(registry, "sampler", "b")) == ("incompatible", "available")
    refused(lambda: registry.load("sampler", "a"), "cannot be read", requirement)


def test_a_malformed_requirement_on_something_else_is_nothing_to_us(site):
    site.add("d", requires=["numpy >=> 1"], sampler={"a": "m:A"})
    assert state_of(site.registry(), "sampler", "a") == "available"


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        (b"\xff\xfe\x00", "metadata cannot be read"),
        ("Metadata-Version: 2.1\nVersion: 1.0\n", "has no Name"),
        ("Metadata-Version: 2.1\nName: bad\n", "has no Version"),
    ],
)
def test_malformed_metadata_hurts_its_distribution_alone(site, metadata, reason):
    site.add("bad", metadata=metadata, sampler={"a": "m:A"})
    site.add("good", sampler={"b": "m:B"})
    registry = site.registry()
    assert (state_of(registry, "sampler", "a"), state_of(registry, "sampler", "b")) == ("failed", "available")
    refused(lambda: registry.load("sampler", "a"), "sampler 'a' (bad", reason)


def test_a_malformed_line_of_entry_points_hurts_itself_alone(site):
    text = (
        "[console_scripts]\n???\n[ebmcore.samplers]\n# text\ngood = m:A\nno equals sign\nx@y = m:A\nv = not a value\n"
    )
    site.add("d", entry_points=text)
    registry = site.registry()
    states = {one.name: one.state for one in registry.records()}
    assert states == {"good": "available", "no equals sign": "failed", "x@y": "failed", "v": "failed"}
    refused(lambda: registry.load("sampler", "v"), "sampler 'v' (d 1.0) must have an entry point", "'not a value'")


def test_unreadable_entry_points_are_none(site):
    site.add("bad", entry_points=b"\xff\xfe\x00\xff")
    site.add("good", sampler={"b": "m:B"})
    assert [one.name for one in site.registry().records()] == ["b"]


def test_one_name_twice_in_a_distribution_is_a_fault_of_it(site):
    site.add("d", entry_points="[ebmcore.samplers]\nula = a:A\nula = a:A\nmala = a:A\nmala = b:B\n")
    registry = site.registry()
    assert (state_of(registry, "sampler", "ula"), state_of(registry, "sampler", "mala")) == ("available", "failed")
    refused(lambda: registry.load("sampler", "mala"), "a:A", "b:B")


# ---------------------------------------------------------------------------------- conflicts


def conflict(site):
    site.add("ebmcore-langevin", "0.1", sampler={"ula": "conflict_a:ULA"}, modules={"conflict_a": SAMPLER})
    site.add(
        "Other_Kit", "2.0", sampler={"ula": "conflict_b:ULA", "fine": "conflict_b:ULA"}, modules={"conflict_b": SAMPLER}
    )


def test_two_distributions_of_one_name_are_both_listed_and_neither_is_chosen(site):
    conflict(site)
    registry = site.registry()
    assert [(one.distribution, one.state) for one in registry.records() if one.name == "ula"] == [
        ("Other_Kit", "conflict"), ("ebmcore-langevin", "conflict"),
    ]  # fmt: skip
    parts = ("Other_Kit 2.0", "ebmcore-langevin 0.1", "'ula@other-kit'", "'ula@ebmcore-langevin'")
    refused(lambda: registry.load("sampler", "ula"), *parts)
    assert state_of(registry, "sampler", "fine") == "available"


@pytest.mark.parametrize("home", ["other-kit", "Other_Kit", "OTHER.KIT"])
def test_name_at_distribution_chooses_and_leaves_the_bare_name_ambiguous(site, home):
    conflict(site)
    registry = site.registry()
    loaded = registry.load("sampler", f"ula@{home}")
    assert (loaded.target.__module__, loaded.record.state) == ("conflict_b", "loaded")
    assert "conflict_a" not in sys.modules
    refused(lambda: registry.load("sampler", "ula"), "must come from one distribution")


def test_name_at_a_distribution_without_it_is_refused(site):
    conflict(site)
    refused(lambda: site.registry().load("sampler", "fine@ebmcore-langevin"), "'ebmcore-langevin'", "Other_Kit")


def test_blocking_one_of_two_settles_a_conflict(site):
    conflict(site)
    registry = site.registry(blocked=["other-kit"])
    assert [one.state for one in registry.records() if one.name == "ula"] == ["blocked", "available"]
    assert registry.load("sampler", "ula").record.distribution == "ebmcore-langevin"


def test_an_incompatible_rival_is_not_silently_replaced(site):
    site.add("old", requires=["ebmcore>=9"], sampler={"ula": "m:ULA"})
    site.add("new", sampler={"ula": "m:ULA"})
    registry = site.registry()
    assert [one.state for one in registry.records()] == ["conflict", "incompatible"]
    refused(lambda: registry.load("sampler", "ula"), "'ula@new' or 'ula@old'")


def test_one_distribution_twice_on_the_path_is_no_conflict_and_the_first_counts(site, tmp_path):
    source = Site(tmp_path / "src")
    source.add("my-kit", "2.0", sampler={"ula": "m:ULA"}, suffix="egg-info")
    site.add("My.Kit", "1.0", sampler={"ula": "m:ULA", "gone": "m:Gone"})
    site.path = [source.folder, site.folder, site.folder]
    assert [(one.name, one.version, one.state) for one in site.registry().records()] == [("ula", "2.0", "available")]


def test_an_emptied_folder_that_an_uninstall_left_does_not_hide_the_distribution(site, tmp_path):
    left = tmp_path / "left"
    (left / "my_kit-1.0.dist-info").mkdir(parents=True)
    (left / "~y_kit-1.0.dist-info").mkdir()
    (left / "~y_kit-1.0.dist-info" / "entry_points.txt").write_text("[ebmcore.samplers]\nula = m:ULA\n")
    site.add("my-kit", "2.0", sampler={"ula": "m:ULA"})
    site.path = [left, site.folder]
    assert [(one.version, one.state) for one in site.registry().records()] == [("2.0", "available")]


# ------------------------------------------------------------------------------------ loading


def test_a_name_is_loaded_when_it_is_asked_for_and_once(site):
    site.add("d", sampler={"ula": "lazy_mod:ULA"}, modules={"lazy_mod": SAMPLER})
    registry = site.registry()
    assert registry.find("sampler", "ula").state == "available"
    assert "lazy_mod" not in sys.modules
    first = registry.load("sampler", "ula")
    assert first.target is sys.modules["lazy_mod"].ULA
    assert registry.load("sampler", "ula").target is first.target
    assert registry.find("sampler", "ula@d").state == "loaded"
    assert first.digest is None


def test_an_entry_point_may_name_a_nested_attribute_and_carry_extras(site):
    source = dedent(SAMPLER) + "\nclass Box:\n    Inner = ULA\n"
    site.add("d", sampler={"ula": "nested_mod:Box.Inner [fast]"}, modules={"nested_mod": source})
    assert site.registry().load("sampler", "ula").target.__name__ == "ULA"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import no_such_scipy", "No module named 'no_such_scipy'"),
        ("raise SystemExit(3)", "it exits Python when imported (SystemExit: 3)"),
        ("raise GeneratorExit", "GeneratorExit"),
        ("class Odd(BaseException): ...\nraise Odd('two\\nlines')", "Odd: two"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("x = (", "SyntaxError: '(' was never closed"),
        ("class E(Exception):\n    def __str__(self): raise OSError\nraise E", "E"),
    ],
)
def test_a_broken_plugin_says_so_in_a_line_keeps_its_traceback_and_is_not_imported_again(site, source, reason):
    counted = f"import builtins\nbuiltins.broken_imports = getattr(builtins, 'broken_imports', 0) + 1\n{source}\n"
    site.add("ebmcore-hmc", "0.3.0", sampler={"mclmc": "broken_mod:M"}, modules={"broken_mod": counted})
    site.add("good", sampler={"ula": "good_mod:ULA"}, modules={"good_mod": SAMPLER})
    registry = site.registry()
    wanted = f"sampler 'mclmc' (ebmcore-hmc 0.3.0) failed to load: {reason}. See: ebmcore plugins show mclmc"
    import builtins

    builtins.broken_imports = 0
    assert refused(lambda: registry.load("sampler", "mclmc")) == wanted
    once = builtins.broken_imports
    assert refused(lambda: registry.load("sampler", "mclmc")) == wanted
    assert builtins.broken_imports == once <= 1
    record = registry.find("sampler", "mclmc")
    assert (record.state, record.reason) == ("failed", reason)
    assert "broken_mod" in record.traceback
    registry.load("sampler", "ula")


def test_a_keyboard_interrupt_is_the_users_own(site):
    site.add("d", sampler={"a": "interrupted_mod:A"}, modules={"interrupted_mod": "raise KeyboardInterrupt"})
    registry = site.registry()
    with pytest.raises(KeyboardInterrupt):
        registry.load("sampler", "a")
    assert state_of(registry, "sampler", "a") == "available"


def test_a_missing_attribute_names_those_near(site):
    site.add("d", sampler={"ula": "attr_mod:Ula"}, modules={"attr_mod": SAMPLER})
    registry = site.registry()
    refused(lambda: registry.load("sampler", "ula"), "got 'Ula'", "Did you mean 'ULA'?", "module 'attr_mod'")
    assert state_of(registry, "sampler", "ula") == "failed"


@pytest.mark.parametrize("ending", [SAMPLER, "\n1 / 0\n"])
def test_threads_that_ask_at_once_import_once_and_get_one_answer(site, ending):
    import builtins

    slow = "import time, builtins\nbuiltins.slow_imports += 1\ntime.sleep(0.05)\n"
    site.add("d", sampler={"ula": "slow_mod:ULA"}, modules={"slow_mod": slow + dedent(ending)})
    registry, got = site.registry(), []

    def ask():
        try:
            got.append(registry.load("sampler", "ula").target)
        except PluginError as error:
            got.append(str(error))

    builtins.slow_imports = 0
    workers = [threading.Thread(target=ask) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert (builtins.slow_imports, len(got), len(set(got))) == (1, 8, 1)
    assert registry.find("sampler", "ula").state == ("loaded" if ending is SAMPLER else "failed")


# ------------------------------------------------------------------------------ unknown names


def test_an_unknown_name_gets_near_names_then_all(site):
    site.add("kit", sampler={"mala": "m:A", "ula": "m:B", "baoab": "m:C"})
    message = refused(lambda: site.registry().load("sampler", "ulla"))
    assert message == "no sampler is named 'ulla'. Did you mean 'ula'? Installed: baoab, mala, ula."
    assert "Did you mean 'ula'?" in refused(lambda: site.registry().load("sampler", "ULA"))


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in FIRST_PARTY.items() for name in names])
def test_a_first_party_name_says_what_to_install(site, kind, name):
    home = FIRST_PARTY[kind][name]
    refused(lambda: site.registry().load(kind, name), f"pip install {home}", "Installed: none.")


def test_a_name_near_a_first_party_one_says_what_to_install(site):
    refused(
        lambda: site.registry().load("model", "double-well"), "Did you mean 'double_well' (pip install ebmcore-models)?"
    )


def test_a_first_party_name_that_an_installed_version_lacks_does_not_say_install(site):
    site.add("ebmcore-langevin", sampler={"other": "m:A"})
    assert "pip install" not in refused(lambda: site.registry().load("sampler", "ula"))


def test_a_name_of_another_kind_is_said_to_be_one(site):
    site.add("kit", sampler={"ula": "m:A"}, observer={"jsonl": "m:B"})
    refused(lambda: site.registry().load("model", "ula"), "'ula' is a sampler, not a model")
    refused(lambda: site.registry().load("writer", "jsonl"), "'jsonl' is an observer, not a writer")


@given(st.text(max_size=30), st.sets(st.text(min_size=1, max_size=20), max_size=8), st.sampled_from(list(KINDS)))
def test_the_message_for_any_wrong_name_is_one_line(name, names, kind):
    message = unknown(kind, name, {other: names if other == kind else set() for other in KINDS}, set())
    assert message.startswith(f"no {kind} is named ")
    assert near(name, names) in {None, *names}


NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9_.-]{0,15}", fullmatch=True).filter(lambda name: not name.endswith(".py"))
HOMES = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,12}[A-Za-z0-9])?", fullmatch=True)


@given(name=NAMES, home=HOMES)
def test_name_at_distribution_finds_what_is_listed(tmp_path_factory, name, home):
    site = Site(tmp_path_factory.mktemp("site"))
    site.add("x", metadata=f"Metadata-Version: 2.1\nName: {home}\nVersion: 1.0\n", sampler={name: "m:A"})
    registry = site.registry()
    (record,) = registry.records()
    assert (record.name, record.distribution) == (name, home)
    assert registry.find("sampler", f"{name}@{home}") == registry.find("sampler", name) == record


# ----------------------------------------------------------------------------------- blocking


def blockable(site):
    site.add("kit", sampler={"ula": "block_mod:ULA", "both": "block_mod:ULA"}, model={"both": "block_mod:M"})
    site.add("kit-two", writer={"npy": "block_mod:W"})
    (site.folder / "block_mod.py").write_text(dedent(SAMPLER))


@pytest.mark.parametrize(
    ("entry", "names"),
    [
        ("ula", {"ula"}),
        ("sampler:ula", {"ula"}),
        ("model:both", {"both"}),
        ("Kit_Two", {"npy"}),
        ("kit", {"ula", "both"}),
    ],
)
def test_what_is_blocked_is_listed_so_and_never_imported(site, entry, names):
    blockable(site)
    registry = site.registry(blocked=[entry])
    blocked = [one for one in registry.records() if one.state == "blocked"]
    assert {one.name for one in blocked} == names
    for one in blocked:
        refused(lambda one=one: registry.load(one.kind, one.name), f"is blocked by {entry!r}", "EBMCORE_NO_PLUGIN")
    assert "block_mod" not in sys.modules


@pytest.mark.parametrize(
    ("entry", "parts"),
    [
        ("ulla", ("'ulla', which is none", "Did you mean 'ula'?")),
        ("model:ula", ("which is none",)),
        ("nonsense:ula", ("which is none",)),
        ("numpy", ("which is none",)),
        ("both", ("a sampler (sampler:both) and a model (model:both)", "Write KIND:NAME")),
    ],
)
def test_what_blocks_nothing_or_two_things_is_an_error_at_first_use(site, entry, parts):
    blockable(site)
    registry = site.registry(blocked=["npy", entry])
    for call in (registry.records, lambda: registry.load("sampler", "ula"), lambda: registry.load("model", "a.b:C")):
        refused(call, *parts)


def test_a_name_that_is_a_plugin_and_a_distribution_is_ambiguous(site):
    site.add("jsonl", observer={"jsonl": "m:J", "other": "m:O"})
    refused(site.registry(blocked=["jsonl"]).records, "an observer (observer:jsonl) and a distribution")
    assert state_of(site.registry(blocked=["observer:jsonl"]), "observer", "other") == "available"


def test_the_environment_blocks_in_the_registry_of_the_process(site):
    site.add("d", sampler={"fake_one": "m:A", "fake_two": "m:B"})
    code = f"""
        import sys
        sys.path[:0] = [{str(ROOT)!r}, {str(site.folder)!r}]
        from ebmcore.registry import default
        print({{one.name: one.state for one in default().records("sampler") if one.name.startswith("fake")}})
    """
    run = subprocess.run(
        [sys.executable, "-c", dedent(code)], capture_output=True, text=True, check=True,
        env={"EBMCORE_NO_PLUGIN": " sampler:fake_one, ,fake_two"},
    )  # fmt: skip
    assert run.stdout.strip() == "{'fake_one': 'blocked', 'fake_two': 'blocked'}"


def test_there_is_one_registry_a_process():
    assert default() is default()


# -------------------------------------------------------------------------- direct references


def test_a_module_reference_gives_the_object_and_its_digest(site):
    (site.folder / "direct_mod.py").write_text(dedent(SAMPLER))
    loaded = site.registry().load("sampler", "direct_mod:ULA")
    assert loaded.digest == hashlib.sha256((site.folder / "direct_mod.py").read_bytes()).hexdigest()
    assert (loaded.record.source, loaded.record.value, loaded.record.distribution) == ("direct", "direct_mod:ULA", None)


@pytest.mark.parametrize("written", ["./my-sampler.py:ULA", "my-sampler.py:ULA", "ABSOLUTE:ULA"])
def test_a_file_reference_is_relative_to_its_base(site, tmp_path, written):
    file = tmp_path / "my-sampler.py"
    file.write_text("from __future__ import annotations\n" + dedent(SAMPLER))
    loaded = site.registry().load("sampler", written.replace("ABSOLUTE", str(file)), base=tmp_path)
    assert loaded.target(step_size=0.5).step_size == 0.5
    assert loaded.digest == hashlib.sha256(file.read_bytes()).hexdigest()


def test_a_file_runs_once_for_each_content_and_two_of_one_name_are_two(site, tmp_path):
    registry, file = site.registry(), tmp_path / "e.py"
    file.write_text("def model(): return len\nmade = object()\n")
    first = registry.load("model", "e.py:model", base=tmp_path)
    assert registry.load("model", "./e.py:model", base=tmp_path).target is first.target
    file.write_text("def model(): return sum\nmade = object()\n")  # the same size, within the same second
    second = registry.load("model", "e.py:model", base=tmp_path)
    assert (first.target(), second.target()) == (len, sum)
    assert first.digest != second.digest
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "e.py").write_bytes(file.read_bytes())
    assert registry.load("model", "sub/e.py:model", base=tmp_path).target is not second.target


@pytest.mark.parametrize(
    ("source", "written", "parts"),
    [
        ("", "./absent.py:A", ("must name a file that exists", "absent.py")),
        ("", "./e.py", ("must be written 'pkg.module:Name' or './file.py:Name'",)),
        ("", "./e.py:", ("must be written",)),
        ("class Energy:\n    def __call__(self, x): ...\n", "./e.py:Enregy", ("./e.py", "Did you mean 'Energy'?")),
        ("x = 1\n1 / 0\n", "./e.py:A", ("ZeroDivisionError: division by zero (e.py, line 2)",)),
        ("x = 1\nx = (\n", "./e.py:A", ("SyntaxError", "(e.py, line 2)")),
        ("import no_such_thing", "./e.py:A", ("No module named 'no_such_thing' (e.py, line 1)",)),
        ("import sys; sys.exit()", "./e.py:A", ("it exits Python",)),
        ("", "no_such_pkg.mod:A", ("No module named 'no_such_pkg'",)),
    ],
)
def test_a_direct_reference_that_cannot_be_had_says_why(site, tmp_path, source, written, parts):
    (tmp_path / "e.py").write_text(source)
    message = refused(lambda: site.registry().load("model", written, base=tmp_path), *parts)
    assert message.startswith(f"model {written!r} ")
    assert not [name for name in sys.modules if name.startswith("ebmcore_file_e_")] or "Energy" in message


def test_a_file_may_be_mended_and_asked_for_again(site, tmp_path):
    registry, file = site.registry(), tmp_path / "e.py"
    file.write_text("1 / 0")
    refused(lambda: registry.load("model", "e.py:model", base=tmp_path))
    file.write_text("def model(): return len")
    assert registry.load("model", "e.py:model", base=tmp_path).record.state == "loaded"


# ------------------------------------------------------------------------------- registration


@dataclass(frozen=True)
class Mine:
    """A sampler as a notebook has it."""

    step_size: float = 0.1

    def init(self, energy, position, noise): ...
    def step(self, energy, state, noise): ...


def test_a_registered_name_is_loaded_and_registering_again_replaces(site):
    registry = site.registry()
    assert registry.register("sampler", "mine")(Mine) is Mine
    assert registry.load("sampler", "mine").target is Mine
    again = dataclass(frozen=True)(type("Again", (Mine,), {}))
    registry.register("sampler", "mine")(again)
    assert registry.load("sampler", "mine").target is again
    (record,) = registry.records()
    assert (record.source, record.state, record.distribution) == ("registered", "loaded", None)


def test_a_registered_name_stands_before_an_installed_one_which_name_at_distribution_still_gives(site):
    site.add("d", sampler={"ula": "shadow_mod:ULA"}, modules={"shadow_mod": SAMPLER})
    registry = site.registry()
    registry.register("sampler", "ula")(Mine)
    assert registry.load("sampler", "ula").target is Mine
    assert [one.source for one in registry.records()] == ["registered"]
    assert registry.load("sampler", "ula@d").target.__module__ == "shadow_mod"


@pytest.mark.parametrize("name", ["a@b", "a:b", "x.py", "", "a b"])
def test_a_name_that_could_not_be_asked_for_is_not_registered(site, name):
    refused(lambda: site.registry().register("sampler", name)(Mine), "must have a name")


def test_what_is_registered_is_validated(site):
    refused(
        lambda: site.registry().register("sampler", "x")(type("X", (), {})), "sampler 'x' must be a frozen dataclass"
    )


# --------------------------------------------------------------------------------- validation

BAD = {
    "function": ("sampler", "def X(): ...", "must be a class; got the function 'X'"),
    "module": ("model", "import sys as X", "must be a class or a function; got the module 'sys'"),
    "instance": ("model", "X = object()", "must be a class or a function; got an object of class 'object'"),
    "plain class": ("sampler", "class X: ...", "must be a frozen dataclass; got the class 'X'"),
    "not frozen": ("executor", "@dataclass\nclass X:\n    def run(self, j, c, d): ...", "one that is not frozen"),
    "no step": (
        "sampler",
        "@dataclass(frozen=True)\nclass X:\n    def init(self, e, p, n): ...",
        "must have a method `step(energy, state, noise)`; got none",
    ),
    "wrong arguments": (
        "sampler",
        "@dataclass(frozen=True)\nclass X:\n    def init(self, e, p): ...\n    def step(self, e, s, n): ...",
        "got `init(self, e, p)`",
    ),
    "keyword only": (
        "reducer",
        "class X:\n    def start(self, *, layout): ...",
        "must have a method `start(layout)`, called with 1 positional arguments",
    ),
    "no parallel": (
        "writer",
        "@dataclass(frozen=True)\nclass X:\n    def prepare(self, p, l, c): ...\n    def open(self, p, l): ...\n"
        "    def finish(self, p, l, s): ...",
        "must say `parallel: ClassVar[bool]`; got none",
    ),
    "parallel is a setting": (
        "writer",
        "@dataclass(frozen=True)\nclass X:\n    parallel: bool = True\n    def prepare(self, p, l, c): ...\n"
        "    def open(self, p, l): ...\n    def finish(self, p, l, s): ...",
        "got a field, which is a setting",
    ),
    "no devices": (
        "noise",
        "class X:\n    devices = 'cpu'\n    def fill_(self, o, k, key, c): ...\n"
        "    def perturb_(self, x, s, key, c, *, decay=1.0, drift=None, drift_scale=0.0): ...",
        "must say `devices: ClassVar[tuple[str, ...]]`; got 'cpu'",
    ),
    "no energy": ("model", "class X: ...", "must be an energy when it is made"),
    "energy itself": ("model", "def X(x): ...", "whose `x` is no setting"),
    "typed energy itself": ("model", "def X(x: 'torch.Tensor') -> 'torch.Tensor': ...", "whose `x` is no setting"),
    "star arguments": ("model", "def X(*sizes: int): ...", "must take its settings by keyword; got `*sizes`"),
    "positional only": ("model", "def X(a: int = 1, /): ...", "must take its settings by keyword; got `a`"),
    "host's word": ("model", "def X(weights: str = ''): ...", "must not have a setting `weights`"),
    "host's word in a field": (
        "sampler",
        "@dataclass(frozen=True)\nclass X:\n    name: str\n    def init(self, e, p, n): ...\n"
        "    def step(self, e, s, n): ...",
        "must not have a setting `name`",
    ),
    "unresolved": ("model", "def X(a: 'Nowhere' = 1): ...", "must give `a` a type that can be resolved; got 'Nowhere'"),
    "bound without place": (
        "executor",
        "@dataclass(frozen=True)\nclass X:\n    a: bool = field(default=True, metadata={'gt': 0})\n"
        "    def run(self, j, c, d): ...",
        "the bound `gt` has no place in it",
    ),
    "bad default": ("model", "def X(a: float = float('inf')): ...", "must have defaults that suit"),
    "init var": (
        "executor",
        "@dataclass(frozen=True)\nclass X:\n    a: InitVar[int]\n    def run(self, j, c, d): ...",
        "got `a`, an InitVar",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_plugin_that_breaks_a_rule_is_refused_by_the_rule_and_by_name(site, case):
    kind, source, part = BAD[case]
    module = f"bad_{case.replace(' ', '_').replace(chr(39), '')}"
    header = "from dataclasses import InitVar, dataclass, field\n"
    site.add("kit", "1.2", modules={module: header + source}, **{kind: {"x": f"{module}:X"}})
    registry = site.registry()
    message = refused(lambda: registry.load(kind, "x"), part)
    assert message.startswith(f"{kind} 'x' (kit 1.2) must ")
    record = registry.find(kind, "x")
    assert (record.state, record.traceback) == ("failed", None)
    assert f"{kind} 'x' (kit 1.2) {record.reason}." == message
    assert refused(lambda: registry.load(kind, "x")) == message


GOOD = {
    "model class": ("model", "class X:\n    def __init__(self, k: float = 1.0): ...\n    def __call__(self, x): ..."),
    "score model": ("model", "class X:\n    def gradient(self, x): ..."),
    "model function": ("model", "def X(dim: int, *, scale: float = 1.0): return abs"),
    "module without settings": (
        "model",
        "import torch\nclass X(torch.nn.Module):\n    def forward(self, x): return x.sum(-1)",
    ),
    "static methods": (
        "reducer",
        "class X:\n    @staticmethod\n    def start(layout): ...\n    @classmethod\n"
        "    def update(cls, acc, block): ...\n    def merge(self, a, b): ...\n    def finish(self, acc, *more): ...",
    ),
    "observer function": ("observer", "def X(path: str = 'x'): ..."),
    "inherits the protocol": (
        "reducer",
        "from ebmcore.protocols import Reducer\nclass X(Reducer):\n    def start(self, layout): ...",
    ),
    "type checkers' imports beside": (
        "sampler",
        "from __future__ import annotations\nfrom typing import ClassVar\n@dataclass(frozen=True)\nclass X:\n"
        "    keep: ClassVar[Nowhere] = ()\n    a: float = 1.0\n    def init(self, e: Nowhere, p, n): ...\n"
        "    def step(self, e, s, n): ...",
    ),
}


@pytest.mark.parametrize("case", GOOD)
def test_a_plugin_that_has_what_its_kind_asks_for_is_loaded(site, case):
    kind, source = GOOD[case]
    module = f"good_{case.replace(' ', '_').replace(chr(39), '')}"
    future = "from __future__ import annotations\n"
    header = future * source.startswith(future) + "from dataclasses import dataclass, field\n"
    site.add("kit", modules={module: header + source.removeprefix(future)}, **{kind: {"x": f"{module}:X"}})
    assert site.registry().load(kind, "x").record.state == "loaded"


# ----------------------------------------------------------------------------------- building


def test_a_table_becomes_an_object_with_its_settings_recorded(site):
    site.add("d", "0.3", sampler={"ula": "build_mod:ULA"}, modules={"build_mod": SAMPLER})
    built = site.registry().build("sampler", use("ula", step_size=1))
    assert (built.object.step_size, built.object.noise_scale) == (1.0, 1.0)
    assert built.settings == {"step_size": 1.0, "noise_scale": 1.0}
    assert (built.record.name, built.record.version, built.digest) == ("ula", "0.3", None)


def test_wrong_settings_name_the_plugin(site):
    site.add("d", sampler={"ula": "wrong_mod:ULA"}, modules={"wrong_mod": SAMPLER})
    registry = site.registry()
    with pytest.raises(SettingsError, match=r"^`step_size` must be set for sampler 'ula'; got nothing"):
        registry.build("sampler", {"use": "ula"})
    with pytest.raises(SettingsError, match=r"of stage 2\. Did you mean `step_size`\?"):
        registry.build("sampler", {"use": "ula", "step_sise": 1.0}, subject="stage 2")


@pytest.mark.parametrize("table", [{}, {"use": ""}, {"use": 3}])
def test_a_table_must_have_use(site, table):
    refused(lambda: site.registry().build("sampler", table), "a sampler must be named by `use`")


def test_a_model_function_must_return_an_energy(site, tmp_path):
    (tmp_path / "e.py").write_text("def model(): return 3")
    refused(
        lambda: site.registry().build("model", use("./e.py:model"), base=tmp_path), "must return an energy", "'int'"
    )


def test_use_is_a_plain_table():
    assert use("ula", step_size=0.1, name="x") == {"use": "ula", "step_size": 0.1, "name": "x"}
    with pytest.raises(SettingsError, match="must be given once"):
        use("ula", use="mala")


def test_the_registry_of_this_environment_has_no_surprises():
    for record in Registry().records():
        assert record.state == "available", record
