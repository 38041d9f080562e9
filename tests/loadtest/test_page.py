"""Opens the report in a browser (headless Chromium) and looks at what it drew."""

import math
import re
import shutil
import subprocess
import time

import pytest
from loadtest import page, report

WIDTH, HEIGHT = 1280, 1750
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def summary(**changes):
    """As run.py writes it, of a made-up run of 20 seconds of attack and 10 of draining."""
    accepted = [4000 + 900 * math.sin(i / 3) if i < 40 else None for i in range(61)]
    backlog = [max(0, 1500 * i if i < 40 else 60000 - 3000 * (i - 40)) for i in range(61)]
    return {
        "profile": {"name": "made-up", "about": "a run that never was", "phases": [{"rate": 0, "duration_s": 20, "most_senders": 100}],
                    "shares": {"duplicate": 0.05}, "workers": 1, "worker_threads": 1, "ingest_threads": 1},
        "began": 1_769_860_800.0, "seed": "made-up", "attack_s": 20.0, "drain_s": 10.0, "drained": True, "gateway": "a stack of its own",
        "machine": {"cpus": 2, "cpu": "<CPU & friends>", "memory_bytes": 2**34, "kernel": "6.1", "python": "3.11"},
        "load_average": {"before": 0.1, "after": 1.9}, "versions": {"waybill": "0.1.0"},
        "criteria": [{"name": "good enough", "verdict": True, "text": "100 %"}, {"name": "fast enough", "verdict": False, "text": "62 ms"},
                     {"name": "unknown", "verdict": None, "text": "not checked"}],
        "sent": {"valid": 80000}, "answers": {"valid 202": 80000}, "acked": 80000, "identities": 80000, "resolved": 80000,
        "extra_attempts": 10, "duplicates_counted": 5, "wrong": {"lost": {"count": 1, "examples": ["lt-1"]}},
        "ack_s": {"50": 0.0125, "90": 0.02, "99": 0.05, "100": 0.3}, "gateway_ack_s": [(0.001, 10), (0.01, 80000)],
        "end_to_end_s": {"succeeded at once": {"50": 4.0, "99": 9.0}, "after failures": {"50": 6.0}},
        "usage": {"ingest": {"cpu_s": 3.0, "rss_peak_bytes": 10_000_000}, "worker1": {"cpu_s": 6.0, "rss_peak_bytes": 20_000_000}},
        "generators": [{"written": 80000, "waited_s": 18.0, "wall_s": 20.0, "cpu_s": 2.0}], "targets_ran_out": False,
        "cpus_attack": {"ingest": 0.25, "worker1": 0.5}, "cpus_draining": {"ingest": 0.0, "worker1": 0.9}, "drain_rate": 3000.0, "disk": {"fsync_median_ms": 0.5, "fsync_longest_ms": 3},
        "curves": {"step_s": 0.5, "start": 0.0, "accepted": accepted, "resolved": [2000.0] * 61, "waiting": backlog,
                   "busy": [95] * 61, "memory": {"ingest": [12.0] * 61, "workers": [20.0] * 61, "redis": [100.0] * 61, "store": [50.0] * 61},
                   "latency": [[12.0, 50.0 + i] if i < 40 else None for i in range(61)]},
        "histogram": [(10 ** (i / 10), 10 ** ((i + 1) / 10), 100 + i * (30 - i)) for i in range(25)],
        "outcome_histogram": [(10 ** (i / 10), 10 ** ((i + 1) / 10), 100 + i * (30 - i)) for i in range(25)], **changes,
    }


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if not CHROMIUM:
        pytest.skip("no Chromium to look at the report with: apt-get install chromium")
    image = pytest.importorskip("PIL.Image", reason="no Pillow to read the screenshot with: apt-get install python3-pil")
    folder = tmp_path_factory.mktemp("browser")

    def look(html, *flags):
        (folder / "report.html").write_text(html, encoding="utf-8")
        shot = folder / "shot.png"
        # No proxy and no name resolution: the page must do without a network.
        run = subprocess.run(
            [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}/profile", "--hide-scrollbars",
             "--host-resolver-rules=MAP * ~NOTFOUND", f"--window-size={WIDTH},{HEIGHT}", f"--screenshot={shot}", *flags,
             f"file://{folder}/report.html"], capture_output=True, text=True, timeout=120, check=False)
        assert shot.exists(), run.stderr
        return image.open(shot).convert("RGB")

    return look


def count_near(picture, colour):
    """How many pixels have nearly this colour."""
    return sum(count for count, pixel in picture.getcolors(WIDTH * HEIGHT) if max(abs(a - b) for a, b in zip(pixel, colour)) < 12)


def colours(html, dark):
    """{name: rgb} of the page's style sheet."""
    found = re.findall(r"--(\w+): #([0-9a-f]{6})", html)
    names = dict(found[len(found) // 2:] if dark else found[: len(found) // 2])
    return {name: tuple(bytes.fromhex(value)) for name, value in names.items()}


@pytest.mark.parametrize("dark", [False, True])
def test_the_page_draws_its_charts(browser, dark):
    html = page.html(summary())
    picture = browser(html, *(["--blink-settings=preferredColorScheme=0"] if dark else []))
    wanted = colours(html, dark)
    assert picture.getpixel((2, 2)) == wanted["page"]
    for name, least in (("s1", 5000), ("s2", 200), ("s3", 400), ("s4", 200)):
        assert count_near(picture, wanted[name]) > least, f"{name} was not drawn"
    blank = browser("<!doctype html><title>nothing</title>")
    assert picture.tobytes() != blank.tobytes()


def test_an_empty_run_makes_a_page_too(browser):
    """No answer at all, and a gateway that runs elsewhere: nothing to draw is no reason to fall over."""
    nothing = summary(acked=0, identities=0, resolved=0, usage={}, cpus_attack={}, cpus_draining={}, drain_rate=None, disk=None, histogram=[], outcome_histogram=[], ack_s={}, gateway_ack_s=[], sent={}, answers={},
                      end_to_end_s={"succeeded at once": {}, "after failures": {}},
                      curves={"step_s": 1, "start": 0.0, "accepted": [None], "resolved": [0], "waiting": [0], "busy": [None], "memory": {}, "latency": [None]})
    picture = browser(page.html(nothing))
    assert len(picture.getcolors(WIDTH * HEIGHT)) > 10
    assert "Load test: made-up" in report.markdown(nothing)


def test_the_page_is_one_file_with_pictures():
    html = page.html(summary())
    assert html.count("<svg") == 8
    assert len(re.findall(r'<path class="line', html)) == 10
    assert not re.search(r"(src|href)=|url\(|@import|https?:", html), "it must load nothing"
    assert "&lt;CPU &amp; friends&gt;" in html


def test_verdicts_are_told_as_they_are():
    html, text = page.html(summary()), report.markdown(summary())
    assert "1 of 3 criteria failed" in html and "**Failed**: fast enough." in text
    good = summary(criteria=[{"name": "good enough", "verdict": True, "text": "100 %"}], wrong={})
    assert "All 1 criteria met" in page.html(good) and "**Every criterion is met.**" in report.markdown(good)
    open_one = summary(criteria=summary()["criteria"][::2])
    assert "1 criteria met, 1 not checked" in page.html(open_one)
    assert "every criterion is met" not in report.markdown(open_one).lower()


def test_the_report_says_what_matters():
    text = report.markdown(summary())
    for fact in ("| valid | 80000 | 202: 80000 |", "4000/s", "lost: 1, such as `lt-1`", "12.5 ms", "37.5 µs", "it was not the limit",
                 time.strftime("%Y-%m-%d", time.gmtime(1_769_860_800))):
        assert fact in text, fact
