"""``dglab bench widgets``: how soon the demonstration answers, and what it keeps, measured in the browser.

Time runs from a key on a control until the sheet below it is another one. *New* is a value whose results have to be
computed, *again* one that was shown before; *full speed* plays the mixed stream.
"""

import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dglab.utils.errors import InputError

LIMITS = {"new": 1.0, "again": 0.3}  # seconds that a lecturer waits without a word
CONTROLS = {"batch size": (0, "batch size M"), "style mixer": (2, "share of the second"), "dose": (3, "dose"),
            "MLDG": (4, "inner rate η")}  # fmt: skip
CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PATIENCE = 300_000  # milliseconds
_DIFFERS = "number => document.querySelectorAll('.dglab-sheet')[number].innerHTML !== window.dglabBefore"
_KEEP = "number => { window.dglabBefore = document.querySelectorAll('.dglab-sheet')[number].innerHTML; }"
_IDLE = "() => ![...document.querySelectorAll('[role=status]')].some(e => e.textContent.startsWith('working'))"


def bench_widgets(rounds: int = 5, arrivals: int = 192) -> list[dict[str, Any]]:
    """Serve the demonstration, open it in Chromium, and move its controls.

    Args:
        rounds: values of each control.
        arrivals: that are played at full speed; the stream begins anew after its last image.

    Returns:
        One record a control and kind, with the keys of :func:`dglab.bench.measure.measure`: ``ratio`` is that to the
        limit of its kind (1 s new, 0.3 s again). The last one, ``full speed``, has the seconds an arrival, the
        kernel's memory after it in ``peak_mib``, and ``growth_mib`` since its tenth arrival (None but on Linux).

    Raises:
        InputError: without Playwright or Chromium.
    """
    path = next(filter(None, map(shutil.which, CHROMIUM)), None)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise InputError("bench widgets needs Playwright: pip install playwright") from error
    if path is None:
        raise InputError(f"bench widgets needs Chromium; none of {', '.join(CHROMIUM)} is on the path: install one")
    with _served() as (url, server), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1600, "height": 1000})
        page.set_default_timeout(PATIENCE)
        page.goto(url, wait_until="commit")
        page.wait_for_function("document.querySelectorAll('.dglab-sheet').length >= 6")
        page.wait_for_function(_IDLE)
        records = [record for name in CONTROLS for record in _control(page, name, rounds)]
        records.append(_play(page, server, arrivals))
        browser.close()
    return records


def _control(page: Any, name: str, rounds: int) -> list[dict[str, Any]]:
    """New values to the left, then the same ones again to the right."""
    number, label = CONTROLS[name]
    panel = page.locator(".dglab-controls").nth(number)
    panel.locator(".widget-slider", has=page.get_by_text(label, exact=True)).locator(".noUi-handle").focus()
    times: dict[str, list[float]] = {"new": [], "again": []}
    for kind, key in (("new", "ArrowLeft"), ("again", "ArrowRight")):
        for _ in range(rounds if name != "batch size" else 2):  # M = 2 and 1
            page.evaluate(_KEEP, number)
            start = time.perf_counter()
            page.keyboard.press(key)
            page.wait_for_function(_DIFFERS, arg=number)
            times[kind].append(time.perf_counter() - start)
            page.wait_for_function(_IDLE)
    return [_record(f"{name}, {kind}", found, LIMITS[kind]) for kind, found in times.items()]


def _play(page: Any, server: int, arrivals: int) -> dict[str, Any]:
    """Play the stream as fast as it goes."""
    panel = page.locator(".dglab-controls").nth(1)
    arrival = panel.get_by_label("arrival", exact=True).element_handle()
    panel.locator(".widget-slider", has=page.get_by_text("speed", exact=True)).locator(".noUi-handle").focus()
    page.keyboard.press("End")
    panel.get_by_role("button").first.click()
    seen, last, before, start = 0, 0, None, time.perf_counter()
    while seen < arrivals:
        page.wait_for_function("([element, last]) => Number(element.value) !== last", arg=[arrival, last])
        now = int(arrival.input_value())
        seen += now - last if now > last else now + 1  # a new round
        last = now
        if before is None and seen >= 10:
            before = _resident(server)
    seconds = time.perf_counter() - start
    panel.get_by_role("button").first.click()
    after = _resident(server)
    growth = None if before is None or after is None else after - before
    return {**_record("full speed", [seconds / seen], LIMITS["new"]), "peak_mib": after, "growth_mib": growth}


def _record(case: str, times: list[float], limit: float) -> dict[str, Any]:
    median = statistics.median(times)
    return {"case": case, "seconds": median, "spread": (max(times) - min(times)) / median, "ratio": median / limit,
            "peak_mib": None, "peak_ratio": None}  # fmt: skip


@contextmanager
def _served() -> Iterator[tuple[str, int]]:
    """The demonstration's address and the number of its process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "dglab.teaching.demo", f"--port={port}", "--no-browser"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while server.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        else:
            raise InputError("the demonstration does not start; run python -m dglab.teaching.demo to see why")
        yield f"http://127.0.0.1:{port}/", server.pid
    finally:
        server.terminate()
        server.wait()


def _resident(server: int) -> float | None:
    """MiB of the kernel, the server's child, in memory; None where /proc does not tell."""
    children = Path(f"/proc/{server}/task/{server}/children")
    if not children.exists():
        return None
    for child in children.read_text().split():
        status = Path(f"/proc/{child}/status")
        if b"ipykernel" in Path(f"/proc/{child}/cmdline").read_bytes():
            line = next(line for line in status.read_text().splitlines() if line.startswith("VmRSS"))
            return int(line.split()[1]) / 1024
    return None
