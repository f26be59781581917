"""IBM Spectrum LSF 10.1: what differs from OpenLava, whose output was recorded.

LSF itself was not seen.  From IBM's documentation of bjobs (-o: fields in order, "-" where one is
empty; exit_reason: the termination reasons) and bsub (-M and rusage with units, -gpu num=).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from tests.fakes import core as c
from tests.fakes.core import Array, Job, Request
from tests.fakes.dialects.base import NotRecorded
from tests.fakes.dialects.openlava import OpenLava

TERM = {
    c.TIMEOUT: "TERM_RUNLIMIT: job killed after reaching LSF run time limit",
    c.MEMORY: "TERM_MEMLIMIT: job killed after reaching LSF memory usage limit",
    c.CANCELLED: "TERM_OWNER: job killed by owner",
    c.NODE: "TERM_ZOMBIE: job exited while LSF is not available",
    c.PREEMPTED: "TERM_PREEMPT: job killed after preemption",
}
UNITS = {"KB": 1024, "MB": 1024**2, "GB": 1024**3, "K": 1024, "M": 1024**2, "G": 1024**3}


class LSF(OpenLava):
    """IBM Spectrum LSF."""

    name = "lsf"
    banner = "IBM Spectrum LSF 10.1.0.14, Jun 21 2023\nCopyright International Business Machines\n"
    absent = frozenset()
    unasked = frozenset()

    def environment(self, array: Array, job: Job) -> dict[str, str]:
        name = f"{array.name}[{job.index}]"
        return {"LSB_JOBID": str(array.number), "LSB_JOBINDEX": str(job.index), "LSB_JOBNAME": name}

    def _request(self, option: Mapping[str, str]) -> Request:
        request = super()._request(option)
        gpus = re.search(r"num=(\d+)", option.get("-gpu", ""))
        request.gpus = int(gpus[1]) if gpus else 0
        return request

    def _bytes(self, text: str) -> int:
        size = re.fullmatch(r"(\d+)([A-Z]+)", text)
        if size is None:
            raise NotRecorded(f"memory in the site's unit: {text}")
        return int(size[1]) * UNITS[size[2]]

    def _table(self, form: str, shown: list[tuple[Array, Job]]) -> Iterator[str]:
        names, _, delimiter = form.partition(" delimiter=")
        mark = delimiter.strip("'") or " "
        fields = names.split()
        yield mark.join(fields).upper() + "\n"
        for array, job in shown:
            yield mark.join(self._field(name, array, job) or "-" for name in fields) + "\n"

    def _field(self, name: str, array: Array, job: Job) -> str:
        if name == "jobindex":
            return str(job.index)
        if name == "exec_host":
            return f"{array.request.cores}*{job.node}" if job.node else ""
        if name == "exit_reason":
            return TERM.get(job.state, "")
        return super()._field(name, array, job)


DIALECT = LSF()
