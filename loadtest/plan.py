"""What the load consists of: which submission is of which kind. Pure, so that the sender and the reconciliation agree.

A plan is endless and follows from its seed: submission number n is the same whenever it is asked for. Nothing has to be
written down while the load runs; the seed and the numbers in vegeta's results are the ledger.
"""

import collections
import datetime
import random

# Kinds of submissions. What must become of each:
VALID = "valid"                  # accepted, succeeds
DUPLICATE = "duplicate"          # an identity that was sent before, signed anew: accepted, changes nothing
TRANSIENT = "transient"          # accepted, fails one to three times, then succeeds
PERMANENT = "permanent"          # accepted, ends as a dead letter
BAD_SIGNATURE = "bad_signature"  # 401
STALE = "stale"                  # 401: the signature is right, its time is not
MISSING_FIELD = "missing_field"  # 422

REJECTED = {BAD_SIGNATURE: 401, STALE: 401, MISSING_FIELD: 422}  # the answers that they must get
KINDS = (VALID, DUPLICATE, TRANSIENT, PERMANENT, *REJECTED)

EVENTS_PER_PARCEL = 6
RECENT = 200  # a duplicate repeats one of so many latest identities: often while the first is still in flight

TYPES = ("parcel.registered", "parcel.picked_up", "parcel.in_transit", "parcel.arrived_at_depot",
         "parcel.out_for_delivery", "parcel.delivered")
PLACES = ("Leeds", "Köln-Ossendorf", "Paris Nord", "Kraków", "Göteborg", "Bologna", "Sevilla", "Brno")

Submission = collections.namedtuple("Submission", "number kind identity event_kind")
Submission.__doc__ = """identity, event_kind: number and kind of the submission whose event this is; its own but for duplicates."""


class Plan:
    """seed: text that is unique to the run; part of every id. shares: {kind: share}, the rest is valid.

    began: Unix seconds that the events' own times count from, so that a duplicate's body is the same to the byte.
    """

    def __init__(self, seed, shares, began):
        unknown = set(shares) - set(KINDS)
        if unknown or sum(shares.values()) > 1:
            raise ValueError(f"shares must be of {', '.join(KINDS)} and sum up to 1 at most: {shares}")
        self.seed, self.began = seed, began
        self._shares = [(kind, share) for kind, share in shares.items() if kind != VALID]

    def submissions(self):
        """All submissions, number 0 first, without end."""
        rng = random.Random(self.seed)
        recent = collections.deque(maxlen=RECENT)
        number = 0
        while True:
            kind = self._kind(rng.random())
            if kind == DUPLICATE and not recent:
                kind = VALID
            if kind == DUPLICATE:
                yield Submission(number, kind, *recent[int(rng.random() * len(recent))])
            else:
                yield Submission(number, kind, number, kind)
                if kind not in REJECTED:
                    recent.append((number, kind))
            number += 1

    def _kind(self, dice):
        for kind, share in self._shares:
            dice -= share
            if dice < 0:
                return kind
        return VALID

    def event_id(self, number):
        return f"lt-{self.seed}-{number}"

    def id_range(self):
        """[from, to) of all event ids of this plan, in the order of text."""
        return f"lt-{self.seed}-", f"lt-{self.seed}."

    def tracking_number(self, number):
        return f"LT-{self.seed}-{number // EVENTS_PER_PARCEL}"

    def tracking_range(self):
        return f"LT-{self.seed}-", f"LT-{self.seed}."

    def body(self, number, kind):
        """The JSON text of the event with this number, as bytes."""
        step = number % EVENTS_PER_PARCEL
        tracking = "" if kind == MISSING_FIELD else f'"tracking_number":"{self.tracking_number(number)}",'
        return _BODY.format(
            event_id=self.event_id(number), type=TYPES[step], occurred_at=_rfc3339(self.began, number),
            tracking=tracking, place=PLACES[number % len(PLACES)], simulate=_simulate(number, kind), piece=step + 1,
        ).encode()


def transient_failures(number):
    """How often a transient event fails: once, twice or three times."""
    return number % 3 + 1


def _simulate(number, kind):
    if kind == TRANSIENT:
        return f',"simulate":{{"fail":"transient","times":{transient_failures(number)}}}'
    return ',"simulate":{"fail":"permanent"}' if kind == PERMANENT else ""


def _rfc3339(began, number):
    """One millisecond later with each number."""
    seconds, millis = divmod(number, 1000)
    return f"{_second(began + seconds)}.{millis:03d}Z"


_last_second = (None, "")


def _second(unix):
    """Formatting a time is slow, and a thousand events in a row share their second."""
    global _last_second
    if _last_second[0] != unix:
        moment = datetime.datetime.fromtimestamp(unix, datetime.timezone.utc)
        _last_second = (unix, moment.strftime("%Y-%m-%dT%H:%M:%S"))
    return _last_second[1]


# About 620 bytes, as a courier's webhook has.
_BODY = (
    '{{"event_id":"{event_id}","type":"{type}","occurred_at":"{occurred_at}","api_version":"2026-01-01","livemode":false,'
    '"data":{{{tracking}"carrier":"Load Test Parcels","service":"standard","weight_g":1840,"pieces":{piece},'
    '"location":"{place}","country":"DE","recipient":{{"name":"J. Müller","postcode":"50829","city":"Köln"}},'
    '"estimated_delivery":{{"from":"2026-01-31T13:00:00+01:00","to":"2026-01-31T16:00:00+01:00"}},'
    '"note":"The parcel has left the depot and is on its way to the recipient."{simulate}}},'
    '"meta":{{"trace":"a1b2c3d4e5f6","retry":0}}}}'
)
