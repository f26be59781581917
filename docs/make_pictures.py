"""Make the pictures of the documentation anew: ``python docs/make_pictures.py``.

Commands are drawn as SVG from what they print in a terminal; pages and notebooks are photographed
in a real browser, Debian's chromium.  Beside dask-hpc[jupyter,dashboard] it needs ``pip install
playwright`` and ``apt-get install chromium``.  Everything runs on the ``local`` batch system, with
a home directory that is thrown away.  CI does not make them.
"""

from __future__ import annotations

import argparse
import os
import pty
import re
import secrets
import select
import shlex
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PICTURES = HERE / "_static" / "pictures"
COLUMNS = 110

#: File name, and the commands whose output it shows.
COMMANDS = {
    "cli": (
        "dask-hpc up --name study --cores 2 --memory 2GiB --walltime 30min --jobs 3",
        "dask-hpc ls",
        "dask-hpc status study",
        "dask-hpc jobs study",
        "dask-hpc down study",
    ),
}

#: Fonts of the drawing are the reader's: rich's own template fetches them from another host.
_FONT = re.compile(r"@font-face\s*\{[^}]*\}\s*")

NOTEBOOK = """\
from dask_hpc import HPCCluster

cluster = HPCCluster(cores=2, memory="2 GiB", walltime="30 min")
cluster.scale(jobs=2)
cluster.wait_for_workers(2)
cluster
"""


def main() -> None:
    """Make those that are named, or all."""
    makers = {"commands": commands, "jobs": jobs_page, "widget": widget}
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", nargs="*", choices=[[], *makers], help="default: all")
    what = parser.parse_args().what or list(makers)
    PICTURES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as home:
        os.environ |= {
            "HOME": home,
            "DASK_CONFIG": f"{home}/.config/dask",
            "DASK_DASK_HPC__BATCH": "local",
            "DASK_HPC_LOCAL_SLOTS": "8",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }
        for name in what:
            makers[name]()


def commands() -> None:
    """Draw what commands print, as in a terminal."""
    from rich.console import Console
    from rich.text import Text

    for name, lines in COMMANDS.items():
        console = Console(record=True, width=COLUMNS, file=open(os.devnull, "w"))  # noqa: PTH123, SIM115
        for line in lines:
            console.print(Text(f"$ {line}", style="bold"))
            console.print(Text.from_ansi(in_terminal(line)))
        svg = _FONT.sub("", console.export_svg(title="", unique_id=name))
        PICTURES.joinpath(f"{name}.svg").write_text(svg, encoding="utf-8")


def in_terminal(command: str) -> str:
    """What a command prints where it finds a terminal."""
    ours, theirs = pty.openpty()
    environment = os.environ | {"COLUMNS": str(COLUMNS), "TERM": "xterm-256color"}
    process = subprocess.Popen(
        shlex.split(command), stdin=theirs, stdout=theirs, stderr=theirs, env=environment
    )
    os.close(theirs)
    printed = b""
    while True:
        ready, _, _ = select.select([ours], [], [], 0.2)
        if not ready and process.poll() is not None:  # its head may hold the terminal
            break
        try:
            printed += os.read(ours, 65536) if ready else b""
        except OSError:  # how a terminal says that nobody is there any more
            break
    process.wait()
    os.close(ours)
    return printed.decode().replace("\r\n", "\n").rstrip()


@contextmanager
def browser(width: int, height: int) -> Iterator[Any]:
    """A page of a headless browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox"]
        )
        yield chromium.new_page(viewport={"width": width, "height": height})
        chromium.close()


def jobs_page() -> None:
    """Photograph the Jobs page of the dashboard, of a cluster that has work."""
    from dask_hpc import HPCCluster

    with HPCCluster(cores=2, memory="2 GiB", walltime="30 min", dashboard_port=0) as cluster:
        client = cluster.get_client()
        cluster.scale(jobs=2)
        cluster.wait_for_workers(2)
        busy = client.map(lambda n: time.sleep(0.2) or n, range(400))
        cluster.scale(jobs=6)
        link = cluster.dashboard_help.split()[-1]
        with browser(1200, 900) as page:
            page.goto(link)  # its token leaves a cookie
            page.goto(link.partition("/status")[0] + "/jobs")
            page.wait_for_timeout(15_000)  # the drawing moves: so much of it is to be seen
            page.screenshot(path=PICTURES / "jobs.png")
        del busy


def widget() -> None:
    """Photograph a cluster in a notebook, in JupyterLab."""
    import nbformat

    token, port = secrets.token_hex(16), free_port()
    with tempfile.TemporaryDirectory() as folder:
        kernel = {"name": "python3", "display_name": "Python 3"}
        note = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(NOTEBOOK)], metadata={"kernelspec": kernel}
        )
        nbformat.write(note, f"{folder}/cluster.ipynb")
        options = f"--no-browser --allow-root --ip=127.0.0.1 --port={port} --notebook-dir={folder}"
        lab = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *options.split()],
            env=os.environ | {"JUPYTER_TOKEN": token},
        )
        try:
            wait_for(port)
            with browser(1200, 800) as page:
                page.goto(f"http://127.0.0.1:{port}/lab/tree/cluster.ipynb?token={token}")
                page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=60_000)
                page.wait_for_timeout(5_000)
                page.click(".jp-Notebook .jp-Cell .jp-InputArea-editor")
                page.keyboard.press("Shift+Enter")
                page.wait_for_selector(".jp-OutputArea-output", timeout=60_000)
                page.get_by_role("button", name="No", exact=True).click()  # no news of Jupyter
                page.wait_for_timeout(5_000)
                page.locator(".jp-Notebook").screenshot(path=PICTURES / "widget.png")
        finally:
            lab.terminate()
            lab.wait()


def free_port() -> int:
    """A port that nobody has, most likely."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int) -> None:
    """Wait until somebody listens."""
    for _ in range(600):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise TimeoutError(f"nobody listens on port {port}")


if __name__ == "__main__":
    main()
