"""The site as built, in chromium: every page, narrow and wide, and the search."""

import functools
import json
import shutil
import subprocess
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

pytest.importorskip("sphinx", reason="the site is built with the extra docs")
webdriver = pytest.importorskip("selenium.webdriver", reason="the browser is driven by selenium")

ROOT = Path(__file__).parent.parent.parent
BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
OPTIONS = """headless=new no-sandbox disable-gpu disable-quic no-first-run disable-background-networking
    disable-component-update disable-sync disable-dev-shm-usage"""
NARROW, WIDE = 390, 1400

pytestmark = [
    pytest.mark.slow,
    pytest.mark.either_mode,
    pytest.mark.skipif(not BROWSER or not DRIVER, reason="there is no chromium with its driver"),
]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built strictly."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "-q", "-d", folder / "trees", ROOT / "notebooks"]
    subprocess.run([*command, folder / "html"], check=True)
    return folder / "html"


class _Silent(SimpleHTTPRequestHandler):
    def log_message(self, format, *args):
        pass


@pytest.fixture(scope="module")
def address(site):
    with ThreadingHTTPServer(("localhost", 0), functools.partial(_Silent, directory=site)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://localhost:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for option in [*OPTIONS.split(), f"user-data-dir={tmp_path_factory.mktemp('profile')}"]:
        options.add_argument(f"--{option}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.get("about:blank")
    driver.get_log("performance")  # of the browser's own first page
    yield driver
    driver.quit()


def open_page(browser, url, width):
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(url)


def wait_for(browser, script):
    """Until the script returns something true."""
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(browser, 30).until(lambda driver: driver.execute_script(script))


def requested(browser):
    """The addresses that the pages asked for since the last call."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]


def test_pages_render_without_errors_or_requests_to_others(site, address, browser):
    pages = {path.relative_to(site).as_posix() for path in site.rglob("*.html")} - {"search.html"}
    assert len(pages) > 60
    faults = []
    for page in sorted(pages):
        for width in (NARROW, WIDE):
            open_page(browser, f"{address}/{page}", width)
            if not browser.execute_script("return document.querySelector('h1')?.textContent"):
                faults.append((page, width, "no title"))
            if browser.find_elements("css selector", "article .math"):
                wait_for(browser, "return document.querySelector('mjx-container')")
            if browser.execute_script("return document.querySelector('mjx-merror')"):
                faults.append((page, width, "a formula with an error"))
            broken = "return [...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src)"
            faults += [(page, width, image) for image in browser.execute_script(broken)]
            if browser.execute_script("return document.documentElement.scrollWidth") > width:
                faults.append((page, width, "scrolls sideways"))
        faults += [(page, entry["message"]) for entry in browser.get_log("browser")]
        faults += [(page, url) for url in requested(browser) if not url.startswith((address, "data:"))]
    assert not faults


def test_links_lead_somewhere(site, address, browser):
    links = "return [...document.links].map(a => a.href)"
    targets = set()
    for page in site.rglob("*.html"):
        open_page(browser, f"{address}/{page.relative_to(site).as_posix()}", WIDE)
        targets.update(url for url in browser.execute_script(links) if url.startswith(address))
    ids = {path: path.read_text() for path in site.rglob("*.html")}
    for url in sorted(targets):
        path, _, anchor = url.removeprefix(address).lstrip("/").partition("#")
        file = site / path.partition("?")[0]
        assert file.is_file(), url
        assert not anchor or f'id="{anchor}"' in ids[file], url


def test_the_search_finds_a_covariance(address, browser):
    open_page(browser, f"{address}/search.html?q=HAC", WIDE)
    found = "return [...document.querySelectorAll('#search-results li a')].map(a => a.textContent)"
    wait_for(browser, f"return ({found[7:]}).length > 1")
    assert any("HAC" in title for title in browser.execute_script(found))
