"""Run the Python examples of the pages, in a process of their own: ``python -m tests.docs.play``.

Each page is read as a notebook: its blocks share their names and come one after the other, and
each page starts anew.  One process for all of them, since the engine is imported once then.  The
last line is a JSON object: what failed on each page, nothing where all went well.
"""

from __future__ import annotations

import ast
import asyncio
import copy
import gc
import inspect
import json
import os
import sys
import tempfile
import time
import traceback
from typing import Any

import dask.config
import distributed  # its configuration is there before the first page
from distributed.core import Status

from dask_hpc import HPCCluster
from dask_hpc.config.reader import defaults
from tests.docs.blocks import Block, examples


def play(page: str) -> str:
    """Run a page; what went wrong, or nothing."""
    names: dict[str, Any] = {"__name__": "__main__"}
    before = copy.deepcopy(dask.config.config)
    try:
        for block in examples(page):
            if block.language == "python" and block.runs:
                _run(block, names)
    except BaseException:  # noqa: BLE001  (whatever an example raises is what is told)
        return traceback.format_exc()
    finally:
        _close(names)
        dask.config.config.clear()
        dask.config.config.update(before)
    return ""


def _run(block: Block, names: dict[str, Any]) -> None:
    for code, where in ((block.before, f"{block} (before)"), (block.code, str(block))):
        compiled = compile(code, where, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        if compiled.co_flags & inspect.CO_COROUTINE:  # as a notebook has it
            asyncio.run(eval(compiled, names))  # noqa: S307  (our own pages)
        else:
            exec(compiled, names)  # noqa: S102


def _close(names: dict[str, Any]) -> None:
    """Close what a page leaves open, and end what would outlive it."""
    for value in list(names.values()):
        if isinstance(value, distributed.Client):
            value.close()
    for value in list(names.values()):
        if isinstance(value, HPCCluster) and value.status is Status.running:
            value.shutdown()
    names.clear()
    gc.collect()


def main() -> None:
    """Play the pages named in the arguments."""
    failures: dict[str, str] = {}
    defaults()
    for page in sys.argv[1:]:
        started = time.monotonic()
        with tempfile.TemporaryDirectory() as directory:
            os.chdir(directory)
            failures[page] = play(page)
            os.chdir("/")
        print(f"{page}: {time.monotonic() - started:.1f} s", file=sys.stderr, flush=True)
    print(json.dumps(failures))


if __name__ == "__main__":
    main()
