"""A browser for all tests of a session: when it is gone, the next test gets a new one.

Chromium is killed where a machine runs out of memory. Then the test that used it fails, and those
behind it must not.
"""


class Browser:
    """`start()` gives a browser of playwright's; `gone` are the errors that say it has ended."""

    def __init__(self, start, gone=()):
        self._start, self._gone = start, gone
        self.started = 0
        self.renew()

    def renew(self):
        """Start a new one."""
        self.now = self._start()
        self.started += 1

    def new_page(self, **settings):
        """A page with a context of its own, in a browser that runs."""
        return self._opened("new_page", settings)

    def new_context(self, **settings):
        """A context, in a browser that runs."""
        return self._opened("new_context", settings)

    def _opened(self, how, settings):
        if not self.now.is_connected():
            self.renew()
        try:
            return getattr(self.now, how)(**settings)
        except self._gone:
            if self.now.is_connected():  # the browser is there, and something else is wrong
                raise
            self.renew()  # it ended, and playwright has only just noticed
            return getattr(self.now, how)(**settings)
