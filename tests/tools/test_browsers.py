"""A browser that is gone costs the test that used it, and no other."""

import os
import signal

import pytest

from browsers import Browser


def close(browser):
    browser.now.close()


def kill(browser):
    """As a machine does that runs out of memory; playwright has not noticed it yet."""
    session = browser.now.new_browser_cdp_session()
    processes = session.send("SystemInfo.getProcessInfo")["processInfo"]
    (pid,) = (p["id"] for p in processes if p["type"] == "browser")
    os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("end", [close, kill])
@pytest.mark.parametrize("how", ["new_page", "new_context"])
def test_the_next_test_gets_a_new_browser(launch_chromium, end, how):
    browser = launch_chromium()
    browser.new_page().close()
    assert browser.started == 1
    end(browser)
    opened = getattr(browser, how)()
    page = opened if how == "new_page" else opened.new_page()
    page.set_content("<p>here</p>")
    assert page.locator("p").inner_text() == "here"
    assert browser.started == 2


class Broken(Exception):
    """What a browser raises."""


class Standing:
    """A browser that runs, and refuses a page."""

    def is_connected(self):
        return True

    def new_page(self, **settings):
        raise Broken(f"no page with {settings}")


def test_an_error_of_a_browser_that_runs_is_the_tests_own():
    browser = Browser(Standing, Broken)
    with pytest.raises(Broken, match="width"):
        browser.new_page(width=1)
    assert browser.started == 1
