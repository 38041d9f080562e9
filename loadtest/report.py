"""The report as Markdown, and the few lines for the terminal."""

import time

MARKS = {True: "passed", False: "FAILED", None: "not checked"}


def describe_phase(phase):
    if phase["rate"] == 0:
        return f"{phase['most_senders']} concurrent senders for {phase['duration_s']} s, each as fast as it is answered"
    return f"{phase['rate']} events/s for {phase['duration_s']} s, at most {phase['most_senders']} senders"


def console(summary, folder):
    lines = [f"  {MARKS[one['verdict']]:11}  {one['name']}: {one['text']}" for one in summary["criteria"]]
    lines += [f"               {what}: {wrong['count']}, such as {', '.join(wrong['examples'])}"
              for what, wrong in summary["wrong"].items()]
    rate = summary["acked"] / summary["attack_s"]
    lines.append(f"  {summary['acked']} events acknowledged, {rate:.0f}/s; p50 {_ms(summary['ack_s'], 50)}, p99 {_ms(summary['ack_s'], 99)}")
    lines.append(f"  report: {folder}/report.md, pictures: {folder}/report.html")
    return "\n".join(lines)


def markdown(summary):
    parts = [_head(summary), _verdicts(summary), _traffic(summary), _times(summary), _resources(summary), _setting(summary)]
    return "\n".join(parts)


def _head(summary):
    profile = summary["profile"]
    when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(summary["began"]))
    failed = [one["name"] for one in summary["criteria"] if one["verdict"] is False]
    unchecked = sum(one["verdict"] is None for one in summary["criteria"])
    verdict = f"**Failed**: {'; '.join(failed)}." if failed else "**Every criterion is met.**"
    if unchecked and not failed:
        verdict = f"**Every criterion that could be checked is met**; {unchecked} could not."
    phases = "".join(f"- {describe_phase(phase)}\n" for phase in profile["phases"])
    return f"# Load test: {profile['name']}, {when}\n\n{profile['about'].capitalize()}.\n\n{phases}\n{verdict}\n"


def _verdicts(summary):
    rows = [(MARKS[one["verdict"]], one["name"], one["text"]) for one in summary["criteria"]]
    text = "## Criteria\n\n" + _table(("verdict", "criterion", "measured"), rows)
    for what, wrong in summary["wrong"].items():
        text += f"\n- {what}: {wrong['count']}, such as {', '.join(f'`{one}`' for one in wrong['examples'])}"
    return text + ("\n" if summary["wrong"] else "")


def _traffic(summary):
    attack_s, drain_s = summary["attack_s"], summary["drain_s"]
    kinds = [(kind, count, ", ".join(f"{key.rpartition(' ')[2]}: {n}" for key, n in sorted(summary["answers"].items())
                                     if key.rpartition(" ")[0] == kind))
             for kind, count in sorted(summary["sent"].items())]
    facts = [f"- {summary['acked']} submissions acknowledged in {attack_s:.1f} s: {summary['acked'] / attack_s:.0f}/s, "
             f"{summary['identities']} different events"]
    if summary["resolved"]:
        facts.append(f"- {summary['resolved']} events resolved in {attack_s + drain_s:.1f} s: "
                     f"{summary['resolved'] / (attack_s + drain_s):.0f}/s; the backlog was gone {drain_s:.1f} s after the attack")
        if summary["drain_rate"]:
            facts.append(f"- after the attack, with a backlog: {summary['drain_rate']:.0f} resolved/s")
        facts.append(f"- the most that waited: {max(summary['curves']['waiting'], default=0)} events")
        facts.append(f"- {summary['duplicates_counted']} duplicates counted by the store, {summary['extra_attempts']} attempts beyond the first")
    if summary["targets_ran_out"]:
        facts.append("- **the targets ran out before the attack's time was over** (`most_targets`)")
    return ("## Traffic\n\n" + _table(("kind", "sent", "answers"), kinds) + "\n" + "\n".join(facts) + "\n")


def _times(summary):
    rows = [("request to acknowledgement, seen by the sender", summary["ack_s"])]
    rows += [(f"acknowledgement to outcome: {what}", values) for what, values in summary["end_to_end_s"].items()]
    percents = list(_keys(summary["ack_s"]))
    head = ("time", *(f"p{percent:g}" if percent < 100 else "longest" for percent in percents))
    table = _table(head, [(name, *(_ms(values, percent) for percent in percents)) for name, values in rows])
    text = "## Times\n\n" + table
    inside = _inside(summary["gateway_ack_s"])
    if inside:
        text += f"\nInside the gateway, from a request read whole to its acknowledgement: {inside}.\n"
    return text + ("\nThe sender's time begins before vegeta reads the target and includes every wait for a turn on the CPU. "
                   "[Latency over time](latency-plot.html), [pictures](report.html), [vegeta's report](vegeta.txt), "
                   "[HDR histogram](latency.hdr).\n")


def _inside(buckets):
    """From a Prometheus histogram: how many percent were under which bound."""
    total = buckets[-1][1] if buckets else 0
    shares = [(bound, 100 * count / total) for bound, count in buckets if total and 0.0005 <= bound <= 2.5]
    told = [f"{share:.1f} % within {bound * 1000:g} ms" for bound, share in shares if share > 1]
    keep = next((i for i, text in enumerate(told) if text.startswith("100.0")), len(told) - 1)
    return ", ".join(told[: keep + 1])


def _resources(summary):
    if not summary["usage"]:
        return ""
    acked, attack_s, drain_s = max(summary["acked"], 1), summary["attack_s"], summary["drain_s"]
    attack, draining = summary["cpus_attack"], summary["cpus_draining"]
    rows = [(name, *_cpu(usage["cpu_s"], acked, attack.get(name), draining.get(name)), f"{usage['rss_peak_bytes'] / 1e6:.0f} MB")
            for name, usage in summary["usage"].items()]
    used = sum(usage["cpu_s"] for usage in summary["usage"].values())
    rows.append(("all of these", *_cpu(used, acked, sum(attack.values()), sum(draining.values()) if draining else None), ""))
    whole = (attack_s + drain_s) * summary["machine"]["cpus"]
    busy = _busy(summary, sum(attack.values()))
    waited, wall = (sum(one[key] for one in summary["generators"]) for key in ("waited_s", "wall_s"))
    return ("## Resources\n\n" + _table(("process", "CPU time", "per acknowledged event", "CPUs during the attack", "CPUs while draining", "most memory"), rows)
            + f"\nThese are {100 * used / whole:.0f} % of what the machine's {summary['machine']['cpus']} CPUs could have given"
            f" from the first request to the last outcome{busy}. "
            f"The target generator spent {100 * waited / max(wall, 0.001):.0f} % of its time waiting for vegeta"
            + (": it was not the limit.\n" if waited > wall / 4 else ": **it may have been the limit.**\n"))


def _busy(summary, own):
    """How busy the machine was during the attack, and how much of that was somebody else's work."""
    attack_s, cpus, step = summary["attack_s"], summary["machine"]["cpus"], summary["curves"]["step_s"]
    shares = [busy for busy in summary["curves"]["busy"][: max(1, int(attack_s / step))] if busy is not None]
    if not shares:
        return ""
    share = sum(shares) / len(shares)
    others = max(0.0, share / 100 * cpus - own)
    return f"; during the attack the machine was {share:.0f} % busy, {others:.1f} of its CPUs with work that is not in this table"


def _cpu(seconds, acked, attack, draining):
    """Cells: seconds, microseconds an event, and how many CPUs that was during the attack and while draining."""
    return f"{seconds:.2f} s", f"{seconds / acked * 1e6:.1f} µs", *("–" if one is None else f"{one:.2f}" for one in (attack, draining))


def _setting(summary):
    machine, profile = summary["machine"], summary["profile"]
    load = summary["load_average"]
    rows = [("CPU", f"{machine['cpus']} × {machine['cpu']}"), ("memory", f"{machine['memory_bytes'] / 2**30:.1f} GiB"),
            ("kernel", machine["kernel"]), ("load average", f"{load['before']:.2f} before, {load['after']:.2f} after"),
            ("gateway", summary["gateway"])]
    if summary["disk"]:
        rows.append(("fsync of 4 KiB", f"{summary['disk']['fsync_median_ms']:g} ms in the middle, {summary['disk']['fsync_longest_ms']:g} ms at most"))
    if summary["gateway"] == "a stack of its own":
        rows.append(("processes", f"ingest on {profile['ingest_threads']} thread(s), {profile['workers']} worker(s) on "
                                  f"{profile['worker_threads']} thread(s) each, vegeta and the target generator beside them"))
    rows += sorted(summary["versions"].items())
    rows += [("python", machine["python"]), ("seed", summary["seed"]),
             ("shares", ", ".join(f"{kind} {100 * share:g} %" for kind, share in profile["shares"].items()))]
    return "## Machine, versions, settings\n\n" + _table(("what", "value"), rows)


def _keys(values):
    """Percents as numbers, also after a round trip through JSON."""
    return (float(key) for key in values)


def _ms(values, percent):
    for key, value in values.items():
        if float(key) == percent:
            return f"{value * 1000:.1f} ms" if value < 10 else f"{value:.1f} s"
    return "–"


def _table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(str(cell) for cell in line) + " |\n" for line in lines)
