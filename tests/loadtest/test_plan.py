"""What the load consists of, and that its targets are what the gateway expects."""

import base64
import itertools
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from lib import sign
from loadtest.plan import DUPLICATE, MISSING_FIELD, PERMANENT, STALE, TRANSIENT, VALID, BAD_SIGNATURE, REJECTED, Plan

ROOT = Path(__file__).resolve().parents[2]
SECRET = "whsec_" + "bG9hZCB0ZXN0J3MgdGVzdCBzZWNyZXQ="  # protects nothing
SHARES = {DUPLICATE: 0.2, TRANSIENT: 0.1, PERMANENT: 0.1, BAD_SIGNATURE: 0.1, STALE: 0.1, MISSING_FIELD: 0.1}


def submissions(count, seed="test", shares=SHARES):
    return list(itertools.islice(Plan(seed, shares, 1_700_000_000).submissions(), count))


def test_a_plan_follows_from_its_seed():
    assert submissions(2000) == submissions(2000)
    assert submissions(2000) != submissions(2000, seed="other")


def test_shares_are_kept():
    kinds = [one.kind for one in submissions(20000)]
    for kind, share in SHARES.items():
        assert abs(kinds.count(kind) / len(kinds) - share) < 0.02, kind


def test_duplicates_repeat_what_was_sent_before_and_was_good():
    sent = {}
    for one in submissions(5000):
        if one.kind == DUPLICATE:
            assert one.identity < one.number
            assert sent[one.identity] == one.event_kind
            assert one.event_kind not in REJECTED
        else:
            assert one.identity == one.number
            sent[one.number] = one.kind


@pytest.mark.parametrize("shares", [{"surprise": 0.1}, {DUPLICATE: 0.7, TRANSIENT: 0.6}])
def test_impossible_shares_are_refused(shares):
    with pytest.raises(ValueError, match="shares must be"):
        Plan("test", shares, 0)


def test_a_body_is_an_event():
    plan = Plan("test", {}, 1_700_000_000)
    event = json.loads(plan.body(1234, TRANSIENT))
    assert event["event_id"] == plan.event_id(1234)
    assert event["occurred_at"] == "2023-11-14T22:13:21.234Z"
    assert event["data"]["tracking_number"] == plan.tracking_number(1234)
    assert event["data"]["simulate"] == {"fail": "transient", "times": 2}
    assert "simulate" not in json.loads(plan.body(7, VALID))["data"]
    assert "tracking_number" not in json.loads(plan.body(7, MISSING_FIELD))["data"]


def test_ids_are_in_the_range_of_their_plan_alone():
    plan, other = Plan("abc", {}, 0), Plan("abcd", {}, 0)
    start, end = plan.id_range()
    assert all(start <= plan.event_id(number) < end for number in (0, 9, 10, 123456789))
    assert not start <= other.event_id(0) < end


def targets(count, shares=SHARES):
    words = ["--most", str(count), "--seed", "test", "--shares", json.dumps(shares), "--began", "1700000000"]
    run = subprocess.run([sys.executable, ROOT / "loadtest/targets.py", *words], capture_output=True, text=True, check=True,
                         env={"WAYBILL_SECRET_DEMO": SECRET}, timeout=30)
    return [json.loads(line) for line in run.stdout.splitlines()]


def test_targets_are_signed_as_standard_webhooks_asks():
    lines = targets(600)
    assert len(lines) == 600
    for one, target in zip(submissions(600), lines):
        header = {name: values[0] for name, values in target["header"].items()}
        right = sign.standard_v1(SECRET, header["webhook-id"], int(header["webhook-timestamp"]), base64.b64decode(target["body"]))
        assert (header["webhook-signature"] == right) == (one.kind != BAD_SIGNATURE)
        age = time.time() - int(header["webhook-timestamp"])
        assert (age > 300) == (one.kind == STALE)
        assert target["url"].endswith(f"#{one.number}")


def test_a_duplicate_has_the_body_of_the_first_to_the_byte():
    bodies, seen = {}, 0
    for one, target in zip(submissions(600), targets(600)):
        if one.kind == DUPLICATE:
            assert target["body"] == bodies[one.identity]
            seen += 1
        bodies[one.number] = target["body"]
    assert seen > 50
