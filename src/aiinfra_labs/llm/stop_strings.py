"""Stop strings in a stream: text is held back while it may be the beginning of one. Unit 1.5.

A stop string may begin in one token and end in another. What has been sent cannot be called back,
so the end of the text waits, as long as it is the beginning of a stop string.
"""

from __future__ import annotations

from collections.abc import Iterable

from aiinfra_labs import bounds


class StopStrings:
    """Takes pieces of text, and gives what comes before the first stop string.

    Of two that begin at different places the earlier one counts; `found` is that one, else "".
    stops: a list of texts. Raises ValueError for an empty one, and for one str in place of a list,
    which Python would take letter by letter.
    """

    def __init__(self, stops: Iterable[str] = ()):
        self.stops = tuple(bounds.texts("stop strings", stops))
        if "" in self.stops:
            raise bounds.SettingError(
                "one of the stop strings is empty",
                "every text holds it, at its very beginning",
                "a text that ends what you want, or none at all",
            )
        self.found = ""
        self._held = ""

    def feed(self, text: str) -> str:
        """What can be sent now. After a stop string was found, nothing can."""
        if self.found:
            return ""
        self._held += text
        # Where it begins decides. One that may still begin earlier is waited for.
        begins = [(self._held.find(stop), stop) for stop in self.stops if stop in self._held]
        certain = len(self._held) - self._beginning()
        at, stop = min(begins, default=(len(self._held), ""))
        if stop and at <= certain:
            self.found = stop
            sent, self._held = self._held[:at], ""
            return sent
        sent, self._held = self._held[:certain], self._held[certain:]
        return sent

    def finish(self) -> str:
        """What was held back, when no text follows."""
        if self.found:
            return ""
        begins = [(self._held.find(stop), stop) for stop in self.stops if stop in self._held]
        at, self.found = min(begins, default=(len(self._held), ""))
        sent, self._held = self._held[:at], ""
        return sent

    def _beginning(self) -> int:
        """How many of the last characters are the beginning of a stop string, and no whole one."""
        longest = max((len(stop) for stop in self.stops), default=0)
        for length in range(min(longest - 1, len(self._held)), 0, -1):
            if any(len(s) > length and s.startswith(self._held[-length:]) for s in self.stops):
                return length
        return 0
