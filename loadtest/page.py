"""The report as one HTML file with pictures, which loads nothing."""

import html as escape
import string
import time
from pathlib import Path

from loadtest import chart

TEMPLATE = Path(__file__).with_name("page.html")


def html(summary):
    """The page, from what run.py measured (summary.json)."""
    verdict, style = _verdict(summary["criteria"])
    when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(summary["began"]))
    return string.Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        title=_text(f"Load test {summary['profile']['name']}, {when}"), about=_text(summary["profile"]["about"].capitalize() + "."),
        verdict=_text(verdict), style=style, tiles=_tiles(summary), charts="".join(_charts(summary)),
        criteria=_criteria(summary["criteria"]), footer=_text(_footer(summary)))


def _text(text):
    return escape.escape(str(text))


def _verdict(criteria):
    failed = sum(one["verdict"] is False for one in criteria)
    unchecked = sum(one["verdict"] is None for one in criteria)
    if failed:
        return f"✗ {failed} of {len(criteria)} criteria failed", "failed"
    if unchecked:
        return f"✓ {len(criteria) - unchecked} criteria met, {unchecked} not checked", "unchecked"
    return f"✓ All {len(criteria)} criteria met", "passed"


def _percentile(values, percent):
    """Keys are numbers in a fresh summary and text in one that was read from JSON."""
    return next((value for key, value in values.items() if float(key) == percent), None)


def _time(seconds):
    if seconds is None:
        return "–"
    return f"{seconds:.1f} s" if seconds >= 10 else f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.1f} ms"


def _tiles(summary):
    end_to_end = summary["end_to_end_s"]["succeeded at once"]
    values = [
        (f"{summary['acked'] / summary['attack_s']:,.0f}/s".replace(",", " "), "acknowledged during the attack"),
        (_time(_percentile(summary["ack_s"], 50)), "acknowledgement, median"),
        (_time(_percentile(summary["ack_s"], 99)), "acknowledgement, p99"),
        (_time(_percentile(end_to_end, 50)), "to the outcome, median"),
    ]
    if summary["resolved"]:
        rate = summary["resolved"] / (summary["attack_s"] + summary["drain_s"])
        values += [(f"{rate:,.0f}/s".replace(",", " "), "resolved, over the whole run"),
                   (f"{summary['resolved']:,}".replace(",", " "), "events resolved")]
    return "".join(f'<div class="tile"><b>{_text(value)}</b><span>{_text(label)}</span></div>' for value, label in values)


def _charts(summary):
    curves = summary["curves"]
    step, ends = curves["step_s"], [(summary["attack_s"], "attack ends")]
    resolved = summary["resolved"] > 0
    rates = [chart.Series("acknowledged/s", "s1", curves["accepted"], False)]
    if resolved:
        rates.append(chart.Series("resolved/s", "s2", curves["resolved"], False))
    yield chart.over_time("Throughput", rates, step, "events per second", ends)
    if resolved:
        waiting = chart.Series("acknowledged, not resolved", "s3", curves["waiting"], True)
        yield chart.over_time("Backlog", [waiting], step, "events", ends)
    medians, p99s = ([pair and pair[i] for pair in curves["latency"]] for i in (0, 1))
    yield chart.over_time("Time to acknowledgement", [chart.Series("median", "s1", medians, False), chart.Series("p99", "s4", p99s, False)],
                          step, "ms", ends)
    yield chart.histogram("Time to acknowledgement: distribution", "% of acknowledged submissions", summary["histogram"], _marks(summary["ack_s"]))
    if resolved:
        yield chart.histogram("Time to the outcome: distribution", "% of events that succeed at once", summary["outcome_histogram"],
                              _marks(summary["end_to_end_s"]["succeeded at once"]))
    busy = chart.Series("busy", "s1", curves["busy"], True)
    yield chart.over_time("The whole machine", [busy], step, f"% of {summary['machine']['cpus']} CPUs busy, whoever used them", ends, top=100)
    if summary["usage"]:
        yield _cpu_figure(summary)
    services = [(name, style) for name, style in (("ingest", "s1"), ("workers", "s2"), ("redis", "s3"), ("store", "s4")) if name in curves["memory"]]
    if services:
        yield chart.over_time("Memory", [chart.Series(name, style, curves["memory"][name], False) for name, style in services], step, "MB resident", ends)


def _marks(values):
    """Median and p99 as marks of a histogram."""
    found = [(percent, _percentile(values, percent)) for percent in (50, 99)]
    return [(1000 * seconds, f"p{percent} {_time(seconds)}") for percent, seconds in found if seconds]


def _cpu_figure(summary):
    """Bars of text and boxes: CPU microseconds per acknowledged event, by process."""
    acked = max(summary["acked"], 1)
    return chart.shares("CPU time per acknowledged event", "µs, from the first request to the last outcome",
                        [(name, usage["cpu_s"] / acked * 1e6) for name, usage in summary["usage"].items()])


def _criteria(criteria):
    words = {True: ("passed", "✓ passed"), False: ("failed", "✗ failed"), None: ("unchecked", "– not checked")}
    return "".join(f'<tr><td class="{words[one["verdict"]][0]}">{words[one["verdict"]][1]}</td><td>{_text(one["name"])}</td>'
                   f'<td>{_text(one["text"])}</td></tr>' for one in criteria)


def _footer(summary):
    machine, versions, load = summary["machine"], summary["versions"], summary["load_average"]
    told = ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
    return (f"{machine['cpus']} × {machine['cpu']}, {machine['memory_bytes'] / 2**30:.0f} GiB, Linux {machine['kernel']}; {told}; load average "
            f"{load['before']:.2f} before and {load['after']:.2f} after the run; seed {summary['seed']}")
