"""A real browser: the system's Chromium, driven by Playwright.

Where either is missing these tests are skipped, and say why; with DGLAB_BROWSER=required they fail. Screenshots go to
the folder that DGLAB_SCREENSHOTS names.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PATIENCE = int(os.environ.get("DGLAB_PATIENCE", 300_000))  # milliseconds; no test measures time, and CI may be busy


@pytest.fixture(scope="module")  # not longer: while it is open an event loop runs, and other modules' tests start one
def browser():
    """A browser without a window."""
    path = next(filter(None, map(shutil.which, CHROMIUM)), None)
    missing = None if path else f"no Chromium here: none of {', '.join(CHROMIUM)} is on the path"
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        missing = missing or f"Playwright cannot be imported: {error}"
    if missing and os.environ.get("DGLAB_BROWSER") == "required":
        pytest.fail(missing)
    if missing:
        pytest.skip(missing)
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield started
        started.close()


@pytest.fixture
def page(browser):
    """An empty page in a large window; at its end nothing may have gone wrong unseen, nor been asked of the network."""
    trouble = []
    context = browser.new_context(viewport={"width": 1600, "height": 1000})
    opened = context.new_page()
    opened.set_default_timeout(PATIENCE)
    opened.on("console", lambda message: trouble.append(message.text) if message.type == "error" else None)
    opened.on("pageerror", lambda error: trouble.append(str(error)))
    opened.on("requestfailed", lambda request: trouble.append(f"{request.url}: {request.failure}"))
    opened.on("request", lambda request: trouble.append(request.url) if _foreign(request.url) else None)
    yield opened
    if folder := os.environ.get("DGLAB_SCREENSHOTS"):  # of how it ended, if it did not end well
        Path(folder).mkdir(parents=True, exist_ok=True)
        opened.screenshot(path=Path(folder) / "last.png")
    context.close()
    assert trouble == []


def _foreign(url):
    return not re.match(r"(file|data|blob|about):|(http|ws)://(127\.0\.0\.1|localhost)[:/]", url)


@pytest.fixture
def shot():
    """Keeps a screenshot where somebody wants to look."""
    folder = os.environ.get("DGLAB_SCREENSHOTS")

    def keep(page, name):
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)

    return keep


@pytest.fixture
def barriers():
    """What axe finds that is serious or critical: (rule, the first place)."""
    from axe_playwright_python.sync_playwright import Axe

    def find(page, within=None):
        found = Axe().run(page, context=within).response["violations"]
        return [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in ("serious", "critical")]

    return find


@pytest.fixture(scope="session")
def serving():
    """Starts a server of ours as ``with serving("-m", "module", "--port={port}") as url``."""
    return _serving


@contextmanager
def _serving(*arguments, cwd=None, path="/"):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    root = str(Path(__file__).parents[2])
    places = os.pathsep.join((root, os.environ["PYTHONPATH"]))
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1", "PYTHONPATH": places}
    environment["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), environment["PATH"]))
    with tempfile.TemporaryFile("w+") as log:
        server = subprocess.Popen(
            [sys.executable, *(argument.format(port=port) for argument in arguments)],
            cwd=cwd or root, env=environment, stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            _wait_for(port, server, log)
            yield f"http://127.0.0.1:{port}{path}"
        except BaseException:  # a page may have failed for what its server or a kernel met
            log.seek(0)
            print(log.read()[-10_000:])
            raise
        finally:
            server.terminate()
            try:
                server.wait(30)
            except subprocess.TimeoutExpired:
                server.kill()


def _wait_for(port, server, log):
    """Until it listens."""
    end = time.monotonic() + PATIENCE / 1000
    while time.monotonic() < end and server.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    log.seek(0)
    pytest.fail(f"the server does not listen: {log.read()[-2000:]}")
