"""``acct.negative`` and ``acct.pinned-by-absentee``: pinned pages that are on nobody's account, or on the wrong one.

Theory. Every PIN carries the count of the address space after it. Pages that are accounted to one address space and
taken off another make the second count negative. Pages that stay on the account of one that is gone can be given back
by nobody but the last close of the device; while a call that ends a process is under way that is as it should be, so it
is looked at when the run is over.
"""

from __future__ import annotations

from vdpasim.checks.oracle import Oracle


class Accounting(Oracle):
    """Follows the counts."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: dict[str, tuple[int, int, str]] = {}
        """Address space -> (pages, when it was told, by which device)."""

    def on_pin(self, seq: int, device: str, mm: str, pages: int, total: int) -> None:
        """A count moved."""
        before = self.counts.get(mm, (0, 0, device))
        self.counts[mm] = total, seq, device
        if total < 0:
            text = f"{device}: {mm} has {total} pinned pages after {-pages} were taken off"
            self.tell("acct.negative", text, before[1], seq, once=mm, where={"device": device, "address space": mm})

    def finish(self) -> None:
        for mm, (total, seq, device) in sorted(self.counts.items()):
            if total > 0 and ("mm", mm) in self.gone:
                text = f"{device}: {total} pinned pages are still on the account of {mm}, which is gone"
                where = {"device": device, "address space": mm}
                self.tell("acct.pinned-by-absentee", text, seq, self.gone["mm", mm], once=mm, where=where)
