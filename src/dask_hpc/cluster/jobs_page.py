"""The Jobs page of the dashboard: jobs over time, why and how long they wait, deadlines, failures.

Imported when somebody first looks at the dashboard, for it brings bokeh.  What it shows is found in
:mod:`.jobs_seen`; every text of a job, a node or the batch system is escaped.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from html import escape
from typing import TYPE_CHECKING, Any, ClassVar

from bokeh.layouts import column, row
from bokeh.models import BasicTicker, ColumnDataSource, DatetimeTickFormatter, Div, Range1d
from bokeh.plotting import figure

# The engine documents `applications` as the place for more pages; the templates, the theme and the
# links of the navigation bar are public names that nobody promises.  They are used here alone, and
# tests/integration/test_jobs_page.py looks whether a page in the engine's dress comes out.
from distributed.dashboard.components import add_periodic_callback
from distributed.dashboard.components.scheduler import BOKEH_THEME, env
from distributed.dashboard.scheduler import applications, template_variables

from dask_hpc.cluster.jobs_history import SPAN
from dask_hpc.cluster.jobs_seen import EDGES
from dask_hpc.cluster.present import html_rows, pools_table, span, table
from dask_hpc.cluster.report import amount
from dask_hpc.cluster.view import STATES

if TYPE_CHECKING:
    from dask_hpc.cluster.dashboard import GuardedScheduler
    from dask_hpc.cluster.jobs_seen import JobsSeen, Sheet

#: Milliseconds between two looks whether there is news.
_INTERVAL = 1000

#: A colour-blind person tells them apart (Okabe and Ito); grey is what nobody has to act on.
_COLOURS: dict[str, str] = {
    "pending": "#F0E442",
    "held": "#D55E00",
    "starting": "#56B4E9",
    "running": "#009E73",
    "leaving": "#CC79A7",
    "ending": "#999999",
    "in doubt": "#000000",
}
_HOURS: dict[str, str] = {"used": "#009E73", "idle": "#F0E442", "lost": "#D55E00"}

#: Reasons that are listed of each pool.
_REASONS = 8


def add_page(scheduler: GuardedScheduler) -> None:
    """Have the page at ``/jobs``, with a link beside those to the engine's pages.

    Called before the engine connects its pages to a scheduler's server.
    """
    applications.setdefault("/jobs", jobs_doc)
    pages = template_variables(scheduler)["pages"]  # one list for each scheduler, and kept
    if "jobs" not in pages:
        pages.insert(1, "jobs")


def jobs_doc(scheduler: Any, extra: dict[str, Any], doc: Any) -> None:
    """Fill a document of bokeh's, as the engine has it: one for each browser's tab."""
    doc.title = "Dask: Jobs"
    doc.template = env.get_template("simple.html")
    doc.template_variables.update(extra)
    doc.theme = BOKEH_THEME
    seen = getattr(scheduler, "jobs_seen", None)
    if seen is None:  # another scheduler of this process: the engine has one list of pages
        doc.add_root(Div(text="This scheduler's workers are no jobs of a batch system."))
        return
    page = JobsPage(seen)
    page.update()
    add_periodic_callback(doc, page, _INTERVAL)  # until the browser has left
    doc.add_root(page.root)


class JobsPage:
    """The parts of the page, kept up to date.

    Parameters
    ----------
    seen
        What it shows.

    Attributes
    ----------
    root
        All of it.
    source, hours, waits
        The figures' data.
    texts
        The other parts, by name.
    """

    TITLES: ClassVar[dict[str, str]] = {
        "cluster": "Cluster",
        "pools": "Jobs now",
        "waiting": "Why jobs wait",
        "waited": "How long jobs waited",
        "endings": "Next deadlines",
        "failures": "Last failures",
    }

    def __init__(self, seen: JobsSeen) -> None:
        self._seen = seen
        self._shown: Sheet | None = None
        self.source = ColumnDataSource({"time": [], **{state: [] for state in STATES}})
        self.hours = ColumnDataSource({"what": [], **{part: [] for part in _HOURS}})
        self._range = Range1d(0, 1)
        # no mathematics: a reason with dollars is no formula
        self.texts = {
            name: Div(disable_math=True, sizing_mode="stretch_width") for name in self.TITLES
        }
        bins = range(len(EDGES) + 1)
        self.waits = ColumnDataSource(
            {"left": list(bins), "right": [left + 1 for left in bins], "starts": [0 for _ in bins]}
        )
        self._hours_title = Div(disable_math=True, sizing_mode="stretch_width")
        part = {
            name: column(
                Div(text=f"<h3 style='margin: 8px 0 0 0'>{title}</h3>"),
                self.texts[name],
                sizing_mode="stretch_width",
            )
            for name, title in self.TITLES.items()
        }
        part["waited"].children.insert(1, self._waits_figure())
        wide = {"sizing_mode": "stretch_width"}
        self.root = column(
            row(self._jobs_figure(), **wide),
            row(part["pools"], column(self._hours_title, self._hours_figure(), **wide), **wide),
            row(part["waiting"], part["waited"], **wide),
            row(part["endings"], part["failures"], **wide),
            part["cluster"],
            **wide,
        )

    def _jobs_figure(self) -> Any:
        plot = figure(
            title="Jobs by state, the last hour",
            height=280,
            sizing_mode="stretch_width",
            x_axis_type="datetime",
            x_range=self._range,
            tools="",
            toolbar_location=None,
        )
        plot.varea_stack(
            list(STATES),
            x="time",
            color=[_COLOURS[state] for state in STATES],
            legend_label=list(STATES),
            source=self.source,
        )
        plot.y_range.start = 0
        plot.yaxis.minor_tick_line_color = None
        plot.xaxis.formatter = DatetimeTickFormatter(
            seconds="%H:%M:%S", minsec="%H:%M:%S", minutes="%H:%M"
        )
        plot.add_layout(plot.legend[0], "right")
        return plot

    def _hours_figure(self) -> Any:
        plot = figure(
            height=90,
            sizing_mode="stretch_width",
            y_range=["cores"],
            tools="",
            toolbar_location=None,
        )
        plot.hbar_stack(
            list(_HOURS),
            y="what",
            height=0.7,
            color=list(_HOURS.values()),
            legend_label=list(_HOURS),
            source=self.hours,
        )
        plot.x_range.start = 0
        plot.yaxis.visible = False
        plot.xgrid.visible = plot.ygrid.visible = False
        plot.add_layout(plot.legend[0], "right")
        return plot

    def _waits_figure(self) -> Any:
        plot = figure(height=110, sizing_mode="stretch_width", tools="", toolbar_location=None)
        plot.quad(
            left="left",
            right="right",
            bottom=0,
            top="starts",
            color="#56B4E9",
            line_color="white",
            source=self.waits,
        )
        plot.x_range.start, plot.x_range.end = 0, len(EDGES) + 1
        plot.y_range.start = 0
        plot.xaxis.ticker = list(range(1, len(EDGES) + 1))
        plot.xaxis.major_label_overrides = {i: _short(edge) for i, edge in enumerate(EDGES, 1)}
        plot.xaxis.major_label_text_font_size = "10px"
        plot.yaxis.ticker = BasicTicker(desired_num_ticks=3, min_interval=1)
        plot.yaxis.minor_tick_line_color = None
        plot.xgrid.visible = False
        return plot

    def update(self) -> None:
        """Show what is news."""
        sheet = self._seen.sheet()
        if sheet is self._shown:
            return
        self._shown = sheet
        now, offset = sheet.view["now"], _zone(sheet.view["now"])
        series = sheet.series
        begin = series.times[0] if series.times else now
        self._range.start = (max(begin, now - SPAN) + offset) * 1000
        self._range.end = (now + offset) * 1000
        times = [(at + offset) * 1000 for at in series.times]
        self.source.data = {"time": times, **series.counts}
        if sheet.spread != self.waits.data["starts"]:
            self.waits.data = {**self.waits.data, "starts": sheet.spread}
        hours = sheet.view["core_hours"]
        self.hours.data = {"what": ["cores"], **{part: [hours[part]] for part in _HOURS}}
        self._hours_title.text = "<h3 style='margin: 8px 0 0 0'>Core-hours</h3>" + escape(
            ", ".join(f"{amount(hours[part])} {part}" for part in ("allocated", *_HOURS))
        )
        for name, text in self._texts(sheet).items():
            if self.texts[name].text != text:
                self.texts[name].text = text

    def _texts(self, sheet: Sheet) -> dict[str, str]:
        view = sheet.view
        parts: dict[str, Callable[[Sheet], str]] = {
            "waiting": waiting,
            "waited": waited,
            "endings": endings,
            "failures": failures,
        }
        status = view["status"]
        return {
            "cluster": f"<table>{html_rows(status, view)}</table>",
            "pools": pools_table(view),
            **{name: part(sheet) for name, part in parts.items()},
        }


def _zone(at: float) -> float:
    """Seconds by which clocks here are ahead: a browser's axis shows times as they are given."""
    return float(time.localtime(at).tm_gmtoff)


def _short(seconds: float) -> str:
    """A duration that is a whole number of something, for an axis."""
    return span(seconds).replace(".0", "").replace("days", "d")


# --- tables --------------------------------------------------------------------------------------


def waiting(sheet: Sheet) -> str:
    """HTML: why jobs wait, how many, and for how long already."""
    now = sheet.view["now"]
    return table(
        ("pool", "jobs", "reason", "the oldest of the pool waits"),
        [
            (pool, count, reason or "(not told)", span(now - found.since))
            for pool, found in sheet.waiting.items()
            for reason, count in found.reasons.most_common(_REASONS)
        ],
        empty="No job waits.",
    )


def waited(sheet: Sheet) -> str:
    """HTML: how long the jobs waited that have started."""
    return table(
        ("pool", "starts", "half of them up to", "nine tenths up to", "the longest"),
        [
            (
                pool,
                waits.jobs,
                *(span(each) for each in (waits.median, waits.p90, waits.longest)),
            )
            for pool, waits in sheet.waited.items()
            if waits.jobs
        ],
        empty="No job has started.",
    )


def endings(sheet: Sheet) -> str:
    """HTML: which jobs end next, and which of them are being replaced."""
    now = sheet.view["now"]
    return table(
        ("time left", "job", "pool", "node", "workers", ""),
        [
            (
                span(each.deadline - now),
                each.name,
                each.pool,
                each.node,
                each.workers,
                "is being replaced" if each.replaced else "",
            )
            for each in sheet.endings
        ],
        empty="No running job has a deadline that is known.",
    )


def failures(sheet: Sheet) -> str:
    """HTML: what went wrong lately, the last first, with its text."""
    now = sheet.view["now"]
    return table(
        ("", ""),
        [(f"{span(now - at)} ago", what) for at, what in reversed(sheet.view["failures"])],
        empty="None.",
    )
