"What ends a test: processor time, and a hang; never the clock."

import sys
import time

import psutil
import pytest
from bounded import bounded


def python(source, seconds, idle):
    return bounded([sys.executable, "-u", "-c", source], seconds, 1, idle=idle)


@pytest.mark.heavy
def test_a_long_wait_that_says_something_passes():
    "On a busy machine a notebook may take any time on the clock."
    speaks = "import time\nfor i in range(8): print(i); time.sleep(.5)"
    assert python(speaks, seconds=1, idle=3) is None


@pytest.mark.heavy
def test_work_is_progress_without_a_word():
    works = (
        "import time\n"
        "for i in range(6):\n"
        "    end = time.process_time() + .1\n"
        "    while time.process_time() < end: pass\n"
        "    time.sleep(.7)"
    )
    assert python(works, seconds=30, idle=3) is None


def test_processor_time_is_bounded():
    said = python("while True: pass", seconds=2, idle=60)
    assert said == "not done after 2 seconds of processor time"


@pytest.mark.heavy
def test_processor_time_of_children_counts():
    parent = (
        "import subprocess, sys\n"
        "subprocess.run([sys.executable, '-c', 'while True: pass'])"
    )
    said = python(parent, seconds=2, idle=60)
    assert said == "not done after 2 seconds of processor time"


def runs(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.heavy
def test_a_hang_is_ended_with_what_it_started(tmp_path):
    child = "import time; time.sleep(600)"
    parent = (
        "import subprocess, sys, time\n"
        f"child = subprocess.Popen([sys.executable, '-c', {child!r}],"
        " start_new_session=True)\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(child.pid))\n"
        "time.sleep(600)"
    )
    said = python(parent, seconds=60, idle=6)
    assert said.startswith("it hangs: no output and no work for")
    pid = int((tmp_path / "pid").read_text())
    for _ in range(100):
        if not runs(pid):
            break
        time.sleep(0.1)
    else:
        raise AssertionError("what it had started still runs")
