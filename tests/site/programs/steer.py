"""A person with a browser: attaches to a cluster in JupyterLab, scales it with the widget, looks.

Usage: steer.py LINK CLUSTER JOBS PICTURES.  Prints as JSON what the cell computed and what the Jobs
page of the dashboard came to show.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import Page, expect, sync_playwright

from tests.site.programs.browse import ARGUMENTS, CHROMIUM, PATIENCE

CELLS = (
    "from dask_hpc import HPCCluster\ncluster = HPCCluster.attach({name!r})\ncluster",
    "client = cluster.get_client()\nclient.submit(sum, range(100)).result()",
)


def main() -> None:
    link, name, jobs, pictures = sys.argv[1:]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        context = browser.new_context(ignore_https_errors=True)
        context.set_default_timeout(PATIENCE)
        expect.set_options(timeout=PATIENCE)
        lab, page = context.new_page(), context.new_page()
        try:
            open_widget(lab, link, CELLS[0].format(name=name))
            before = look_at_jobs(page, link, "0 wanted")
            scale(lab, jobs)
            after = look_at_jobs(page, None, f"{jobs} running")
            shown = run_next(lab, CELLS[1])
        finally:
            for number, each in enumerate(context.pages):
                each.screenshot(path=Path(pictures) / f"steer-{number}.png")
            browser.close()
    print(json.dumps({"shown": shown, "before": before, "after": after}))


def open_widget(lab: Page, link: str, code: str) -> None:
    """Open a notebook from the launcher, attach, and see the widget."""
    lab.goto(f"{link}&reset")  # of what was open the last time nothing
    lab.locator('.jp-LauncherCard[data-category="Notebook"]').first.click()
    # Until then the new notebook is read once more, and what was typed is gone.
    expect(lab.get_by_role("button", name="| Idle")).to_be_visible()
    lab.locator(".jp-Notebook .jp-Cell .cm-content").first.click()
    lab.keyboard.insert_text(code)
    lab.keyboard.press("Shift+Enter")
    lab.get_by_role("tab", name="Scaling").click()
    expect(lab.get_by_role("button", name="Scale", exact=True)).to_be_visible()


def scale(lab: Page, jobs: str) -> None:
    """Type a size and click."""
    size = lab.locator(".widget-inline-hbox", has_text="Size").locator("input").first
    size.fill(jobs)
    size.press("Tab")
    lab.get_by_role("button", name="Scale", exact=True).click()


def run_next(lab: Page, code: str) -> str:
    """Run one more cell; its result."""
    lab.locator(".jp-Notebook .jp-Cell .cm-content").last.click()
    lab.keyboard.insert_text(code)
    lab.keyboard.press("Shift+Enter")
    output = lab.locator(".jp-OutputArea-executeResult .jp-OutputArea-output pre").last
    expect(output).to_be_visible()
    return output.inner_text().strip()


def look_at_jobs(page: Page, link: str | None, words: str) -> str:
    """Wait until the Jobs page says something; opened once, never loaded again."""
    if link is not None:
        parts = urlsplit(link)
        page.goto(f"{parts.scheme}://{parts.netloc}/dask/jobs")
    page.get_by_text(words).first.wait_for()
    return words


if __name__ == "__main__":
    main()
