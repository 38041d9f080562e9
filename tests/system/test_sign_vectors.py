"""The tests' own signing against examples that others published: only then can it judge the gateway's."""

import pytest

from lib import sign


@pytest.mark.parametrize(("secret", "msg_id", "timestamp", "body", "signature"), [
    ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}',
     "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
    ("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD", "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk", 1649367553,
     b'{"email":"test@example.com","username":"test_user"}', "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw="),
])
def test_standard_webhooks(secret, msg_id, timestamp, body, signature):
    assert sign.standard_webhooks(secret, msg_id, body, timestamp) == {
        "webhook-id": msg_id, "webhook-timestamp": str(timestamp), "webhook-signature": signature}


def test_github():
    headers = sign.github("It's a Secret to Everybody", b"Hello, World!")
    assert headers == {"X-Hub-Signature-256": "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"}


def test_plain_hmac_as_sendcloud_publishes_it():
    headers = sign.plain_hmac("secretkey", b'{"key": "value"}', "Sendcloud-Signature")
    assert headers == {"Sendcloud-Signature": "1eed4b3d41f4653ac64fd56f1bf1cbfd349e4482cbc11dff7134bd93e5da4b0a"}


def test_ed25519_pair_belongs_together():
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    import base64

    private, public = sign.ed25519_pair()
    version, signature = sign.standard_v1a(private, "msg_1", 1700000000, b"{}").split(",")
    key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public.removeprefix("whpk_")))
    key.verify(base64.b64decode(signature), b"msg_1.1700000000.{}")  # raises when it is not so
    assert version == "v1a"
