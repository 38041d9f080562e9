"""Signatures of senders, written from their public documentation and sharing nothing with the gateway's own code.

Each function returns the headers to send with body (bytes). timestamp is in Unix seconds, default now.
tests/system/test_sign_vectors.py holds them against the published examples.
"""

import base64
import hashlib
import hmac
import time

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


def hmac_sha256(key, message):
    return hmac.new(key, message, hashlib.sha256).digest()


def b64(data):
    return base64.b64encode(data).decode()


def whsec(key):
    """Key bytes as a Standard Webhooks secret."""
    return "whsec_" + b64(key)


def _standard_text(msg_id, timestamp, body):
    return msg_id.encode() + b"." + str(timestamp).encode() + b"." + body


def standard_v1(secret, msg_id, timestamp, body):
    """One entry of webhook-signature, symmetric."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    return "v1," + b64(hmac_sha256(key, _standard_text(msg_id, timestamp, body)))


def standard_v1a(private_key, msg_id, timestamp, body):
    """One entry of webhook-signature, ed25519."""
    return "v1a," + b64(private_key.sign(_standard_text(msg_id, timestamp, body)))


def standard_headers(msg_id, timestamp, *signatures):
    return {"webhook-id": msg_id, "webhook-timestamp": str(timestamp), "webhook-signature": " ".join(signatures)}


def standard_webhooks(secret, msg_id, body, timestamp=None):
    """Standard Webhooks, v1. secret: whsec_…, or a list of them (a sender in the middle of a rotation)."""
    timestamp = int(time.time()) if timestamp is None else timestamp
    secrets = [secret] if isinstance(secret, str) else secret
    return standard_headers(msg_id, timestamp, *(standard_v1(one, msg_id, timestamp, body) for one in secrets))


def standard_webhooks_asymmetric(private_key, msg_id, body, timestamp=None):
    """Standard Webhooks, v1a."""
    timestamp = int(time.time()) if timestamp is None else timestamp
    return standard_headers(msg_id, timestamp, standard_v1a(private_key, msg_id, timestamp, body))


def ed25519_pair():
    """(private key for signing, its public half as whpk_…)."""
    private = Ed25519PrivateKey.generate()
    public = private.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return private, "whpk_" + b64(public)


def github(secret, body, delivery=None):
    headers = {"X-Hub-Signature-256": "sha256=" + hmac_sha256(secret.encode(), body).hex()}
    return headers | ({"X-GitHub-Delivery": delivery} if delivery else {})


def stripe(secret, body, timestamp=None):
    """secret: one or a list; each signs. The text is the key, also where it begins with whsec_."""
    timestamp = int(time.time()) if timestamp is None else timestamp
    secrets = [secret] if isinstance(secret, str) else secret
    signatures = [hmac_sha256(one.encode(), str(timestamp).encode() + b"." + body).hex() for one in secrets]
    return {"Stripe-Signature": ",".join([f"t={timestamp}", *(f"v1={one}" for one in signatures)])}


def shopify(secret, body, webhook_id=None):
    headers = {"X-Shopify-Hmac-SHA256": b64(hmac_sha256(secret.encode(), body))}
    return headers | ({"X-Shopify-Webhook-Id": webhook_id} if webhook_id else {})


def plain_hmac(secret, body, header, prefix="", encoding="hex"):
    """An HMAC-SHA256 of the body in one header. encoding: hex or base64."""
    digest = hmac_sha256(secret.encode(), body)
    return {header: prefix + (digest.hex() if encoding == "hex" else b64(digest))}
