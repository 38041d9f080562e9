"""Each signature scheme, signed by lib/sign.py (which test_sign_vectors.py holds against published examples)."""

import re
import time
from pathlib import Path

import pytest

from lib import make_event, sign, unique_id, wait_for
from lib.events import encode
from lib.process import ROOT
from lib.rawhttp import RawConnection, request

SOURCES = Path(__file__).parent / "scripts/sources.lua"
OLD, NEW = "whsec_" + sign.b64(b"old secret of the tests 01234567"), "whsec_" + sign.b64(b"new secret of the tests 89abcdef")
PRIVATE, PUBLIC = sign.ed25519_pair()
PRIVATE_2, PUBLIC_2 = sign.ed25519_pair()
MIXED = sign.whsec(b"mixed secret of the tests 012345")
PRIVATE_3, PUBLIC_3 = sign.ed25519_pair()

SETTINGS = {
    "WAYBILL_SECRET_DEMO": f"{OLD} {NEW}",
    "WAYBILL_SECRET_ASYMMETRIC": f"{PUBLIC} {PUBLIC_2}",
    "WAYBILL_SECRET_MIXED": f"{MIXED} {PUBLIC_3}",
    "WAYBILL_SECRET_GITHUB": "github-old github-new",
    "WAYBILL_SECRET_STRIPE": "whsec_stripe_old whsec_stripe_new",
    "WAYBILL_SECRET_SHOPIFY": "shopify-old shopify-new",
    "WAYBILL_SECRET_PLAIN_HEX": "hex-old hex-new",
    "WAYBILL_SECRET_PLAIN_BASE64": "base64-old base64-new",
    "WAYBILL_SECRET_EXAMPLE_GO": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "WAYBILL_SECRET_EXAMPLE_RUST": "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
    "WAYBILL_SECRET_EXAMPLE_SENDCLOUD": "secretkey",
    "WAYBILL_SECRET_STRICT": NEW,
    "WAYBILL_SECRET_ANSWERS200": NEW,
    "WAYBILL_SECRET_LIMITED": NEW,
}


@pytest.fixture(scope="module")
def stack(module_stacks):
    def prepare(stack):
        stack.write_script("sources.lua", SOURCES.read_text())
    return module_stacks(SETTINGS, prepare, workers=0)


def standard(secret):
    return lambda body, at=None: sign.standard_webhooks(secret, unique_id("msg"), body, at)


def asymmetric(private):
    return lambda body, at=None: sign.standard_webhooks_asymmetric(private, unique_id("msg"), body, at)


def stripe(secret):
    return lambda body, at=None: sign.stripe(secret, body, at)


def plain(header, prefix, encoding):
    return lambda secret: lambda body: sign.plain_hmac(secret, body, header, prefix, encoding)


plain_hex, plain_base64 = plain("X-Courier-Signature", "hmac-sha256-hex=", "hex"), plain("courier-hmac", "", "base64")

# source, and who signs: function(body[, at]) -> headers
GOOD = {
    "standard old": ("demo", standard(OLD)), "standard new": ("demo", standard(NEW)),
    "standard without whsec_": ("demo", standard(NEW.removeprefix("whsec_"))),
    "ed25519 first": ("asymmetric", asymmetric(PRIVATE)), "ed25519 second": ("asymmetric", asymmetric(PRIVATE_2)),
    "mixed v1": ("mixed", standard(MIXED)), "mixed v1a": ("mixed", asymmetric(PRIVATE_3)),
    "github old": ("github", lambda body: sign.github("github-old", body, "72d3162e")), "github new": ("github", lambda body: sign.github("github-new", body)),
    "stripe old": ("stripe", stripe("whsec_stripe_old")), "stripe new": ("stripe", stripe("whsec_stripe_new")),
    "shopify old": ("shopify", lambda body: sign.shopify("shopify-old", body)), "shopify new": ("shopify", lambda body: sign.shopify("shopify-new", body, "b54557e4")),
    "hex old": ("plain-hex", plain_hex("hex-old")), "hex new": ("plain-hex", plain_hex("hex-new")),
    "base64 old": ("plain-base64", plain_base64("base64-old")), "base64 new": ("plain-base64", plain_base64("base64-new")),
}
TIMED = ["standard new", "ed25519 first", "stripe new"]
by_name = pytest.mark.parametrize("name", GOOD)


def signed(name, body, *at):
    source, signer = GOOD[name]
    return source, signer(body, *at)


def refused(answer, code="unauthorized"):
    assert (answer.status_code, answer.json()["code"]) == (401, code), answer.text


@by_name
def test_good(stack, name):
    body = encode(make_event(note="Grüße – 荷物"))
    source, headers = signed(name, body)
    answer = stack.ingest.post(body, headers, source)
    assert answer.status_code == 202, answer.text


@by_name
def test_other_body(stack, name):
    body = encode(make_event())
    source, headers = signed(name, body)
    refused(stack.ingest.post(body.replace(b"parcel.", b"parcel_"), headers, source))
    refused(stack.ingest.post(body + b"\n", headers, source))


@by_name
def test_signature_changed_by_one_character(stack, name):
    body = encode(make_event())
    source, headers = signed(name, body)
    header = next(have for have in headers if "signature" in have.lower() or "hmac" in have.lower())
    value = headers[header]
    at = len(value) - 6
    other = "A" if value[at] != "A" else "B"
    if value[at] in "0123456789abcdef" and "base64" not in name and "v1," not in value:
        other = "0" if value[at] != "0" else "1"
    refused(stack.ingest.post(body, {**headers, header: value[:at] + other + value[at + 1:]}, source))


@by_name
def test_at_another_source(stack, name):
    body = encode(make_event())
    source, headers = signed(name, body)
    for other in {"demo", "github", "shopify", "stripe", "plain-hex", "asymmetric"} - {source}:
        refused(stack.ingest.post(body, headers, other))


@by_name
def test_wrong_or_empty_signature(stack, name):
    body = encode(make_event())
    source, headers = signed(name, body)
    header = next(have for have in headers if "signature" in have.lower() or "hmac" in have.lower())
    for value in ("", "x", headers[header][:-8], headers[header] + "AAAA", headers[header].upper(), "\u00e9" * 10):
        refused(stack.ingest.post(body, {**headers, header: value.encode("latin-1")}, source))


@pytest.mark.parametrize(("source", "signer"), [
    ("demo", standard(sign.whsec(b"a stranger's secret, 32 bytes long"))), ("asymmetric", asymmetric(sign.ed25519_pair()[0])),
    ("github", lambda body: sign.github("other", body)), ("stripe", stripe("whsec_other")), ("shopify", lambda body: sign.shopify("other", body)),
    ("plain-hex", plain_hex("other")), ("plain-base64", plain_base64("other")), ("github", lambda body: sign.github("", body)),
    ("github", lambda body: sign.github("github-old github-new", body)),
], ids=str)
def test_wrong_secret(stack, source, signer):
    body = encode(make_event())
    refused(stack.ingest.post(body, signer(body), source))


# time

def at_one_second(stack, name, seconds):
    """Posts an event signed so many seconds from now, made and received within one second of the clock."""
    def attempt():
        now = int(time.time())
        body = encode(make_event())
        source, headers = signed(name, body, now + seconds)
        answer = stack.ingest.post(body, headers, source)
        return [answer] if int(time.time()) == now else None  # in a list: an answer with an error status counts as false
    return wait_for(attempt, 10)[0]


@pytest.mark.parametrize("name", TIMED)
@pytest.mark.parametrize("seconds", [-300, -299, 299, 300])
def test_within_the_tolerance(stack, name, seconds):
    assert at_one_second(stack, name, seconds).status_code == 202


@pytest.mark.parametrize("name", TIMED)
@pytest.mark.parametrize("seconds", [-301, -86400, 301, 86400])
def test_beyond_the_tolerance(stack, name, seconds):
    refused(at_one_second(stack, name, seconds), "stale_timestamp")


def test_tolerance_of_a_source(stack):
    def answer(age):
        body = encode(make_event())
        return stack.ingest.post(body, standard(NEW)(body, int(time.time()) - age), "strict")
    assert answer(5).status_code == 202
    refused(answer(12), "stale_timestamp")


def test_stale_and_wrong_tells_a_stranger_nothing(stack):
    """Only who has the secret learns that the time is wrong; else sources could be found out."""
    body = encode(make_event())
    long_ago = int(time.time()) - 86400
    wrong = standard(sign.whsec(b"a stranger's secret, 32 bytes long"))(body, long_ago)
    answers = [stack.ingest.post(body, wrong, source) for source in ("demo", "nobody", "switched_off")]
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.content for answer in answers}) == 1


def test_time_is_signed(stack):
    """An old signature does not become fresh by another timestamp."""
    body = encode(make_event())
    headers = standard(NEW)(body, int(time.time()) - 86400)
    refused(stack.ingest.post(body, {**headers, "webhook-timestamp": str(int(time.time()))}))
    header = sign.stripe("whsec_stripe_new", body, int(time.time()) - 86400)["Stripe-Signature"]
    fresh = f"t={int(time.time())}," + header.split(",", 1)[1]
    refused(stack.ingest.post(body, {"Stripe-Signature": fresh}, "stripe"))


# Standard Webhooks in detail

def parts(body, at=None):
    now = int(time.time()) if at is None else at
    msg_id = unique_id("msg")
    return msg_id, now, sign.standard_v1(OLD, msg_id, now, body)


WRONG = "v1," + sign.b64(bytes(32))


@pytest.mark.parametrize("entries", ["{wrong} {good}", "{good} {wrong}", "v2,AAAA {wrong} {good} {wrong}", "nocomma {good}", "v1, {good}", "v1,!! {good}", "{wrong}  {good} "])
def test_one_good_entry_is_enough(stack, entries):
    body = encode(make_event())
    msg_id, now, good = parts(body)
    headers = sign.standard_headers(msg_id, now, entries.format(wrong=WRONG, good=good))
    assert stack.ingest.post(body, headers).status_code == 202


def test_sender_that_signs_with_both_secrets(stack):
    body = encode(make_event())
    stranger = sign.whsec(b"a stranger's secret, 32 bytes long")
    assert stack.ingest.post(body, sign.standard_webhooks([stranger, NEW], "msg_1", body)).status_code == 202
    assert stack.ingest.post(body, sign.stripe(["whsec_other", "whsec_stripe_new"], body), "stripe").status_code == 202


@pytest.mark.parametrize("entry", ["v2,{}", "V1,{}", "v1a,{}", "v1;{}", "{}", "v1 {}", "v1={}", "v1,{}=", "v1,{}\tx", "v1,v1,{}"])
def test_good_digest_in_a_wrong_entry(stack, entry):
    body = encode(make_event())
    msg_id, now, good = parts(body)
    refused(stack.ingest.post(body, sign.standard_headers(msg_id, now, entry.format(good.removeprefix("v1,")))))


def test_symmetric_signature_with_the_public_key_is_no_signature(stack):
    """The public key is public: an HMAC made with it must not pass."""
    body = encode(make_event())
    for source, public in (("asymmetric", PUBLIC), ("mixed", PUBLIC_3)):
        refused(stack.ingest.post(body, sign.standard_webhooks(public.removeprefix("whpk_"), "msg_1", body), source))


def test_fields_cannot_be_shifted(stack):
    """id "a.1" with time 2 and id "a" with time "1.2" would have one signed text: a dot in the id is refused."""
    body = encode(make_event())
    now = int(time.time())
    headers = sign.standard_headers("msg.1", now, sign.standard_v1(OLD, "msg.1", now, body))
    refused(stack.ingest.post(body, headers))


def test_id_is_signed(stack):
    body = encode(make_event())
    headers = standard(NEW)(body)
    refused(stack.ingest.post(body, {**headers, "webhook-id": "msg_other"}))


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_header_names_of_other_case_are_the_same_headers(stack, name):
    body = encode(make_event())
    headers = standard(NEW)(body)
    headers[name.title()] = headers.pop(name)
    assert stack.ingest.post(body, headers).status_code == 202


# other schemes in detail

@pytest.mark.parametrize("change", ["t={t}", "v1={v}", "t={t},v0={v}", "t={t},v1=", "t={t},v1={v}00", "t={t}x,v1={v}", "t={t},t={t},v1={v}", "{t},{v}",
                                    "t={t};v1={v}", "t=,v1={v}", "t=+{t},v1={v}", ""])
def test_stripe_header_that_is_none(stack, change):
    body = encode(make_event())
    good = dict(part.split("=") for part in sign.stripe("whsec_stripe_new", body)["Stripe-Signature"].split(","))
    refused(stack.ingest.post(body, {"Stripe-Signature": change.format(t=good["t"], v=good["v1"])}, "stripe"))


def test_stripe_with_an_entry_of_another_version(stack):
    body = encode(make_event())
    header = sign.stripe("whsec_stripe_new", body)["Stripe-Signature"]
    assert stack.ingest.post(body, {"Stripe-Signature": f"{header},v0={'0' * 64}"}, "stripe").status_code == 202


def test_stripe_secret_is_not_base64_decoded(stack):
    body = encode(make_event())
    now = int(time.time())
    key = sign.base64.b64decode("stripe+new==", validate=False)
    digest = sign.hmac_sha256(key, f"{now}.".encode() + body).hex()
    refused(stack.ingest.post(body, {"Stripe-Signature": f"t={now},v1={digest}"}, "stripe"))


def test_github_without_its_prefix_or_with_the_old_header(stack):
    body = encode(make_event())
    value = sign.github("github-new", body)["X-Hub-Signature-256"]
    refused(stack.ingest.post(body, {"X-Hub-Signature-256": value.removeprefix("sha256=")}, "github"))
    refused(stack.ingest.post(body, {"X-Hub-Signature-256": value.replace("sha256", "sha1")}, "github"))
    refused(stack.ingest.post(body, {"X-Hub-Signature": value}, "github"))


def test_hex_in_capitals_is_the_same_digest_or_refused(stack):
    """Both are defensible; an error of ours is not."""
    body = encode(make_event())
    value = sign.github("github-new", body)["X-Hub-Signature-256"]
    assert stack.ingest.post(body, {"X-Hub-Signature-256": "sha256=" + value[7:].upper()}, "github").status_code in (202, 401)


@by_name
def test_the_same_header_twice(stack, name):
    body = encode(make_event())
    source, headers = signed(name, body)
    header = next(have for have in headers if "signature" in have.lower() or "hmac" in have.lower())
    lines = [("Content-Type", "application/json"), *headers.items(), (header, headers[header])]
    with RawConnection(stack.ingest.port) as connection:
        connection.send(request(path=f"/v1/events/{source}", headers=lines, body=body))
        assert connection.answer().status in (400, 401)


# the published examples, sent to the gateway: what the signature lets through is refused for its content only

EXAMPLES = [
    ("example_go", b'{"test": 2432232314}', {"webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek", "webhook-timestamp": "1614265330",
                                             "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="}),
    ("example_rust", b'{"email":"test@example.com","username":"test_user"}',
     {"webhook-id": "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk", "webhook-timestamp": "1649367553",
      "webhook-signature": "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw="}),
    ("example_sendcloud", b'{"key": "value"}', {"Sendcloud-Signature": "1eed4b3d41f4653ac64fd56f1bf1cbfd349e4482cbc11dff7134bd93e5da4b0a"}),
]


@pytest.mark.parametrize(("source", "body", "headers"), EXAMPLES, ids=[example[0] for example in EXAMPLES])
def test_published_example(stack, source, body, headers):
    answer = stack.ingest.post(body, headers, source)
    assert (answer.status_code, answer.json()["code"]) == (422, "missing_field"), answer.text
    refused(stack.ingest.post(body.replace(b"e", b"E", 1), headers, source))


def test_token_of_a_scheme_of_ones_own_is_not_kept(make_stack):
    """The example of docs/lua-api.md: the token is the secret, so no header that holds it goes any further."""
    example = re.search(r"```lua\n(local function token.*?)```", (ROOT / "docs/lua-api.md").read_text(), re.S)[1]
    token = "partner-token-1234"
    stack = make_stack({"WAYBILL_SECRET_ACME": f"another {token}", "WAYBILL_LOG_LEVEL": "debug"},
                       lambda stack: stack.write_script("sources.lua", example), workers=0)
    body = encode(make_event())
    refused(stack.ingest.post(body, {"X-Api-Token": "wrong"}, "acme"))
    headers = {"X-Api-Token": token, "X-Copy": f"token={token}", "X-Request": "kept"}
    assert stack.ingest.post(body, headers, "acme").status_code == 202
    [(_, fields)] = stack.redis.client.xrange("waybill:{0}:events")
    assert b"x-request: kept" in fields[b"headers"].lower()
    assert not [name for name, value in fields.items() if token.encode() in value]
    assert token not in stack.ingest.log()


def test_published_example_of_github(make_stack):
    """Its secret has spaces, and spaces part the secrets of a source: a script of its own gives it."""
    def prepare(stack):
        stack.write_script("sources.lua", """return { github = { scheme = "github", secrets = { "It's a Secret to Everybody" } } }""")
    stack = make_stack(None, prepare, workers=0)
    signature = {"X-Hub-Signature-256": "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"}
    answer = stack.ingest.post(b"Hello, World!", signature, "github")
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_json"), answer.text
    refused(stack.ingest.post(b"Hello, world!", signature, "github"))


# other settings of a source

def test_accept_status_of_a_source(stack):
    body = encode(make_event())
    answer = stack.ingest.post(body, standard(NEW)(body), "answers200")
    assert (answer.status_code, answer.json()["status"]) == (200, "accepted")


def test_429_source_over_its_rate(stack):
    def answer():
        body = encode(make_event())
        return stack.ingest.post(body, standard(NEW)(body), "limited")
    answers = [answer() for _ in range(12)]
    assert [one.status_code for one in answers[:3]] == [202] * 3
    over = [one for one in answers if one.status_code != 202]
    assert over, "never over the rate"
    for one in over:
        assert (one.status_code, one.json()["code"]) == (429, "rate_limited")
        assert one.headers["Content-Type"] == "application/problem+json"
        assert int(one.headers["Retry-After"]) >= 1
    body = encode(make_event())
    assert stack.ingest.post(body, standard(NEW)(body), "demo").status_code == 202, "others are not concerned"
    wait_for(lambda: answer().status_code == 202, 5, "again within the rate")


def test_strangers_do_not_use_up_a_rate(stack):
    """What is not signed does not count, or anybody could shut a partner out."""
    wait_for(lambda: accepted(stack, "limited"), 10)
    for _ in range(50):
        refused(stack.ingest.post(b"{}", source="limited"))
    wait_for(lambda: accepted(stack, "limited"), 3)


def accepted(stack, source):
    body = encode(make_event())
    return stack.ingest.post(body, standard(NEW)(body), source).status_code == 202


def test_source_without_a_secret_is_switched_off(stack):
    body = encode(make_event())
    refused(stack.ingest.post(body, standard(NEW)(body), "switched_off"))
