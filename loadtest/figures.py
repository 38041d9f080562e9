"""From results and store to figures: percentiles, curves, criteria."""

import collections
import math

PERCENTILES = (50, 90, 95, 99, 99.9, 100)
MOST_POINTS = 150  # of a curve

# verdict: True, False, or None where it could not be checked. text: what was measured.
Criterion = collections.namedtuple("Criterion", "name verdict text")


def percentiles(values):
    """{percent: value} by nearest rank; {} of nothing."""
    ordered = sorted(values)
    return {percent: ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)] for percent in PERCENTILES} if ordered else {}


def criteria(profile, account, latencies, reconciled, drained):
    """The verdicts. latencies: of acknowledged submissions, in seconds. reconciled: whether the store was looked at."""
    bars, result = profile["criteria"], []
    valid, share = account.valid_sent, _percent(account.in_time, account.valid_sent)
    result.append(Criterion(f"at least {bars['ack_percent']} % of valid events acknowledged within {bars['ack_within_s']} s",
                            valid > 0 and share >= bars["ack_percent"],
                            f"{_text(share)} % ({account.in_time} of {valid})"))
    if "ack_p99_ms" in bars:
        p99_ms = percentiles(latencies).get(99, math.inf) * 1000
        result.append(Criterion(f"our own bar: p99 of acknowledgements under {bars['ack_p99_ms']} ms",
                                p99_ms < bars["ack_p99_ms"], f"{p99_ms:.1f} ms"))
    answered_wrongly = _sum_wrong(account, *(f"{kind}: " for kind in ("bad_signature", "stale", "missing_field")))
    result.append(Criterion("every invalid event is rejected, with the right status", not answered_wrongly,
                            f"{account.rejected_sent - answered_wrongly} of {account.rejected_sent}"))
    result += _of_store(bars, account, drained) if reconciled else _not_checked(bars)
    return result


def _of_store(bars, account, drained):
    unlike = _sum_wrong(account, "acknowledged", "valid event ended", "duplicate event", "transient event", "permanent event")
    share = _percent(account.resolved, account.identities)
    recovered = _percent(account.recovered, account.transient)
    twice = _sum_wrong(account, "more than one", "succeeded, but", "dead, but", "counted as a conflict")
    stray = _sum_wrong(account, "in the store, but")
    waited = "" if drained else "; the backlog had not drained within the time allowed"
    return [
        Criterion(RESOLVED, account.identities > 0 and account.resolved == account.identities and not unlike and drained,
                  f"{_text(share)} % ({account.resolved} of {account.identities} identities){waited}"),
        Criterion(ONCE, not twice, f"{twice} identities with another number of outcomes than they should have"),
        Criterion(NOWHERE, not stray, f"{stray} documents of events that were rejected or never sent"),
        Criterion(f"at least {bars['recovered_percent']} % of transient failures recovered",
                  account.transient == 0 or recovered >= bars["recovered_percent"],
                  f"{_text(recovered)} % ({account.recovered} of {account.transient})"),
    ]


RESOLVED = "every acknowledged event resolved, as it should be"
ONCE = "at most one business outcome per identity"
NOWHERE = "nothing of a rejected event in the store"


def _not_checked(bars):
    why = "not checked: no store was named (WAYBILL_MONGO_URL)"
    names = (RESOLVED, ONCE, NOWHERE, f"at least {bars['recovered_percent']} % of transient failures recovered")
    return [Criterion(name, None, why) for name in names]


def _percent(part, whole):
    return 100 * part / whole if whole else 100.0


def _text(percent):
    """Never rounded up to 100."""
    return f"{math.floor(percent * 1000) / 1000:g}"


def _sum_wrong(account, *beginnings):
    return sum(count for what, count in account.wrong_count.items() if what.startswith(beginnings))


def draining(account, attack_ended):
    """{"rate", "until"}: events resolved a second after the attack while there was a real backlog, that is until nine tenths
    of what was left were done; the rest waits for retries. None when there was too little to tell."""
    later = sorted(resolved for _, resolved, _ in account.times if resolved > attack_ended)
    part = int(len(later) * 0.9)
    return {"rate": part / (later[part] - attack_ended), "until": later[part]} if part >= 1000 else None


def cpus(samples, start, end):
    """{name: how many CPUs it used on average} between two times, from the samples around them. {} without any."""
    first = next((one for one in reversed(samples) if one.at <= start), None)
    last = next((one for one in samples if one.at >= end), samples[-1] if samples else None)
    if not first or not last or last.at <= first.at:
        return {}
    return {name: (seconds - first.cpu.get(name, 0.0)) / (last.at - first.at) for name, seconds in last.cpu.items()}


def curves(phases, account, samples):
    """{"step_s", "start", "accepted", "resolved", "waiting", "busy", "memory", "latency"}: values per step from the first request.

    accepted and resolved are per second; waiting is what the queue said, or acknowledged minus resolved; latency is
    (median, p99) of the step in ms, None where nothing was acknowledged.
    """
    acked = sorted((result.at + result.latency, result.latency) for phase in phases for result in phase.results
                   if 200 <= result.code < 300)
    start = min((result.at for phase in phases for result in phase.results), default=0.0)
    ends = [at for at, _ in acked[-1:]] + [resolved for _, resolved, _ in account.times] + [at for at, _, waiting, *_ in samples if waiting]
    length = max(max(ends, default=start) - start, 1.0)
    step = next((step for step in (0.25, 0.5, 1, 2, 5, 10, 30, 60) if length / step <= MOST_POINTS), 60)
    count = math.ceil(length / step) + 1
    by_step = [[] for _ in range(count)]
    for at, latency in acked:
        by_step[_index(at, start, step, count)].append(latency)
    ends_at = max((at for at, _ in acked), default=start) - start
    resolved = [0] * count
    for _, at, _ in account.times:
        resolved[_index(at, start, step, count)] += 1
    return {
        "step_s": step, "start": start, "accepted": _until(ends_at, step, [round(len(one) / step, 1) for one in by_step]),
        "resolved": [round(one / step, 1) for one in resolved], "waiting": _backlog(account.times, start, step, count),
        "busy": _per_step([(at, busy) for at, busy, *_ in samples], start, step, count, lambda share: round(100 * share)),
        "memory": _memory(samples, start, step, count), "latency": [_median_and_p99(one) for one in by_step],
    }


def _until(seconds, step, values):
    """Nothing instead of zeros after the attack has ended."""
    return [value if i * step <= seconds + step else None for i, value in enumerate(values)]


def _index(at, start, step, count):
    return min(max(int((at - start) / step), 0), count - 1)


def _backlog(times, start, step, count):
    """Received and not yet resolved, at the end of each step."""
    change = [0] * count
    for received, resolved, _ in times:
        change[_index(received, start, step, count)] += 1
        change[_index(resolved, start, step, count)] -= 1
    total, result = 0, []
    for one in change:
        total += one
        result.append(total)
    return result


def _per_step(samples, start, step, count, show):
    """The mean in each step: a sample (time, value) holds for all the time since the one before."""
    values, before = [[] for _ in range(count)], start
    for at, value in samples:
        if at >= start:
            for i in range(_index(before, start, step, count), _index(at, start, step, count) + 1):
                values[i].append(value)
            before = at
    return [show(sum(one) / len(one)) if one else None for one in values]


def _memory(samples, start, step, count):
    """{name: megabytes in each step}; the workers as one."""
    by_name = collections.defaultdict(list)
    for at, _, _, sizes, _ in samples:
        total = collections.Counter()
        for name, size in sizes.items():
            total["workers" if name.startswith("worker") else name] += size
        for name, size in total.items():
            by_name[name].append((at, size))
    return {name: _per_step(sizes, start, step, count, lambda size: round(size / 1e6, 1)) for name, sizes in by_name.items()}


def _median_and_p99(latencies):
    if not latencies:
        return None
    found = percentiles(latencies)
    return [round(found[50] * 1000, 2), round(found[99] * 1000, 2)]


def histogram(latencies):
    """[(from ms, to ms, count)] over a logarithmic scale, ten bars a decade, without empty ends."""
    counts = collections.Counter(math.floor(math.log10(max(latency * 1000, 0.01)) * 10) for latency in latencies)
    if not counts:
        return []
    return [(round(10 ** (i / 10), 4), round(10 ** ((i + 1) / 10), 4), counts[i]) for i in range(min(counts), max(counts) + 1)]
