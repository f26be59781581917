"""A person with a browser: opens JupyterLab by its link, runs a cell, looks at the dashboard.

Usage: browse.py LINK CODE PICTURES.  Prints as JSON what the cell showed and what the dashboard is.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import Page, expect, sync_playwright

CHROMIUM = "/usr/bin/chromium"
#: No sandbox: a container and a host of a test bed have no namespaces for it.
ARGUMENTS = ("--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu")
#: Milliseconds: JupyterLab is 10 MB of scripts, on a machine that does other things.
PATIENCE = 90_000


def main() -> None:
    link, code, pictures = sys.argv[1:]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        context = browser.new_context(ignore_https_errors=True)
        context.set_default_timeout(PATIENCE)
        expect.set_options(timeout=PATIENCE)
        page = context.new_page()
        try:
            shown = run_cell(page, link, code)
            dashboard = context.new_page()
            title = look_at_dashboard(dashboard, link)
        finally:
            for number, each in enumerate(context.pages):
                each.screenshot(path=Path(pictures) / f"page-{number}.png")
            browser.close()
    print(json.dumps({"shown": shown, "title": title}))


def run_cell(page: Page, link: str, code: str) -> str:
    """Open a notebook from the launcher, type, press Shift-Enter; the output."""
    page.goto(f"{link}&reset")  # of what was open the last time nothing
    page.locator('.jp-LauncherCard[data-category="Notebook"]').first.click()
    # Until then the new notebook is read once more, and what was typed is gone.
    expect(page.get_by_role("button", name="| Idle")).to_be_visible()
    page.locator(".jp-Notebook .jp-Cell .cm-content").first.click()
    page.keyboard.insert_text(code)
    page.keyboard.press("Shift+Enter")
    output = page.locator(".jp-OutputArea-executeResult .jp-OutputArea-output").first
    expect(output).to_be_visible()
    return output.inner_text().strip()


def look_at_dashboard(page: Page, link: str) -> str:
    """Open the scheduler's page through the server; its title, once its websocket has drawn it."""
    parts = urlsplit(link)
    page.goto(f"{parts.scheme}://{parts.netloc}/dask/status")
    page.wait_for_function("window.Bokeh && window.Bokeh.documents.length > 0")
    expect(page.locator(".bk-Figure, .bk-Canvas, canvas").first).to_be_attached()
    return page.title()


if __name__ == "__main__":
    main()
