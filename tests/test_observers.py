"""Events reach every observer that listens; one that fails is left out alone, and said so once."""

from __future__ import annotations

import threading
import time
import types
import warnings

import pytest

from ebmcore.errors import EbmcoreWarning, InputError
from ebmcore.observers import Events, Observers, hookimpl
from ebmcore.protocols import Chunk, Receipt, RunInfo

RUN = RunInfo("id", None, chains=128, draws=1, steps=10, chunks=2, devices=("cpu",), seed=1)
CHUNK = Chunk(0, 64, 0, 10)
RECEIPT = Receipt(CHUNK, "cpu", 0.1)
PROGRESS = {"run": RUN, "chunk": CHUNK, "step": 1, "stats": {}}


class Recorder:
    def __init__(self):
        self.heard = []

    @hookimpl
    def ebmcore_run_started(self, run):
        self.heard.append(("started", run))

    @hookimpl
    def ebmcore_progress(self, run, chunk, step, stats):
        self.heard.append(("progress", run, chunk, step, stats))

    @hookimpl
    def ebmcore_chunk_done(self, run, chunk, receipt):
        self.heard.append(("done", run, chunk, receipt))

    @hookimpl
    def ebmcore_run_finished(self, run, result):
        self.heard.append(("finished", run, result))

    @hookimpl
    def ebmcore_run_failed(self, run, error):
        self.heard.append(("failed", run, error))


class Faulty:
    def __init__(self, error):
        self.error = error
        self.calls = 0

    @hookimpl
    def ebmcore_chunk_done(self):
        self.calls += 1
        raise self.error


def test_every_event_arrives_with_its_arguments():
    recorder = Recorder()
    observers = Observers([recorder])
    error = RuntimeError("x")
    observers.ebmcore_run_started(run=RUN)
    observers.ebmcore_progress(run=RUN, chunk=CHUNK, step=3, stats={"acceptance_rate": 0.5})
    observers.ebmcore_chunk_done(run=RUN, chunk=CHUNK, receipt=RECEIPT)
    observers.ebmcore_run_finished(run=RUN, result="result")
    observers.ebmcore_run_failed(run=RUN, error=error)
    assert recorder.heard == [
        ("started", RUN),
        ("progress", RUN, CHUNK, 3, {"acceptance_rate": 0.5}),
        ("done", RUN, CHUNK, RECEIPT),
        ("finished", RUN, "result"),
        ("failed", RUN, error),
    ]


def test_observers_can_send_every_event_that_is_specified():
    specified = {name for name in vars(Events) if name.startswith("ebmcore_")}
    assert specified == {name for name in vars(Observers) if name.startswith("ebmcore_")}


def test_an_observer_takes_any_subset_of_the_arguments():
    heard = []

    class Steps:
        @hookimpl
        def ebmcore_progress(self, step):
            heard.append(step)

        @hookimpl
        def ebmcore_run_started(self):
            heard.append("started")

    observers = Observers([Steps()])
    observers.ebmcore_run_started(run=RUN)
    observers.ebmcore_progress(run=RUN, chunk=CHUNK, step=7, stats={})
    assert heard == ["started", 7]


def test_a_module_is_an_observer():
    module = types.ModuleType("watcher")
    heard = []

    @hookimpl
    def ebmcore_run_started(run):
        heard.append(run)

    module.ebmcore_run_started = ebmcore_run_started
    Observers([module]).ebmcore_run_started(run=RUN)
    assert heard == [RUN]


def test_observers_hear_in_their_order():
    order = []

    class Named:
        def __init__(self, name):
            self.name = name

        @hookimpl
        def ebmcore_run_started(self):
            order.append(self.name)

    Observers([Named("a"), Named("b"), Named("c")]).ebmcore_run_started(run=RUN)
    assert order == ["a", "b", "c"]


@pytest.mark.parametrize("error", [ValueError("two\nlines"), KeyError("k"), AssertionError(), StopIteration()])
def test_an_observer_that_raises_is_reported_once_and_left_out(error):
    before, faulty, after = Recorder(), Faulty(error), Recorder()
    observers = Observers([before, faulty, after])
    with pytest.warns(EbmcoreWarning) as caught:
        observers.ebmcore_chunk_done(run=RUN, chunk=CHUNK, receipt=RECEIPT)
    (message,) = [str(warning.message) for warning in caught]
    assert "\n" not in message
    assert "Faulty" in message
    assert "ebmcore_chunk_done" in message
    assert type(error).__name__ in message
    observers.ebmcore_chunk_done(run=RUN, chunk=CHUNK, receipt=RECEIPT)
    assert faulty.calls == 1
    assert len(before.heard) == len(after.heard) == 2


def test_it_is_left_out_even_where_warnings_are_errors():
    faulty = Faulty(ValueError())
    observers = Observers([faulty])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(EbmcoreWarning):
            observers.ebmcore_chunk_done(run=RUN, chunk=CHUNK, receipt=RECEIPT)
        observers.ebmcore_chunk_done(run=RUN, chunk=CHUNK, receipt=RECEIPT)
    assert faulty.calls == 1


def test_ctrl_c_in_an_observer_is_not_swallowed():
    with pytest.raises(KeyboardInterrupt):
        Observers([Faulty(KeyboardInterrupt())]).ebmcore_chunk_done(run=RUN, chunk=CHUNK, receipt=RECEIPT)


def test_calls_from_several_threads_do_not_overlap():
    class Counter:
        def __init__(self):
            self.inside = self.overlaps = self.calls = 0

        @hookimpl
        def ebmcore_chunk_done(self):
            self.inside += 1
            self.overlaps += self.inside > 1
            time.sleep(0.0005)
            self.calls += 1
            self.inside -= 1

    counter = Counter()
    observers = Observers([counter])

    def report():
        for _ in range(25):
            observers.ebmcore_chunk_done(run=RUN, chunk=CHUNK, receipt=RECEIPT)

    threads = [threading.Thread(target=report) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (counter.calls, counter.overlaps) == (100, 0)


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class Slow:
    def __init__(self, clock, seconds):
        self.clock, self.seconds, self.heard = clock, seconds, []

    @hookimpl
    def ebmcore_progress(self, step):
        self.heard.append(step)
        self.clock.now += self.seconds

    @hookimpl
    def ebmcore_chunk_done(self):
        self.heard.append("done")
        self.clock.now += self.seconds


def test_a_slow_observer_takes_a_tenth_of_the_time_and_no_other_hears_less_for_it():
    clock = Clock()
    slow, quick = Slow(clock, 1.0), Slow(clock, 0.0)
    observers = Observers([slow, quick], clock)
    for step in range(100):
        clock.now = max(clock.now, step * 0.5)
        observers.ebmcore_progress(run=RUN, chunk=CHUNK, step=step, stats={})
    assert clock.now < 60
    assert len(slow.heard) in (5, 6), "1 s in every 10 of the 50"
    assert quick.heard == list(range(100))
    observers.ebmcore_chunk_done(run=RUN, chunk=CHUNK, receipt=RECEIPT)
    assert slow.heard[-1] == quick.heard[-1] == "done", "no event of another kind is left out"


def test_a_worker_does_not_wait_to_tell_its_progress():
    inside, leave = threading.Event(), threading.Event()

    class Stuck:
        calls = 0

        @hookimpl
        def ebmcore_progress(self):
            self.calls += 1
            inside.set()
            leave.wait(60)

    stuck = Stuck()
    observers = Observers([stuck])
    one = threading.Thread(target=observers.ebmcore_progress, kwargs=PROGRESS)
    one.start()
    inside.wait(60)
    observers.ebmcore_progress(**PROGRESS)  # returns, or the test hangs
    leave.set()
    one.join()
    assert stuck.calls == 1


ENDS = {
    "finished": lambda observers: observers.ebmcore_run_finished(run=RUN, result=None),
    "failed": lambda observers: observers.ebmcore_run_failed(run=RUN, error=RuntimeError()),
}


@pytest.mark.parametrize("end", ENDS)
def test_an_observer_that_took_much_of_the_time_is_named_once_at_the_end(end):
    clock = Clock()
    observers = Observers([Slow(clock, 2.0), Slow(clock, 0.1)], clock)
    observers.ebmcore_run_started(run=RUN)
    clock.now += 4.0
    for _ in range(3):
        observers.ebmcore_chunk_done(run=RUN, chunk=CHUNK, receipt=RECEIPT)
    with pytest.warns(EbmcoreWarning) as caught:
        ENDS[end](observers)
    (message,) = [str(warning.message) for warning in caught]
    assert "Slow took 6.0 s of the run's 10.3 s" in message


def test_one_that_takes_a_small_part_is_not_named():
    clock = Clock()
    observers = Observers([Slow(clock, 2.0)], clock)
    observers.ebmcore_run_started(run=RUN)
    clock.now += 100.0
    observers.ebmcore_chunk_done(run=RUN, chunk=CHUNK, receipt=RECEIPT)
    observers.ebmcore_run_finished(run=RUN, result=None)


class Answers:
    def __init__(self, answer):
        self.answer, self.asked = answer, 0

    @hookimpl
    def ebmcore_should_stop(self, summary):
        self.asked += 1
        return self.answer


def test_the_first_reason_decides_and_a_wrong_answer_is_reported_and_left_out():
    silent, wrong, one, two = Answers(None), Answers(True), Answers("one"), Answers("two")
    observers = Observers([silent, wrong, one, two])
    assert observers.may_stop
    with pytest.warns(EbmcoreWarning, match=r"must return a reason \(str\) or None; got True"):
        assert observers.ebmcore_should_stop(run=RUN, summary={}) == "one"
    assert observers.ebmcore_should_stop(run=RUN, summary={}) == "one"
    assert (silent.asked, wrong.asked, one.asked, two.asked) == (2, 1, 2, 0)
    assert not Observers([Recorder()]).may_stop


def test_an_observer_may_cause_an_event_itself():
    heard = []

    class Echo:
        @hookimpl
        def ebmcore_run_started(self, run):
            observers.ebmcore_run_finished(run=run, result=None)

        @hookimpl
        def ebmcore_run_finished(self):
            heard.append("finished")

    observers = Observers([Echo()])
    observers.ebmcore_run_started(run=RUN)
    assert heard == ["finished"]


class UnknownArgument:
    @hookimpl
    def ebmcore_progress(self, chunk, steps):
        pass


class UnknownEvent:
    @hookimpl
    def ebmcore_chunk_don(self):
        pass


class NotMarked:
    def ebmcore_chunk_done(self):
        pass


class RaisesWhenListed(Recorder):
    def __dir__(self):
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("observer", "words"),
    [
        (UnknownArgument(), ["UnknownArgument", "ebmcore_progress", "got steps", "run, chunk, step, stats"]),
        (UnknownEvent(), ["UnknownEvent", "ebmcore_chunk_don ", "Did you mean ebmcore_chunk_done?"]),
        (NotMarked(), ["NotMarked", "must implement an event", "ebmcore.hookimpl"]),
        (Recorder, ["must be an instance", "Recorder"]),
        (RaisesWhenListed(), ["RaisesWhenListed", "RuntimeError: no"]),
        (None, ["NoneType"]),
    ],
)
def test_what_is_no_observer_is_refused_in_one_line(observer, words):
    with pytest.raises(InputError) as caught:
        Observers([Recorder(), observer])
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_no_observers_is_fine():
    Observers().ebmcore_run_started(run=RUN)
